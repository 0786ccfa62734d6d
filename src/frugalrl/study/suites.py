"""Studies with a name: ``frugal compare --suite NAME`` makes their methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

from frugalrl.envs import default_protocol
from frugalrl.policies.transforms import parse
from frugalrl.run.config_io import hint
from frugalrl.sampling.config import Engine
from frugalrl.study.matrix import Method, Study
from frugalrl.types import UserError

DEFAULT_ENV, DEFAULT_SEEDS = "MinAtar/Breakout-v1", 5
EPSILON = 0.05
"""Share of exploratory actions of both rules."""
SYNC_EVERY = 4
"""Learner updates between two loads of an engine, which costs several forward passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """What fits one core in about an hour (MinAtar), or a night (Atari)."""

    budget_steps: int | None
    evaluations: int = 20
    episodes: int | None = None
    """Per evaluation; None: the protocol's."""


_SCALES = {
    "minatar": Scale(budget_steps=300_000, episodes=30),
    "atari100k": Scale(budget_steps=500_000, evaluations=10),
}
_TARGETS: Mapping[str, tuple[float, ...]] = {"MinAtar/Breakout-v1": (2.0, 4.0), "ALE/Pong-v5": (-18.0, -12.0, 0.0)}
"""Fixed before the runs."""


def levers(env: str, cheap: str) -> tuple[tuple[Method, ...], tuple[str, ...]]:
    """The eight methods of the 2 x 2 x 2 factorial, and the settings that all of them have.

    All have the recipe ``inline-vtrace``: V-trace, which corrects what any sampler did by its recorded probability.
    Only the three levers differ.
    """
    explore = {"eps": "uniform", "coact": "counteractive"}
    samplers: dict[str, tuple[str, ...]] = {"fp32": (), cheap: cheap_settings(cheap)}
    methods = tuple(
        Method(
            name=f"{rule}-{kind}-{sampler}",
            recipe="inline-vtrace",
            explore=explore[rule],
            set=(*(["sampler.kind=central"] if kind == "central" else []), *samplers[sampler]),
        )
        for rule, kind, sampler in product(explore, ("inline", "central"), samplers)
    )
    scale = _SCALES.get(default_protocol(env))
    episodes = () if scale is None or scale.episodes is None else (f"evaluation.episodes={scale.episodes}",)
    return methods, (f"explore.epsilon.start={EPSILON}", *episodes)


SUITES: Mapping[str, tuple[str, Callable[[str, str], tuple[tuple[Method, ...], tuple[str, ...]]]]] = {
    "levers": ("exploration x sampling x sampler, 2 levels each, all with V-trace (docs/levers.md)", levers),
}
"""What each suite is, and what makes its methods."""


def suite_named(name: str) -> Callable[[str, str], tuple[tuple[Method, ...], tuple[str, ...]]]:
    """Raises UserError that lists the suites."""
    if name not in SUITES:
        known = "; ".join(f"{n}: {what}" for n, (what, _) in SUITES.items())
        raise UserError(f"there is no suite {name!r}{hint(name, list(SUITES))}; suites are {known}")
    return SUITES[name][1]


def default_cheap(env: str) -> str:
    """The sampler that is cheaper here: int8 in ONNX Runtime for images; on small vector networks none is (int8)."""
    return "onnx-int8" if default_protocol(env) in _SCALES else "int8"


def cheap_settings(name: str) -> tuple[str, ...]:
    """``a.b=c`` settings of a cheap sampler: an engine (``onnx-int8``) or a transform (``int8``, ``int3+stale:8``).

    Raises UserError for what is neither, and for the learner's own weights.
    """
    engines = [engine for engine in get_args(Engine) if engine != "torch"]
    if name in engines:
        return f"sampler.engine={name}", f"sampler.sync_every_updates={SYNC_EVERY}"
    try:
        plan = parse(name, "--cheap-sampler")
    except UserError as error:
        raise UserError(f"{error}; or an engine: {', '.join(engines)}") from None
    if plan.changes_nothing:
        raise UserError(
            f"--cheap-sampler {name!r} is the learner's own policy, so there is nothing to compare; use int8"
        )
    return (f"sampler.transform={name}",)


def suite_study(
    name: str,
    *,
    envs: Sequence[str] = (),
    cheap: str | None = None,
    seeds: tuple[int, ...] | None = None,
    budget_steps: int | None = None,
    evaluations: int | None = None,
    targets: Sequence[float] = (),
    settings: Sequence[str] = (),
) -> Study:
    """A suite on one environment; what is not given is the suite's own. Raises UserError."""
    make = suite_named(name)
    if len(envs) > 1:
        raise UserError(f"--suite {name} takes one environment, not {', '.join(envs)}; make a study of each")
    env = envs[0] if envs else DEFAULT_ENV
    methods, common = make(env, cheap or default_cheap(env))
    scale = _SCALES.get(default_protocol(env), Scale(budget_steps=None))
    goals = tuple(targets) or _TARGETS.get(env, ())
    return Study(
        envs=(env,),
        methods=methods,
        seeds=seeds or tuple(range(DEFAULT_SEEDS)),
        baseline=methods[0].name,
        budget_steps=budget_steps or scale.budget_steps,
        evaluations=evaluations or scale.evaluations,
        targets={env: goals} if goals else {},
        set=(*common, *settings),
    )


def suite_words(name: str, study: Study, *, chosen: bool) -> str:
    """What is compared, in one line; ``chosen``: the user named the cheap sampler."""
    what = f"suite {name}: {SUITES[name][0]}; {', '.join(m.name for m in study.methods)}"
    small = default_cheap(study.envs[0]) == "int8" and not chosen
    return f"{what}. The int8 sampler saves nothing on networks this small (docs/levers.md)." if small else f"{what}."
