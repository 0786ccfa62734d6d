"""From the parts of a run to what its readers see: the first line, a status, a line of metrics.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from frugalrl.cost.ledger import Ledger
from frugalrl.nets.precision import SLOW_BF16, bf16_is_slow
from frugalrl.run.config import RunConfig
from frugalrl.run.evaluator import Evaluator
from frugalrl.run.status import Header, Status
from frugalrl.run.stop import Used, in_words, share_done
from frugalrl.run.window import Window


def cautions(config: RunConfig, device: torch.device) -> tuple[str, ...]:
    """What a user should hear before the run gets going."""
    if config.agent.precision == "bf16" and bf16_is_slow(device):
        return (f"{SLOW_BF16}; leave out agent.precision=bf16",)
    return ()


def header_of(config: RunConfig, *, device: str, folder: Path, resumed_at: int | None) -> Header:
    """The first line."""
    return Header(
        env=config.env.id,
        protocol=config.env.protocol,
        recipe=config.recipe,
        explorer=config.explore.name,
        sampler="inline, pipelined" if config.schedule.lag_blocks else "inline",
        seed=config.seed,
        threads=config.threads,
        device=device,
        folder=str(folder),
        budget=in_words(config.budget),
        resumed_at=resumed_at,
    )


def about(header: Header) -> dict[str, str]:
    """What the bill says of the run."""
    return {k: str(getattr(header, k)) for k in ("env", "protocol", "recipe", "explorer", "sampler", "seed")}


def status_of(
    phase: str,
    config: RunConfig,
    ledger: Ledger,
    window: Window,
    evaluator: Evaluator,
    used: Used,
    *,
    epsilon: float,
    eur: float | None,
) -> Status:
    """This moment; starts a new window. Settle the ledger before."""
    speed, metrics, shares = window.close(ledger)
    usage, counts = ledger.usage(), ledger.counts
    done = share_done(config.budget, used)
    return Status(
        phase=phase,
        env_steps=counts.agent_steps,
        frames=counts.frames,
        updates=counts.updates,
        episodes=counts.episodes,
        wall_s=usage.wall_s,
        steps_per_s=speed or None,
        done=done,
        eta_s=usage.wall_s * (1 - done) / done if done else None,
        score=evaluator.last,
        score_step=evaluator.last_step,
        behaviour_return=window.behaviour_return(),
        epsilon=epsilon,
        metrics=metrics,
        shares=shares,
        memory_bytes=window.memory_bytes(),
        cpu_s=usage.cpu_s,
        flop=sum(c.flop for c in ledger.charged().values() if c.flop is not None),
        eur=eur,
    )


def progress_line(status: Status) -> dict[str, Any]:
    """What metrics.jsonl keeps of a status."""
    counts = ("env_steps", "frames", "updates", "episodes")
    kept = (*counts, "wall_s", "cpu_s", "flop", "behaviour_return", "epsilon", "steps_per_s")
    return {name: getattr(status, name) for name in kept} | dict(status.metrics)
