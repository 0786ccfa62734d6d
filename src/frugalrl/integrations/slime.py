"""The correction for slime and miles, as the function that ``--custom-tis-function-path`` names.

In a module of your own, which slime can import::

    # my_corrections.py, and on the command line: --use-tis --custom-tis-function-path my_corrections.correct
    from frugalrl.integrations.slime import tis_function

    correct = tis_function("token-tis:2")

Written against slime of August 2026 (``slime/backends/megatron_utils/loss.py``); slime itself is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from frugalrl.importance import Corrected, Correction, apply
from frugalrl.integrations.hooks import as_correction
from frugalrl.types import RunFailed, UserError

TISFunction = Callable[..., tuple[Tensor, list[Tensor], dict[str, Tensor]]]


def tis_function(correction: str | Correction) -> TISFunction:
    """A function that weighs slime's loss. Its arguments, by name, for N responses of R_i tokens in a micro-batch:

    args: slime's settings, not read; ``pg_loss`` [sum R_i], per token, after the clip; ``train_log_probs`` and
    ``rollout_log_probs``: N tensors [R_i], of the learner when the batch came in and of the sampler; ``loss_masks``: N
    tensors [R_i]. It returns the weighted loss, the masks as they were, so that denominators stay, and metrics per
    token [sum R_i], which slime averages as it averages the loss.

    Raises UserError for an unknown correction, and for ``ppo-denominator``, which slime has as --use-rollout-logprobs.
    The function raises RunFailed for log-probabilities that no sampler can have meant, and for lengths that differ.
    """
    chosen = _chosen(correction)

    def tis(
        args: Any, *, pg_loss: Tensor, train_log_probs: Sequence[Tensor], rollout_log_probs: Sequence[Tensor],
        loss_masks: Sequence[Tensor], **_: Any,
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:  # fmt: skip
        lengths = _lengths(train_log_probs, rollout_log_probs, loss_masks)
        padded = [_padded(x) for x in (train_log_probs, rollout_log_probs, loss_masks)]
        if not bool(padded[2].any()):
            return pg_loss, list(loss_masks), {}
        try:
            c = apply(chosen, *padded)
        except ValueError as error:
            raise RunFailed(f"the correction {chosen.name()} cannot be applied to this batch: {error}") from None
        weight, d, ratio, clipped = (
            torch.cat([row[:n] for row, n in zip(x, lengths, strict=True)])
            for x in (c.weight, c.log_ratio, c.ratio, _clipped(c))
        )
        metrics = {
            "tis": ratio,
            "tis_weight": weight,
            "tis_clipfrac": clipped.float(),
            "mismatch_abs_log_diff": d.abs(),
            "mismatch_k1": -d,
            "mismatch_k3": torch.expm1(d.clamp(-20, 20)) - d,
        }
        return pg_loss * weight.to(pg_loss.dtype), list(loss_masks), metrics

    return tis


def _clipped(c: Corrected) -> Tensor:
    """[N, R] bool: what was clipped or rejected. Weights differ from ratios elsewhere too (``normalize``)."""
    out = ~c.keep
    if c.correction.low is not None:
        out = out | (c.ratio < c.correction.low)
    if c.correction.high is not None:
        out = out | (c.ratio > c.correction.high)
    return out & c.mask  # type: ignore[no-any-return]


def _chosen(correction: str | Correction) -> Correction:
    chosen = as_correction(correction)
    if chosen.denominator == "mu":
        raise UserError("ppo-denominator is no weight: in slime it is --use-rollout-logprobs, without --use-tis")
    return chosen


def _lengths(*lists: Sequence[Tensor]) -> list[int]:
    train, rollout, masks = ([len(x) for x in each] for each in lists)
    if not train == rollout == masks:
        raise RunFailed(
            f"log-probabilities and masks must have one length for each response, but the learner has {train}, the "
            f"sampler {rollout} and the masks {masks}: with context parallelism (--context-parallel-size above 1) a "
            f"process holds parts of responses, which this function does not join"
        )
    return train


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True)
