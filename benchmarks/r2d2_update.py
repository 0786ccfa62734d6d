"""CPU time of one R2D2 update and of drawing its batch, FLOPs, bytes per stored sequence; networks of four sizes.

python benchmarks/r2d2_update.py            # one core; a line per network; the largest needs 3 GB
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from frugalrl.algos.r2d2 import R2D2Config, R2D2Learner
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import NetConfig
from frugalrl.nets.recurrent_q import build_sequence_q
from frugalrl.replay import SequenceReplay, SequenceReplayConfig
from frugalrl.types import EnvSpec, Unroll


@dataclass(frozen=True)
class Case:
    name: str
    spec: EnvSpec
    net: NetConfig
    lstm_units: int
    config: R2D2Config
    updates: int


def spec(shape: tuple[int, ...], dtype: str, actions: int, stack: int = 1) -> EnvSpec:
    kind = "image" if len(shape) == 3 else "vector"
    return EnvSpec(
        id="random", protocol="plain", obs_kind=kind, obs_shape=shape, obs_dtype=dtype, num_actions=actions,
        frame_stack=stack,
    )  # fmt: skip


SMALL = R2D2Config(batch_size=32, burn_in_steps=4, unroll_steps=16)
CASES = [
    Case("vector of 4", spec((4,), "float32", 2), NetConfig(hidden_units=(64,)), 64, SMALL, 10),
    Case(
        "MinAtar Breakout", spec((4, 10, 10), "bool", 3), NetConfig(hidden_units=(128, 128), dueling=True), 128,
        R2D2Config(batch_size=32, burn_in_steps=10, unroll_steps=20), 10,
    ),
    Case(
        "Atari, small", spec((4, 84, 84), "uint8", 6, 4), NetConfig(hidden_units=(256, 256), dueling=True), 256,
        R2D2Config(batch_size=16, burn_in_steps=10, unroll_steps=20), 4,
    ),
    Case(
        "Atari, published", spec((4, 84, 84), "uint8", 18, 4), NetConfig(hidden_units=(512, 512), dueling=True), 512,
        R2D2Config(), 2,
    ),
]  # fmt: skip


def random_unroll(case: Case, state: dict[str, np.ndarray], rng: np.random.Generator) -> Unroll:
    """As many sequences as a batch has; one transition in 200 leads to a new episode."""
    steps, rows = case.config.length, case.config.batch_size
    high = 2 if case.spec.obs_dtype == "bool" else 200
    zeros = np.zeros((steps, rows), np.float32)
    return Unroll(
        obs=rng.integers(0, high, (steps + 1, rows, *case.spec.obs_shape)).astype(case.spec.obs_dtype),
        action=rng.integers(case.spec.num_actions, size=(steps, rows)),
        reward=zeros,
        discount=zeros + 1.0,
        last=zeros.astype(bool),
        valid=rng.random((steps, rows)) > 1 / 200,
        log_mu=zeros,
        version=zeros.astype(np.int64),
        explored=zeros.astype(bool),
        state_at_start=state,
    )


def measure(case: Case) -> str:
    config, rng, timer = case.config, np.random.default_rng(0), LapTimer()
    timer.start()

    def build():  # type: ignore[no-untyped-def]
        return build_sequence_q(case.spec, case.net, case.lstm_units)

    learner = R2D2Learner(config, case.spec, build, device=torch.device("cpu"), seed=0, timer=timer)
    state = {k: v.numpy() for k, v in build().initial_state(config.batch_size).items()}
    knobs = {"length": config.length, "overlap": config.overlap, "state": state}
    replays = [
        SequenceReplay(SequenceReplayConfig(capacity_sequences=n), case.spec, config.batch_size, rng, **knobs)
        for n in (64 * 64, 64)
    ]
    per_sequence = (replays[0].nbytes - replays[1].nbytes) / (63 * 64)
    replays[1].insert(random_unroll(case, state, rng), np.arange(config.batch_size))
    drawing, updating = [], []
    for _ in range(case.updates):
        start = time.process_time()
        replayed = replays[1].sample(config.batch_size, env_step=0)
        drawn = time.process_time()
        done = learner.update(replayed)
        drawing.append(drawn - start)
        updating.append(time.process_time() - drawn)
    flop = sum(cost.flop or 0.0 for cost in done.costs.values())
    weights = sum(p.numel() for p in learner.weights().values())
    return (
        f"{case.name}: {weights:,} weights; {config.batch_size} sequences of {config.burn_in_steps}+"
        f"{config.unroll_steps}; draw {1e3 * min(drawing):.1f} ms, update {1e3 * min(updating):.1f} ms, "
        f"{flop / 1e9:.3g} GFLOP; {per_sequence:,.0f} bytes per sequence"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in CASES:
        print(measure(case), flush=True)
