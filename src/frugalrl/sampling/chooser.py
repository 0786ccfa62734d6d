"""Exploration for any rows at any time: draws, schedules and the explorer's memory are kept per row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.explore import Choice, Explorer, Knobs, Memory, View, counteractive, uniform
from frugalrl.math.schedules import Schedule, of_rows
from frugalrl.sampling.draws import Ints, RowDraws
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.types import EnvSpec, StateDict


class Chooser:
    """Chooses actions for the rows that stand at a step.

    What a row draws and remembers does not depend on which rows stand beside it, except for a rule whose memory all
    rows share (``ucb``): that sees the rows in the order in which they come.
    """

    def __init__(
        self,
        explorer: Explorer,
        config: ExploreConfig,
        spec: EnvSpec,
        num_rows: int,
        *,
        seed: int,
        prefill_env_steps: int = 0,
        needs_log_mu: bool = False,
    ) -> None:
        """``needs_log_mu``: values are computed also where all rows explore at random. Raises UserError when the rule
        cannot work on this environment."""
        self.explorer = explorer
        self._config, self._spec, self._num_rows, self._prefill = config, spec, num_rows, prefill_env_steps
        self._knobs = Knobs(
            uniform_share=config.uniform_share,
            ez_mu=config.ez_mu,
            ez_max_steps=config.ez_max_steps,
            ucb_c=config.ucb_c,
            seed=seed,
        )
        self._draws = RowDraws(seed, num_rows)
        self._explores = None if needs_log_mu else explorer.explores
        self._memory = explorer.start(spec, num_rows)
        one_more = explorer.start(spec, num_rows + 1) if self._memory else {}
        self._of_rows = [k for k, v in self._memory.items() if v.shape != one_more[k].shape]
        self._epsilon = _OfRows(config.epsilon, num_rows)
        self._temperature = _OfRows(config.temperature, num_rows) if "temperature" in explorer.knobs else None
        self._marked: Memory = {}

    def choose(
        self,
        rows: Ints,
        obs: NDArray[Any],
        last: NDArray[np.bool_],
        env_steps: int,
        values: Callable[[], NDArray[Any]],
    ) -> tuple[Choice, bool]:
        """Actions for ``rows`` [n] at ``obs`` [n, *obs_shape]; ``values`` is called for [n, A] if they are needed.

        Returns also whether it was the explorer that chose, not the prefill. Raises FloatingPointError for values that
        are not finite.
        """
        u = self._draws.next(rows)
        if last.all():  # every row is about to be reset: its action is not used
            answer = no_choice(len(u)), False
        elif env_steps < self._prefill and self._config.prefill == "uniform":
            answer = uniform(self._spec.num_actions, u), False
        elif env_steps < self._prefill:
            answer = counteractive(values(), np.ones(len(u)), u), False
        else:
            return self._explore(rows, obs, last, env_steps, values, u), True
        if self._memory and last.any():
            memory = self._gather(rows)
            self.explorer.end(memory, last)
            self._scatter(rows, memory)
        return answer

    def _explore(
        self,
        rows: Ints,
        obs: NDArray[Any],
        last: NDArray[np.bool_],
        env_steps: int,
        values: Callable[[], NDArray[Any]],
        u: NDArray[np.float64],
    ) -> Choice:
        memory = self._gather(rows)
        eps = self._epsilon.at(env_steps)[rows]
        skip = self._explores is not None and bool(self._explores(eps, u, memory).all())
        view = View(
            q=None if skip else values(),
            obs=obs,
            last=last,
            eps=eps,
            temperature=None if self._temperature is None else self._temperature.at(env_steps)[rows],
            u=u,
            num_actions=self._spec.num_actions,
            knobs=self._knobs,
        )
        choice = self.explorer.choose(view, memory)
        if memory:
            if last.any():
                self.explorer.end(memory, last)
            self._scatter(rows, memory)
        return choice

    def _gather(self, rows: Ints) -> Memory:
        return {k: v[rows] if k in self._of_rows else v for k, v in self._memory.items()}

    def _scatter(self, rows: Ints, memory: Memory) -> None:
        for name in self._of_rows:
            self._memory[name][rows] = memory[name]

    def forget(self, rows: Ints) -> None:
        """The episodes of these rows ended without a last step."""
        if self._memory:
            memory = self._gather(rows)
            self.explorer.end(memory, np.ones(len(rows), np.bool_))
            self._scatter(rows, memory)

    def epsilon(self, env_steps: int) -> float | None:
        """Mean exploration probability over rows; None for a rule that has none."""
        if env_steps < self._prefill:
            return 1.0
        if "epsilon" not in self.explorer.knobs:
            return None
        return float(self._epsilon.at(env_steps).mean())

    def mark(self) -> None:
        """Remember draws and memory, for ``roll_back``."""
        self._draws.mark()
        self._marked = _copies(self._memory)

    def roll_back(self) -> None:
        """Stand at the last ``mark`` again, for ``state_dict`` only."""
        self._draws.roll_back()
        self._memory = _copies(self._marked)

    def state_dict(self) -> StateDict:
        return {"draws": self._draws.state_dict(), "explorer": _copies(self._memory)}

    def load_state_dict(self, state: StateDict) -> None:
        """Raises ValueError when the explorer remembers something else than was saved."""
        memory = _copies(state["explorer"])
        mine, saved = ({k: v.shape for k, v in m.items()} for m in (self._memory, memory))
        if mine != saved:
            raise ValueError(f"the explorer {self.explorer.name!r} remembers {mine}, but {saved} was saved")
        self._draws.load_state_dict(state["draws"])
        self._memory = memory


class _OfRows:
    """A schedule for all rows; a ladder is a loop over rows in Python, so it is made once."""

    def __init__(self, schedule: Schedule, num_rows: int) -> None:
        self._schedule, self._num_rows = schedule, num_rows
        fixed = schedule.kind in ("constant", "ladder")
        self._fixed = of_rows(schedule, 0, num_rows) if fixed else None

    def at(self, env_steps: int) -> NDArray[np.float64]:
        return of_rows(self._schedule, env_steps, self._num_rows) if self._fixed is None else self._fixed


def no_choice(rows: int) -> Choice:
    """Where no action was chosen: before a first step, and where all rows are about to be reset."""
    return Choice(np.zeros(rows, np.int64), np.full(rows, np.nan, np.float32), np.zeros(rows, np.bool_))


def _copies(memory: Memory) -> Memory:
    return {name: np.array(array) for name, array in memory.items()}
