"""Diagnostics of the mismatch in TRL's logs, and named warnings once each."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from frugalrl.integrations.trl_batch import OLD, loss_mask, trl_correction
from frugalrl.math.importance import Finding, Mismatch, apply, find
from frugalrl.math.importance.diagnostics import PREFIX
from frugalrl.math.importance.weights import check_values
from frugalrl.types import UserError

METRICS = (
    "k1", "k3", "chi2", "ess", "prob_diff", "prob_diff_max", "ratio_mean", "ratio_p01", "ratio_p99", "ratio_max",
    "slope", "correlation", "missing_share", "clipped_high_share", "clipped_low_share", "masked_share", "weight_mean",
    "chi2_sequence_log1p", "ess_sequence", "length",
)  # fmt: skip
"""What is logged unless asked otherwise, as ``mismatch/NAME``; docs/importance.md says what each is."""
_FORWARD = (
    "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes", "num_tiles",
    "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
)  # fmt: skip
"""What TRL passes from a batch to the model's forward pass besides tokens and masks."""
_LOG = logging.getLogger(__name__)


def old_log_probs(trainer: Any, batch: dict[str, Any]) -> torch.Tensor:
    """[B, T] log-probabilities of the batch under the learner as it is now.

    TRL leaves them out when generation and update are aligned, where its own ratio is 1. A pass without a gradient,
    in the mode the model is in and at TRL's temperature, as TRL makes it for vLLM; no random number of the run is used.
    """
    for key in (OLD, "old_per_token_logps"):
        if batch.get(key) is not None:
            return batch[key]  # type: ignore[no-any-return]
    args, device = trainer.args, trainer.accelerator.device
    size = args.per_device_train_batch_size if trainer.model.training else args.per_device_eval_batch_size
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        log_probs, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
            batch["completion_ids"].shape[1],
            batch_size=size,
            **{key: batch[key] for key in _FORWARD if key in batch},
        )
    return log_probs  # type: ignore[no-any-return]


class Watches:
    """Logs how far the sampler is from the learner, and warns of what looks like a mistake, once for each name.

    For `CorrectedGRPOTrainer` pass it in ``callbacks``. For a GRPOTrainer of TRL's own call ``watch(trainer)``: it
    only looks, and where TRL makes no learner's log-probabilities it costs one forward pass for each generation.
    Sums run over all batches and processes since the last log; metrics are made of the sums.
    """

    def __init__(
        self, metrics: Iterable[str] | None = METRICS, *, warn: Callable[[str], None] | None = None
    ) -> None:  # fmt: skip
        """``metrics``: names to log, None: all there are. ``warn``: gets each sentence; default: Python's logging."""
        self.findings: dict[str, Finding] = {}
        """The first warning of each name."""
        self._names = None if metrics is None else tuple(metrics)
        self._warn = _LOG.warning if warn is None else warn
        self._said: set[str] = set()
        self._trainer: Any = None
        self._sums: dict[str, Mismatch] = {}
        """By mode: train, eval."""

    def watch(self, trainer: Any) -> Any:
        """Look at every batch that this trainer generates from now on; returns the callback."""
        if self._trainer is trainer:
            return self
        self._trainer = trainer
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        generate = trainer._generate_and_score_completions

        def watched(inputs: Any) -> Any:
            batch = generate(inputs)
            self._record(batch)
            return batch

        trainer._generate_and_score_completions = watched
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raises UserError when no trainer is watched."""
        if self._trainer is None:
            raise UserError(
                "MismatchCallback sees no batch of this trainer: call callback.watch(trainer) before train()"
            )

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What was logged starts anew."""
        self._conclude(self._mode, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Warn also of what no log showed."""
        self._conclude("train", state.global_step)

    @property
    def _mode(self) -> str:
        return "train" if self._trainer.model.training else "eval"

    def _record(self, batch: dict[str, Any]) -> None:
        trainer, mode = self._trainer, self._mode
        log_mu = batch.get("sampling_per_token_logps")
        if log_mu is None:
            self._say(
                "no log-probs", "the batch has no log-probabilities of the sampler, so there is nothing to compare"
            )
            return
        log_pi, mask = old_log_probs(trainer, batch), loss_mask(batch)
        try:
            check_values(torch, log_pi, log_mu, mask.bool())
        except ValueError as error:
            # an all-masked batch is nothing unusual here, and a look never ends a run
            if bool(mask.any()):
                self._say("impossible log-probs", str(error))
        correction = getattr(trainer, "correction", None) or trl_correction(trainer.args)
        seen = summed(apply(correction, log_pi, log_mu, mask, check=False).mismatch, trainer.accelerator)
        self._sums[mode] = self._sums[mode] + seen if mode in self._sums else seen
        for name, value in self._sums[mode].metrics().items():
            short = name.removeprefix(PREFIX)
            if (self._names is None or short in self._names) and math.isfinite(value):
                # TRL logs the mean of such a list: of one value, made of all sums since the last log
                trainer._metrics[mode][f"mismatch/{short}"] = [value]

    def _conclude(self, mode: str, step: int) -> None:
        sums = self._sums.pop(mode, None)
        if sums is None:
            return
        correction = getattr(self._trainer, "correction", None) or trl_correction(self._trainer.args)
        for finding in find(sums.metrics(), correction):
            self.findings.setdefault(finding.name, finding)
            self._say(finding.name, f"up to step {step}: {finding}")

    def _say(self, name: str, sentence: str) -> None:
        if name not in self._said and self._trainer.accelerator.is_main_process:
            self._warn(sentence)
        self._said.add(name)


def summed(mine: Mismatch, accelerator: Any) -> Mismatch:
    """Over all processes."""
    if accelerator.num_processes == 1:
        return mine
    parts = [torch.as_tensor(x, dtype=torch.float64) for x in (mine.sums, mine.histogram, mine.largest)]
    every = accelerator.gather(torch.cat(parts)[None].to(accelerator.device)).cpu().numpy()
    sums, histogram, largest = (every[:, a:b] for a, b in _cuts([len(p) for p in parts]))
    return Mismatch(sums.sum(0), largest.max(0), histogram.sum(0).astype(mine.histogram.dtype))


def _cuts(sizes: list[int]) -> list[tuple[int, int]]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return list(zip([0, *ends], ends, strict=False))
