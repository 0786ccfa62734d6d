"""Settings that change nothing in their configuration: refused, because whoever makes one expects something of it."""

from __future__ import annotations

from collections.abc import Sequence

from frugalrl.algos.agents import SequenceConfig, TokenConfig, explorer_of, explorers_of
from frugalrl.algos.r2d2 import R2D2Config
from frugalrl.algos.tabular import TabularConfig
from frugalrl.envs import named_protocol
from frugalrl.run.config import RunConfig
from frugalrl.types import UserError

_OF_SCHEDULES = {
    "constant": ("start",),
    "linear": ("start", "end", "start_step", "steps"),
    "exponential": ("start", "end", "start_step", "half_life_steps"),
    "ladder": ("start", "ladder_alpha"),
}
"""The fields that each kind of schedule reads."""
_OF_PRIORITIES = ("alpha", "beta_start", "beta_end", "beta_steps", "priority_eps", "uniform_share")
_OF_ENGINES = (
    "groups",
    "deadline_ms",
    "live_share",
    "max_batch_rows",
    "lockstep",
    "queue_batches",
    "hang_s",
    "restarts",
)


def refuse_unused(config: RunConfig, settings: Sequence[str]) -> None:
    """``settings``: ``a.b=c``, already part of ``config``. Raises UserError for the first that nothing reads."""
    for setting in settings:
        why = why_unused(config, setting)
        if why is not None:
            raise UserError(f"--set {setting} has no effect: {why}; leave it out")


def why_unused(config: RunConfig, setting: str) -> str | None:
    """Why nothing reads a setting ``a.b=c`` in this configuration, and what would; None where something does."""
    part, *names = setting.partition("=")[0].strip().split(".")
    find = {"explore": _explore, "replay": _replay, "sequences": _sequences, "net": _net, "sampler": _sampler}.get(part)
    if find is not None and names:
        return find(config, names)
    if (part, *names) == ("env", "threads") and named_protocol(config.env.protocol).suite != "ale":
        return f"under protocol {config.env.protocol} environments have no threads of their own (what has: Atari games)"
    if (part, *names) == ("evaluation", "probe_steps") and not config.evaluation.probe_rows:
        return "evaluation.probe_rows=0, so there is no probe"
    return None


def _explore(config: RunConfig, names: Sequence[str]) -> str | None:
    name, *below = names
    explorer = explorer_of(config.agent, config.explore.name)
    known = explorers_of(config.agent)
    readers = [e.name for e in known.values() if name in e.knobs]
    if name not in ("name", "prefill") and name not in explorer.knobs:
        others = f" (what does: {', '.join(readers)})" if readers else ""
        return f"the explorer {explorer.name!r} does not read explore.{name}{others}"
    if name in ("epsilon", "temperature") and below and below[0] != "kind":
        kind = getattr(config.explore, name).kind
        if below[0] not in _OF_SCHEDULES[kind]:
            others = " or ".join(k for k, fields in _OF_SCHEDULES.items() if below[0] in fields)
            return f"explore.{name}.kind={kind} does not read {below[0]} (what does: kind={others})"
    return None


def _replay(config: RunConfig, names: Sequence[str]) -> str | None:
    if isinstance(config.agent, SequenceConfig | TokenConfig):
        return f"agent.kind={config.agent.kind} learns from sequences, and has no replay of transitions"
    if names[0] in _OF_PRIORITIES and config.replay.kind == "uniform":
        return "replay.kind=uniform draws without priorities (what does: replay.kind=prioritized)"
    return None


def _sequences(config: RunConfig, names: Sequence[str]) -> str | None:
    if isinstance(config.agent, R2D2Config):
        return None
    return f"agent.kind={config.agent.kind} has no replay of sequences (what has: agent.kind=r2d2)"


def _net(config: RunConfig, names: Sequence[str]) -> str | None:
    return "agent.kind=tabular has a table in place of a network" if isinstance(config.agent, TabularConfig) else None


def _sampler(config: RunConfig, names: Sequence[str]) -> str | None:
    if names[0] in _OF_ENGINES and config.sampler.kind == "inline":
        return "sampler.kind=inline has no engine (what has: --sampler central)"
    if names[0] == "vllm_python" and config.sampler.engine != "vllm":
        return f"sampler.engine={config.sampler.engine} (what reads it: --sampler-engine vllm)"
    return None
