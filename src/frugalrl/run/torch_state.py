"""What a run needs of torch's global state, and what its caller finds again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Gradients on, float32 by default, inside; thread count, random stream and these two as they were, afterwards.

    For whoever calls `train` from a program of their own. The state belongs to the process: two runs in threads of one
    process still share it.
    """
    threads, stream, dtype = torch.get_num_threads(), torch.get_rng_state(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_rng_state(stream)
        torch.set_num_threads(threads)
