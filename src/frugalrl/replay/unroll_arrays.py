"""The arrays of unrolls: their names and types, side by side, one by one, and as plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.ring import SCALARS
from frugalrl.types import Unroll


def split(unroll: Unroll) -> list[Unroll]:
    """A batch of unrolls one by one, each a batch of one."""
    return [rows_of(unroll, slice(b, b + 1)) for b in range(unroll.num_rows)]


def rows_of(unroll: Unroll, rows: slice) -> Unroll:
    """Some of the unrolls of a batch."""
    return Unroll(
        obs=unroll.obs[:, rows],
        **{name: getattr(unroll, name)[:, rows] for name in SCALARS},
        state_at_start={name: x[rows] for name, x in unroll.state_at_start.items()},
    )


def join(unrolls: Sequence[Unroll]) -> Unroll:
    """Unrolls of the same length side by side."""
    if len(unrolls) == 1:
        return unrolls[0]
    first = unrolls[0]
    return Unroll(
        obs=np.concatenate([u.obs for u in unrolls], 1),
        **{name: np.concatenate([getattr(u, name) for u in unrolls], 1) for name in SCALARS},
        state_at_start={k: np.concatenate([u.state_at_start[k] for u in unrolls]) for k in first.state_at_start},
    )


def as_arrays(unroll: Unroll) -> dict[str, NDArray[Any]]:
    """All arrays by name; the inverse of ``from_arrays``."""
    state = {f"state/{name}": x for name, x in unroll.state_at_start.items()}
    return {"obs": unroll.obs, **{name: getattr(unroll, name) for name in SCALARS}, **state}


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Unroll:
    """The inverse of ``as_arrays``."""
    prefix = "state/"
    return Unroll(
        obs=arrays["obs"],
        **{name: arrays[name] for name in SCALARS},
        state_at_start={k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)},
    )


def unroll_bytes(unroll: Unroll) -> int:
    """Bytes of all arrays."""
    return sum(int(x.nbytes) for x in as_arrays(unroll).values())
