"""Keep what a failed run needs to be understood."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from shlex import quote

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from frugalrl.types import Replayed, ReplayedTokens, ReplayedUnrolls, RunFailed

CALMER = "lower agent.learning_rate or set agent.max_grad_norm"
"""What helps against values that are not finite."""


def keep_tracebacks(folder: Path, *causes: BaseException | None) -> None:
    """Append the tracebacks of what environments of the user's own raised to ``error.txt``."""
    for cause in causes:
        if cause is not None:
            # the message of an environment may hold signs that the locale's encoding does not know
            path = folder / "error.txt"
            with suppress(OSError), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                traceback.print_exception(cause, file=file)


def how_to_go_on(sentence: str, folder: Path, step: int | None) -> str:
    """The sentence of a failed run, with the way back."""
    if "frugal resume" in sentence or step is None:
        return sentence
    way = f"`frugal resume {quote(str(folder))}` goes on from the checkpoint at step {step:,}"
    return f"{sentence.rstrip('.')}; when that is mended, {way}" if sentence else way


def save_weights(save: Callable[[], None]) -> str:
    """Save what was learned before a batch that cannot be used; says whether that was possible."""
    try:
        save()
    except RunFailed as error:
        return f"the weights before it could not be saved ({error})"
    return "the weights before it are in the checkpoint"


def save_batch(folder: Path, replayed: Replayed | ReplayedUnrolls | ReplayedTokens) -> str:
    """Write a batch as ``bad_batch.safetensors`` into the run folder; says where it is, or why it is not."""
    path = folder / "bad_batch.safetensors"
    arrays = {f.name: getattr(replayed.batch, f.name) for f in fields(replayed.batch)}
    arrays |= {f"state/{name}": x for name, x in arrays.pop("state_at_start", {}).items()}
    arrays |= {"keys": replayed.keys, "weight": replayed.weight}
    try:
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path)
    except (OSError, SafetensorError) as error:
        return f"its batch could not be kept ({error})"
    return f"the batch is in {path}"
