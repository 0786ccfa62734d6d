"""GRPO and RLOO: gradients against a slow oracle, what is frozen when, what is charged, and a bandit with an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.algos.grpo import GRPOLearner
from frugalrl.algos.grpo_config import GRPOConfig
from frugalrl.cost.meters import LapTimer
from frugalrl.envs.lm import Task
from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.token_model import TokenModel, build_token_model
from frugalrl.policies.tokens import TokenPolicy
from frugalrl.sampling.tokens import TokenSampler
from frugalrl.types import BadBatch, Tokens
from oracles import tokens as oracle

V, P, R, END = 5, 2, 3, 4
NET = TokenNetConfig(layers=1, width=8, heads=2, mlp_width=8, init_std=0.6)
PLAIN = GRPOConfig(
    prompts=3, samples=4, minibatches=1, learning_rate=0.05, max_grad_norm=None, temperature=0.8, precision="fp64"
)


def build() -> TokenModel:
    return build_token_model(NET, vocabulary=V, longest=P + R)


def learner(config: GRPOConfig = PLAIN, *, response_tokens: int = R) -> GRPOLearner:
    timer = LapTimer()
    timer.start()
    return GRPOLearner(
        config, build, prompt_tokens=P, response_tokens=response_tokens, device=torch.device("cpu"), seed=3, timer=timer
    )


def sample(of: GRPOLearner, *, temperature: float = 0.8, shift: float = 0.0, numbers: int = 0) -> Tokens:
    """Completions of ``of``, with a reward that its tokens decide, and a log_mu that is wrong by up to ``shift``."""
    engine = TokenPolicy(
        build, torch.device("cpu"), prompt_tokens=P, response_tokens=R, end=END, temperature=temperature, seed=1
    )
    engine.load(of.snapshot())
    prompt = np.repeat(np.random.default_rng(5).integers(V, size=(3, P)), 4, axis=0)
    made = engine.generate(prompt, numbers)
    noise = np.random.default_rng(6).uniform(-shift, 0, made.log_mu.shape).astype(np.float32)
    return Tokens(
        prompt=prompt,
        response=made.response,
        mask=made.mask,
        log_mu=made.log_mu + noise,
        group=np.repeat(np.arange(3), 4),
        version=np.full(12, engine.version),
        reward=(made.response.sum(-1) % 2).astype(np.float32),
    )


def gradients(of: GRPOLearner) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in of.model.named_parameters() if p.grad is not None}


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest difference, over the largest value."""
    assert a.keys() == b.keys()
    scale = max(x.abs().max().item() for x in b.values())
    return max((a[name] - b[name]).abs().max().item() for name in a) / scale


def advantages(tokens: Tokens) -> np.ndarray[Any, Any]:
    groups = tokens.reward.reshape(3, 4)
    return ((groups - groups.mean(1, keepdims=True)) / (groups.std(1, ddof=1, keepdims=True) + 1e-4)).ravel()


def test_the_gradient_of_two_mini_batches_is_that_of_one_sequence_after_the_other() -> None:
    mine = learner(replace(PLAIN, minibatches=2, correction="token-tis:1.3"))
    tokens = sample(mine, shift=0.8)
    assert not tokens.mask.all()
    slow = learner()  # only its model is used, in the state in which the round came in, then after the first step
    log_old = oracle.log_mu(slow.model, tokens.prompt, tokens.response, tokens.mask, 0.8)
    weight = np.minimum(np.exp(log_old - tokens.log_mu), 1.3)
    parts = np.split(np.random.default_rng((3, 0)).permutation(12), 2)
    settings: dict[str, Any] = {"temperature": 0.8, "clip": 0.2}
    updates = mine.updates(tokens)
    for part in parts:
        given = (tokens, advantages(tokens), weight, log_old)
        slow.model.load_state_dict({k: v.clone() for k, v in mine.model.state_dict().items()})
        right = oracle.grpo_gradient(slow.model, *given, rows=part, **settings)
        next(updates)
        assert furthest(gradients(mine), right) < 1e-6
    now = oracle.log_mu(slow.model, tokens.prompt, tokens.response, tokens.mask, 0.8)
    anew = oracle.grpo_gradient(slow.model, tokens, advantages(tokens), weight, now, rows=parts[1], **settings)
    assert furthest(anew, right) > 1e-3  # wrong variant: pi_old follows the learner
    for wrong in ({**settings, "temperature": 1.0}, {**settings, "clip": 0.01}):
        assert furthest(oracle.grpo_gradient(slow.model, *given, rows=parts[1], **wrong), right) > 1e-3
    assert (mine.version, next(updates, None)) == (2, None)


def test_a_sampler_that_is_the_learner_has_ratio_1_and_no_correction_changes_the_gradient() -> None:
    plain = learner(replace(PLAIN, precision="fp32"))
    tokens = sample(plain)
    metrics = next(plain.updates(tokens)).metrics
    assert metrics["mismatch_ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert abs(metrics["mismatch_k3"]) < 1e-6
    assert metrics["mismatch_ess"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["ppo_ratio_max"] == 1.0
    for correction in ("token-tis:2", "sequence-mask:0.5,2", "vanilla", "ppo-denominator"):
        corrected = learner(replace(PLAIN, precision="fp32", correction=correction))
        next(corrected.updates(tokens))
        assert furthest(gradients(corrected), gradients(plain)) < 1e-4


def test_the_learners_own_pass_is_made_and_charged_only_where_somebody_asks_for_it() -> None:
    tokens = sample(learner())

    def roles(**changes: Any) -> list[set[str]]:
        return [set(u.costs) for u in learner(replace(PLAIN, **changes)).updates(tokens)]

    assert roles() == [{"learner"}]
    assert roles(minibatches=2) == [{"learner", "correction"}, {"learner"}]
    assert roles(epochs=2) == [{"learner", "correction"}, {"learner"}]
    assert roles(minibatches=2, correction="ppo-denominator") == [{"learner"}, {"learner"}]
    assert roles(kl_cost=0.1) == [{"learner", "target"}]
    step, before = learner(replace(PLAIN, minibatches=2))._costs.step, learner(replace(PLAIN, epochs=2))._costs.before
    assert before["correction"].flop == pytest.approx(2 * (step.flop or 0) / 3, rel=0.2)


def test_the_reference_term_is_not_weighted() -> None:
    mine = learner(replace(PLAIN, kl_cost=0.5, correction="token-mask:50,60"))
    tokens = sample(mine)
    first = next(mine.updates(tokens))
    assert first.metrics["reference_kl"] == pytest.approx(0.0, abs=1e-12)
    assert max(g.abs().max().item() for g in gradients(mine).values()) < 1e-12  # every weight is 0, and so is the KL
    with torch.no_grad():
        for parameter in mine.model.parameters():
            parameter += 0.1 * torch.sin(torch.arange(parameter.numel(), dtype=torch.float64)).view_as(parameter)
    second = next(mine.updates(tokens))
    assert second.metrics["reference_kl"] > 1e-4
    assert max(g.abs().max().item() for g in gradients(mine).values()) > 1e-4
    assert second.metrics["loss"] == pytest.approx(0.5 * second.metrics["reference_kl"])


@pytest.mark.parametrize(
    "steps", [{"minibatches": 2}, {"minibatches": 1}, {"minibatches": 2, "correction": "ppo-denominator"}]
)
@pytest.mark.parametrize(
    ("value", "sentence"),
    [(np.nan, "are not finite"), (-np.inf, "are not finite"), (0.5, "above 0")],
)
def test_log_probabilities_that_no_sampler_can_mean_end_the_round(
    value: float, sentence: str, steps: dict[str, Any]
) -> None:
    """Also where the loss, not a pass before it, is the first to look; and before the first of the gradient steps."""
    mine = learner(replace(PLAIN, **steps))
    tokens = sample(mine)
    before = {k: v.clone() for k, v in mine.model.state_dict().items()}
    tokens.log_mu[0, 0] = value
    with pytest.raises(BadBatch, match=sentence) as caught:
        next(mine.updates(tokens))
    assert caught.value.replayed.batch is tokens
    assert all(torch.equal(before[k], v) for k, v in mine.model.state_dict().items())


def test_groups_without_a_difference_teach_nothing() -> None:
    mine = learner()
    tokens = replace(sample(mine), reward=np.ones(12, np.float32))
    update = next(mine.updates(tokens))
    assert update.metrics["grad_norm"] == 0.0
    assert update.metrics["flat_group_share"] == 1.0


@pytest.mark.parametrize("advantage", ["grpo", "rloo"])
def test_a_bandit_of_one_token_is_solved(advantage: Any) -> None:
    task = Task(
        id="lm:bandit",
        vocabulary="abcde",
        prompt_tokens=P,
        answer_tokens=1,
        draw=lambda rng, n: rng.integers(V, size=(n, P)),
        answer=lambda prompt: np.full((len(prompt), 1), 3),
    )
    config = replace(PLAIN, advantage=advantage, prompts=8, samples=8, learning_rate=0.02, precision="fp32")
    mine = learner(config, response_tokens=1)
    engine = TokenPolicy(
        build, torch.device("cpu"), prompt_tokens=P, response_tokens=1, end=None, temperature=0.8, seed=1
    )
    timer = LapTimer()
    timer.start()
    sampler = TokenSampler(engine, task, samples=8, seed=2, timer=timer)
    rewards = []
    for _ in range(25):
        sampler.load(mine.snapshot())
        tokens = sampler.collect(8).data
        rewards.append(tokens.reward.mean())
        list(mine.updates(tokens))
    assert rewards[0] < 0.6
    assert np.mean(rewards[-3:]) > 0.95


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"correction": "token-tsi:2"}, "did you mean 'token-tis'"),
        ({"samples": 1}, "needs at least 2 completions"),
        ({"minibatches": 5}, "does not divide the 256 completions"),
        ({"temperature": 0.0}, "must be positive"),
        ({"warm_start_until": 1.5}, r"must lie in \(0, 1\]"),
        ({"dual_clip": 0.5}, "must be more than 1 \\+ agent.clip_high=1.2"),
        ({"clip_low": 1.0}, "cannot fall by 1 or more"),
    ],
)
def test_settings_that_mean_nothing_are_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GRPOConfig(**change)
