"""Rewards, ends and errors that an environment must not answer with, and those it may."""

from __future__ import annotations

import numpy as np
import pytest

from frugalrl.envs import PROTOCOLS, make_env
from frugalrl.types import EnvFailed

ACTIONS = np.random.default_rng(0).integers(3, size=(40, 3))


def rows(name, fault="", *, num_rows=3, **kwargs):
    return make_env(
        f"faulty_envs:{name}",
        protocol=PROTOCOLS["plain"],
        num_rows=num_rows,
        seed=5,
        training=True,
        env_kwargs={"fault": fault, **kwargs},
    )


def play(env):
    return [env.reset(), *(env.step(action[: env.num_rows]) for action in ACTIONS)]


def failure(env):
    with pytest.raises(EnvFailed) as caught:
        play(env)
    said = str(caught.value)
    assert "\n" not in said
    assert f"Environment {env.spec.id}, row" in said
    return said


def assert_same(path, other):
    for step, as_usual in zip(path, other, strict=True):
        for field in ("obs", "reward", "discount", "last", "valid"):
            array = getattr(step, field)
            np.testing.assert_array_equal(array, getattr(as_usual, field))
            assert array.dtype == getattr(as_usual, field).dtype
        assert step.episodes == as_usual.episodes


@pytest.mark.parametrize("name", ["FaultyVector", "FaultySameStep"])
@pytest.mark.parametrize(
    "fault", ["int-end", "uint8-end", "float-end", "list-end", "list-reward", "int-reward", "float32-reward"]
)
def test_vector_environments_may_answer_with_whole_numbers_and_lists(name, fault):
    assert_same(play(rows(name, fault)), play(rows("Faulty")))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("column-reward", r"the reward has shape \(3, 1\), but must be one value per row, \(3,\)"),
        ("one-reward", r"the reward has shape \(\)"),
        ("none-reward", r"the reward must be a number in each row, not \[None, "),
        ("str-reward", r"the reward must be a number in each row, not array\(\['1\.0'"),
        ("half-end", r"terminated must be True or False in each row, not array\(\[0\.5, "),
        ("none-end", r"truncated must be True or False in each row, not \[None, "),
        ("str-end", r"truncated must be True or False in each row, not array\(\['False'"),
        ("two-end", r"truncated must be True or False in each row, not \[2, "),
        ("one-end", r"truncated has shape \(\)"),
    ],
)
def test_what_else_a_vector_environment_answers_is_refused(fault, said):
    with pytest.raises(EnvFailed, match=f"Environment faulty_envs:FaultyVector, .*{said}"):
        play(rows("FaultyVector", fault))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("str-reward", "the reward is '1.5', but must be a number"),
        ("none-reward", "the reward is None, but must be a number"),
        ("complex-reward", "the reward is (1+2j), but must be a number"),
        ("long-reward", "OverflowError: int too large to convert to float"),
        ("column-reward", "the reward has shape (1,), but must be a single value"),
        ("str-end", "terminated is 'False', but must be True or False"),
        ("none-end", "terminated is None, but must be True or False"),
        ("nan-end", "truncated is nan, but must be True or False"),
        ("two-end", "truncated is 2, but must be True or False"),
    ],
)
@pytest.mark.parametrize("name", ["Faulty", "FaultyImage"])
def test_an_answer_of_another_kind_is_refused_and_its_row_named(name, fault, said):
    message = failure(rows(name, fault))
    assert said in message
    assert "row 0, step 2 of the episode" in message


@pytest.mark.parametrize("name", ["Faulty", "FaultyImage"])
@pytest.mark.parametrize("fault", ["whole-ends", "numpy-answers"])
def test_one_environment_may_answer_with_whole_numbers_and_with_numpys(name, fault):
    assert_same(play(rows(name, fault)), play(rows(name)))


# -- what is raised --------------------------------------------------------------------------------------------------

SAID = {
    "exit": "failed with SystemExit: 0",
    "generator-exit": "failed with GeneratorExit: over",
    "mine": "failed with Mine: not an Exception",
}


@pytest.mark.parametrize("name", ["FaultyVector", "FaultySameStep"])
@pytest.mark.parametrize("fault", SAID)
def test_whatever_a_vector_environment_raises_is_its_failure(name, fault):
    assert f"stepping {SAID[fault]}" in failure(rows(name, fault))


@pytest.mark.parametrize("fault", SAID)
def test_whatever_one_environment_raises_is_its_failure(fault):
    """Also while it is replayed."""
    assert f"stepping it {SAID[fault]}" in failure(rows("Faulty", fault))
    assert f"resetting it {SAID[fault]}" in failure(rows("Faulty", f"reset-{fault}"))
    sound = rows("Faulty")
    play(sound)
    while sound.state_dict()["length"].min() < 2:
        sound.step(ACTIONS[0])
    with pytest.raises(EnvFailed, match=f"replaying it {SAID[fault]}"):
        rows("Faulty", fault).load_state_dict(sound.state_dict())


def test_an_exit_in_the_reset_of_a_vector_environment_is_its_failure():
    assert f"resetting {SAID['exit']}" in failure(rows("FaultyVector", "reset-exit"))


def test_a_vector_environment_that_exits_when_closed_is_a_warning():
    with pytest.warns(RuntimeWarning, match="closing environment .*:FaultyVector failed in 1 of 1 .* SystemExit: 0"):
        rows("FaultyVector", "close-exit").close()


def test_ctrl_c_goes_through():
    for name in ("FaultyVector", "Faulty"):
        with pytest.raises(KeyboardInterrupt):
            play(rows(name, "interrupt"))


def test_an_observation_beyond_float32_names_the_row_and_the_number():
    said = failure(rows("Faulty", "large-obs"))
    assert "row 0, step 2" in said
    assert "the observation holds 1e+300, which float32 cannot hold" in said
