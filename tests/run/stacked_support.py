"""How the end of a stacked seed is compared with that of its own run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from kill_resume import bill_counts, flat, scores
from safetensors.numpy import load_file

from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.config import RunConfig
from frugalrl.run.stacked import train_stacked
from frugalrl.run.train import Outcome
from frugalrl.types import RunFailed


def end_of(folder: Path) -> dict[str, Any]:
    """Everything that a run has at its end, but for its clocks."""
    loaded = Checkpoints(folder / "checkpoints").load(None)
    clocks = ("cpu_s", "busy_s", "gpu_s", "wall_s")
    found = {k: v for k, v in flat(loaded.state) if not k.endswith(clocks) and not k.startswith("ledger/sessions")}
    parts = [load_file(file) for file in sorted((folder / "checkpoints" / "rows").iterdir())]
    # a resumed run has written other files, which may hold older rows than the replay
    found |= {f"rows/{name}": np.concatenate([part[name] for part in parts])[-90:] for name in parts[0]}
    found["scores"] = np.array([step for step, _ in scores(folder)] + [r for _, rs in scores(folder) for r in rs])
    counted, _ = bill_counts(folder)
    found |= {f"bill/{name}": value for name, value in counted.items()}
    return found


def apart(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-6) -> list[str]:
    """Names of what differs: floats by more than the tolerance, the rest at all."""
    found = sorted(one.keys() ^ other.keys())
    for name in one.keys() & other.keys():
        a, b = np.asarray(one[name]), np.asarray(other[name])
        if a.shape != b.shape:
            same = False
        elif a.dtype.kind == "f" and b.dtype.kind == "f":
            same = np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            same = bool((a == b).all())
        if not same:
            found.append(name)
    return found


def stack(config: RunConfig, folder: Path, seeds: tuple[int, ...], **how: Any) -> list[Outcome | RunFailed]:
    return train_stacked([replace(config, seed=s) for s in seeds], [folder / str(s) for s in seeds], **how)
