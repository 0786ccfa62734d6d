"""Which stage of a central run limits it, and what a faster stage, a core or a GPU could do about it.

Who limits is read off the waiting times: who never waits holds up the others. What a change would do is modelled with
the asymptotic bounds of queueing networks (Denning and Buzen 1978; Lazowska et al. 1984, chapter 5). With D_i the
CPU-seconds that stage i needs per agent step and w_i the threads it may use side by side,

    steps/s <= min(w_i / D_i for every stage i, cores / sum of D_i)

and a change can raise steps/s at most by the ratio of this bound after and before. Assumed: one more thread does not
make the others slower, and a stage's CPU-seconds per step stay what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from frugalrl.cost.record import BillRow
from frugalrl.cost.stages import Lane, Stages
from frugalrl.types import How

NOTICEABLE = 0.1
"""Share of the wall time below which a wait names nobody."""
EXPLAINED = 0.8
"""Share of the modelled steps per second below which the sentence says that CPU-seconds do not explain the pace."""
CORES_FULL = 0.9
"""Share of all cores above which the machine itself is the limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """Shares of the wall time in which the learner's thread was there to learn."""

    blocked: float
    """The engine stood at the full queue."""
    starved: float
    """The engine waited for environments."""
    learner: float
    """The learner waited for unrolls."""


def waits(stages: Stages) -> Waits | None:
    """None before anything was timed.

    While the learner's thread evaluates, saves or reports, the queue fills and the engine stands still; that says
    nothing about the learner, so ``other_s`` is taken off the wall time and, as far as there is any, off ``blocked_s``.
    """
    wall = stages.wall_s - stages.other_s
    if wall <= 0:
        return None
    return Waits(
        blocked=min(1.0, max(0.0, stages.blocked_s - stages.other_s) / wall),
        starved=min(1.0, stages.starved_s / wall),
        learner=min(1.0, stages.learner_waited_s / wall),
    )


def limiting(stages: Stages) -> str | None:
    """``environments``, ``engine``, ``learner``, ``cores``, or None when nobody waited long enough to tell."""
    found = waits(stages)
    if found is None or not stages.env_steps:
        return None
    if stages.cpu_s >= CORES_FULL * stages.cores * stages.wall_s:
        return "cores"
    if max(found.blocked, found.starved, found.learner) < NOTICEABLE:
        return None
    # an engine that stood at the full queue also starves until the environments have caught up: that names nobody
    if found.learner < NOTICEABLE or found.blocked >= found.learner:
        return "learner"
    return "environments" if found.starved >= NOTICEABLE else "engine"


def bound(lanes: Mapping[str, Lane], *, cores: int, env_steps: int) -> float | None:
    """Highest agent steps per second that these CPU-seconds for ``env_steps`` allow; None when there are none."""
    used = [lane for lane in lanes.values() if lane.cpu_s > 0]
    if not used or env_steps <= 0:
        return None
    seconds = max(*(lane.cpu_s / lane.width for lane in used), sum(lane.cpu_s for lane in used) / cores)
    return env_steps / seconds


def gains(stages: Stages) -> dict[str, float]:
    """How many times the steps per second that each change could give at most; empty where the model says nothing.

    ``core``: one more core, and one more worker where there are workers (``environments.width`` counts them). ``gpu``:
    network passes cost no CPU at all, so a real GPU gives less. ``environments``, ``engine``, ``learner``: that stage
    alone twice as fast. With a GPU the learner's and the engine's CPU-seconds are no measure of their work: empty.
    """
    lanes, now = lanes_of(stages), _allowed(stages)
    if now is None:
        return {}
    wider = replace(stages.environments, width=stages.environments.width + 1)
    changed = {name: {**lanes, name: _scaled(lane, 0.5)} for name, lane in lanes.items()}
    changed["gpu"] = {name: _without_network(lane) for name, lane in lanes.items()}
    found = {name: bound(after, cores=stages.cores, env_steps=stages.env_steps) for name, after in changed.items()}
    found["core"] = bound({**lanes, "environments": wider}, cores=stages.cores + 1, env_steps=stages.env_steps)
    return {name: after / now for name, after in found.items() if after is not None}


def lanes_of(stages: Stages) -> dict[str, Lane]:
    """The three stages that work side by side."""
    return {"environments": stages.environments, "engine": stages.engine, "learner": stages.learner}


def _scaled(lane: Lane, factor: float) -> Lane:
    return replace(
        lane,
        work_cpu_s=lane.work_cpu_s * factor,
        transport_cpu_s=lane.transport_cpu_s * factor,
        network_cpu_s=lane.network_cpu_s * factor,
    )


def _without_network(lane: Lane) -> Lane:
    return replace(lane, work_cpu_s=max(0.0, lane.work_cpu_s - lane.network_cpu_s), network_cpu_s=0.0)


_CHANGES: Mapping[str | None, str] = {
    "core": "one more core",
    "gpu": "a GPU that takes all network passes",
    "environments": "environments twice as fast",
    "engine": "an engine twice as fast",
    "learner": "a learner twice as fast",
}


def limit_sentence(stages: Stages) -> str | None:
    """What limits the run and what would help, for the bill; None before anything was timed."""
    found, limit = waits(stages), limiting(stages)
    if found is None or not stages.env_steps:
        return None
    busy = f"{stages.cpu_s / stages.wall_s:.1f} of {stages.cores} cores were busy"
    why = {
        "learner": f"the learner: the engine stood at the full queue {100 * found.blocked:.0f} % of the time, the "
        f"learner waited for unrolls {100 * found.learner:.0f} %",
        "environments": f"the environments: the engine waited for them {100 * found.starved:.0f} % of the time",
        "engine": f"the engine: the learner waited for unrolls {100 * found.learner:.0f} % of the time, the engine for "
        f"environments {100 * found.starved:.0f} %",
        "cores": f"the cores: {busy}",
        None: f"no single stage: none waited for another {100 * NOTICEABLE:.0f} % of the time, and {busy}; other "
        f"programs or the interpreter lock may hold the threads up",
    }[limit]
    changes = gains(stages)
    if not changes:
        return f"Limit: {why}; what a change would do is not modelled."
    allowed, per_s = _allowed(stages), _per_s(stages)
    if allowed is not None and per_s is not None and per_s < EXPLAINED * allowed:
        why += (
            f"; measured were {per_s:,.0f} steps/s, the CPU-seconds alone allow {allowed:,.0f}: waiting for each "
            f"other, for the interpreter lock or for other programs took the rest"
        )
    asked = [name for name in ("core", limit, "gpu") if name in changes]
    words = "; ".join(f"{_CHANGES[name]} {_in_words(changes[name])}" for name in asked)
    return f"Limit: {why}; {words} (modelled from CPU-seconds per step by stage)."


def rate_rows(stages: Stages) -> tuple[BillRow, ...]:
    """Agent steps per wall second: as measured, and as much as the CPU-seconds of the stages allow."""
    rows: tuple[tuple[str, float | None, How, str], ...] = (
        ("steps_per_s", _per_s(stages), "measured", "agent steps / wall time without evaluation, saving, reporting"),
        (
            "steps_per_s_bound",
            _allowed(stages),
            "modelled",
            "least of threads / CPU-s per step by stage, cores / sum",
        ),
    )
    return tuple(
        BillRow(section="stages", name=name, value=value, unit="/s", how=how, source=stages.source(source))
        for name, value, how, source in rows
    )


def _per_s(stages: Stages) -> float | None:
    wall = stages.wall_s - stages.other_s
    return stages.env_steps / wall if wall > 0 else None


def _allowed(stages: Stages) -> float | None:
    if stages.gpu:
        return None
    return bound(lanes_of(stages), cores=stages.cores, env_steps=stages.env_steps)


def _in_words(gain: float) -> str:
    return "would change nothing" if gain < 1.05 else f"would give up to x{gain:.1f} steps/s"
