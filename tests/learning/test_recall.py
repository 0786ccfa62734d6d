"""R2D2 learns to remember: the memory toy is solved with a recurrent core and not without one, by the same learner."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalrl.algos.r2d2 import R2D2Config, R2D2Learner
from frugalrl.cost.meters import LapTimer
from frugalrl.envs import PROTOCOLS, RowEnv, make_env
from frugalrl.envs.toys import best_without_memory
from frugalrl.nets.config import NetConfig
from frugalrl.nets.recurrent_q import SequenceQ, build_sequence_q
from frugalrl.replay import SequenceReplay, SequenceReplayConfig
from frugalrl.types import Rows, Step

CUES, DELAY, ROWS = 2, 2, 16
CONFIG = R2D2Config(
    gamma=0.95, n_step=3, unroll_steps=6, burn_in_steps=2, batch_size=32, learning_rate=5e-3, target_period_updates=15
)


def environment(rows: int, seed: int) -> RowEnv:
    return make_env(
        "frugalrl/Recall-v0", protocol=PROTOCOLS["plain"], num_rows=rows, seed=seed, training=True,
        env_kwargs={"cues": CUES, "delay": DELAY},
    )  # fmt: skip


class Actor:
    """Steps rows of an environment with a network and what it remembers."""

    def __init__(self, net: SequenceQ, env: RowEnv, seed: int) -> None:
        self.net, self.env, self.rng = net, env, np.random.default_rng(seed)
        self.step = env.reset()
        self.state = self.initial = net.initial_state(env.num_rows)
        self.action = np.full(env.num_rows, -1)
        self.returns: list[float] = []

    def row(self, eps: float) -> Rows:
        """The row that stands, as the replay wants it; then one action of every environment."""
        step = self.step
        if self.net.recurrent:
            self.state |= {"action_tm1": torch.from_numpy(self.action), "reward_tm1": torch.from_numpy(step.reward)}
            fresh = torch.from_numpy(~step.valid)
            self.state = {
                k: torch.where(fresh.view(-1, *[1] * (v.dim() - 1)), self.initial[k], v) for k, v in self.state.items()
            }
        row = _as_rows(step, np.maximum(self.action, 0), {k: v.numpy()[None].copy() for k, v in self.state.items()})
        with torch.no_grad():
            q, self.state = self.net.step(torch.from_numpy(step.obs), self.state)
        greedy = q.argmax(1).numpy()
        explore = self.rng.random(len(greedy)) < eps
        self.action = np.where(explore, self.rng.integers(CUES, size=len(greedy)), greedy)
        self.step = self.env.step(self.action)
        self.returns += [e.raw_return for e in self.step.episodes]
        return row


def _as_rows(step: Step, action: np.ndarray, state: dict[str, np.ndarray]) -> Rows:
    nothing = np.zeros((1, len(action)))
    return Rows(
        obs=step.obs[None], action=action[None], reward=step.reward[None], discount=step.discount[None],
        last=step.last[None], valid=step.valid[None], log_mu=nothing.astype(np.float32),
        version=nothing.astype(np.int64), explored=nothing.astype(bool), state=state,
    )  # fmt: skip


def last_score(units: int | None, seed: int, rounds: int = 400) -> float:
    """Mean return of the final greedy policy over new episodes."""
    env = environment(ROWS, seed)
    timer = LapTimer()
    timer.start()
    net_config = NetConfig(hidden_units=(16,))
    learner = R2D2Learner(
        CONFIG, env.spec, lambda: build_sequence_q(env.spec, net_config, units), device=torch.device("cpu"), seed=seed,
        timer=timer,
    )  # fmt: skip
    net = build_sequence_q(env.spec, net_config, units)
    net.load_state_dict(dict(learner.snapshot().parameters), assign=True)
    actor = Actor(net, env, seed)
    state = {k: v.numpy() for k, v in net.initial_state(ROWS).items()}
    replay = SequenceReplay(
        SequenceReplayConfig(capacity_sequences=500), env.spec, ROWS, np.random.default_rng(seed),
        length=CONFIG.length, overlap=CONFIG.overlap, state=state,
    )  # fmt: skip
    for k in range(rounds):
        replay.add(actor.row(eps=max(0.1, 1.0 - k / 300)))
        if k % 2 == 0 and replay.can_sample(CONFIG.batch_size):
            replayed = replay.sample(CONFIG.batch_size, env_step=k)
            done = learner.update(replayed)
            replay.set_priorities(replayed.keys, done.priorities)
    judge = Actor(net, environment(50, seed + 100), seed)
    while len(judge.returns) < 200:
        judge.row(eps=0.0)
    print(f"units {units} seed {seed}: {np.mean(judge.returns):.2f}")
    return float(np.mean(judge.returns))


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 6))])
def test_with_a_recurrent_core_it_remembers(seed: int) -> None:
    assert last_score(16, seed) > 0.95


def test_without_one_it_earns_what_guessing_earns() -> None:
    assert last_score(None, 0) == pytest.approx(best_without_memory(CUES), abs=0.25)
