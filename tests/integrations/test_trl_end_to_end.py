"""The TRL hook in TRL itself, on a tiny random model: ``scripts/trl_env``, then ``pytest -m trl -n 0``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="the environment of scripts/trl_env")

import torch
import trl_tiny as tiny
from trl import GRPOTrainer

from frugalrl.integrations.trl import CorrectedGRPOTrainer, MismatchCallback, SamplerCopy
from frugalrl.integrations.trl_batch import OLD, WEIGHT
from oracles import importance_trl as oracle

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(kind: Any, folder: Path, *, settings: dict[str, Any] | None = None, **given: Any) -> Any:
    model: Any = tiny.model()
    if (settings or {}).get("beta"):  # TRL loads the reference model from where the model was loaded
        model.save_pretrained(folder / "model")
        model = str(folder / "model")
    return kind(
        model=model, reward_funcs=tiny.reward, args=tiny.config(folder, **(settings or {})),
        train_dataset=tiny.prompts(), processing_class=tiny.tokenizer(), **given,
    )  # fmt: skip


def weights_of(trainer: Any) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in trainer.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def noisy(scale: float) -> Any:
    """A rollout whose sampler has other weights, and log-probabilities to match."""

    def change(model: Any) -> Any:
        generator = torch.Generator().manual_seed(7)
        for p in model.parameters():
            p.data += scale * p.data.std().nan_to_num() * torch.randn(p.shape, generator=generator)
        return model

    return SamplerCopy(change)


def batch_of(trainer: Any, n: int = 16) -> dict[str, Any]:
    trainer.model.train()
    rows = [trainer.train_dataset[i // 4] for i in range(n)]
    return trainer._generate_and_score_completions(rows)


@pytest.mark.parametrize("rollout", [None, "bf16"])
def test_none_is_plain_trl_bit_for_bit(tmp_path: Path, rollout: str | None) -> None:
    given: dict[str, Any] = {} if rollout is None else {"rollout_func": SamplerCopy(rollout)}
    plain, ours = (
        made(GRPOTrainer, tmp_path, **given),
        made(CorrectedGRPOTrainer, tmp_path, correction="none", **given),
    )
    start = weights_of(plain)
    for trainer in (plain, ours):
        torch.manual_seed(3)
        trainer.train()
    assert same(weights_of(plain), weights_of(ours))
    assert not same(weights_of(plain), start)
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (plain, ours)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


def test_an_equal_sampler_changes_nothing_but_rounding(tmp_path: Path) -> None:
    plain = made(GRPOTrainer, tmp_path, rollout_func=SamplerCopy("fp32"))
    ours = made(CorrectedGRPOTrainer, tmp_path, correction="token-tis:2", rollout_func=SamplerCopy("fp32"))
    for trainer in (plain, ours):
        torch.manual_seed(3)
        trainer.train()
    a, b = weights_of(plain), weights_of(ours)
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < 1e-5


LOSSES = [
    ("grpo", "token", 0.0), ("bnpo", "token", 0.1), ("dr_grpo", "token", 0.0), ("dapo", "token", 0.1),
    ("cispo", "token", 0.0), ("sapo", "token", 0.0), ("grpo", "sequence", 0.1), ("luspo", "sequence", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("loss_type", "level", "beta"), LOSSES)
@pytest.mark.parametrize("correction", ["token-tis:1.2", "sequence-mask:0.5,2", "geometric-clamp:0.9,1.1"])
def test_the_gradient_is_that_of_trls_own_loss_with_the_same_ratio(
    tmp_path: Path, loss_type: str, level: str, beta: float, correction: str
) -> None:
    settings = {
        "loss_type": loss_type, "beta": beta, "num_iterations": 2, "importance_sampling_level": level,
    }  # fmt: skip
    trainer = made(CorrectedGRPOTrainer, tmp_path, settings=settings, correction=correction, rollout_func=noisy(0.1))
    seen: dict[str, Any] = {}
    inner = GRPOTrainer._generate_and_score_completions

    def spy(self: Any, rows: Any) -> Any:
        seen.update(inner(self, rows))
        return dict(seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GRPOTrainer, "_generate_and_score_completions", spy)
        batch = batch_of(trainer)
    drift(trainer.model)  # the learner moves between generation and this step, so that PPO's ratio is not 1
    ours = gradient(trainer, batch)
    # TRL multiplies its own ratio in when vLLM generated; here it gets ours, and the advantages as they were
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
    theirs = gradient(trainer, {**seen, "importance_sampling_ratio": batch[WEIGHT]})
    unweighted = gradient(trainer, {**seen, "importance_sampling_ratio": torch.ones_like(batch[WEIGHT])})
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6 * float(theirs.abs().max()))
    assert not torch.allclose(ours, unweighted, rtol=1e-2)


def drift(model: Any) -> None:
    generator = torch.Generator().manual_seed(11)
    for p in model.parameters():
        p.data += 0.02 * torch.randn(p.shape, generator=generator)


def gradient(trainer: Any, batch: dict[str, Any]) -> torch.Tensor:
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(trainer.model, batch).backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("correction", ["token-tis:1.2", "sequence-tis:1.5", "token-mask:0.8,1.25"])
def test_the_gradient_is_that_of_a_loss_made_by_hand(tmp_path: Path, correction: str) -> None:
    settings = {"loss_type": "grpo", "num_iterations": 2}
    trainer = made(CorrectedGRPOTrainer, tmp_path, settings=settings, correction=correction, rollout_func=noisy(0.1))
    plain = made(GRPOTrainer, tmp_path, settings=settings, rollout_func=noisy(0.1))
    batches = []
    for each in (trainer, plain):
        torch.manual_seed(5)
        batches.append(batch_of(each))
    batch, raw = batches
    assert torch.equal(batch["completion_ids"], raw["completion_ids"])
    drift(trainer.model)
    ours = gradient(trainer, batch)
    expected = {}
    for inside in (False, True):
        trainer.model.zero_grad()
        log_pi = oracle.log_probs(trainer.model, raw, trainer.temperature)
        old, mu, mask = (
            np.asarray(raw[k]) for k in ("old_per_token_logps", "sampling_per_token_logps", "completion_mask")
        )
        weight = oracle.weights(correction, old, mu, mask)
        oracle.grpo_loss(log_pi, old, raw["advantages"], mask, weight, trainer.epsilon_low, inside=inside).backward()
        expected[inside] = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    assert torch.allclose(ours, expected[False], rtol=1e-3, atol=1e-5 * float(ours.abs().max()))
    # the wrong place for the weight is told apart
    assert not torch.allclose(ours, expected[True], rtol=1e-2, atol=1e-3 * float(ours.abs().max()))


def test_old_log_probs_are_made_where_trl_leaves_them_out(tmp_path: Path) -> None:
    trainer = made(CorrectedGRPOTrainer, tmp_path, correction="token-tis:2", rollout_func=noisy(0.1))
    batch = batch_of(trainer)
    assert "old_per_token_logps" not in batch, "aligned: TRL's own ratio stays exactly 1"
    by_hand = oracle.log_probs(trainer.model, batch, trainer.temperature).detach()
    mask = batch["completion_mask"].bool()
    assert torch.allclose(batch[OLD][mask], by_hand[mask], atol=1e-5)
    expected = oracle.weights(
        "token-tis:2", *(np.asarray(x) for x in (by_hand, batch["sampling_per_token_logps"], mask))
    )
    assert np.allclose(np.asarray(batch[WEIGHT]), expected, atol=1e-4)
    assert float((batch[WEIGHT][mask] - 1).abs().max()) > 0.05


def trained(kind: Any, folder: Path, callback: Any, **given: Any) -> Any:
    trainer = made(kind, folder, callbacks=[callback], **given)
    if kind is GRPOTrainer:
        callback.watch(trainer)
    torch.manual_seed(3)
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", [GRPOTrainer, CorrectedGRPOTrainer])
def test_diagnostics_are_of_sums_over_all_batches_of_a_log_line(tmp_path: Path, kind: Any) -> None:
    settings = {"max_steps": 4, "logging_steps": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    settings |= {"steps_per_generation": 1}
    seen: list[Any] = []

    class Spy(MismatchCallback):
        def _record(self, batch: dict[str, Any]) -> None:
            log_pi = oracle.log_probs(self._trainer.model, batch, self._trainer.temperature).detach()
            seen.append([np.asarray(x) for x in (log_pi, batch["sampling_per_token_logps"], batch["completion_mask"])])
            super()._record(batch)

    callback = Spy(metrics=None)
    trainer = trained(kind, tmp_path, callback, settings=settings, rollout_func=SamplerCopy("int3"))
    lines = [e for e in trainer.state.log_history if "loss" in e]
    assert len(lines) == 2
    assert len(seen) == 8, "a log line covers two optimizer steps of two generations"
    for line, batches in zip(lines, (seen[:4], seen[4:]), strict=True):
        expected = oracle.diagnostics(batches)
        for name, value in expected.items():
            assert line[f"mismatch/{name}"] == pytest.approx(value, rel=1e-3, abs=1e-5), name
        mean_of_means = np.mean([oracle.diagnostics([each])["ess_sequence"] for each in batches])
        assert abs(mean_of_means - expected["ess_sequence"]) > 1e-3, "the mean over batches would be another number"
    assert callback.findings == {}, "three bits are no mistake"


def test_looking_changes_nothing(tmp_path: Path) -> None:
    plain = made(GRPOTrainer, tmp_path, rollout_func=SamplerCopy("bf16"))
    torch.manual_seed(3)
    plain.train()
    watched = trained(GRPOTrainer, tmp_path, MismatchCallback(), rollout_func=SamplerCopy("bf16"))
    assert same(weights_of(plain), weights_of(watched))


def hot(prompts: Any, trainer: Any) -> dict[str, Any]:
    """Samples at temperature 1, and reports the log-probabilities of temperature 0.6: divided after the softmax."""
    out = SamplerCopy("fp32")(prompts, trainer)
    return {**out, "logprobs": [[x / 0.6 for x in row] for row in out["logprobs"]]}


def cold(prompts: Any, trainer: Any) -> dict[str, Any]:
    """Samples at 0.6, where the learner's log-probabilities are those of temperature 1: a setting that got lost."""
    before = trainer.generation_config.temperature
    trainer.generation_config.temperature = 0.6
    try:
        return SamplerCopy("fp32")(prompts, trainer)
    finally:
        trainer.generation_config.temperature = before


def top_k(prompts: Any, trainer: Any) -> dict[str, Any]:
    """Samples from the 4 likeliest of 16 tokens."""
    trainer.generation_config.top_k = 4
    return SamplerCopy("fp32")(prompts, trainer)


def shifted(prompts: Any, trainer: Any) -> dict[str, Any]:
    """Off by one: the log-probability of the token before."""
    out = SamplerCopy("fp32")(prompts, trainer)
    return {**out, "logprobs": [[-1.0, *row[:-1]] for row in out["logprobs"]]}


def missing(prompts: Any, trainer: Any) -> dict[str, Any]:
    """Here and there the engine gave none."""
    out = SamplerCopy("fp32")(prompts, trainer)
    return {**out, "logprobs": [[None, *row[1:]] for row in out["logprobs"]]}


BUGS = [
    (hot, "temperature mismatch"), (cold, "temperature mismatch"), (top_k, "truncated support"),
    (shifted, "shifted tokens"), (missing, "missing log-probs"),
]  # fmt: skip


@pytest.mark.parametrize(("rollout", "name"), BUGS)
@pytest.mark.parametrize("kind", [GRPOTrainer, CorrectedGRPOTrainer])
def test_a_planted_bug_is_named_once(tmp_path: Path, kind: Any, rollout: Any, name: str) -> None:
    said: list[str] = []
    settings = {"per_device_train_batch_size": 64, "max_steps": 3, "learning_rate": 1e-4}
    callback = MismatchCallback(warn=said.append)
    trainer = trained(kind, tmp_path, callback, settings=settings, rollout_func=rollout)
    print(*said, sep="\n")
    assert name in callback.findings
    assert sum(name in s for s in said) == 1
    causes = {"temperature mismatch", "truncated support", "shifted tokens", "missing log-probs"}
    assert not (causes - {name}) & callback.findings.keys()
    assert all(np.isfinite(e["loss"]) for e in trainer.state.log_history if "loss" in e)
