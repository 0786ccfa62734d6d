#!/usr/bin/env python3
"""What a correction costs beside a learner's update: the weight itself, and the diagnostics.

    python benchmarks/importance_cost.py --rounds 15 --out evidence/bench/importance-cost.json

Two updates of a realistic size, forward, backward and Adam: ``nature``, the V-trace learner on the Nature network with
32 unrolls of 20 steps; ``gpt``, two layers of width 64 on 256 sequences of 21 tokens, with a PPO loss. Update, weight
(`apply`, checks included, and once without them) and diagnostics (`measure` and its metrics and warnings) run in turn,
round by round, in one process with one thread. A figure is the median of its CPU-milliseconds over rounds, a share the
median over rounds of part / update, with quartiles.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import torch
import vtrace_update as unrolls
from torch import Tensor, nn

from frugalrl.algos.impala import ImpalaConfig, ImpalaLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.importance import Correction, apply, find, measure
from frugalrl.math.surrogate import mean_loss, ppo_loss
from frugalrl.nets.actor_critic import build_actor_critic

LIMITS = {"weight": 0.01, "diagnostics": 0.03}
"""Shares of an update that must not be passed."""
REPEATS = 20  # of a part that takes a fraction of a millisecond


class Gpt(nn.Module):
    """Pre-norm transformer with learned positions."""

    def __init__(
        self, vocabulary: int = 11, length: int = 21, width: int = 64, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)
        self.register_buffer("causal", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.blocks(self.token(tokens) + self.position, mask=self.causal, is_causal=True))


def gpt_case() -> tuple[Callable[[], object], tuple[Tensor, Tensor, Tensor]]:
    """An update, and log pi, log mu and mask of its batch."""
    torch.manual_seed(0)
    net = Gpt()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
    tokens = torch.randint(11, (256, 21))
    mask = torch.zeros(256, 21, dtype=torch.bool)
    mask[:, 11:] = True
    advantage = torch.randn(256, 1).expand(256, 21)

    def log_probs() -> Tensor:
        logits = net(tokens).log_softmax(-1)
        return logits.gather(-1, tokens.roll(-1, 1).unsqueeze(-1)).squeeze(-1)

    old = log_probs().detach()
    log_mu = old + 0.05 * torch.randn(256, 21)
    weight = apply(Correction.parse("token-tis:2"), old, log_mu, mask).weight

    def update() -> None:
        loss = mean_loss(ppo_loss(log_probs(), old, advantage, weight, mask).loss, mask)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return update, (old, log_mu, mask)


def nature_case() -> tuple[Callable[[], object], tuple[Tensor, Tensor, Tensor]]:
    unrolls.B = 32
    spec, net = unrolls.CASES["nature"]
    timer = LapTimer()
    timer.start()
    config = ImpalaConfig(gamma=0.99, unroll_steps=unrolls.T, batch_unrolls=32, max_grad_norm=40.0)
    learner = ImpalaLearner(
        config, spec, lambda: build_actor_critic(spec, net), device=torch.device("cpu"), seed=0, timer=timer
    )
    batch = unrolls.batch_of(spec)
    log_mu = torch.as_tensor(batch.batch.log_mu)
    generator = torch.Generator().manual_seed(0)
    old = (log_mu + 0.05 * torch.randn(log_mu.shape, generator=generator)).clamp(max=0.0)
    return lambda: learner.update(batch), (old, log_mu, torch.as_tensor(batch.batch.valid))


def compare(name: str, rounds: int) -> dict[str, Any]:
    update, arrays = {"nature": nature_case, "gpt": gpt_case}[name]()
    correction = Correction.parse("token-tis:2")
    corrected = apply(correction, *arrays)
    parts: dict[str, Callable[[], object]] = {
        "weight": lambda: apply(correction, *arrays),
        "weight_unchecked": lambda: apply(correction, *arrays, check=False),
        "diagnostics": lambda: find(measure(corrected).metrics(), correction),
    }
    update()
    times: dict[str, list[float]] = {"update": [], **{part: [] for part in parts}}
    for _ in range(rounds):
        times["update"].append(unrolls.cpu_ms(update, 1))
        for part, work in parts.items():
            times[part].append(unrolls.cpu_ms(work, REPEATS))
    shares = {part: [x / u for x, u in zip(times[part], times["update"], strict=True)] for part in parts}
    return {
        "case": name,
        "shape": list(arrays[0].shape),
        "rounds": rounds,
        "cpu_ms": {part: statistics.median(values) for part, values in times.items()},
        "share": {part: statistics.median(values) for part, values in shares.items()},
        "share_quartiles": {part: statistics.quantiles(values, n=4)[::2] for part, values in shares.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", choices=("nature", "gpt"), action="append")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error(f"--rounds is {args.rounds}; quartiles need 2 or more")
    torch.set_num_threads(1)
    results = [compare(case, args.rounds) for case in args.case or ("nature", "gpt")]
    missed = False
    for r in results:
        print(f"{r['case']} {r['shape']}: update {r['cpu_ms']['update']:.1f} CPU-ms")
        for part, share in r["share"].items():
            low, high = r["share_quartiles"][part]
            print(
                f"  {part}: {r['cpu_ms'][part]:.3f} CPU-ms, {100 * share:.3f} % ({100 * low:.3f} to {100 * high:.3f})"
            )
            missed |= share > LIMITS.get(part, 1.0)
    from side_by_side import machine

    record = {
        "command": " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "machine": machine(),
        "limits": LIMITS,
        "results": results,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
