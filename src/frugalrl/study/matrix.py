"""The matrix of a comparison: methods x environments x seeds, and the run that each cell stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

from frugalrl.algos.agents import correction_setting, explorer_of
from frugalrl.math.explore import EXPLORERS, POLICY_EXPLORERS
from frugalrl.recipes import build_config
from frugalrl.recipes.catalog import RECIPES, policy_recipe
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import hint, override
from frugalrl.run.unused import refuse_unused, why_unused
from frugalrl.study.sampler_words import read_sampler
from frugalrl.types import UserError

CADENCE = "evaluation.every_env_steps"
_LONGEST = 200
"""Characters of an environment's and a method's name, together: a file name may have 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """What is compared: a recipe, an explorer, and any field of the configuration."""

    name: str
    recipe: str | None = None
    """None: the environment's own."""
    explore: str | None = None
    """None: the recipe's."""
    sampler_transform: str | None = None
    """What is done to the weights that act, ``sampler.transform``; None: the recipe's."""
    sampler_engine: str | None = None
    """What computes the policy that acts, ``sampler.engine``; None: the recipe's."""
    correction: str | None = None
    """Importance correction, ``agent.correction``; None: the recipe's."""
    set: tuple[str, ...] = ()
    """``a.b=c`` settings; they win over all of the above."""

    @property
    def samples(self) -> bool:
        """Whether it says who acts or how that is corrected, which is for learners of policies."""
        return any(x is not None for x in (self.sampler_transform, self.sampler_engine, self.correction))

    def words(self) -> str:
        """What it is, in one line."""
        parts = [f"recipe {self.recipe or 'by environment'}", f"explorer {self.explore or 'of the recipe'}"]
        for what in ("sampler_transform", "sampler_engine", "correction"):
            if getattr(self, what) is not None:
                parts.append(f"{what.replace('_', ' ')} {getattr(self, what)}")
        return ", ".join((*parts, *self.set))

    def settings(self, config: RunConfig) -> tuple[str, ...]:
        """Sampler and correction as ``a.b=c``. Raises UserError for an agent that has no correction."""
        named = {"sampler.transform": self.sampler_transform, "sampler.engine": self.sampler_engine}
        found = [f"{path}={value}" for path, value in named.items() if value is not None]
        if self.correction is not None:
            found.append(correction_setting(config.agent, self.correction))
        return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A matrix. Every method sees the same environments, seeds, budget and evaluations."""

    envs: tuple[str, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    baseline: str
    """Name of the method that the others are compared with."""
    budget_steps: int | None = None
    """Agent steps of every run; None takes the recipe's."""
    evaluations: int = 20
    """Evaluations of every run: the resolution of a time to target."""
    targets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By environment; fixed before the runs. Without any, shares of the reference return are taken."""
    set: tuple[str, ...] = ()
    """``a.b=c`` settings of all methods; a method's own win."""

    def __post_init__(self) -> None:
        names = [m.name for m in self.methods]
        axes: tuple[tuple[str, Sequence[object]], ...] = (
            ("environment", self.envs), ("method", names), ("seed", self.seeds),
        )  # fmt: skip
        for what, values in axes:
            if not values:
                raise UserError(f"the matrix is empty: it has no {what}; name at least one")
            double = next((v for v in values if values.count(v) > 1), None)
            if double is not None:
                raise UserError(f"the {what} {double!r} is named twice; name each once")
        if self.baseline not in names:
            raise UserError(f"the baseline {self.baseline!r} is no method of the matrix{hint(self.baseline, names)}")
        for env, targets in self.targets.items():
            if env not in self.envs:
                raise UserError(f"there are targets for {env!r}, which is not in the matrix{hint(env, self.envs)}")
            if endless := [target for target in targets if not isfinite(target)]:
                raise UserError(f"the target {endless[0]} of {env} is no score; give a finite number")
        if self.evaluations < 1 or min(self.seeds) < 0:
            raise UserError(
                f"evaluations={self.evaluations}, seeds={list(self.seeds)}: need at least 1 evaluation and no seed "
                f"below 0"
            )


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the matrix."""

    method: str
    env: str
    seed: int
    config: RunConfig

    @property
    def path(self) -> Path:
        """Folder of the run, below the study's."""
        return Path("runs") / safe(self.env) / safe(self.method) / f"seed{self.seed}"

    @property
    def key(self) -> str:
        """Name in the study's own records."""
        return self.path.relative_to("runs").as_posix()


def safe(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", name).strip("-.") or "x"


def cells(study: Study) -> tuple[Cell, ...]:
    """All runs, seed by seed, so that a study that is cut short has compared something.

    Raises UserError for what cannot be built, naming the method.
    """
    found = tuple(
        Cell(method.name, env, seed, _config(study, method, env, seed))
        for seed in study.seeds
        for env in study.envs
        for method in study.methods
    )
    paths: dict[Path, Cell] = {}
    for cell in found:
        if len(safe(cell.env)) + len(safe(cell.method)) > _LONGEST:
            raise UserError(
                f"{cell.method!r} on {cell.env!r} is too long for the name of a file; give the method a short name, as "
                f"in mine=counteractive+..."
            )
        other = paths.setdefault(cell.path, cell)
        if other is not cell:
            raise UserError(
                f"{cell.method!r} on {cell.env!r} and {other.method!r} on {other.env!r} would share the folder "
                f"{cell.path}; give one another name"
            )
    return found


def refuse_unused_settings(study: Study) -> None:
    """Raises UserError for a setting of a method that changes nothing there, or one of all methods that none reads.

    For a new study: the folder of an old one is read whatever it was made with.
    """
    made = [(method, _config(study, method, env, study.seeds[0])) for env in study.envs for method in study.methods]
    for setting in study.set:
        if all(why_unused(config, setting) for _, config in made):
            refuse_unused(made[0][1], [setting])
    for method, config in made:
        try:
            refuse_unused(config, method.set)
        except UserError as error:
            raise UserError(f"method {method.name!r}: {error}") from error


def refuse_evaluations(study: Study) -> None:
    """Raises UserError where a number of evaluations was asked for and a run has no step budget to spread them over."""
    for env in study.envs:
        for method in study.methods:
            if _config(study, method, env, study.seeds[0]).budget.env_steps is None:
                raise UserError(
                    f"method {method.name!r} has no budget.env_steps, so {study.evaluations} evaluations cannot be "
                    f"spread over it; leave evaluations out and set {CADENCE}"
                )


def _config(study: Study, method: Method, env: str, seed: int) -> RunConfig:
    settings = (*study.set, *method.set)
    try:
        config = build_config(env, method.recipe or (policy_recipe(env) if method.samples else None))
        config = replace(
            config,
            seed=seed,
            explore=replace(config.explore, name=method.explore or config.explore.name),
            budget=replace(config.budget, env_steps=study.budget_steps or config.budget.env_steps),
        )
        config = override(config, (*study.set, *method.settings(config), *method.set))
        explorer_of(config.agent, config.explore.name)
        if config.seed != seed:
            raise UserError("the seed of a run comes from the matrix, so it cannot be set; use seeds")
    except UserError as error:
        raise UserError(f"method {method.name!r}: {error}") from error
    if any(s.partition("=")[0].strip() == CADENCE for s in settings) or config.budget.env_steps is None:
        return config
    every = max(1, config.budget.env_steps // study.evaluations)
    return replace(config, evaluation=replace(config.evaluation, every_env_steps=every))


def method_from_word(word: str) -> Method:
    """``[NAME=]PART+PART+...``: each part an explorer, a recipe, a sampler or a setting ``a.b=c``.

    ``counteractive``, ``der+counteractive``, ``wide=counteractive+net.hidden_units=512``, ``int4-tis2`` (samplers:
    `frugalrl.study.sampler_words`). Raises UserError.
    """
    name, equals, rest = word.partition("=")
    if not equals or "." in name or "+" in name:
        name, rest = word, word
    recipe = explore = sampler = None
    explorers = EXPLORERS | POLICY_EXPLORERS
    settings: list[str] = []
    for part in rest.split("+"):
        if "=" in part:
            settings.append(part)
        elif part in explorers and explore is None:
            explore = part
        elif part in RECIPES and recipe is None:
            recipe = part
        elif part not in explorers and part not in RECIPES and (read := read_sampler(part)) is not None:
            if sampler is not None:
                raise UserError(f"--methods {word!r} names two samplers; a method has one")
            sampler = read
        elif part in explorers or part in RECIPES:
            raise UserError(f"--methods {word!r} names two explorers or two recipes; a method has one of each")
        else:
            known = [*explorers, *RECIPES, "fp32", "bf16", "int8", "int4-tis2", "stale8-none"]
            near = hint(part, known) or "; `frugal list explorers` and `frugal list recipes` name them"
            raise UserError(f"--methods {word!r}: {part!r} is neither explorer, recipe, sampler nor a.b=c{near}")
    if not name:
        raise UserError(f"--methods {word!r} has an empty name before the '='")
    transform, correction = sampler or (None, None)
    return Method(
        name=name,
        recipe=recipe,
        explore=explore,
        sampler_transform=transform,
        correction=correction,
        set=tuple(settings),
    )


def seeds_of(numbers: Sequence[int]) -> tuple[int, ...]:
    """One number is a count (10: seeds 0 to 9), several are the seeds themselves."""
    return tuple(range(numbers[0])) if len(numbers) == 1 else tuple(numbers)
