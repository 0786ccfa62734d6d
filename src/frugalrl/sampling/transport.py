"""What lies between environment rows and the engine that acts for them: messages one way, actions the other.

An actor holds environment rows and nothing else: no weights, no recurrent state, no unroll. After each step it sends
all its rows at once and waits for their actions. A group is what one message holds: the rows of one `RowEnv`.

A group that is started again (its process died, its environment failed) has a new ``run_id`` and counts ``seq`` from 0:
whoever keeps something for its rows drops it. A message that comes twice has the same ``run_id`` and ``seq``: it is
answered again, not taken as a second step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import Costs, EnvSpec, Step


@dataclass(frozen=True, slots=True)
class Message:
    """All rows of one group after one step."""

    group: int
    """Number of the group, from 0; the same after a restart."""
    first_row: int
    """Its rows are ``first_row`` to ``first_row + len(step.last) - 1`` of the sampler's rows."""
    run_id: int
    """Random, new each time the group is started."""
    seq: int
    """0 for the reset, then one more with each step."""
    step: Step
    """Rows of the group; ``step.obs`` may lie in memory that is written again once the message is answered."""
    arrived_s: float
    """``time.monotonic()`` when it came."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happened to a group and that the run survives."""

    group: int
    kind: str
    """``died``, ``raised``, ``hung``, ``bad_data`` or ``birth``."""
    sentence: str
    """What happened, for the user."""
    cause: BaseException | None = None
    """What was raised, if anything was: its traceback names the user's own line."""


class FromWorker(Exception):
    """What was raised in a worker process, as the text of its traceback: the exception itself stays there."""


class Transport(Protocol):
    """A number of groups, wherever their environments run. One thread calls all methods but ``close``.

    A group that fails is started again within a budget; when that is spent, ``poll`` raises EnvFailed with the last
    sentence and the number of restarts.
    """

    @property
    def spec(self) -> EnvSpec:
        """Of the environments."""
        ...

    @property
    def num_rows(self) -> int:
        """Rows of all groups, dead or alive."""
        ...

    @property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of each group."""
        ...

    def start(self) -> None:
        """Start all groups; their resets come as messages."""
        ...

    def poll(self, timeout_s: float) -> list[Message]:
        """The messages that have come, at least one unless ``timeout_s`` has passed. Raises EnvFailed."""
        ...

    def reply(self, message: Message, action: NDArray[np.int64]) -> None:
        """Answer a message with the actions [rows of the group]; what its group sends next is its next step.

        An answer to an incarnation that is gone is dropped.
        """
        ...

    def live_rows(self) -> int:
        """Rows of groups whose actor has given a sign of life lately: those that can be waited for."""
        ...

    def take_faults(self) -> tuple[Fault, ...]:
        """What happened since the last call."""
        ...

    def take_costs(self) -> Costs:
        """What the actors used since the last call: ``environment`` (CPU-seconds, calls) and ``transport``.

        CPU-seconds of child processes belong here; those of threads of this process are on their own clocks.
        """
        ...

    def thread_ids(self) -> tuple[int, ...]:
        """Native ids of threads of this process that belong to the environments."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is needed so that a resumed run does not play the same episodes again."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Before ``start``."""
        ...

    def close(self) -> None:
        """End all actors; no thread, process or shared memory is left. Harmless when called twice."""
        ...
