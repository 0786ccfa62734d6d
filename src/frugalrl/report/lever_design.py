"""Whether the methods of an environment are a full factorial of the levers, read off their configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from frugalrl.report.groups import Group
from frugalrl.report.results import Lever
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import to_dict
from frugalrl.stats.factorial import Levels

LEARNERS = {"impala": "V-trace", "r2d2": "R2D2", "ppo": "PPO"}
"""What an agent's kind is called."""


@dataclass(frozen=True, slots=True)
class Design:
    """The levers and the cell of each method."""

    learner: str
    levers: tuple[Lever, ...]
    cells: Mapping[str, Levels]


def design_of(groups: Mapping[str, Group], baseline: str) -> Design | None:
    """The factorial of two levers or more that the methods form; None where they form none.

    Levers are exploration (the rule), sampling (who acts: inline or central) and sampler (transform and engine, with
    how often it takes over weights). Each has two levels, the baseline has all the low ones, each combination is one
    method, and nothing else differs between the methods.
    """
    if baseline not in groups:
        return None
    configs = {method: group.runs[0].config for method, group in groups.items()}
    parts = {method: _parts(config) for method, config in configs.items()}
    if any(_rest(config) != _rest(configs[baseline]) for config in configs.values()):
        return None
    seen = [list(dict.fromkeys(str(of[at]) for of in parts.values())) for at in range(3)]
    if max(len(levels) for levels in seen) > 2:
        return None
    active = [at for at in range(3) if len(seen[at]) == 2]
    low = parts[baseline]
    cells = {method: tuple(int(of[at] != low[at]) for at in active) for method, of in parts.items()}
    if len(active) < 2 or sorted(cells.values()) != sorted(product((0, 1), repeat=len(active))):
        return None
    other = next(method for method, levels in cells.items() if all(levels))
    names = [(_names(configs[baseline])[at], _names(configs[other])[at]) for at in active]
    levers = tuple(
        Lever(name=("exploration", "sampling", "sampler")[at], low=a, high=b)
        for at, (a, b) in zip(active, names, strict=True)
    )
    kind = configs[baseline].agent.kind
    return Design(LEARNERS.get(kind, kind), levers, cells)


def _parts(config: RunConfig) -> tuple[Any, Any, Any]:
    sampler = to_dict(config.sampler)
    kind = sampler.pop("kind")
    return config.explore.name, kind, sampler


def _rest(config: RunConfig) -> dict[str, Any]:
    """All that must be equal: no name, no seed, no lever."""
    document: dict[str, Any] = to_dict(config)
    for name in ("recipe", "seed", "machine", "sampler"):
        document.pop(name)
    document["explore"] = {k: v for k, v in document["explore"].items() if k != "name"}
    return document


def _names(config: RunConfig) -> tuple[str, str, str]:
    """The levels in words."""
    explore = {"uniform": "epsilon-greedy"}.get(config.explore.name, config.explore.name)
    return explore, config.sampler.kind, sampler_words(config)


def sampler_words(config: RunConfig) -> str:
    """What acts, in words: ``fp32``, ``int8-dynamic``, ``onnx-int8, every 4 updates``."""
    sampler = config.sampler
    parts = sampler.parts(config.env.rows)
    names = list(dict.fromkeys(_part_words(p.plan.name, p.engine) for p in parts))
    every = f", every {sampler.sync_every_updates} updates" if sampler.sync_every_updates > 1 else ""
    return "+".join(names) + every


def _part_words(transform: str, engine: str) -> str:
    if engine == "torch":
        return "fp32" if transform == "none" else transform
    return engine if transform == "none" else f"{transform} in {engine}"
