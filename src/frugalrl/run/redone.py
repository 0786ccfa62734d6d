"""Work that a killed process did after its last checkpoint: it is done again, and stands on its own line."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from frugalrl.cost.ledger import Session
from frugalrl.run.record import Done
from frugalrl.types import StateDict


@dataclass(frozen=True, slots=True)
class Lost:
    """What has to be done again."""

    env_steps: int
    died_at: int
    """The furthest agent step that was reached."""
    ledger: StateDict
    """The ledger as the dead processes would have saved it at the end, for ``Ledger.book_lost``."""


def lost_work(
    ledger: StateDict, records: Sequence[Done], *, env_steps: int, updates: int, frames_per_step: int
) -> Lost | None:
    """What the processes of ``records`` did beyond a checkpoint with this ledger, these steps and updates.

    The process that wrote the checkpoint lost what it did after it. Later processes, which wrote none that can still
    be used, lost all they did. None when nothing was lost.
    """
    later = copy.deepcopy(ledger)
    sessions = later["sessions"]
    saved_by = max(map(int, sessions))
    steps = gradient_steps = died_at = 0
    cpu_s = wall_s = 0.0
    for session, group in groupby(records, key=lambda done: done.session):
        own = list(group)
        first, last = own[0], own[-1]
        if session < saved_by:
            continue
        before = sessions.get(str(session), {"cpu_s": 0.0, "wall_s": 0.0})
        more_cpu_s, more_wall_s = max(0.0, last.cpu_s - before["cpu_s"]), max(0.0, last.wall_s - before["wall_s"])
        sessions[str(session)] = {
            **before, **_joules(before, more_wall_s),
            "cpu_s": before["cpu_s"] + more_cpu_s, "wall_s": before["wall_s"] + more_wall_s,
        }  # fmt: skip
        begun_at = (env_steps, updates) if session == saved_by else (first.env_steps, first.updates)
        steps += max(0, last.env_steps - begun_at[0])
        gradient_steps += max(0, last.updates - begun_at[1])
        cpu_s, wall_s, died_at = cpu_s + more_cpu_s, wall_s + more_wall_s, max(died_at, last.env_steps)
    if not steps and not cpu_s:
        return None
    # one role is as good as another: what the later ledger has more goes to the line `redone`
    learner = later["roles"].setdefault("learner", {})
    learner["cpu_s"] = (learner.get("cpu_s") or 0.0) + cpu_s
    learner["busy_s"] = (learner.get("busy_s") or 0.0) + wall_s
    later["counts"]["agent_steps"] += steps
    later["counts"]["frames"] += steps * frames_per_step
    later["counts"]["updates"] += gradient_steps
    return Lost(steps, died_at, later)


def has_worked(records: Sequence[Done], lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run came beyond its first step, by its counters or by its lines of metrics.jsonl: a copy may have one
    without the other."""
    return any(done.env_steps for done in records) or any(line.get("env_steps") for line in lines)


def begun_in_vain(records: Sequence[Done]) -> tuple[Session, ...]:
    """The processes of ``records``, none of which came as far as a checkpoint."""
    last = {done.session: done for done in records}
    return tuple(Session(cpu_s=done.cpu_s, wall_s=done.wall_s) for _, done in sorted(last.items()))


def _joules(session: Mapping[str, float | None], more_wall_s: float) -> dict[str, float]:
    """Counted until the checkpoint, then as many watts as until then: nobody read the counters of the dead process."""
    wall_s = session["wall_s"]
    if not wall_s:
        return {}
    known = {name: session.get(name) for name in ("cpu_j", "gpu_j")}
    return {name: joules * (1.0 + more_wall_s / wall_s) for name, joules in known.items() if joules is not None}
