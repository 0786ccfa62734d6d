"""Run records made by hand, so that what a comparison says of them can be worked out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from frugalrl.recipes.catalog import build_config
from frugalrl.report.records import Outcome, Point, RunRecord
from frugalrl.run.config import EnvConfig
from frugalrl.types import Cost

MACHINE: Mapping[str, Any] = {
    "profile": "cloud-2vcpu", "cpu": "some CPU", "cores": 2, "gpus": [], "versions": {"torch": "2.13.0"},
}  # fmt: skip
CODE = {"version": "0.1.0", "source_sha256": "a" * 64}


def point(
    steps: int,
    score: float,
    *,
    step_ms: float = 1.0,
    inference_ms: float = 1.0,
    learner_ms: float = 3.0,
    evaluation_s: float = 0.0,
    with_costs: bool = True,
) -> Point:
    """An evaluation whose costs are proportional to the steps: 2 FLOP and half an update per step."""
    k = steps / 1e3
    seconds = {
        "environment": k * step_ms, "inference": k * inference_ms, "learner": k * learner_ms,
        "evaluation": evaluation_s, "waiting": None, "unassigned": 0.0,
    }  # fmt: skip
    flop = {"inference": 1.0 * steps, "learner": 1.0 * steps}
    moved = {"inference": 10.0 * steps, "learner": 1.0 * steps}
    costs = {
        role: Cost(cpu_s=s, busy_s=s, flop=flop.get(role), bytes_min=moved.get(role)) for role, s in seconds.items()
    }
    total = sum(s for s in seconds.values() if s is not None)
    return Point(
        env_steps=steps,
        mean_return=score,
        interval=None,
        episodes=10,
        cpu_s=total,
        wall_s=2 * total,
        updates=steps // 2 if with_costs else None,
        peak_rss_bytes=1_000_000 if with_costs else None,
        costs=costs if with_costs else None,
    )


def record(
    method: str,
    seed: int,
    points: Sequence[Point],
    *,
    env: str = "CartPole-v1",
    outcome: Outcome = "completed",
    reason: str = "the budget is used",
    machine: Mapping[str, Any] = MACHINE,
    **changes: Any,
) -> RunRecord:
    """A run; ``changes`` are fields of its configuration, ``env_kwargs`` among them."""
    config = build_config(env)
    kwargs = changes.pop("env_kwargs", {})
    explore = replace(config.explore, name="counteractive" if "counter" in method else "epsilon-greedy")
    config = replace(config, seed=seed, explore=explore, env=replace(config.env, kwargs=kwargs))
    assert isinstance(config.env, EnvConfig)
    return RunRecord(
        name=f"runs/{method}-{env}-{seed}",
        method=method,
        config=replace(config, **changes),
        points=tuple(points),
        bill=None,
        outcome=outcome,
        reason=reason,
        machine=machine,
        code=CODE,
    )


def line(scores: Sequence[float], every: int = 1_000, **ways: Any) -> list[Point]:
    """Evaluations every so many steps."""
    return [point((i + 1) * every, score, **ways) for i, score in enumerate(scores)]


def two_methods(env: str = "CartPole-v1") -> list[RunRecord]:
    """epsilon-greedy reaches 100 after 2,000, 4,000 and (never) 4,000 steps, the other after 1,000, 2,000, 2,000."""
    slow, fast = "epsilon-greedy", "counteractive"
    return [
        record(slow, 0, line([50, 100, 120, 130]), env=env),
        record(slow, 1, line([20, 40, 60, 100]), env=env),
        record(slow, 2, line([10, 20, 30, 40]), env=env),
        record(fast, 0, line([100, 150, 160, 170]), env=env),
        record(fast, 1, line([50, 110, 120, 160]), env=env),
        record(fast, 2, line([50, 100, 120, 150]), env=env),
    ]
