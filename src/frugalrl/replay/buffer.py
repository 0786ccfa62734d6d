"""What a loop and a checkpoint ask of whatever remembers experience."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import Rows, StateDict


class ReplayBuffer(Protocol):
    """Rows in, batches out."""

    @property
    def once(self) -> bool:
        """Each item is handed out once: a round makes as many updates as there are batches."""
        ...

    @property
    def size(self) -> int:
        """Items (transitions, sequences, unrolls) that can be drawn now."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes when full."""
        ...

    def can_sample(self, batch_size: int) -> bool:
        """Whether a batch can be drawn. Raises ValueError if it never can."""
        ...

    def add(self, rows: Rows) -> None:
        """Append a block of rows of all environments."""
        ...

    def sample(self, batch_size: int, *, env_step: int) -> Any:
        """A batch for the learner."""
        ...

    def set_priorities(self, keys: NDArray[np.int64], priorities: NDArray[np.floating[Any]]) -> None:
        """Priorities of items drawn before; those that are gone are ignored."""
        ...

    # what a checkpoint saves bit by bit, apart from the state

    @property
    def oldest_row(self) -> int:
        """Number of the oldest row that is still there."""
        ...

    @property
    def rows_written(self) -> int:
        """Number of the next row."""
        ...

    def read_rows(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Rows ``start`` to ``stop - 1``."""
        ...

    def write_rows(self, start: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """Put back what ``read_rows`` gave."""
        ...

    def state_dict(self) -> StateDict:
        """Everything else."""
        ...

    def load_state_dict(self, state: StateDict) -> None:
        """The inverse; called before or after ``write_rows``."""
        ...
