"""The scale of a score."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from frugalrl.envs.lm import find_task
from frugalrl.envs.lm.tasks import TASKS
from frugalrl.envs.toys import Catch, DeepSea, Recall, TimeLimitChain
from frugalrl.report.references import reference_of, references


def test_every_reference_is_dated_and_has_a_source() -> None:
    found = references()
    assert sum(env.startswith("ALE/") for env in found) == 26
    for reference in found.values():
        assert date.fromisoformat(reference.date) >= date(2026, 11, 25)
        assert len(reference.source) > 20
        assert reference.reference is None or reference.reference > reference.random


def test_atari_by_hand() -> None:
    pong = reference_of("ALE/Pong-v5", {})
    assert pong is not None
    assert (pong.random, pong.reference, pong.what) == (-20.7, 14.6, "human")
    assert pong.normalized(np.array([-20.7, 14.6, -3.05])) == pytest.approx([0, 1, 0.5])
    assert pong.targets() == pytest.approx((-11.875, -3.05, 5.775, 14.6))


def test_toys_have_their_optimal_return() -> None:
    for env, toy in (
        ("frugalrl/Catch-v0", Catch()),
        ("frugalrl/DeepSea-v0", DeepSea()),
        ("frugalrl/Recall-v0", Recall()),
    ):
        found = reference_of(env, {})
        assert found is not None
        assert found.reference == pytest.approx(toy.optimal_return)
    chain = reference_of("frugalrl/TimeLimitChain-v0", {})
    assert chain is not None
    # every policy earns the same there
    assert chain.random == TimeLimitChain().optimal_return
    assert chain.targets() == ()
    with pytest.raises(ValueError, match="has no reference"):
        chain.normalized(np.ones(1))


def test_deep_sea_by_hand() -> None:
    found = reference_of("frugalrl/DeepSea-v0", {})
    assert found is not None
    # half of ten steps go right at 0.001 each; one dive in 1,024 finds the treasure. Four standard errors.
    assert found.random == pytest.approx(-5 * 0.001 + 1 / 1_024, abs=4 * 0.00141)


def test_arguments_of_the_environment_can_change_the_scale() -> None:
    assert reference_of("frugalrl/Catch-v0", {"observation": "index"}) is not None
    assert reference_of("frugalrl/Catch-v0", {"columns": 9}) is None
    assert reference_of("my_module:CartPole-v1", {}) is not None
    assert reference_of("Acrobot-v1", {}) is None
    assert reference_of("lm:copy", {}) is not None
    assert reference_of("my_module:copy", {}) is None
    assert reference_of("lm:copy", {"length": 3}) is None


@pytest.mark.parametrize("name", TASKS)
def test_language_tasks_by_hand(name: str) -> None:
    task, found = find_task(name, {}), reference_of(name, {})
    assert found is not None
    assert found.reference == 1.0
    assert found.random == pytest.approx(float(len(task.vocabulary)) ** -task.answer_tokens, rel=1e-3)


def test_minatar_has_the_scores_of_another_implementation_and_says_how_it_differs() -> None:
    breakout = reference_of("MinAtar/Breakout-v1", {})
    assert breakout is not None
    assert breakout.reference == 28.0
    assert "without sticky actions" in breakout.source
    seaquest = reference_of("MinAtar/Seaquest-v1", {})
    assert seaquest is not None
    assert seaquest.targets() == ()
