"""Acting, cutting unrolls and learning together, on a task that only a memory solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalrl.algos.impala import ImpalaConfig, ImpalaLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.math.explore import POLICY_EXPLORERS, Knobs, View
from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.types import EnvSpec, ReplayedUnrolls

ROWS, LENGTH = 32, 3
SPEC = EnvSpec(
    id="Cue", protocol="p", obs_kind="vector", obs_shape=(2 + LENGTH + 1,), obs_dtype="float32", num_actions=2
)


class Cues:
    """A cue in the first observation; the last of three actions gives 1 if it is the cue. Then the row begins anew."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.cue, self.at = self.rng.integers(0, 2, ROWS), np.zeros(ROWS, np.int64)

    def obs(self) -> np.ndarray:
        obs = np.zeros((ROWS, *SPEC.obs_shape), np.float32)
        obs[np.arange(ROWS), 2 + self.at] = 1.0
        first = np.flatnonzero(self.at == 0)
        obs[first, self.cue[first]] = 1.0
        return obs

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        valid = self.at < LENGTH
        last = self.at == LENGTH - 1
        reward = (last & (action == self.cue)).astype(np.float32)
        self.cue = np.where(valid, self.cue, self.rng.integers(0, 2, ROWS))
        self.at = np.where(valid, self.at + 1, 0)
        return {"reward": reward, "discount": np.where(last, 0, 1).astype(np.float32), "last": last, "valid": valid}


def success(explore: str, lstm_units: int | None, updates: int) -> float:
    """Share of the last episodes in which the cue was told, by the policy that acts while it learns."""
    timer = LapTimer()
    timer.start()
    net = NetConfig(hidden_units=(16,), lstm_units=lstm_units)
    config = ImpalaConfig(unroll_steps=8, batch_unrolls=ROWS, learning_rate=1e-2, entropy_cost=0.003, max_grad_norm=1.0)
    learner = ImpalaLearner(
        config, SPEC, lambda: build_actor_critic(SPEC, net), device=torch.device("cpu"), seed=0, timer=timer
    )
    acting, rng, env = learner._net, np.random.default_rng(1), Cues(2)
    state = acting.initial_state(ROWS)
    store = UnrollStore(SPEC, ROWS, length=8, state={k: v.numpy() for k, v in state.items()})
    zeros = np.zeros(ROWS)
    fields = {
        "action": zeros.astype(np.int64), "log_mu": zeros, "version": zeros, "explored": zeros > 0, "reward": zeros,
        "discount": zeros, "last": zeros > 0, "valid": zeros > 0,
    }  # fmt: skip
    told: list[float] = []
    while learner.version < updates:
        obs = env.obs()
        done = store.append(np.arange(ROWS), obs, fields, {k: v.numpy() for k, v in state.items()})
        if done is not None:
            learner.update(ReplayedUnrolls(batch=done[0], keys=done[1], weight=np.ones(ROWS, np.float32)))
        with torch.no_grad():
            out, state = acting.step(torch.from_numpy(obs), state)
        view = View(
            q=out[:, :-1].numpy(), obs=obs, last=env.at == LENGTH, eps=np.full(ROWS, 0.1), temperature=None,
            u=rng.random((ROWS, 3)), num_actions=2, knobs=Knobs(),
        )  # fmt: skip
        choice = POLICY_EXPLORERS[explore].choose(view, {})
        fields = env.step(choice.action)
        told += fields["reward"][fields["last"]].tolist()
        if lstm_units is not None:
            state |= {"action_tm1": torch.from_numpy(choice.action), "reward_tm1": torch.from_numpy(fields["reward"])}
            fresh = torch.from_numpy(~fields["valid"])
            for k, initial in acting.initial_state(ROWS).items():
                state[k] = torch.where(fresh if initial.ndim == 1 else fresh[:, None], initial, state[k])
        fields |= {
            "action": choice.action,
            "log_mu": np.where(fields["valid"], choice.log_mu, np.nan),
            "version": np.full(ROWS, learner.version),
            "explored": choice.explored,
        }
    return float(np.mean(told[-400:]))


@pytest.mark.parametrize(
    ("explore", "least"), [pytest.param("policy", 0.95, marks=pytest.mark.slow), ("counteractive", 0.85)]
)
def test_an_lstm_tells_the_cue(explore: str, least: float) -> None:
    """With counteractive behaviour a tenth of the answers is wrong on purpose."""
    assert success(explore, 16, 80) > least


def test_without_a_memory_the_cue_is_guessed() -> None:
    assert 0.4 < success("policy", None, 80) < 0.6
