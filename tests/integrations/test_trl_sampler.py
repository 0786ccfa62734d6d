"""The learner's copy as TRL's sampler, in TRL itself: ``scripts/trainer_env trl``, then ``pytest -m trl -n 0``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="the environment of scripts/trainer_env trl")

import torch
import trl_tiny as tiny
from trl_tiny import batch_of, made

from frugalrl.integrations.trl import CorrectedGRPOTrainer, MismatchCallback, SamplerCopy
from frugalrl.integrations.trl_batch import OLD

pytestmark = [
    pytest.mark.trl,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:You are using 'rollout_func'"),
]


class Shifted(torch.nn.Module):
    """As routers of experts have them, numbers that steer and that no optimizer trains."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("saved", torch.zeros(width))
        self.register_buffer("unsaved", torch.zeros(width), persistent=False)

    def forward(self, x: Any) -> Any:
        return x + self.saved + self.unsaved


class Shifts(tiny.LlamaForCausalLM):
    """A model with such numbers before its last layer."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.norm = Shifted(config.hidden_size)


def largest_gap(trainer: Any) -> float:
    """Of the log-probabilities of learner and sampler, in the next batch."""
    batch = batch_of(trainer)
    gaps = (batch[OLD] - batch["sampling_per_token_logps"]).abs()
    return float(gaps[batch["completion_mask"].bool()].max())


@pytest.mark.parametrize("change", ["fp32", lambda model: model], ids=["name", "function"])
def test_the_copy_has_the_learners_buffers(tmp_path: Path, change: Any) -> None:
    model = Shifts(tiny.model().config)
    trainer = made(CorrectedGRPOTrainer, tmp_path, model=model, rollout_func=SamplerCopy(change))
    for name in ("saved", "unsaved", "saved"):  # they change from one generation to the next
        getattr(model.model.norm, name).add_(torch.linspace(-2, 2, 32))
        assert largest_gap(trainer) < 1e-3, name


def test_each_training_begins_with_the_weights_of_its_own_learner(tmp_path: Path) -> None:
    sampler = SamplerCopy("fp32")

    def largest_k3(trainer: Any) -> float:
        trainer.train()
        return max(e["mismatch/k3"] for e in trainer.state.log_history if "mismatch/k3" in e)

    def another(**given: Any) -> Any:
        settings = {"max_steps": 1, "learning_rate": 0.1}
        callbacks = [MismatchCallback()]
        return made(
            CorrectedGRPOTrainer, tmp_path, settings=settings, rollout_func=sampler, callbacks=callbacks, **given
        )

    trainer = another()
    assert largest_k3(trainer) < 1e-6
    assert largest_k3(trainer) < 1e-6, "steps count anew in a second training"
    assert largest_k3(another(model=tiny.model(1))) < 1e-6, "in that of a second trainer"
    wide = tiny.model().config
    wide.intermediate_size = 64
    assert largest_k3(another(model=tiny.LlamaForCausalLM(wide))) < 1e-6, "of another model"
