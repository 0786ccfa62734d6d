"""The TRL hook in TRL itself, on a tiny random model: ``scripts/trainer_env trl``, then ``pytest -m trl -n 0``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="the environment of scripts/trainer_env trl")

import torch
import trl_tiny as tiny
from trl import GRPOTrainer
from trl_tiny import batch_of, made

from frugalrl.importance import apply
from frugalrl.integrations.trl import CorrectedGRPOTrainer, MismatchCallback, SamplerCopy
from frugalrl.integrations.trl_batch import OLD, WEIGHT, trl_correction
from frugalrl.types import RunFailed, UserError
from oracles import importance_trl as oracle

pytestmark = [
    pytest.mark.trl,
    # renamed options of transformers that TRL 1.16 still uses, and what TRL says of every rollout_func
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:You are using 'rollout_func'"),
]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def test_a_rollout_that_trl_leaves_alone_is_corrected(tmp_path: Path) -> None:
    def garbled(prompts: Any, trainer: Any) -> dict[str, Any]:
        out = noisy(0.1)(prompts, trainer)
        return {**out, "logprobs": [[x - 0.7 for x in row] for row in out["logprobs"]]}

    after = {}
    for kind in (GRPOTrainer, CorrectedGRPOTrainer):
        for name, rollout in (("as sampled", noisy(0.1)), ("garbled", garbled)):
            trainer = made(kind, tmp_path, rollout_func=rollout)
            torch.manual_seed(3)
            trainer.train()
            after[kind, name] = weights_of(trainer)
    assert same(after[GRPOTrainer, "as sampled"], after[GRPOTrainer, "garbled"]), "TRL reads no log-probability"
    assert not same(after[CorrectedGRPOTrainer, "as sampled"], after[CorrectedGRPOTrainer, "garbled"])
    assert not same(after[CorrectedGRPOTrainer, "as sampled"], after[GRPOTrainer, "as sampled"])


def test_a_batch_that_is_reused_keeps_its_weights(tmp_path: Path) -> None:
    settings = {"num_iterations": 3, "max_steps": 3}
    trainer = made(CorrectedGRPOTrainer, tmp_path, settings=settings, rollout_func=noisy(0.1))
    used: list[torch.Tensor] = []
    inner = trainer.compute_loss

    def spy(model: Any, inputs: Any, **rest: Any) -> Any:
        used.append(inputs[WEIGHT].clone())
        return inner(model, inputs, **rest)

    trainer.compute_loss = spy
    trainer.train()
    assert len(used) == 3
    assert torch.equal(used[0], used[1])
    assert torch.equal(used[0], used[2])


@pytest.mark.parametrize("correction", ["token-tis:1.2", "sequence-tis:1.5"])
def test_tools_and_truncated_completions_take_no_part(tmp_path: Path, correction: str) -> None:
    def with_tools(prompts: Any, trainer: Any) -> dict[str, Any]:
        out = noisy(0.1)(prompts, trainer)
        mask = [[int(t != 1) for t in range(len(row))] for row in out["completion_ids"]]
        # an engine has nothing to say about a tool's tokens
        log_mu = [
            [x if m else None for x, m in zip(*both, strict=True)] for both in zip(out["logprobs"], mask, strict=True)
        ]
        return {**out, "env_mask": mask, "logprobs": log_mu}

    trainer = made(
        CorrectedGRPOTrainer, tmp_path, settings={"mask_truncated_completions": True}, correction=correction,
        rollout_func=with_tools,
    )  # fmt: skip
    batch = batch_of(trainer)
    cut = ~(batch["completion_ids"] == 1).any(1)
    assert 0 < int(cut.sum()) < 16
    mask = np.asarray(batch["completion_mask"] * batch["tool_mask"])
    assert not mask[np.asarray(cut)].any()
    expected = oracle.weights(correction, np.asarray(batch[OLD]), np.asarray(batch["sampling_per_token_logps"]), mask)
    assert np.allclose(np.asarray(batch[WEIGHT]), expected, atol=1e-5)
    assert np.isfinite(np.asarray(gradient(trainer, batch))).all()


def test_when_generation_and_updates_are_not_aligned_trls_own_pass_is_used(tmp_path: Path) -> None:
    settings = {"per_device_train_batch_size": 8, "steps_per_generation": 2, "gradient_accumulation_steps": 1}
    trainer = made(CorrectedGRPOTrainer, tmp_path, settings=settings, rollout_func=SamplerCopy("stale:1"))
    passes: list[int] = []
    inner = trainer._get_per_token_logps_and_entropies
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: (passes.append(1), inner(*a, **k))[1]
    batch = batch_of(trainer)
    assert len(passes) == 1
    assert batch[OLD] is batch["old_per_token_logps"]
    trainer.train()
    assert trainer.state.global_step == 2


def test_evaluation_is_diagnosed_apart(tmp_path: Path) -> None:
    callback = MismatchCallback()
    trainer = made(
        CorrectedGRPOTrainer, tmp_path, settings={"eval_strategy": "steps", "eval_steps": 1, "max_steps": 1,
        "per_device_eval_batch_size": 16}, eval_dataset=tiny.prompts(8), callbacks=[callback],
        rollout_func=SamplerCopy("int3"),
    )  # fmt: skip
    trainer.train()
    merged = {k: v for e in trainer.state.log_history for k, v in e.items()}
    assert merged["eval_mismatch/k3"] > 0
    assert merged["mismatch/k3"] > 0
    assert merged["eval_mismatch/k3"] != merged["mismatch/k3"]


def test_what_cannot_work_is_said_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing to correct.*SamplerCopy\('bf16'\)"):
        made(CorrectedGRPOTrainer, tmp_path)
    with pytest.raises(UserError, match="vllm_importance_sampling_correction=False"):
        made(CorrectedGRPOTrainer, tmp_path, settings={"use_vllm": True})
    with pytest.raises(UserError, match="off_policy_mask_threshold=None"):
        made(
            CorrectedGRPOTrainer,
            tmp_path,
            settings={"off_policy_mask_threshold": 0.5},
            rollout_func=SamplerCopy("bf16"),
        )
    trainer = made(GRPOTrainer, tmp_path, callbacks=[MismatchCallback()])
    with pytest.raises(UserError, match=r"callback.watch\(trainer\) before train"):
        trainer.train()
    said: list[str] = []
    trained(GRPOTrainer, tmp_path, MismatchCallback(warn=said.append))
    assert said == ["the batch has no log-probabilities of the sampler, so there is nothing to compare"]

    def short(prompts: Any, trainer: Any) -> dict[str, Any]:
        out = SamplerCopy("fp32")(prompts, trainer)
        return {**out, "logprobs": [row[:-1] for row in out["logprobs"]]}

    with pytest.raises(RunFailed, match="the end token"):
        made(CorrectedGRPOTrainer, tmp_path, rollout_func=short).train()


def test_two_processes_log_the_diagnostics_of_both(tmp_path: Path) -> None:
    script = Path(__file__).with_name("trl_process.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    ranks = [json.loads((tmp_path / f"rank{i}.json").read_text()) for i in range(2)]
    assert ranks[0]["processes"] == 2
    batches = [[np.asarray(x) for x in rank["seen"]] for rank in ranks]
    assert ranks[0]["seen"] != ranks[1]["seen"]
    expected = oracle.diagnostics(batches)
    for rank in ranks:
        for name, value in expected.items():
            assert rank["logged"][f"mismatch/{name}"] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert ranks[0]["logged"]["mismatch/tokens"] == sum(int(b[2].sum()) for b in batches)


TRL_MODES = [
    ("token_truncate", None, 1.2), ("token_truncate", 0.9, 1.1), ("token_mask", 0.8, 1.25), ("token_mask", None, 1.25),
    ("sequence_truncate", None, 1.5), ("sequence_truncate", 0.8, 1.5), ("sequence_mask", None, 3.0),
    ("sequence_mask", 0.5, 2.0),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "low", "high"), TRL_MODES)
def test_trls_own_ratios_are_what_we_say_its_settings_mean(
    tmp_path: Path, mode: str, low: float | None, high: float | None
) -> None:
    settings = {
        "vllm_importance_sampling_mode": mode, "vllm_importance_sampling_clip_min": low,
        "vllm_importance_sampling_clip_max": high,
    }  # fmt: skip

    def gaps(prompts: Any, trainer: Any) -> dict[str, Any]:
        out = noisy(0.1)(prompts, trainer)
        return {**out, "logprobs": [[None, *row[1:]] for row in out["logprobs"]]}

    trainer = made(GRPOTrainer, tmp_path, settings=settings, rollout_func=gaps)
    # TRL's branch for vLLM, without vLLM: the rollout generates, and no weights need to be sent
    trainer.use_vllm = trainer.args.use_vllm = True
    trainer._last_loaded_step = 0
    batch = batch_of(trainer)
    mask = batch["completion_mask"].bool()
    correction = trl_correction(trainer.args)
    ours = apply(correction, batch["old_per_token_logps"], batch["sampling_per_token_logps"], mask).weight
    theirs = batch["importance_sampling_ratio"].expand(mask.shape)
    assert torch.allclose(ours[mask], theirs[mask], rtol=1e-5)
    assert float((theirs[mask] - 1).abs().max()) > 0.05


def test_the_script_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()
    script = page.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    shown = [line for line in done.stdout.splitlines() if line.startswith("{'reward'")]
    assert len(shown) == 2
