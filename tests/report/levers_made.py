"""Records of a 2 x 2 x 2 factorial made by hand: every effect is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from frugalrl.algos.impala import ImpalaConfig
from frugalrl.report.records import RunRecord
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.exploration import ExploreConfig
from report.records_made import line, record

BASE = "eps-inline-fp32"
EVERY = 1_000


def factorial(seeds: int = 6, *, never: tuple[str, ...] = (), budget: int = 8) -> list[RunRecord]:
    """Counteractive needs half of the steps to 100, int8 half of the inference; sampling changes nothing.

    Seed s needs 4 + 2 (s mod 3) evaluations with epsilon-greedy. Methods in ``never`` stay below 100.
    """
    found = []
    for rule, kind, sampler in product(("eps", "coact"), ("inline", "central"), ("fp32", "int8")):
        method = f"{rule}-{kind}-{sampler}"
        for seed in range(seeds):
            evaluations = (4 + 2 * (seed % 3)) // (2 if rule == "coact" else 1)
            scores = [100.0 if i + 1 >= evaluations and method not in never else 10.0 for i in range(budget)]
            points = line(scores, EVERY, inference_ms=0.5 if sampler == "int8" else 1.0)
            made = record(
                method,
                seed,
                [replace(p, frames=4 * p.env_steps) for p in points],
                explore=ExploreConfig(name="counteractive" if rule == "coact" else "uniform"),
                agent=ImpalaConfig(),
                sampler=SamplerConfig(kind=kind, transform="int8" if sampler == "int8" else "none"),
            )
            found.append(made)
    return found
