"""Comparisons made of nothing, of any size: the report is tested against them. No figure here was measured."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from frugalrl.report import results as r
from frugalrl.report.records import Point, RunRecord
from frugalrl.run.config import RunConfig
from frugalrl.types import Cost

UNSAFE = "<b>&\"x' </script><script>alert(1)</script>"
NAMES = (
    "epsilon-greedy",
    "counteractive",
    UNSAFE,
    "half-uniform mixture with a name that is long beyond reason",
    "ucb",
)
ROLES = {
    "environment": 0.31,
    "inference": 0.16,
    "learner": 0.29,
    "target": 0.07,
    "replay": 0.06,
    "evaluation": 0.06,
    "startup": 0.02,
    "checkpoint": 0.01,
    "reporting": 0.004,
    "unassigned": -0.002,
}
SOURCE = "sum over all runs until they reached it or ended, over those that reached it; paired bootstrap over seeds"


def figure(value: float | None, unit: str, *, spread: float = 0.2, how: Any = "measured", n: int = 10) -> r.Figure:
    """A figure with an interval around it, none for one seed or without a value."""
    interval = None
    if value is not None and n > 1:
        interval = (value * (1 - spread), value * (1 + spread)) if math.isfinite(value) else (70_000.0, math.inf)
        interval = (min(interval), max(interval))
    return r.Figure(value=value, unit=unit, interval=interval, how=how, source=f"{SOURCE}; {unit}", n=n)


def quantities(steps: float, n: int) -> dict[Any, r.Figure]:
    """Every quantity of a use of so many steps; no GPU."""
    per_step = {
        "env_steps": 1.0,
        "updates": 0.25,
        "flop": 3.1e7,
        "sampler_s": 0.0006,
        "learner_s": 0.0011,
        "cpu_s": 0.0019,
        "gpu_s": None,
        "wall_s": 0.0023,
        "joules": 0.021,
        "eur": 2.1e-8,
    }
    hows = {"env_steps": "counted", "updates": "counted", "flop": "counted", "joules": "modelled", "eur": "assumed"}
    return {
        q: figure(None if each is None else each * steps, r.QUANTITIES[q][1], how=hows.get(q, "measured"), n=n)
        for q, each in per_step.items()
    }  # type: ignore[misc]


def made(
    methods: int = 3,
    envs: int = 2,
    seeds: int = 10,
    *,
    points: int = 60,
    targets: int = 2,
    names: Sequence[str] = NAMES,
    modelled: bool = False,
) -> r.Comparison:
    """A comparison. The second method is better; the last one never reaches the second target."""
    chosen = tuple(names[i] if i < len(names) else f"method {i}" for i in range(methods))
    env_names = ["MinAtar/Breakout-v1", f"made:Odd{UNSAFE}-v0", *(f"ALE/Game{i}-v5" for i in range(2, envs))][:envs]
    results = tuple(_env(name, at, chosen, seeds, points, targets) for at, name in enumerate(env_names))
    runs = tuple(
        r.RunLine(
            name=f"study/{env}/{m}/seed{s}",
            method=m,
            env=env,
            seed=s,
            outcome="failed" if s == 7 else "completed",
            reason="the loss is not finite" if s == 7 else "budget of 200,000 steps reached",
            final=None if s == 7 else 3.0 + s / 10,
            env_steps=200_000,
            cpu_s=380.0 + s,
            wall_s=450.0 + 7 * s,
        )
        for env in env_names
        for m in chosen
        for s in range(seeds)
    )
    overall = (
        tuple(
            r.Overall(
                method=m,
                mean=figure(0.4 + i / 10, "normalised", n=seeds),
                median=figure(0.38 + i / 10, "normalised", n=seeds),
                iqm=figure(0.39 + i / 9, "normalised", n=seeds),
                optimality_gap=figure(0.6 - i / 10, "normalised", n=seeds),
                improvement=None if i == 0 else figure(0.7, "probability", n=seeds),
            )
            for i, m in enumerate(chosen)
        )
        if envs > 1
        else ()
    )
    return r.Comparison(
        made="2026-11-25T20:00:00+00:00",
        command=("frugal", "report", "study", "--out", "a b.html"),
        baseline=chosen[0],
        methods=chosen,
        envs=results,
        overall=overall,
        sentences=(
            f"{chosen[min(1, methods - 1)]} reaches 5 with 0.62 [0.50, 0.78] times the CPU time of {chosen[0]}.",
            "As much as 3 more sampler cores would save epsilon-greedy (modelled).",
            "On energy no difference is shown: the interval [0.8, 1.3] contains 1.",
            *(
                f"{m} reaches {t} on {env} with 0.788 [0.741, 0.939] times the CPU time of {chosen[0]}: as much as "
                "1.02 [0.3, 4] more sampler cores would save it (modelled: its sampler takes 18.6 of 79.2 CPU-s)."
                for env in env_names
                for m in chosen[1:]
                for t in range(targets)
            ),
        ),
        notes=("1 run failed and is counted as censored where it ended.", f"Nobody reached 30 with {UNSAFE}."),
        runs=runs,
        machine={
            "profile": "cloud-2vcpu",
            "cpu": "a made CPU",
            "cores": 2,
            "versions": {"torch": "2.9", "python": "3.11"},
        },
        code={"version": "0.1.0", "source_sha256": "ab" * 32},
        modelled="Figures are for machine X with a step of 4 ms." if modelled else None,
        method_docs={m: f"minatar-dqn with {m}" for m in chosen[:2]},
    )


def _env(name: str, place: int, methods: Sequence[str], seeds: int, points: int, targets: int) -> r.EnvResult:
    wanted = tuple(5.0 * 3**t for t in range(targets))
    rng = random.Random(place)
    results = tuple(_method(m, i, methods, seeds, points, wanted, rng) for i, m in enumerate(methods))
    grid = tuple(10 ** (-3 + 6 * i / 40) for i in range(41))
    lines = []
    for i, m in enumerate(methods):
        cost = [(90_000 - 25_000 * (i % 2)) * (ms / 1000 + 0.0013 * (1 + 1.4 * (i % 2))) + 4 * i for ms in grid]
        lines.append(
            r.CrossLine(
                method=m, value=tuple(cost), low=tuple(0.8 * c for c in cost), high=tuple(1.2 * c for c in cost)
            )
        )
    crossing = r.Crossing(left=methods[0], right=methods[-1], step_ms=3.4, interval=(1.2, 8.0))
    crossovers = (
        tuple(
            r.Crossover(
                target=wanted[0],
                quantity=q,
                step_ms=grid,
                measured_step_ms=dict.fromkeys(methods, 0.31),
                lines=tuple(lines),
                crossings=(crossing,) if len(methods) > 1 else (),
            )
            for q in ("wall_s", "eur")
        )
        if wanted
        else ()
    )
    views = []
    for axis, amount in (("env_steps", 200_000.0), ("flop", 6.2e12), ("eur", 0.0042)):
        rows = tuple(
            r.ViewRow(
                method=m,
                score=figure(3.0 + i, "return", n=seeds),
                difference=None if i == 0 else figure(i - 0.4, "return", spread=0.9, n=seeds),
                verdict="baseline"
                if i == 0
                else "one seed"
                if seeds < 2
                else "better"
                if i == 1
                else "no difference shown",
            )
            for i, m in enumerate(methods)
        )
        views.append(r.View(axis=axis, amount=amount, rows=rows))  # type: ignore[arg-type]
    anchors = (
        (
            r.Anchor(
                name="SPR",
                env=name,
                score=4.4,
                interval=(3.9, 5.0),
                env_steps=100_000,
                source="Schwarzer et al. (2021), table 3",
            ),
            r.Anchor(
                name=f"DER {UNSAFE}",
                env=name,
                score=999.0,
                interval=None,
                env_steps=None,
                source="van Hasselt et al. (2019)",
            ),
        )
        if place == 0
        else ()
    )
    return r.EnvResult(
        env=name,
        protocol="minatar",
        targets=wanted,
        methods=results,
        views=tuple(views),
        crossovers=crossovers,
        anchors=anchors,
    )


def _method(
    name: str, i: int, methods: Sequence[str], seeds: int, points: int, targets: tuple[float, ...], rng: random.Random
) -> r.MethodResult:
    last = i == len(methods) - 1 and i > 0
    curves: dict[Any, r.Curve] = {}
    for axis, most in (("env_steps", 2e5), ("flop", 6.2e12), ("cpu_s", 380.0), ("eur", 0.0042)):
        grid = tuple(most * k / (points - 1) for k in range(points))
        value = tuple((4 + 1.7 * i) * (1 - math.exp(-3.5 * k / points)) + rng.gauss(0, 0.07) for k in range(points))
        half = [0.15 + 0.5 * k / points for k in range(points)]
        bands = [
            tuple(v + sign * h if seeds > 1 else None for v, h in zip(value, half, strict=True)) for sign in (-1, 1)
        ]
        curves[axis] = r.Curve(axis=axis, grid=grid, value=value, low=bands[0], high=bands[1], n=(seeds,) * points)  # type: ignore[arg-type]
    to_targets, survival = [], []
    for at, target in enumerate(targets):
        never = at == len(targets) - 1 and (last or i == 0)
        share = 0.0 if never else max(0.9 - 0.25 * at, 0.2)
        cost = quantities(90_000 * (1 + at) * (1 - 0.35 * (i == 1)), seeds)
        if never:
            cost = {
                q: figure(None if f.value is None else math.inf, f.unit, how=f.how, n=seeds) for q, f in cost.items()
            }
        ratio = {q: figure(None if at else (0.62, 1.1)[i % 2 == 0], "ratio", n=seeds) for q in cost} if i else {}
        to_targets.append(
            r.ToTarget(
                target=target,
                reached=round(share * seeds),
                runs=seeds,
                share_reached=figure(share, "share", how="counted", n=seeds),
                median_steps=figure(
                    math.inf if share < 0.5 else 84_000.0 - 20_000 * i, "steps", how="counted", n=seeds
                ),
                expected=cost,
                ratio=ratio,
            )
        )
        steps = tuple(20_000.0 + 15_000 * k + 3_000 * i for k in range(round(share * seeds)))
        shares = tuple((k + 1) / seeds for k in range(len(steps)))
        survival.append(
            r.Survival(
                target=target,
                env_steps=(0.0, *steps),
                share=(0.0, *shares),
                low=tuple(max(0.0, s - 0.2) for s in (0.0, *shares)),
                high=tuple(min(1.0, s + 0.2) for s in (0.0, *shares)),
            )
        )
    return r.MethodResult(
        method=name,
        seeds=tuple(s for s in range(seeds) if s != 7),
        failed=((7, "the loss is not finite"),) if seeds > 7 else (),
        stacked=None,
        final_mean=figure(4.0 + i, "return", n=seeds),
        final_iqm=figure(4.1 + i, "return", n=seeds),
        final_normalized=None if i == 2 else figure(0.4 + i / 10, "normalised", n=seeds),
        tolerance=r.Figure(
            value=2.2 + i, unit="return", interval=None, how="measured", source="too few seeds", n=seeds
        ),
        used=quantities(200_000, seeds),
        peak_memory=figure(9.1e8, "B", n=seeds),
        flop_by_role={"inference": 8e11, "learner": 4.4e12, "target": 1e12},
        targets=tuple(to_targets),
        curves=curves,
        cpu_s_by_role={} if i == 4 else {k: (380 + 20 * i) * v for k, v in ROLES.items()},
        survival=tuple(survival),
    )


def records_for(comparison: r.Comparison, config: RunConfig, points: int = 20) -> list[RunRecord]:
    """A record for each run of a comparison."""
    return [
        RunRecord(
            name=line.name,
            method=line.method,
            config=config,
            bill=None,
            outcome="completed",
            reason=line.reason,
            machine=comparison.machine,
            code=comparison.code,
            command=("frugal", "train", line.env, "--seed", str(line.seed)),
            points=tuple(
                Point(
                    env_steps=10_000 * k,
                    mean_return=k / 4,
                    interval=None,
                    episodes=10,
                    cpu_s=19.0 * k,
                    wall_s=22.0 * k,
                    costs={"learner": Cost(flop=3e11 * k)},
                )
                for k in range(points)
            ),
        )
        for line in comparison.runs
    ]
