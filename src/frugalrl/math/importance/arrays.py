"""numpy and torch under one name: what is done to arrays of either kind, without importing torch for numpy's."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

Array = Any
"""A numpy array or a torch tensor."""


def is_tensor(x: Any) -> bool:
    """Whether this is a torch tensor; asks without importing torch."""
    return type(x).__module__.split(".")[0] == "torch"


def library_of(*arrays: Array) -> Any:
    """The module whose functions take these: torch if one of them is a tensor, else numpy."""
    if any(is_tensor(x) for x in arrays):
        import torch

        return torch
    return np


def without_gradient(library: Any) -> AbstractContextManager[Any]:
    """In it nothing is recorded for a backward pass, and numpy does not speak up about inf - inf."""
    context: AbstractContextManager[Any] = np.errstate(all="ignore") if library is np else library.no_grad()
    return context


def device_of(*arrays: Array) -> Any:
    """The device of the first torch tensor; None if there is none."""
    return next((x.device for x in arrays if is_tensor(x)), None)


def floats(library: Any, x: Array, device: Any = None) -> Array:
    """In float32, or float64 if it is; half precision is widened before anything is subtracted."""
    if library is np:
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise ValueError(f"log-probabilities are numbers, not {x.dtype}")
        return x if x.dtype == np.float64 else x.astype(np.float32)
    x = library.as_tensor(x, device=device).detach()
    if x.is_complex():
        raise ValueError(f"log-probabilities are numbers, not {x.dtype}")
    return x if x.dtype == library.float64 else x.float()


def booleans(library: Any, x: Array, device: Any = None) -> Array:
    """A mask of True and False; numbers count as True unless they are 0."""
    x = np.asarray(x) if library is np else library.as_tensor(x, device=device)
    return x if x.dtype == library.bool else x != 0


def over_sequence(library: Any, x: Array, mask: Array, axis: int, *, mean: bool) -> Array:
    """The sum or the mean of each sequence, at each of its places; ``x`` is 0 outside of the mask."""
    total = x.sum(axis, keepdims=True)
    if mean:
        # divided in the type of x: int64 counts would turn numpy's float32 into float64
        total = total / library.clip(library.where(mask, library.ones_like(x), 0.0).sum(axis, keepdims=True), 1, None)
    return total + library.zeros_like(x)
