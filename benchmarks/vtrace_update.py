#!/usr/bin/env python3
"""One update of the V-trace learner on the Nature network, beside the same update in the usual style.

    python benchmarks/vtrace_update.py --rounds 20 --out evidence/bench/vtrace-update.json

``ours`` is `ImpalaLearner.update` as it is, metrics and costs included. ``usual`` is the same work as public V-trace
learners in PyTorch write it (TorchBeast): contiguous ``nn.Conv2d``, images divided by 255, out-of-place ReLU, V-trace
as a loop, ``torch.optim.Adam``, ``clip_grad_norm_``. Both begin with the same weights; loss and gradient norm of the
first update must agree. They run in turn, round by round, in one process with one thread; a figure is the median of its
CPU-milliseconds, the ratio the median over rounds of usual / ours (above 1: ours is faster). ``--precision bf16`` runs
both under autocast.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.algos.impala import ImpalaConfig, ImpalaLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.types import EnvSpec, ReplayedUnrolls, Unroll

T, B, GAMMA = 20, 8, 0.99
ATARI = EnvSpec(
    id="A", protocol="p", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=6, frame_stack=4
)
CARTPOLE = EnvSpec(
    id="C", protocol="p", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=2
)  # fmt: skip
CASES = {"nature": (ATARI, NetConfig(hidden_units=(512,))), "mlp": (CARTPOLE, NetConfig(hidden_units=(64, 64)))}


class Usual(nn.Module):
    """Torso, then a layer for the logits and one for the value."""

    def __init__(self, spec: EnvSpec, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.image = spec.obs_kind == "image"
        sizes = ((4, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)) if self.image else ()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k, stride=s) for i, o, k, s in sizes)
        features = 3136 if self.image else spec.obs_shape[0]
        self.dense = nn.ModuleList()
        for width in hidden:
            self.dense.append(nn.Linear(features, width))
            features = width
        self.policy, self.baseline = nn.Linear(features, spec.num_actions), nn.Linear(features, 1)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        steps, rows = obs.shape[:2]
        x = torch.flatten(obs, 0, 1)
        if self.image:
            x = x.float() / 255.0
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        x = x.reshape(steps * rows, -1)
        for layer in self.dense:
            x = F.relu(layer(x))
        return self.policy(x).view(steps, rows, -1), self.baseline(x).view(steps, rows)

    def take(self, learner: ImpalaLearner) -> None:
        """The weights of ours: its features are channels last, and its last layer holds logits and value."""
        weights = list(learner.weights().values())
        pairs = list(zip(weights[::2], weights[1::2], strict=True))
        layers = [*self.convolutions, *self.dense]
        with torch.no_grad():
            for layer, (weight, bias) in zip(layers, pairs[:-1], strict=True):
                if self.image and layer is self.dense[0]:
                    weight = weight.view(-1, 7, 7, 64).permute(0, 3, 1, 2).flatten(1)
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
            weight, bias = pairs[-1]
            self.policy.weight.copy_(weight[:-1])
            self.policy.bias.copy_(bias[:-1])
            self.baseline.weight.copy_(weight[-1:])
            self.baseline.bias.copy_(bias[-1:])


@torch.no_grad()
def usual_vtrace(log_rho: Tensor, reward: Tensor, discount: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and advantages with all bars 1 and lambda 1."""
    ratio = torch.exp(log_rho)
    clipped = torch.clamp(ratio, max=1.0)
    delta = clipped * (reward + discount * values[1:] - values[:-1])
    above, found = torch.zeros_like(values[-1]), []
    for t in range(len(reward) - 1, -1, -1):
        above = delta[t] + discount[t] * clipped[t] * above
        found.append(above)
    found.reverse()
    vs = torch.stack(found) + values[:-1]
    return vs, clipped * (reward + discount * torch.cat([vs[1:], values[-1:]]) - values[:-1])


class UsualLearner:
    """One update as it is mostly written; the batch has no ends of episodes, so that masks do not matter."""

    def __init__(self, config: ImpalaConfig, spec: EnvSpec, net: NetConfig) -> None:
        self.config = config
        self.net = Usual(spec, net.hidden_units)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate, eps=config.adam_eps)

    def update(self, batch: Unroll) -> tuple[float, float]:
        config = self.config
        obs, action, reward, log_mu = (
            torch.from_numpy(x) for x in (batch.obs, batch.action, batch.reward, batch.log_mu)
        )
        discount = torch.from_numpy(batch.discount) * config.gamma
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            logits, values = self.net(obs)
        logits, values = logits[:-1].float(), values.float()
        log_pi = -F.nll_loss(F.log_softmax(logits, -1).flatten(0, 1), action.flatten(), reduction="none").view(T, B)
        vs, advantage = usual_vtrace(log_pi.detach() - log_mu, reward, discount, values)
        cross_entropy = F.nll_loss(F.log_softmax(logits, -1).flatten(0, 1), action.flatten(), reduction="none")
        policy = (cross_entropy.view(T, B) * advantage).mean()
        value = 0.5 * ((vs - values[:-1]) ** 2).mean()
        entropy = -(F.softmax(logits, -1) * F.log_softmax(logits, -1)).sum(-1).mean()
        loss = policy + config.baseline_cost * value - config.entropy_cost * entropy
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), config.max_grad_norm or 1e9)
        self.optimizer.step()
        return loss.item(), norm.item()


def batch_of(spec: EnvSpec) -> ReplayedUnrolls:
    rng = np.random.default_rng(0)
    shape = (T + 1, B, *spec.obs_shape)
    image = spec.obs_kind == "image"
    ones = np.ones((T, B), np.float32)
    unroll = Unroll(
        obs=rng.integers(0, 256, shape, dtype=np.uint8) if image else rng.normal(size=shape).astype(np.float32),
        action=rng.integers(0, spec.num_actions, (T, B)),
        reward=rng.normal(size=(T, B)).astype(np.float32),
        discount=ones,
        last=ones > 1,
        valid=ones > 0,
        log_mu=-np.log(spec.num_actions) * ones,
        version=np.zeros((T, B), np.int64),
        explored=ones > 1,
    )
    return ReplayedUnrolls(batch=unroll, keys=np.arange(B), weight=np.ones(B, np.float32))


def cpu_ms(work: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats * 1e3


def compare(name: str, precision: str, rounds: int) -> dict[str, Any]:
    spec, net = CASES[name]
    timer = LapTimer()
    timer.start()
    config = ImpalaConfig(
        gamma=GAMMA, unroll_steps=T, batch_unrolls=B, max_grad_norm=40.0, precision=precision  # type: ignore[arg-type]
    )  # fmt: skip
    cpu = torch.device("cpu")
    ours = ImpalaLearner(config, spec, lambda: build_actor_critic(spec, net), device=cpu, seed=0, timer=timer)
    usual = UsualLearner(config, spec, net)
    usual.net.take(ours)
    replayed = batch_of(spec)
    metrics = ours.update(replayed).metrics
    loss, norm = usual.update(replayed.batch)
    exact = 1e-4 if precision == "fp32" else 0.05
    assert abs(metrics["loss"] - loss) < exact, (metrics["loss"], loss)
    assert abs(metrics["grad_norm"] - norm) < exact * max(norm, 1.0), (metrics["grad_norm"], norm)
    repeats = 1 if name == "nature" else 100
    times: dict[str, list[float]] = {"ours": [], "usual": []}
    for _ in range(rounds):
        times["ours"].append(cpu_ms(lambda: ours.update(replayed), repeats))
        times["usual"].append(cpu_ms(lambda: usual.update(replayed.batch), repeats))
    ratios = [u / o for u, o in zip(times["usual"], times["ours"], strict=True)]
    return {
        "case": name,
        "precision": precision,
        "rounds": rounds,
        "ours_cpu_ms": statistics.median(times["ours"]),
        "usual_cpu_ms": statistics.median(times["usual"]),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
        "transitions_per_cpu_s": T * B / statistics.median(times["ours"]) * 1e3,
        "learner_gflop": (ours.update(replayed).costs["learner"].flop or 0.0) / 1e9,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--precision", choices=("fp32", "bf16"), action="append")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error(f"--rounds is {args.rounds}; quartiles need 2 or more")
    torch.set_num_threads(1)
    results = [
        compare(case, precision, args.rounds)
        for case in args.case or list(CASES)
        for precision in args.precision or ["fp32"]
    ]
    for r in results:
        print(
            f"{r['case']} {r['precision']}: ours {r['ours_cpu_ms']:.2f}, usual {r['usual_cpu_ms']:.2f} CPU-ms, "
            f"ratio {r['ratio']:.2f} ({r['ratio_quartiles'][0]:.2f} to {r['ratio_quartiles'][1]:.2f})"
        )
    from side_by_side import machine

    record = {
        "command": " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "machine": machine(),
        "shape": [T + 1, B],
        "results": results,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
