"""The samplers of several seeds as one: each collects the block that it would collect alone.

A seed has its own environments, random streams, counters and memory of its rule. What is shared are calls: one forward
pass and one call of the exploration rule for all rows of all seeds. A seed whose block is complete is not stepped any
more while others go on, so that nobody's streams are moved by another.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.cost.meters import LapTimer
from frugalrl.math.explore import Choice, View, counteractive, uniform
from frugalrl.math.explore.rule import diverged
from frugalrl.math.schedules import of_rows
from frugalrl.policies.stacked import StackedGpuPolicy, StackedPolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.sampling.inline import InlineSampler
from frugalrl.sampling.inline_block import Block, no_choice
from frugalrl.types import Collected, EnvFailed, Step

Array = NDArray[Any]


class Kind(Enum):
    """Who decides about the next action of a seed."""

    NOBODY = auto()
    """Every row is about to be reset."""
    PREFILL = auto()
    """The uniform prefill."""
    PREFILL_Q = auto()
    """The counteractive prefill."""
    RULE = auto()
    """The exploration rule, without Q-values: every row explores."""
    RULE_Q = auto()
    """The exploration rule."""


class SeedSampler(InlineSampler):
    """An inline sampler that can also be led, step by step, by a `StackedSampler`."""

    block: Block
    step: Step
    u: Array
    eps: Array
    temperature: Array | None

    @property
    def policy(self) -> ValuePolicy:
        """Its own, for steps that it makes alone."""
        assert isinstance(self._policy, ValuePolicy)
        return self._policy

    @property
    def acts_by_row(self) -> bool:
        """Whether the rule looks at nothing but a row's own Q-values and draws, so that seeds can share a call."""
        return not self._memory and self._config.name != "fixed-random"

    @property
    def num_actions(self) -> int:
        """Of its environments."""
        return self._env.spec.num_actions

    def open(self) -> None:
        """Begin a block; undone by ``undo``."""
        self._before = self._mark()
        self.block, self.step = self._open()

    def wants(self, n: int) -> bool:
        """Whether the block is still short of ``n`` transitions."""
        return self.env_steps - self.block.env_steps_before < n

    def decide(self) -> Kind:
        """Draw, and say who chooses."""
        self._q = None
        u = self.u = self._streams.next()
        if self.step.last.all():
            return Kind.NOBODY
        rows, config = len(u), self._config
        if self.env_steps < self._prefill:
            return Kind.PREFILL if config.prefill == "uniform" else Kind.PREFILL_Q
        self.eps = of_rows(config.epsilon, self.env_steps, rows)
        self.temperature = of_rows(config.temperature, self.env_steps, rows) if self._has_temperature else None
        if self._explores is not None and self._explores(self.eps, u, self._memory).all():
            return Kind.RULE
        return Kind.RULE_Q

    def saw(self, q: Array, *, judged: bool) -> None:
        """Count a forward pass. ``judged``: the rule chose by these values. Raises FloatingPointError."""
        self.forwards += 1
        if not np.isfinite(q).all():
            raise diverged(q)
        self._q = q if judged else None

    def choose(self, view: View) -> Choice:
        """By the rule, for rows of this seed, or of several where ``acts_by_row``."""
        return self._explorer.choose(view, self._memory)

    def view(self, q: Array | None) -> View:
        """What the rule may look at."""
        step = self.step
        return View(q, step.obs, step.last, self.eps, self.temperature, self.u, self.num_actions, self._knobs)

    def take(self, choice: Choice) -> None:
        """One step. Raises EnvFailed."""
        if self._memory and self.step.last.any():
            self._explorer.end(self._memory, self.step.last)
        self.step = self._advance(self.block, choice)

    def close_block(self) -> Collected:
        """The finished block."""
        return self._close(self.block)

    def undo(self) -> None:
        """Drop the block: ``state_dict`` gives the state before it."""
        self._roll_back(*self._before)


Failure = EnvFailed | FloatingPointError


class StackedSampler:
    """Leads the samplers of several seeds."""

    def __init__(self, seeds: Sequence[SeedSampler], policy: StackedPolicy | StackedGpuPolicy, timer: LapTimer) -> None:
        """``timer``: of the thread that calls ``collect``."""
        self._seeds, self._policy, self._timer = list(seeds), policy, timer

    def collect(self, n: int) -> list[Collected | Failure]:
        """A block of at least ``n`` valid transitions of each seed, as `InlineSampler.collect` makes it.

        A seed whose environment fails or whose Q-values are not finite answers with the error; its block is dropped.
        """
        timer = self._timer
        failed: dict[int, Failure] = {}
        active = []
        for place, seed in enumerate(self._seeds):
            if self._try(place, failed, seed.open):
                active.append(place)
        timer.lap("environment")
        while active := [p for p in active if p not in failed and self._seeds[p].wants(n)]:
            choices = self._choose(active, failed)
            timer.lap("inference")
            for place, choice in choices.items():
                self._try(place, failed, self._seeds[place].take, choice)
            timer.lap("environment")
        answers = [failed.get(place) or seed.close_block() for place, seed in enumerate(self._seeds)]
        timer.lap("inference")
        return answers

    def _try(self, place: int, failed: dict[int, Failure], work: Any, *args: Any, **kwargs: Any) -> bool:
        try:
            work(*args, **kwargs)
        except (EnvFailed, FloatingPointError) as error:
            failed[place] = error
            self._seeds[place].undo()
            return False
        return True

    def _choose(self, active: Sequence[int], failed: dict[int, Failure]) -> dict[int, Choice]:
        """The actions of these seeds, without those that have diverged."""
        kinds: dict[Kind, list[int]] = {}
        for place in active:
            kinds.setdefault(self._seeds[place].decide(), []).append(place)
        q = self._q_values(sorted(kinds.get(Kind.PREFILL_Q, []) + kinds.get(Kind.RULE_Q, [])))
        found: dict[int, Choice] = {}
        for kind, places in kinds.items():
            if kind in (Kind.PREFILL_Q, Kind.RULE_Q):
                judged = kind is Kind.RULE_Q
                places = [p for p in places if self._try(p, failed, self._seeds[p].saw, q[p], judged=judged)]
            if places:
                found |= self._choices(kind, places, q)
        return found

    def _q_values(self, places: list[int]) -> dict[int, Array]:
        if not places:
            return {}
        obs = np.stack([self._seeds[place].step.obs for place in places])
        draws = [self._seeds[place].forwards + 1 for place in places]
        return dict(zip(places, self._policy.q_values(obs, places, draws), strict=True))

    def _choices(self, kind: Kind, places: list[int], q: dict[int, Array]) -> dict[int, Choice]:
        seeds = [self._seeds[place] for place in places]
        if kind is Kind.NOBODY:
            return {place: no_choice(len(seed.u)) for place, seed in zip(places, seeds, strict=True)}
        if kind in (Kind.RULE, Kind.RULE_Q) and not seeds[0].acts_by_row:
            return {place: seed.choose(seed.view(q.get(place))) for place, seed in zip(places, seeds, strict=True)}
        u = np.concatenate([seed.u for seed in seeds])
        all_q = np.concatenate([q[place] for place in places]) if places[0] in q else None
        if kind is Kind.PREFILL:
            choice = uniform(seeds[0].num_actions, u)
        elif kind is Kind.PREFILL_Q:
            assert all_q is not None
            choice = counteractive(all_q, np.ones(len(u)), u)
        else:
            choice = seeds[0].choose(_joined([seed.view(None) for seed in seeds], all_q, u))
        rows = len(u) // len(places)
        parts = (slice(i * rows, (i + 1) * rows) for i in range(len(places)))
        return {
            place: Choice(choice.action[part], choice.log_mu[part], choice.explored[part])
            for place, part in zip(places, parts, strict=True)
        }


def _joined(views: Sequence[View], q: Array | None, u: Array) -> View:
    """The views of several seeds as one, for a rule that acts row by row."""
    first = views[0]
    temperature = first.temperature
    if temperature is not None:
        temperature = np.concatenate([view.temperature for view in views if view.temperature is not None])
    return first._replace(
        q=q,
        obs=np.concatenate([view.obs for view in views]),
        last=np.concatenate([view.last for view in views]),
        eps=np.concatenate([view.eps for view in views]),
        temperature=temperature,
        u=u,
    )
