"""What the learner of an asynchronous central run on a real game gets is what the game gave for those actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from central_support import vtrace
from run_support import SHORT, add_short_protocol

from frugalrl.envs import make_env, named_protocol
from frugalrl.replay.unroll_queue import UnrollQueue
from frugalrl.run import assemble
from frugalrl.run.train import train
from frugalrl.types import Unroll

pytest.importorskip("ale_py", reason="the extra atari")

GAME, ROWS, LENGTH = "ALE/Breakout-v5", 4, 5
FIELDS = ("obs", "action", "reward", "discount", "last", "valid")


def test_unrolls_are_those_of_the_same_actions_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row and step by step, from the environments' seeds; the observations are compared byte for byte."""
    unrolls: list[list[dict[str, Any]]] = [[] for _ in range(ROWS)]
    seeds: list[int] = []
    insert, open_worlds = UnrollQueue.insert, assemble.open_worlds

    def listen(queue: UnrollQueue, unroll: Unroll, rows: Any) -> None:
        for place, row in enumerate(rows):
            unrolls[row].append({name: np.array(getattr(unroll, name)[:, place]) for name in FIELDS})
        insert(queue, unroll, rows)

    def note(config: Any, seed: int) -> Any:
        seeds.append(seed)
        return open_worlds(config, seed)

    monkeypatch.setattr(UnrollQueue, "insert", listen)
    monkeypatch.setattr(assemble, "open_worlds", note)
    # random games end after some 200 steps
    add_short_protocol()
    config = vtrace(
        GAME,
        f"env.protocol={SHORT}",
        f"env.rows={ROWS}",
        "net.torso=impala-shallow",
        "evaluation.episodes=1",
        steps=1_800,
    )
    train(config, tmp_path / "run", whole_process=False)

    env = make_env(GAME, protocol=named_protocol(SHORT), num_rows=ROWS, seed=seeds[0], training=True)
    played = [{name: np.concatenate([u[name][:LENGTH] for u in row]) for name in FIELDS} for row in unrolls]
    steps = min(len(row["action"]) for row in played)
    assert steps > 300
    step, ends = env.reset(), 0
    for t in range(steps):
        for row in range(ROWS):
            assert np.array_equal(played[row]["obs"][t], step.obs[row]), f"row {row}, step {t}"
        step = env.step(np.array([row["action"][t] for row in played]))
        for name in ("reward", "discount", "last", "valid"):
            assert [row[name][t] for row in played] == getattr(step, name).tolist(), f"{name} of step {t}"
        ends += int(step.last.sum())
    assert ends, "the end of a game is among what was compared"
    env.close()
