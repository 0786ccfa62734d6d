"""From the parts of a run to what its readers see: the first line, a status, a line of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from frugalrl.algos.agents import AgentConfig, TokenConfig, explorer_of, explorers_of
from frugalrl.algos.dqn import ValueConfig
from frugalrl.algos.impala import ImpalaConfig
from frugalrl.algos.ppo import PPOConfig
from frugalrl.algos.tabular import TabularConfig
from frugalrl.cost import BillRow, score_row
from frugalrl.cost.ledger import Ledger
from frugalrl.cost.stages import Stages
from frugalrl.math.importance import Correction, find
from frugalrl.nets.config import NetConfig
from frugalrl.nets.precision import SLOW_BF16, bf16_is_slow
from frugalrl.run.config import RunConfig
from frugalrl.run.evaluate import Score
from frugalrl.run.evaluator import Evaluator, score_to_json
from frugalrl.run.samplers import is_asynchronous
from frugalrl.run.status import Header, Status
from frugalrl.run.stop import Used, in_words, share_done
from frugalrl.run.window import Window
from frugalrl.sampling.exploration import ExploreConfig

_LATE = 1.05
"""Budget over the steps after which the learning rate is 0, above which a user hears of it."""
_CLIPPED = 0.05
"""Share of the target probability beyond the support above which a user hears of it."""


def cautions(config: RunConfig, device: torch.device) -> tuple[str, ...]:
    """What a user should hear before the run gets going."""
    explore, net = config.explore, config.net
    noisy = isinstance(net, NetConfig) and net.noisy_sigma0 is not None and config.agent.kind != "tabular"
    found: list[str] = []
    if config.agent.precision == "bf16" and bf16_is_slow(device):
        found.append(f"{SLOW_BF16}; leave out agent.precision=bf16")
    if noisy and "epsilon" in explorer_of(config.agent, explore.name).knobs:
        last = explore.epsilon.start if explore.epsilon.kind in ("constant", "ladder") else explore.epsilon.end
        if last > 0:
            found.append(
                f"noisy layers explore by themselves, and epsilon stays at {last:g} beside them, as in Dopamine's DER; "
                f"for noise alone set explore.epsilon.kind=constant explore.epsilon.start=0"
            )
    found += [*_never_learned(config), *_rate_ends(config)]
    for knob in unread_knobs(config):
        readers = " and ".join(e.name for e in explorers_of(config.agent).values() if knob in e.knobs)
        found.append(f"explore.{knob} is set, but the explorer {explore.name!r} does not read it; {readers} would")
    return tuple(found)


def _never_learned(config: RunConfig) -> list[str]:
    """Of a replay that holds no more than the newest block, such as that of online Q-learning."""
    agent, schedule = config.agent, config.schedule
    if not isinstance(agent, ValueConfig | TabularConfig):
        return []
    block, used = schedule.steps_per_round * config.env.rows, schedule.updates_per_round * agent.batch_size
    if not config.replay.capacity_transitions <= block > used:
        return []
    return [
        f"a round collects {block} transitions and learns from {used}, and the replay does not outlive it: the others "
        f"are never learned from; raise replay.capacity_transitions or schedule.updates_per_round"
    ]


def _rate_ends(config: RunConfig) -> list[str]:
    """Of a learning rate that reaches 0 long before the budget ends, as where only the budget was raised."""
    agent, budget = config.agent, config.budget.env_steps
    if isinstance(agent, PPOConfig):
        knob, batches = "lr_decay_batches", agent.lr_decay_batches
    elif isinstance(agent, ImpalaConfig):
        knob, batches = "lr_decay_updates", agent.lr_decay_updates
    else:
        return []
    batch = agent.unroll_steps * agent.batch_unrolls
    if batches is None or budget is None or budget <= _LATE * batches * batch:
        return []
    return [
        f"the learning rate is 0 from about step {batches * batch:,} on (agent.{knob}={batches}), so nothing is "
        f"learned in the rest of the budget of {budget:,} steps; start with --set agent.{knob}={budget // batch}, or "
        f"None for a rate that stays"
    ]


def phase_of(config: RunConfig, updates: int) -> str:
    """What a run does between two evaluations."""
    if updates:
        return "training"
    return "warm start" if isinstance(config.agent, TokenConfig) else "filling the replay"


def alarms(metrics: Mapping[str, float | None], agent: AgentConfig) -> tuple[tuple[str, str], ...]:
    """(name, sentence) of what a user should hear about these means over the last updates; each once per run."""
    if isinstance(agent, PPOConfig | TokenConfig):
        known = {name: value for name, value in metrics.items() if value is not None}
        named = ((found.name, str(found)) for found in find(known, Correction.parse(agent.correction)))
        # our samplers record what they did; rounded or old weights of a small policy alone change the slope
        return tuple(n for n in named if n[0] != "temperature mismatch")
    clipped = metrics.get("support_clipped") or 0.0
    if clipped <= _CLIPPED:
        return ()
    sentence = (
        f"{clipped:.0%} of the target probability lies beyond the support and is clipped; the rewards seen need a "
        f"wider one: widen agent.v_min and agent.v_max"
    )
    return (("support", sentence),)


def costly_evaluation(share: float, config: RunConfig, evaluator: Evaluator) -> str:
    """What a user should hear when evaluation takes this share of the CPU-seconds."""
    return (
        f"evaluation takes {share:.0%} of the CPU; raise "
        f"evaluation.every_env_steps={config.evaluation.every_env_steps} or evaluate fewer episodes "
        f"(now {evaluator.episodes})"
    )


def done_again(died_at: int, step: int, env_steps: int) -> str:
    """What a user should hear when work was lost with a process that died."""
    return (
        f"the run died at step {died_at:,}; it goes on from the checkpoint at step {step:,}, "
        f"and {env_steps:,} steps are done again (line 'redone' of the bill)"
    )


def memory_cautions(nbytes: int) -> tuple[str, ...]:
    """What a user should hear of a replay that takes ``nbytes`` when full."""
    memory = psutil.virtual_memory().total
    if nbytes < 0.9 * memory:
        return ()
    return (
        f"the replay takes {nbytes / 1e9:,.0f} GB when full and this machine has {memory / 1e9:,.0f} GB: a long run "
        f"will run out of memory; lower --set sequences.capacity_sequences (or replay.capacity_transitions)",
    )


def not_restored(rows: Sequence[int], *, asynchronous: bool) -> str:
    """What a user should hear when environments are not where they were."""
    if asynchronous:
        return (
            f"an asynchronous sampler is not brought back exactly: all {len(rows)} environments start new episodes; "
            f"unrolls that were open or waited for the learner are lost. Weights, optimiser, replay, random streams "
            f"and counters are those of the checkpoint"
        )
    return (
        f"environment rows {', '.join(map(str, rows))} could not be brought back (replaying their actions gave another "
        f"observation, or the episode was too long to replay) and start a new episode: this run is no longer exact"
    )


def score_rows(evaluator: Evaluator) -> tuple[BillRow, ...]:
    """The last score as a row of the bill, if there is one."""
    score = evaluator.last
    if score is None:
        return ()
    source = f"evaluation at step {evaluator.last_step}, protocol {score.protocol}"
    return (score_row("mean_return", score.mean_return, unit="return", source=source, interval=score.interval),)


def unread_knobs(config: RunConfig) -> list[str]:
    """Fields that were changed and that the chosen explorer does not read; every recipe sets epsilon, so not that."""
    explore, plain = config.explore, ExploreConfig()
    reads = explorer_of(config.agent, explore.name).knobs
    known = dict.fromkeys(k for e in explorers_of(config.agent).values() for k in e.knobs if k != "epsilon")
    return [k for k in known if k not in reads and getattr(explore, k) != getattr(plain, k)]


def sampler_in_words(config: RunConfig) -> str:
    """Who acts, and where the environments are."""
    sampler = config.sampler
    words: list[str] = [sampler.kind]
    if sampler.kind == "central":
        workers = f"{sampler.workers} worker process{'' if sampler.workers == 1 else 'es'}"
        where = workers if sampler.workers else "threads"
        words.append(f"{config.env.rows} environments in {where}")
        words += [] if is_asynchronous(config) else ["lockstep"]
    words += ["pipelined"] if config.schedule.lag_blocks else []
    return ", ".join([*words, *transform_in_words(config)])


def transform_in_words(config: RunConfig) -> list[str]:
    """What acts, where it is not the learner's newest weights as they are."""
    sampler = config.sampler
    if sampler.as_the_learner:
        return []
    parts = sampler.parts(config.env.rows)
    names = [f"{part.rows} of {part.name}" for part in parts] if sampler.mix else [parts[0].name]
    every = sampler.sync_every_updates
    return [*names, *([f"new weights every {every} updates"] if every > 1 else [])]


def header_of(config: RunConfig, *, device: str, folder: Path, resumed_at: int | None) -> Header:
    """The first line."""
    return Header(
        env=config.env.id,
        protocol=config.env.protocol,
        recipe=config.recipe,
        explorer=config.explore.name,
        sampler=sampler_in_words(config),
        seed=config.seed,
        threads=config.threads,
        device=device,
        folder=str(folder),
        budget=in_words(config.budget),
        resumed_at=resumed_at,
    )


def about(header: Header) -> dict[str, str]:
    """What the bill says of the run."""
    return {k: str(getattr(header, k)) for k in ("env", "protocol", "recipe", "explorer", "sampler", "seed")}


def status_of(
    phase: str,
    config: RunConfig,
    ledger: Ledger,
    window: Window,
    evaluator: Evaluator,
    used: Used,
    *,
    epsilon: float | None,
    eur: float | None,
    stages: Stages | None = None,
) -> Status:
    """This moment; starts a new window. Settle the ledger before."""
    speed, metrics, shares = window.close(ledger)
    usage, counts = ledger.usage(), ledger.counts
    done = share_done(config.budget, used)
    return Status(
        phase=phase,
        env_steps=counts.agent_steps,
        frames=counts.frames,
        updates=counts.updates,
        episodes=counts.episodes,
        wall_s=usage.wall_s,
        steps_per_s=speed or None,
        done=done,
        eta_s=usage.wall_s * (1 - done) / done if done else None,
        score=evaluator.last,
        score_step=evaluator.last_step,
        behaviour_return=window.behaviour_return(),
        epsilon=epsilon,
        metrics=metrics,
        shares=shares,
        memory_bytes=window.memory_bytes(),
        cpu_s=usage.cpu_s,
        flop=sum(c.flop for c in ledger.charged().values() if c.flop is not None),
        eur=eur,
        stages=stages,
    )


def progress_line(status: Status) -> dict[str, Any]:
    """What metrics.jsonl keeps of a status."""
    counts = ("env_steps", "frames", "updates", "episodes")
    kept = (*counts, "wall_s", "cpu_s", "flop", "behaviour_return", "epsilon", "steps_per_s")
    return {name: getattr(status, name) for name in kept} | dict(status.metrics)


def evaluation_line(env_steps: int, ledger: Ledger, score: Score) -> dict[str, Any]:
    """What metrics.jsonl keeps of an evaluation: the score, and what the run had used by then, by role.

    So the cost of a target is read off at the evaluation that reached it, and nothing is spread by guess.
    """
    ledger.settle()
    used = ledger.usage()
    costs = {role: {k: v for k, v in asdict(c).items() if v is not None} for role, c in ledger.totals(used).items()}
    return {
        "env_steps": env_steps,
        "updates": ledger.counts.updates,
        "frames": ledger.counts.frames,
        "cpu_s": used.cpu_s,
        "wall_s": used.wall_s,
        "peak_rss_bytes": used.peak_rss_bytes,
        "score": score_to_json(score),
        "costs": costs,
    }
