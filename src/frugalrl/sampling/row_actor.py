"""All that is kept for environment rows between their steps: recurrent state, last action and how it was chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.explore import Choice
from frugalrl.nets import gpu
from frugalrl.policies.acting import ActingPolicy
from frugalrl.policies.sampler_policy import values_of, versions_of
from frugalrl.sampling.chooser import Chooser, no_choice
from frugalrl.sampling.draws import Ints
from frugalrl.types import Cost, StateDict, Step

Arrays = dict[str, NDArray[Any]]


class RowActor:
    """Acts for any rows of ``num_rows``: ``see`` a step, then ``act`` at it."""

    def __init__(
        self,
        policy: ActingPolicy,
        chooser: Chooser,
        num_rows: int,
        *,
        forward_cost: Callable[[int], Cost],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``forward_cost``: FLOPs and bytes of one forward pass over so many rows."""
        self._policy, self._chooser, self._num_rows, self._clock = policy, chooser, num_rows, clock
        self._state: Arrays = policy.initial_state(num_rows)
        self._initial: Arrays = policy.initial_state(1)
        self._action, self._log_mu, self._explored = no_choice(num_rows)
        self._version = np.full(num_rows, policy.version, np.int64)
        self._one_cost: dict[int, Cost] = {}
        self._forward_cost = forward_cost
        self.costs = Cost(calls=0, flop=0.0, bytes_min=0.0, gpu_s=policy.gpu_s)
        """Of all forward passes so far; the seconds of a GPU are the policy's own count."""
        self.forwards = 0
        self.forward_s = 0.0
        """Wall seconds of the last forward pass."""
        self.values: NDArray[Any] | None = None
        """[n, A] by which the explorer chose in the last ``act``; None where it chose without."""
        self._after: Mapping[str, NDArray[Any]] = {}
        self._marked: tuple[int, Arrays, Arrays] = 0, {}, {}

    @property
    def state(self) -> Arrays:
        """Recurrent state of all rows, [num_rows, ...] each."""
        return self._state

    def forget(self, rows: Ints) -> None:
        """These rows begin anew, without a last step before."""
        self._reset(rows)
        self._action[rows], self._log_mu[rows], self._explored[rows] = no_choice(len(rows))
        self._version[rows] = versions_of(self._policy, rows)
        self._chooser.forget(rows)

    def _reset(self, rows: Ints) -> None:
        for name, array in self._state.items():
            array[rows] = self._initial[name]

    def see(self, rows: Ints, step: Step) -> tuple[Arrays, Arrays]:
        """What is stored with ``step`` of these rows: fields [n] by name, and the state before ``step.obs``."""
        if self._state:
            if "reward_tm1" in self._state:
                self._state["reward_tm1"][rows] = step.reward
            if not step.valid.all():
                self._reset(rows[~step.valid])
        fields = {
            "action": self._action[rows],
            "reward": step.reward,
            "discount": step.discount,
            "last": step.last,
            "valid": step.valid,
            "log_mu": self._log_mu[rows],
            "version": self._version[rows],
            "explored": self._explored[rows],
        }
        return fields, {name: array[rows] for name, array in self._state.items()}

    def act(self, rows: Ints, step: Step, state: Arrays, env_steps: int) -> Choice:
        """Actions at ``step``, which these rows have seen; ``state``: what ``see`` returned.

        Raises FloatingPointError for values that are not finite.
        """
        self.values = None
        made: list[NDArray[Any]] = []

        def values() -> NDArray[Any]:
            made.append(self._forward(rows, step.obs, state))
            return made[0]

        choice, explored = self._chooser.choose(rows, step.obs, step.last, env_steps, values)
        if self._state:
            if not made:  # a memory must see every observation
                values()
            for name, array in self._state.items():
                array[rows] = self._after[name]
            if "action_tm1" in self._state:
                self._state["action_tm1"][rows] = choice.action
        if made and explored:
            self.values = made[0]
        self._action[rows], self._log_mu[rows], self._explored[rows] = choice
        self._version[rows] = versions_of(self._policy, rows)
        return choice

    def _forward(self, of: Ints, obs: NDArray[Any], state: Arrays) -> NDArray[Any]:
        began = self._clock()
        self.forwards += 1
        rows = len(obs)
        values, self._after = values_of(self._policy, of, obs, state, self.forwards)
        if rows not in self._one_cost:
            self._one_cost[rows] = self._forward_cost(rows)
        one = self._one_cost[rows]
        more = Cost(calls=1, flop=one.flop, bytes_min=one.bytes_min)
        self.costs = replace(self.costs + more, gpu_s=self._policy.gpu_s)
        self.forward_s = self._clock() - began
        return values

    def mark(self) -> None:
        """Remember how the rows stand, for ``roll_back``."""
        self._chooser.mark()
        self._marked = self.forwards, _copies(self._last()), _copies(self._state)

    def roll_back(self) -> None:
        """Stand at the last ``mark`` again, for ``state_dict`` only."""
        self._chooser.roll_back()
        self.forwards, last, state = self._marked
        self._put(last, state)

    def state_dict(self) -> StateDict:
        """What the rows remember and how their last actions were chosen. Arrays are copies."""
        return {
            "forwards": self.forwards,
            "chooser": self._chooser.state_dict(),
            "last": _copies(self._last()),
            "state": _copies(self._state),
        }

    def _last(self) -> Arrays:
        return {
            "action": self._action,
            "log_mu": self._log_mu,
            "explored": self._explored,
            "version": self._version,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Raises ValueError when another policy or explorer was saved."""
        mine, saved = ({k: v.shape for k, v in s.items()} for s in (self._state, state["state"]))
        if mine != saved:
            raise ValueError(f"the policy remembers {mine}, but {saved} was saved")
        self._chooser.load_state_dict(state["chooser"])
        self.forwards = state["forwards"]
        self._put(state["last"], state["state"])

    def _put(self, last: Arrays, state: Arrays) -> None:
        for name, array in self._last().items():
            array[:] = last[name]
        for name, array in self._state.items():
            array[:] = state[name]


def grown(now: Cost, before: Cost) -> Cost:
    """What was counted of forward passes since ``before``."""
    return Cost(
        calls=(now.calls or 0) - (before.calls or 0),
        flop=(now.flop or 0.0) - (before.flop or 0.0),
        bytes_min=(now.bytes_min or 0.0) - (before.bytes_min or 0.0),
        gpu_s=gpu.grown(before.gpu_s, now.gpu_s),
    )


def _copies(arrays: Arrays) -> Arrays:
    return {name: np.array(array) for name, array in arrays.items()}
