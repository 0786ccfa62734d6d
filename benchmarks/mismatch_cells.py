"""The cells of the mismatch grid: environments, samplers, corrections, seeds, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frugalrl.algos.grpo_config import GRPOConfig
from frugalrl.algos.ppo import PPOConfig
from frugalrl.nets.config import TokenNetConfig
from frugalrl.recipes.language import grpo_tiny
from frugalrl.recipes.ppo import ppo, ppo_atari, ppo_minatar
from frugalrl.run.config import RunConfig

BITS = ("none", "bf16", "int8", "int6", "int5", "int4", "int3")
AGES = ("none", "stale:1", "stale:4", "stale:8", "stale:16")
SAMPLERS = BITS + AGES[1:]
NONE, TIS, BELOW = "none", "token-tis:2", "ppo-denominator"
CORRECTIONS = (
    NONE, TIS, BELOW, "sequence-tis:2", "vanilla", "token-mask:0.5,5", "sequence-mask:2", "token-tis:1", "token-tis:5",
)  # fmt: skip
VLLM: dict[str, dict[str, Any]] = {
    "vllm": {},
    "vllm-bf16": {"transform": "bf16"},
    "vllm@8": {"sync_every_updates": 8},
    "vllm-int8@8": {"transform": "int8", "sync_every_updates": 8},
}
"""The language model sampled by vLLM: what differs from the recipe's sampler. An int8 engine is built again at every
sync, so it is synced every 8 updates, and `vllm@8` tells what that alone does."""
LANGUAGE, CARTPOLE, MINATAR, ATARI = "lm:sort-digits", "CartPole-v1", "MinAtar/Breakout-v1", "ALE/Krull-v5"
ENVS = (LANGUAGE, CARTPOLE, MINATAR, ATARI)
FIGURES = {LANGUAGE: "mismatch-lm", CARTPOLE: "mismatch-cartpole", MINATAR: "mismatch-minatar", ATARI: "mismatch-atari"}
SEEDS = {LANGUAGE: 5, CARTPOLE: 5, MINATAR: 5, ATARI: 3}
POINTS = 12
"""Evaluations of a run, at equal distances."""
ROUNDS, PROMPTS = 108, 16
"""Of the language model; the recipe has 120 rounds of 32 prompts."""
STEPS = {CARTPOLE: 40_000, MINATAR: 300_000, ATARI: 80_000}
"""Agent steps, rounded up to whole batches and evaluations."""
EPISODES = {CARTPOLE: 20, MINATAR: 20, ATARI: 10}


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    env: str
    sampler: str
    correction: str
    seed: int

    @property
    def name(self) -> str:
        """For folders and files."""
        words = (self.env.split("/")[-1], self.sampler, self.correction, f"seed{self.seed}")
        return "_".join(word.replace(":", "-").replace(",", "-") for word in words)


def tiers(env: str) -> tuple[tuple[tuple[str, str], ...], ...]:
    """(sampler, correction) pairs, the most informative first: a tier is run on all seeds before the next begins."""
    if env == ATARI:
        return ((("none", NONE), *((s, c) for s in ("int3", "int8") for c in (NONE, TIS))),)
    if env == MINATAR:
        first = (("none", NONE), *((s, c) for s in ("int3", "stale:8", "int4") for c in (NONE, TIS, BELOW)))
        return first, tuple(("none", c) for c in (TIS, BELOW))
    telling, middle, mild = (
        ("int3", "stale:8", "int4", "stale:16"),
        ("int5", "stale:4", "int8"),
        ("bf16", "int6", "stale:1"),
    )
    main, rest = (NONE, TIS, BELOW), CORRECTIONS[3:]
    return (
        (("none", NONE), *((s, c) for s in telling for c in main)),
        tuple((s, c) for s in telling for c in rest),
        tuple((s, c) for s in middle + mild for c in main),
        tuple((s, c) for s in middle for c in rest),
        (*(("none", c) for c in CORRECTIONS[1:]), *((s, c) for s in mild for c in rest)),
    )


def cells(env: str, seeds: int | None = None) -> list[Cell]:
    """All runs of an environment in their order."""
    return [cell for tier in range(len(tiers(env))) for cell in _of_tier(env, tier, seeds)]


def through_vllm(seeds: int | None = None) -> list[Cell]:
    """The runs that need the environment of ``scripts/vllm_env``. The control has no mismatch to correct."""
    pairs = [("vllm", NONE), *((s, c) for s in list(VLLM)[1:] for c in (NONE, TIS))]
    return [Cell(LANGUAGE, s, c, seed) for seed in range(SEEDS[LANGUAGE] if seeds is None else seeds) for s, c in pairs]


def order(envs: Sequence[str], seeds: int | None = None) -> list[Cell]:
    """The runs of several environments: tier by tier, the long ones a tier later, the longest at the end."""
    begin = {LANGUAGE: 0, CARTPOLE: 0, MINATAR: 1, ATARI: 99}
    slots = sorted((begin[env] + tier, envs.index(env), env, tier) for env in envs for tier in range(len(tiers(env))))
    return [cell for _, _, env, tier in slots for cell in _of_tier(env, tier, seeds)]


def _of_tier(env: str, tier: int, seeds: int | None) -> Iterator[Cell]:
    """Seed by seed."""
    for seed in range(SEEDS[env] if seeds is None else seeds):
        for sampler, correction in tiers(env)[tier]:
            yield Cell(env, sampler, correction, seed)


def config_of(cell: Cell, model: Path | None = None) -> RunConfig:
    """The configuration of a run. ``model``: the warm-started language model of the seed, for lm: tasks."""
    config = _of_language(model) if cell.env == LANGUAGE else _of_control(cell.env)
    agent = config.agent
    assert isinstance(agent, GRPOConfig | PPOConfig)
    through = VLLM.get(cell.sampler)
    sampler: dict[str, Any] = {"transform": cell.sampler} if through is None else {"engine": "vllm", **through}
    return replace(
        config,
        seed=cell.seed,
        device="cpu",
        agent=replace(agent, correction=cell.correction),
        sampler=replace(config.sampler, **sampler),
    )


def _of_language(model: Path | None) -> RunConfig:
    config = grpo_tiny(LANGUAGE)
    assert isinstance(config.agent, GRPOConfig)
    whole = config.budget.env_steps or 0
    tokens = whole // 120 * PROMPTS // config.agent.prompts  # of one round
    agent = replace(config.agent, prompts=PROMPTS)
    if model is not None:
        agent = replace(agent, warm_start_steps=0, warm_start_until=None)
    return replace(
        config,
        agent=agent,
        net=config.net if model is None else TokenNetConfig(checkpoint=str(model)),
        evaluation=replace(config.evaluation, every_env_steps=ROUNDS // POINTS * tokens),
        budget=replace(config.budget, env_steps=ROUNDS * tokens),
    )


def _of_control(env: str) -> RunConfig:
    recipe = {CARTPOLE: ppo, MINATAR: ppo_minatar, ATARI: ppo_atari}[env]
    config = recipe(env)
    assert isinstance(config.agent, PPOConfig)
    batch = config.agent.unroll_steps * config.agent.batch_unrolls
    every = -(-STEPS[env] // (POINTS * batch)) * batch
    return replace(
        config,
        agent=replace(config.agent, lr_decay_batches=POINTS * every // batch),
        evaluation=replace(
            config.evaluation,
            every_env_steps=every,
            episodes=EPISODES[env],
            rows=EPISODES[env],
            actions="sampled" if env == ATARI else "greedy",  # of few steps the most probable action says nothing
        ),
        budget=replace(config.budget, env_steps=POINTS * every),
    )
