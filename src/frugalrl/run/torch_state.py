"""What a run needs of torch's global state, and what its caller finds again afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from frugalrl.types import UserError

_IN_USE = threading.RLock()


def _begin_anew() -> None:
    global _IN_USE
    _IN_USE = threading.RLock()


if hasattr(os, "register_at_fork"):  # the thread that was in here does not exist in the copy
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Gradients on, float32 on the CPU by default; afterwards thread count, random stream and these are as they were.

    For whoever calls `train` from a program of their own. The state belongs to the process, like the CPU-seconds that
    a bill is made of: a second run in another thread would draw from the first one's stream and pay for its work.

    Raises UserError while another thread of this process is in here.
    """
    lock = _IN_USE  # a fork inside makes another one
    if not lock.acquire(blocking=False):
        raise UserError(
            "another thread of this process is in a run of its own: two would share torch's random stream and pay for "
            "each other's work; start a process for each, as `frugal compare` does, or wait for the first"
        )
    try:
        with _changed():
            yield
    finally:
        lock.release()


@contextmanager
def _changed() -> Iterator[None]:
    threads, stream, dtype = torch.get_num_threads(), torch.get_rng_state(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), _on_cpu():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_rng_state(stream)
        torch.set_num_threads(threads)


def _on_cpu() -> AbstractContextManager[object]:
    """Tensors without a device of their own are made on the CPU inside: parts that belong elsewhere are moved there."""
    # a mode costs each call of torch some time, so none where that is the default already
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
