"""Settings that change nothing in their configuration: refused, because whoever makes one expects something of it."""

from __future__ import annotations

from collections.abc import Sequence

from frugalrl.algos.agents import (
    ALWAYS_SAMPLED,
    PolicyConfig,
    SequenceConfig,
    TokenConfig,
    explorer_of,
    explorers_of,
)
from frugalrl.algos.impala import ImpalaConfig
from frugalrl.algos.r2d2 import R2D2Config
from frugalrl.algos.tabular import TabularConfig
from frugalrl.envs import named_protocol
from frugalrl.nets.config import TokenNetConfig
from frugalrl.run.config import RunConfig
from frugalrl.run.samplers import is_asynchronous
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
_OF_BACKGROUND = ("deadline_ms", "live_share", "max_batch_rows", "queue_batches", "restarts")
"""Of these, what only an engine reads that samples without a pause."""
_OF_RANDOM_WEIGHTS = ("layers", "width", "heads", "mlp_width", "init_std")
_OF_WARM_STARTS = ("warm_start_until", "warm_start_batch", "warm_start_learning_rate")


def refuse_unused(config: RunConfig, settings: Sequence[str]) -> None:
    """``settings``: ``a.b=c``, already part of ``config``. Raises UserError for the first that nothing reads."""
    for setting in settings:
        why = why_unused(config, setting)
        if why is not None:
            raise UserError(f"--set {setting} has no effect: {why}; leave it out")


def why_unused(config: RunConfig, setting: str) -> str | None:
    """Why nothing reads a setting ``a.b=c`` in this configuration, and what would; None where something does."""
    part, *names = setting.partition("=")[0].strip().split(".")
    if part in _FINDERS and names:
        return _FINDERS[part](config, names)
    if (part, *names) == ("env", "threads") and named_protocol(config.env.protocol).suite != "ale":
        return f"under protocol {config.env.protocol} environments have no threads of their own (what has: Atari games)"
    if (part, *names) == ("evaluation", "actions") and isinstance(config.agent, TokenConfig):
        return ALWAYS_SAMPLED
    if (part, *names) == ("evaluation", "probe_steps") and not config.evaluation.probe_rows:
        return "evaluation.probe_rows=0, so there is no probe"
    return None


def _explore(config: RunConfig, names: Sequence[str]) -> str | None:
    name, *below = names
    if name == "prefill" and isinstance(config.agent, TokenConfig):
        return f"agent.kind={config.agent.kind} has no prefill, as all its completions are sampled from the model"
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
    if isinstance(config.agent, TabularConfig):
        return "agent.kind=tabular has a table in place of a network"
    if isinstance(config.net, TokenNetConfig) and config.net.checkpoint is not None and names[0] in _OF_RANDOM_WEIGHTS:
        return f"net.checkpoint={config.net.checkpoint} sets the sizes and the weights (what reads it: no checkpoint)"
    return None


def _sampler(config: RunConfig, names: Sequence[str]) -> str | None:
    name, sampler, kind = names[0], config.sampler, config.agent.kind
    if name in _OF_ENGINES and sampler.kind == "inline":
        return "sampler.kind=inline has no engine (what has: --sampler central)"
    if name == "vllm_python" and sampler.engine != "vllm":
        return f"sampler.engine={sampler.engine} (what reads it: --sampler-engine vllm)"
    if not isinstance(config.agent, SequenceConfig) and name in ("lockstep", *_OF_BACKGROUND):
        return f"agent.kind={kind} samples in lockstep always (what does not: agents that learn from sequences)"
    if sampler.lockstep and name in _OF_BACKGROUND:
        return "with sampler.lockstep=true all rows step together (what reads it: sampler.lockstep=false)"
    return None


def _schedule(config: RunConfig, names: Sequence[str]) -> str | None:
    agent = config.agent
    if isinstance(agent, TokenConfig) and names[0] != "lag_blocks":
        return f"agent.kind={agent.kind} learns after each round of agent.prompts x agent.samples completions"
    if names[0] == "steps_per_round" and is_asynchronous(config) and isinstance(agent, PolicyConfig):
        return f"agent.kind={agent.kind} learns here whenever agent.batch_unrolls unrolls are complete"
    return None


def _agent(config: RunConfig, names: Sequence[str]) -> str | None:
    name, agent = names[0], config.agent
    if isinstance(agent, TokenConfig) and not agent.warm_start_steps and name in _OF_WARM_STARTS:
        return "agent.warm_start_steps=0, so there is no warm start"
    # rho_bar is left: the metric rho_clipped_share counts by it
    if isinstance(agent, ImpalaConfig) and agent.correction == "none" and name in ("c_bar", "pg_rho_bar"):
        bar = getattr(agent, name)
        if bar is None or bar >= 1:
            return "agent.correction=none takes all ratios for 1, which this does not truncate (what does: vtrace)"
    return None


_FINDERS = {
    "agent": _agent,
    "explore": _explore,
    "net": _net,
    "replay": _replay,
    "sampler": _sampler,
    "schedule": _schedule,
    "sequences": _sequences,
}
"""By the group of a setting."""
