"""What a real central run tells about its stages: in its statuses, in metrics.jsonl, on its bill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from run_support import Watcher, r2d2, vtrace

from frugalrl.cost.bottleneck import lanes_of
from frugalrl.cost.meters import LapTimer
from frugalrl.run.config import BudgetConfig
from frugalrl.run.stages import KeptLaps
from frugalrl.run.train import resume, train


class Once(gym.Env[Any, Any]):
    """Raises in its 30th step, in the first life of all only."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)
    failed = False

    def __init__(self) -> None:
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        if self.steps == 30 and not Once.failed:
            Once.failed = True
            raise RuntimeError("the emulator is gone")
        return np.full(2, self.steps % 2, np.float32), 1.0, self.steps % 9 == 0, False, {}


CENTRAL = "sampler.kind=central"
FEW = "evaluation.every_env_steps=100000"


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_a_central_run_and_its_resume(tmp_path: Path) -> None:
    watcher = Watcher(interval_s=0.1)
    done = train(vtrace(CENTRAL, FEW, steps=2_000), tmp_path / "run", watcher)
    found = watcher.statuses[-1].stages
    assert found is not None
    assert (found.rows, found.live_rows, found.restarts, found.covers) == (4, 4, 0, None)
    assert all(lane.work_cpu_s > 0 for lane in lanes_of(found).values())
    assert found.transport_cpu_s > 0
    lanes = sum(lane.cpu_s for lane in lanes_of(found).values())
    assert lanes <= found.cpu_s * 1.05 + 0.05  # no second is in two stages
    assert lanes + found.rest_cpu_s == pytest.approx(found.cpu_s, rel=0.05, abs=0.05)
    # nobody waited for longer than the run took
    assert found.blocked_s + found.starved_s <= found.wall_s
    assert found.learner_waited_s <= found.wall_s
    assert found.lag_min is not None
    assert found.lag_mean is not None
    assert found.lag_max is not None
    assert 0 <= found.lag_min <= found.lag_mean <= found.lag_max

    assert lines(done.folder, "theory") == [], "the meters are of agents that learn from transitions"
    bill = done.bill
    assert bill.find("batch_rows").value == pytest.approx(lines(done.folder, "engine")[-1]["batch_rows"], rel=0.1)
    assert bill.find("engine_blocked_s").value is not None
    assert bill.find("environments_cpu_s").value == pytest.approx(bill.find("cpu_s", "environment").value, rel=0.1)
    engine, learner = bill.find("engine_cpu_s").value, bill.find("learner_cpu_s").value
    roles = ("inference", "replay", "learner", "correction")
    assert engine is not None
    assert learner is not None
    assert engine + learner == pytest.approx(sum(bill.find("cpu_s", role).value or 0 for role in roles), rel=0.1)
    last = lines(done.folder, "engine")[-1]
    assert last["env_steps"] >= 2_000
    assert {"queue_ms_p50", "queue_ms_p99", "forward_ms_p95", "blocked_s", "lag_max", "engine_work_cpu_s"} <= set(last)

    again = resume(tmp_path / "run", budget=BudgetConfig(env_steps=2_600))
    assert again.bill.find("engine_blocked_s").source.startswith("since the resume at step 2,0")
    assert lines(done.folder, "engine")[-1]["env_steps"] < 1_000  # this process only
    assert again.bill.find("environments_cpu_s").value < again.bill.find("cpu_s", "environment").value  # type: ignore[operator]


def test_worker_processes_and_a_learner_that_replays(tmp_path: Path) -> None:
    watcher = Watcher(interval_s=0.1)
    config = r2d2("sampler.kind=central", "sampler.workers=1", "sampler.groups=1", FEW, steps=400)
    bill = train(config, tmp_path / "run", watcher).bill
    found = watcher.statuses[-1].stages
    assert found is not None
    assert found.environments.width == 1
    assert found.environments.work_cpu_s > 0
    assert found.environments.transport_cpu_s > 0
    assert found.learner.transport_cpu_s < bill.find("transport_cpu_s").value  # type: ignore[operator]
    assert bill.find("lag_mean").value is None  # replayed sequences are of any age
    assert bill.limit.startswith("Limit: ")


def test_a_group_that_was_started_again_is_on_the_bill(tmp_path: Path) -> None:
    gym.register("Once-v0", Once)
    try:
        watcher = Watcher()
        config = vtrace("env.id=Once-v0", CENTRAL, FEW, steps=1_000)
        bill = train(config, tmp_path / "run", watcher).bill
    finally:
        del gym.registry["Once-v0"]
        Once.failed = False
    assert any("the emulator is gone" in note for note in watcher.notes)
    assert bill.find("restarts").value == 1
    assert bill.find("dropped_steps").value is not None
    assert bill.find("dropped_steps").value <= 2 * config.agent.unroll_steps  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("more", [[], [CENTRAL, "sampler.lockstep=true"]])
def test_runs_in_rounds_have_no_stages(tmp_path: Path, more: list[str]) -> None:
    watcher = Watcher(interval_s=0.1)
    done = train(vtrace(*more, FEW, steps=100), tmp_path / "run", watcher)
    assert all(status.stages is None for status in watcher.statuses)
    assert lines(done.folder, "engine") == []
    assert not [row for row in done.bill.rows if row.section == "stages"]


def test_kept_laps_hand_on_what_they_keep() -> None:
    timer = LapTimer()
    timer.start()
    kept = KeptLaps(timer)
    total = 0.0
    for role in ("inference", "inference", "replay"):
        sum(range(10_000))
        timer.lap(role)
        total += sum(cost.busy_s or 0.0 for cost in kept.take().values())
    assert set(kept.sums) == {"inference", "replay"}
    assert sum(cost.busy_s or 0.0 for cost in kept.sums.values()) == pytest.approx(total)
