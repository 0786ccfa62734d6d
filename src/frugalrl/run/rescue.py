"""Keep what a failed run needs to be understood."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from frugalrl.types import Replayed, RunFailed


def save_batch(folder: Path, replayed: Replayed) -> Path:
    """Write a batch as ``bad_batch.safetensors`` into the run folder. Raises RunFailed when the disk refuses."""
    path = folder / "bad_batch.safetensors"
    arrays = {f.name: getattr(replayed.batch, f.name) for f in fields(replayed.batch)}
    arrays |= {"keys": replayed.keys, "weight": replayed.weight}
    try:
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path)
    except (OSError, SafetensorError) as error:
        raise RunFailed(f"{path} cannot be written: {error}") from error
    return path
