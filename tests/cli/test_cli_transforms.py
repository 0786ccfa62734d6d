"""``--sampler-transform``, ``--sampler-engine`` and ``frugal list transforms``."""

from __future__ import annotations

import json

import pytest

from frugalrl.cli import arguments
from frugalrl.cli.listing import show_list
from frugalrl.cli.train import build
from frugalrl.policies.transforms import parse
from frugalrl.types import UserError


def test_options_reach_the_configuration() -> None:
    config = build(arguments.Train(env="CartPole-v1", sampler_transform="stale:8+int3", sampler_engine="onnx"))
    assert (config.sampler.transform, config.sampler.engine) == ("stale:8+int3", "onnx")
    mix = ('sampler.mix=["2*int8","2*none@onnx"]', "env.rows=4")
    assert build(arguments.Train(env="CartPole-v1", set=(mix,))).sampler.mix == ("2*int8", "2*none@onnx")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"sampler_transform": "int8-dynamc"}, "sampler.transform='int8-dynamc' is no transform; did you mean"),
        ({"sampler_engine": "onx"}, "did you mean 'onnx'?"),
    ],
)
def test_a_typo_gets_a_hint(option: dict[str, str], says: str) -> None:
    with pytest.raises(UserError) as error:
        build(arguments.Train(env="CartPole-v1", **option))  # type: ignore[arg-type]
    assert says in str(error.value)


def test_what_is_listed_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list(arguments.List(topic="transforms", json=True)) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    for item in items:
        for name in (item["name"], *filter(None, item["also"].split(", "))):
            parse(name.replace("SIGMA", "0.1").replace("K", "8"))
    assert {"bf16", "int8-dynamic", "int8-weight", "int2", "stale:K", "noise:SIGMA"} <= {i["name"] for i in items}
