"""The TRL hook without TRL: what is done to a batch, what a user is told. The real thing: test_trl_end_to_end.py."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.importance import Correction
from frugalrl.integrations import trl as hook
from frugalrl.integrations import trl_batch
from frugalrl.integrations.hooks import as_correction
from frugalrl.integrations.trl_batch import (
    WEIGHT,
    check_config,
    checked_rollout,
    corrected,
    trl_correction,
)
from frugalrl.integrations.trl_sampler import SamplerCopy
from frugalrl.types import RunFailed, UserError
from oracles import importance_trl as oracle


def batch(seed: int = 0, rows: int = 4, steps: int = 5) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, steps, dtype=torch.long)
    mask[0, 3:], mask[2, 1:] = 0, 0
    mu = -torch.rand(rows, steps, generator=g) * 3 - 0.5
    return {
        "completion_mask": mask, "advantages": torch.randn(rows, generator=g),
        "sampling_per_token_logps": mu.where(mask.bool(), torch.tensor(0.0)),
        "old": (mu + 0.5 * torch.randn(rows, steps, generator=g)).clamp(max=0),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["token-tis:1.2", "sequence-tis:2", "token-mask:0.7,1.4"])
@pytest.mark.parametrize("tools", [False, True])
def test_advantages_carry_the_weight(name: str, tools: bool) -> None:
    given = batch()
    mask = given["completion_mask"]
    if tools:
        given["tool_mask"] = torch.ones_like(mask)
        given["tool_mask"][1, 1:3] = 0
        mask = mask * given["tool_mask"]
        # the engine gives nothing for a tool's tokens
        given["sampling_per_token_logps"][1, 1:3] = float("nan")
    before = {k: v.clone() for k, v in given.items()}
    out = corrected(given, as_correction(name), given["old"])
    expected = oracle.weights(name, *(np.asarray(x) for x in (given["old"], given["sampling_per_token_logps"], mask)))
    assert np.allclose(np.asarray(out[WEIGHT]), expected, atol=1e-5)
    assert torch.allclose(out["advantages"], given["advantages"][:, None] * torch.tensor(expected).float(), atol=1e-5)
    assert all(torch.equal(before[k], given[k]) or bool(before[k].isnan().any()) for k in before), "the batch stays"
    # advantages per token, as a trainer of one's own may have them
    again = corrected(
        {**given, "advantages": given["advantages"][:, None].expand(4, 5)}, as_correction(name), given["old"]
    )
    assert torch.equal(again["advantages"], out["advantages"])


def test_a_token_without_log_probability_has_weight_1() -> None:
    given = batch()
    given["sampling_per_token_logps"][1, 0] = float("nan")
    weight = corrected(given, as_correction("token-tis:1.2"), given["old"])[WEIGHT]
    assert float(weight[1, 0]) == 1.0
    over = corrected(given, as_correction("ppo-denominator"), given["old"])
    assert "advantages" in over
    assert WEIGHT not in over
    assert float(over["old_per_token_logps"][1, 0]) == float(given["old"][1, 0])
    assert torch.equal(over["old_per_token_logps"][3], given["sampling_per_token_logps"][3])


def test_a_batch_of_which_all_is_masked_goes_through() -> None:
    given = batch()
    given["completion_mask"].zero_()
    assert torch.equal(corrected(given, as_correction("token-tis:2"), given["old"])["advantages"], given["advantages"])


def test_impossible_log_probs_end_the_run() -> None:
    given = batch()
    given["sampling_per_token_logps"][1, 0] = -float("inf")
    with pytest.raises(RunFailed, match=r"token-tis:2 cannot be applied to this batch: log_mu is -inf for 1"):
        corrected(given, as_correction("token-tis:2"), given["old"])


def config(**changed: Any) -> Any:
    settings = {
        "use_vllm": True, "vllm_importance_sampling_correction": True, "off_policy_mask_threshold": None,
        "loss_type": "dapo", "vllm_importance_sampling_mode": "sequence_mask",
        "vllm_importance_sampling_clip_min": None, "vllm_importance_sampling_clip_max": 3.0,
    }  # fmt: skip
    return SimpleNamespace(**{**settings, **changed})


@pytest.mark.parametrize(
    ("mode", "low", "high", "name"),
    [
        ("sequence_mask", None, 3.0, "sequence-mask:3"), ("token_truncate", None, 2.0, "token-tis:2"),
        ("token_truncate", 0.5, 2.0, "token-clamp:0.5,2"), ("token_mask", 0.5, 5.0, "token-mask:0.5,5"),
        ("sequence_mask", None, None, "sequence-vanilla"), ("token_truncate", 0.5, None, "token-clamp:0.5,"),
    ],
)  # fmt: skip
def test_trls_settings_in_our_words(mode: str, low: float | None, high: float | None, name: str) -> None:
    given = config(
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_min=low,
        vllm_importance_sampling_clip_max=high,
    )
    assert trl_correction(given) == Correction.parse(name)
    assert trl_correction(config(use_vllm=False)).name() == "none"


@pytest.mark.parametrize(
    ("changed", "option"),
    [
        ({}, r"TRL's own correction \(sequence-mask:3 in our words\).*vllm_importance_sampling_correction=False"),
        ({"use_vllm": False, "off_policy_mask_threshold": 0.5}, "set off_policy_mask_threshold=None"),
        ({"use_vllm": False, "loss_type": "vespo"}, "choose another loss_type"),
    ],
)
def test_a_second_correction_is_refused(changed: dict[str, Any], option: str) -> None:
    with pytest.raises(UserError, match=option):
        check_config(config(**changed), as_correction("token-tis:2"))
    check_config(config(**changed), as_correction("none"))


def test_every_token_needs_a_log_probability() -> None:
    def rollout(prompts: Any, trainer: Any) -> dict[str, Any]:
        return {"completion_ids": [[1, 2], [3]], "logprobs": prompts}

    checked = checked_rollout(rollout)
    assert checked([[-1.0, -2.0], [-3.0]], None)["completion_ids"] == [[1, 2], [3]]
    with pytest.raises(RunFailed, match="1 log-probabilities for the 2 tokens of completion 0"):
        checked([[-1.0], [-3.0]], None)
    with pytest.raises(RunFailed, match=r"logprobs=None.*or use correction='none'"):
        checked(None, None)
    with pytest.raises(RunFailed, match="returned NoneType: it must return a dictionary"):
        checked_rollout(lambda prompts, trainer: None)([], None)  # type: ignore[arg-type,return-value]


def test_names_are_checked() -> None:
    with pytest.raises(UserError, match="did you mean 'token-tis'"):
        as_correction("tokn-tis:2")
    with pytest.raises(UserError, match="bf16"):
        SamplerCopy("bf61")
    with pytest.raises(AttributeError, match="CorrectedTrainer"):
        hook.CorrectedTrainer  # noqa: B018


@pytest.mark.parametrize(("name", "package"), [("CorrectedGRPOTrainer", "trl"), ("MismatchCallback", "transformers")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    hook._made.cache_clear()
    with pytest.raises(UserError, match=rf"needs the package {package}; run: pip install 'frugalrl\[trl\]'"):
        getattr(hook, name)
    hook._made.cache_clear()


def test_an_untested_version_is_warned_about() -> None:
    with pytest.warns(UserWarning, match=r"tested with TRL 1\.16\.0 and 2\.0\.0 is installed"):
        hook.warn_untested("2.0.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hook.warn_untested(hook.TESTED[0])


def test_the_loss_mask_is_that_of_trl() -> None:
    mask = torch.tensor([[1, 1, 0]])
    assert trl_batch.loss_mask({"completion_mask": mask}) is mask
    assert trl_batch.loss_mask({"completion_mask": mask, "tool_mask": torch.tensor([[0, 1, 1]])}).tolist() == [
        [0, 1, 0]
    ]
