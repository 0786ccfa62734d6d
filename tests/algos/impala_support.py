"""What the tests of the V-trace learner share: a learner, random unrolls, and a slow learner."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from frugalrl.algos.impala import ImpalaConfig, ImpalaLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.types import EnvSpec, ReplayedUnrolls, Unroll
from oracles.vtrace import slow_loss, slow_vtrace

CPU = torch.device("cpu")
T, B, A = 5, 3, 3
VECTOR = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=A)
IMAGE = EnvSpec(
    id="I", protocol="p", obs_kind="image", obs_shape=(4, 36, 36), obs_dtype="uint8", num_actions=A, frame_stack=4
)
EXACT: dict[str, Any] = {
    "precision": "fp64", "rho_bar": 1.2, "c_bar": 1.1, "pg_rho_bar": 0.9, "lambda_": 0.95, "entropy_cost": 0.03,
    "reward_scale": 1.5, "max_abs_reward": 0.8, "max_lag": 2, "max_grad_norm": 0.3, "adam_beta1": 0.0,
    "lr_decay_updates": 10,
}  # fmt: skip

PLAIN: dict[str, Any] = {"precision": "fp64", "rho_bar": None, "c_bar": None}


def new(spec: EnvSpec = VECTOR, seed: int = 0, lstm_units: int | None = None, **changes: Any) -> ImpalaLearner:
    timer = LapTimer()
    timer.start()
    config = ImpalaConfig(**({"unroll_steps": T, "batch_unrolls": B, "learning_rate": 1e-2} | changes))
    net = NetConfig(hidden_units=(8,), lstm_units=lstm_units)
    return ImpalaLearner(config, spec, lambda: build_actor_critic(spec, net), device=CPU, seed=seed, timer=timer)


def batch_of(
    learner: ImpalaLearner, spec: EnvSpec = VECTOR, seed: int = 0, oldest: int = 4, scale: float = 1.0
) -> ReplayedUnrolls:
    """Random unrolls; behind each ``last`` a row that is not valid, with garbage where the contract allows it."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(T + 1, B, *spec.obs_shape)).astype(np.float32)
    if spec.obs_dtype == "uint8":
        obs = rng.integers(0, 256, obs.shape, dtype=np.uint8)
    valid, last, discount = np.ones((T, B), np.bool_), np.zeros((T, B), np.bool_), np.ones((T, B), np.float32)
    last[1, 0] = last[3, 1] = last[T - 1, 2] = True
    discount[3, 1] = 0.0
    valid[2, 0] = valid[4, 1] = False
    log_mu = np.log(rng.uniform(0.1, 0.6, (T, B))).astype(np.float32)
    log_mu[~valid] = np.nan
    unroll = Unroll(
        obs=obs,
        action=rng.integers(0, A, (T, B)),
        reward=(scale * rng.normal(size=(T, B))).astype(np.float32),
        discount=discount,
        last=last,
        valid=valid,
        log_mu=log_mu,
        version=learner.version - rng.integers(0, oldest + 1, (T, B)),
        explored=np.zeros((T, B), np.bool_),
        state_at_start={k: v.numpy() for k, v in learner._net.initial_state(B).items()},
    )
    return ReplayedUnrolls(batch=unroll, keys=np.arange(B), weight=rng.uniform(0.5, 1, B).astype(np.float32))


def unrolls(replayed: ReplayedUnrolls, part: slice) -> ReplayedUnrolls:
    """These of a batch."""
    batch = replayed.batch
    fields = ("obs", "action", "reward", "discount", "last", "valid", "log_mu", "version", "explored")
    state = {name: x[part] for name, x in batch.state_at_start.items()}
    some = Unroll(**{name: getattr(batch, name)[:, part] for name in fields}, state_at_start=state)
    return ReplayedUnrolls(batch=some, keys=replayed.keys[part], weight=replayed.weight[part])


def weights(learner: ImpalaLearner) -> dict[str, torch.Tensor]:
    return {name: p.clone() for name, p in learner.weights().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class SlowLearner:
    """V-trace and Adam, step by step and parameter by parameter; the network sees one observation at a time."""

    def __init__(self, fast: ImpalaLearner, spec: EnvSpec, lstm_units: int | None = None, wrong: str = "") -> None:
        self.net = build_actor_critic(spec, NetConfig(hidden_units=(8,), lstm_units=lstm_units)).double()
        self.net.load_state_dict(fast.state_dict()["online"])
        self.m = [torch.zeros_like(p) for p in self.net.parameters()]
        self.v = [torch.zeros_like(p) for p in self.net.parameters()]
        self.config, self.updates, self.wrong = fast.config, 0, wrong

    def outputs(self, batch: Unroll) -> list[list[torch.Tensor]]:
        """[T+1][B] vectors [A + 1]."""
        state = {k: torch.as_tensor(v) for k, v in batch.state_at_start.items()}
        rows, outs = batch.valid.shape[1], []
        for t in range(T + 1):
            if t and state:
                state |= {"action_tm1": torch.tensor(batch.action[t - 1]),
                          "reward_tm1": torch.tensor(batch.reward[t - 1])}  # fmt: skip
                fresh = torch.tensor(~batch.valid[t - 1])
                for k, initial in self.net.initial_state(rows).items():
                    state[k] = torch.where(fresh if initial.ndim == 1 else fresh[:, None], initial, state[k])
            out, state = self.net.step(torch.as_tensor(batch.obs[t]), state)
            outs.append(list(out))
        return outs

    def update(self, replayed: ReplayedUnrolls) -> float:
        batch, config = replayed.batch, self.config
        outs = self.outputs(batch)
        values = np.asarray([[float(x[-1].detach()) for x in row] for row in outs])
        log_pi = np.zeros(batch.valid.shape)
        for t, b in np.ndindex(log_pi.shape):
            log_pi[t, b] = outs[t][b][:-1].detach().log_softmax(0)[batch.action[t, b]]
        limit = config.max_abs_reward or math.inf
        reward = config.reward_scale * batch.reward.astype(np.float64)
        vs, advantage = slow_vtrace(
            log_pi, batch.log_mu.astype(np.float64), np.clip(reward, -limit, limit),
            config.gamma * batch.discount.astype(np.float64), values, batch.valid, config.rho_bar or math.inf,
            config.c_bar or math.inf, config.pg_rho_bar or math.inf, config.lambda_, self.wrong,
        )  # fmt: skip
        usable = batch.valid.copy()
        if config.max_lag is not None:
            usable &= self.updates - batch.version <= config.max_lag
        if config.normalise_advantages:
            rho = np.minimum(np.exp(log_pi - batch.log_mu), config.pg_rho_bar or math.inf)
            error = advantage[usable] / rho[usable]
            if self.wrong == "normalises after the ratio":
                error = advantage[usable]
            error = (error - error.mean()) / error.std(ddof=1)
            advantage[usable] = error if self.wrong == "normalises after the ratio" else rho[usable] * error
        loss = slow_loss(
            [[x[:-1] for x in row] for row in outs], [[x[-1] for x in row] for row in outs], batch.action, vs,
            advantage, usable, replayed.weight.astype(np.float64), config.baseline_cost, config.entropy_cost,
            log=torch.log,
        )  # fmt: skip
        self.net.zero_grad()
        loss.backward()
        self.step()
        return float(loss.detach())

    def step(self) -> None:
        config = self.config
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        scale = 1.0 if config.max_grad_norm is None else min(1.0, config.max_grad_norm / (norm + 1e-6))
        rate = config.learning_rate
        if config.lr_decay_updates is not None:
            rate *= max(0.0, 1 - self.updates / config.lr_decay_updates)
        self.updates += 1
        beta1 = config.adam_beta1
        with torch.no_grad():
            for p, g, m, v in zip(self.net.parameters(), gradients, self.m, self.v, strict=True):
                m.mul_(beta1).add_(scale * g, alpha=1 - beta1)
                v.mul_(0.999).add_((scale * g) ** 2, alpha=0.001)
                m_hat, v_hat = m / (1 - beta1**self.updates), v / (1 - 0.999**self.updates)
                p -= rate * m_hat / (v_hat.sqrt() + config.adam_eps)
