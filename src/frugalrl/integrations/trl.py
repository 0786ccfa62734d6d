"""The importance correction and its diagnostics for TRL's GRPOTrainer::

    from frugalrl.integrations.trl import CorrectedGRPOTrainer, MismatchCallback, SamplerCopy

    trainer = CorrectedGRPOTrainer(
        model, correction="token-tis:2", rollout_func=SamplerCopy("bf16"), callbacks=[MismatchCallback()], ...)

TRL corrects what vLLM generated, and nothing else. Here the engine does not matter: what counts is that the batch holds
``sampling_per_token_logps``, as after vLLM or a ``rollout_func``. TRL is imported when one of these names is asked for.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from frugalrl.importance import Correction
from frugalrl.integrations.hooks import as_correction, needed
from frugalrl.integrations.trl_batch import check_config, checked_rollout, corrected
from frugalrl.integrations.trl_callback import Watches, old_log_probs
from frugalrl.integrations.trl_sampler import SamplerCopy as SamplerCopy
from frugalrl.types import RunFailed, UserError

if TYPE_CHECKING:
    CorrectedGRPOTrainer: Any
    MismatchCallback: Any

WHO = "frugalrl.integrations.trl"
TESTED = ("1.16.0",)
"""Versions of TRL with which the end-to-end tests ran."""


class Corrects:
    """The correction as a mixin: ``class Mine(Corrects, AnyGRPOTrainer)`` for a trainer of your own.

    The last keyword argument is ``correction``, a short name or a `Correction`; everything else goes to the trainer.
    """

    def __init__(self, *args: Any, correction: str | Correction = "token-tis:2", **kwargs: Any) -> None:
        """Raises UserError for an unknown correction, for settings that correct twice, and for nothing to correct."""
        self.correction = as_correction(correction)
        warn_untested(importlib.metadata.version("trl"))
        given = inspect.signature(super().__init__).bind_partial(*args, **kwargs).arguments
        # before the trainer is made, as it may start an engine
        check_config(given.get("args"), self.correction)
        none = self.correction.name() == "none"
        if not none and given.get("rollout_func") is None and not getattr(given.get("args"), "use_vllm", False):
            raise UserError(
                f"correction {self.correction.name()!r} has nothing to correct: TRL's generation with transformers "
                f"samples from the learner itself and records no log-probabilities; pass rollout_func (for instance "
                f"SamplerCopy('bf16')), set use_vllm=True, or take correction='none'"
            )
        super().__init__(*args, **kwargs)
        if not none and self.rollout_func is not None:
            self.rollout_func = checked_rollout(self.rollout_func)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, Watches):
                callback.watch(self)

    rollout_func: Any
    callback_handler: Any

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        if self.correction.name() == "none":
            return batch
        if batch.get("sampling_per_token_logps") is None:
            raise RunFailed("the batch has no sampling_per_token_logps, so nothing can be corrected")
        return corrected(batch, self.correction, old_log_probs(self, batch))


def warn_untested(installed: str) -> None:
    """Warns when this TRL is not one with which the hook was tested: it builds on private methods."""
    if installed not in TESTED:
        warnings.warn(
            f"the hook was tested with TRL {', '.join(TESTED)} and {installed} is installed: compare a short run with "
            f"correction='vanilla' against one with 'none' before you trust it",
            UserWarning,
            stacklevel=3,
        )


@cache
def _made(name: str) -> Any:
    mixin: type = Corrects if name == "CorrectedGRPOTrainer" else Watches
    base = (
        needed("trl", WHO, "trl").GRPOTrainer
        if mixin is Corrects
        else needed("transformers", WHO, "trl").TrainerCallback
    )
    return type(name, (mixin, base), {"__doc__": mixin.__doc__, "__module__": __name__})


def __getattr__(name: str) -> Any:
    if name in ("CorrectedGRPOTrainer", "MismatchCallback"):
        return _made(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
