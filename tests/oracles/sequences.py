"""Sequences cut by hand from whole streams of rows."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from frugalrl.types import Rows, Unroll

STEP_FIELDS = tuple(f.name for f in fields(Rows) if f.name not in ("obs", "state"))


def joined(blocks: list[Rows]) -> Rows:
    """One block of all rows."""
    parts = {name: np.concatenate([getattr(b, name) for b in blocks]) for name in ("obs", *STEP_FIELDS)}
    names = blocks[0].state
    return Rows(**parts, state={k: np.concatenate([b.state[k] for b in blocks]) for k in names})


def cut(rows: Rows, length: int, overlap: int) -> list[Unroll]:
    """All whole sequences of a stream in the order in which they are complete, one environment each."""
    found = []
    for start in range(0, len(rows.action) - length, length - overlap):
        for b in range(rows.action.shape[1]):
            found.append(
                Unroll(
                    obs=rows.obs[start : start + length + 1, b : b + 1],
                    **{n: getattr(rows, n)[start + 1 : start + length + 1, b : b + 1] for n in STEP_FIELDS},
                    state_at_start={k: v[start, b : b + 1] for k, v in rows.state.items()},
                )
            )
    return found
