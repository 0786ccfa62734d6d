"""numpy and torch under one name: what is done to arrays of either kind, without importing torch for numpy's."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
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
    """In it nothing is recorded for a backward pass."""
    context: AbstractContextManager[Any] = nullcontext() if library is np else library.no_grad()
    return context


def floats(library: Any, x: Array) -> Array:
    """In float32, or float64 if it is; half precision is widened before anything is subtracted."""
    if library is np:
        x = np.asarray(x)
        return x if x.dtype == np.float64 else x.astype(np.float32)
    x = library.as_tensor(x).detach()
    return x if x.dtype == library.float64 else x.float()


def booleans(library: Any, x: Array, like: Array) -> Array:
    """A mask of True and False; numbers count as True unless they are 0."""
    if library is np:
        return np.asarray(x) != 0
    return library.as_tensor(x, device=like.device) != 0
