from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from frugalrl.recipes import RECIPES
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import all_paths, from_dict, hint, override, to_dict
from frugalrl.types import UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    widths: tuple[int, ...] = (4, 4)
    mode: Literal["a-b", "c_d"] = "a-b"
    limit: float | None = None
    count: int | None = 3

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"inner.rate={self.rate}: must not be negative")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    flag: bool = False
    steps: int = 1
    note: str | None = None
    words: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)


OUTER = Outer(name="x")


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("steps=1_000", lambda c: c.steps == 1_000 and type(c.steps) is int),
        ("steps=1e6", lambda c: c.steps == 1_000_000 and type(c.steps) is int),
        ("steps=9007199254740993", lambda c: c.steps == 9007199254740993),
        ("flag=true", lambda c: c.flag is True),
        ("flag=False", lambda c: c.flag is False),
        ("name=1_000", lambda c: c.name == "1_000"),
        ("name=a=b", lambda c: c.name == "a=b"),
        ("note=None", lambda c: c.note is None),
        ("note=word", lambda c: c.note == "word"),
        ("inner.rate=1e-3", lambda c: c.inner.rate == 1e-3),
        ("inner.rate=.5", lambda c: c.inner.rate == 0.5),
        ("inner.rate=2", lambda c: c.inner.rate == 2.0 and type(c.inner.rate) is float),
        (" inner.rate = 1_0.5 ", lambda c: c.inner.rate == 10.5),
        ("inner.widths=8", lambda c: c.inner.widths == (8,)),
        ("inner.widths=8,16", lambda c: c.inner.widths == (8, 16)),
        ("inner.widths=(8, 16)", lambda c: c.inner.widths == (8, 16)),
        ("inner.widths=[8, 1_6]", lambda c: c.inner.widths == (8, 16)),
        ("inner.widths=()", lambda c: c.inner.widths == ()),
        ("inner.mode=c_d", lambda c: c.inner.mode == "c_d"),
        ("inner.limit=none", lambda c: c.inner.limit is None),
        ("inner.limit=3", lambda c: c.inner.limit == 3.0 and type(c.inner.limit) is float),
        ("inner.count=null", lambda c: c.inner.count is None),
        ('extras={"a_b": 1_0}', None),
        ('extras={"a_b": [1, null]}', lambda c: c.extras == {"a_b": [1, None]}),
    ],
)
def test_a_setting_is_read_by_the_type_of_its_field(setting: str, read: Any) -> None:
    if read is None:
        with pytest.raises(UserError):
            override(OUTER, [setting])
    else:
        assert read(override(OUTER, [setting]))


def test_the_last_setting_wins_and_nothing_else_changes() -> None:
    changed = override(OUTER, ["steps=2", "inner.rate=0.5", "steps=3"])
    assert changed == Outer(name="x", steps=3, inner=Inner(rate=0.5))
    assert Outer(name="x") == OUTER
    assert override(OUTER, []) == OUTER


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("steps", "has no '='"),
        ("step=1", "there is no field 'step'; did you mean 'steps'"),
        ("inner.raet=1", "there is no field 'inner.raet'; did you mean 'inner.rate'"),
        ("rate=1", "did you mean 'inner.rate'"),
        ("inner=1", "names a group; set one of its fields: rate, widths"),
        ("inner.rate.x=1", "inner.rate is a value, not a group"),
        ("steps=1.5", "steps=1.5: expected a whole number"),
        ("steps=many", "steps='many': expected a whole number"),
        ("steps=None", "steps='None'"),
        ("steps=true", "steps='true'"),
        ("steps=", "steps=''"),
        ("flag=1", "flag=1: expected true or false"),
        ("flag=yes", "flag='yes': expected true or false"),
        ("inner.rate=nan", "expected a finite number"),
        ("inner.rate=inf", "expected a finite number"),
        ("inner.rate=-1", "inner.rate=-1.0: must not be negative"),
        ("inner.widths=8,x", "inner.widths='x': expected a number"),
        ("inner.widths=8,1.5", "expected a whole number"),
        ("words=[a,b]", "words=[a,b]: expected a list of texts in double quotes"),
        ("rubbish.x=1", "there is no field 'rubbish'; known: name, "),
        ("inner.mode=a_b", "expected one of a-b, c_d; did you mean 'a-b'"),
        ("inner.mode=zzz", "inner.mode='zzz': expected one of a-b, c_d"),
        ("inner.limit=x", "inner.limit='x'"),
        ("extras=3", "extras=3"),
    ],
)
def test_a_wrong_setting_is_one_sentence(setting: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        override(OUTER, [setting])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not ("expected one of" in str(caught.value) and "known:" in str(caught.value)), "the same words twice"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "must be a group of fields, but is []"),
        ({"name": "x", "stepps": 1}, "no field 'stepps'; did you mean 'steps'"),
        ({"name": "x", "steps": "1"}, "config.steps='1': expected a whole number"),
        ({"name": "x", "steps": True}, "config.steps=True"),
        ({"name": "x", "inner": 3}, "config.inner=3: expected a group"),
        ({"name": "x", "inner": {"rate": None}}, "config.inner.rate=None"),
        ({"name": "x", "inner": {"widths": 3}}, "config.inner.widths=3"),
        ({"name": "x", "inner": {"rate": -1}}, "must not be negative"),
        ({"steps": 1}, "name"),
    ],
)
def test_a_wrong_document_is_one_sentence(document: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(Outer, document)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "ALE/Pong-v5", "MinAtar/Breakout-v1"])
def test_every_recipe_comes_back_from_json(name: str, env_id: str) -> None:
    config = RECIPES[name].build(env_id)
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_can_be_set_to_what_it_is(name: str) -> None:
    config = RECIPES[name].build("CartPole-v1")
    settings = []
    for path in all_paths(RunConfig, to_dict(config)):
        value: Any = to_dict(config)
        for key in path.split("."):
            value = value[key]
        settings.append(f"{path}={json.dumps(value) if isinstance(value, list | dict | bool) else value}")
    assert len(settings) > 40
    assert override(config, settings) == config


def test_limits_between_fields_are_said_with_their_values() -> None:
    config = RECIPES["classic-dqn"].build("CartPole-v1")
    with pytest.raises(UserError, match=r"warmup_env_steps=1000 > replay.capacity_transitions=500"):
        override(config, ["replay.capacity_transitions=500"])
    with pytest.raises(UserError, match=r"batch_size=5000 > replay.capacity_transitions=2000"):
        override(config, ["replay.capacity_transitions=2000", "agent.batch_size=5000"])
    with pytest.raises(UserError, match=r"net.hidden_units"):
        override(config, ["net.hidden_units=()"])


def test_hints() -> None:
    assert hint("rat", ["rate", "size"]) == "; did you mean 'rate'?"
    fields = ["agent.kind", "budget.env_steps", "replay.n_step", "replay.capacity_transitions", "replay.alpha"]
    assert hint("agent.n_step", fields) == "; did you mean 'replay.n_step'?"
    assert hint("replay.capacity", fields) == "; did you mean 'replay.capacity_transitions'?"
    assert hint("zzz", ["rate", "size"]) == "; known: rate, size"
    assert hint("zzz", [f"long-{i}" for i in range(30)]) == ""
