"""What the learners of several seeds answer after an update of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.algos.dqn import DQNLearner, Target
from frugalrl.replay.stacked import split
from frugalrl.types import Costs, NonFiniteLoss, Replayed, Seen, Updated

Array = NDArray[Any]


def losses_of(learner: DQNLearner, out_tm1: Tensor, out_t: Tensor, target: Target) -> dict[str, Tensor]:
    """The learner's loss for each seed: outputs [S, B, A(, N)], targets [S, B] -> ``loss`` [S], ``td`` [S, B], and
    where the loss has them ``priority`` [S, B] and ``metric/NAME`` [S]."""

    def one(out_tm1: Tensor, out_t: Tensor, target: Target) -> dict[str, Tensor]:
        loss = learner.loss(out_tm1, out_t, target)
        found = {"loss": loss.loss, "td": loss.td, **{f"metric/{k}": v for k, v in loss.metrics.items()}}
        return found if loss.priority is None else found | {"priority": loss.priority}

    found: dict[str, Tensor] = torch.func.vmap(one)(out_tm1, out_t, target)
    return found


def refusal(learner: DQNLearner, loss: float, norm: float) -> str | None:
    """Why a seed's step must not be made, in the words of its own learner; None where it can be."""
    if not math.isfinite(loss):
        return f"the loss of update {learner.version + 1} is {loss}"
    if not math.isfinite(norm):
        return f"the gradient norm of update {learner.version + 1} is {norm}"
    return None


def errors_of(why: Sequence[str | None], replayed: Replayed) -> list[NonFiniteLoss | None]:
    """The sentences as errors, each with its seed's batch."""
    if not any(why):
        return [None] * len(why)
    batches = split(replayed, len(why))
    return [None if w is None else NonFiniteLoss(w, own) for w, own in zip(why, batches, strict=True)]


def answers_of(
    found: Mapping[str, Array],
    q_tm1: Array,
    replayed: Replayed,
    errors: Sequence[NonFiniteLoss | None],
    costs: Sequence[Costs],
) -> list[Updated | NonFiniteLoss]:
    """One answer per seed. ``found``: what `losses_of` gave, on the host; ``q_tm1`` [S, B, A]."""
    seeds, td = len(errors), found["td"]
    td_abs = np.abs(td)
    priorities = found.get("priority", td_abs)
    means: dict[str, Any] = {
        "loss": found["loss"].tolist(),
        "td_mean": td.mean(1).tolist(),
        "td_abs": td_abs.mean(1).tolist(),
        "q_mean": q_tm1.mean((1, 2)).tolist(),
        **{name.removeprefix("metric/"): found[name].tolist() for name in found if name.startswith("metric/")},
    }
    explored, keys = replayed.batch.explored_tm1.reshape(seeds, -1), replayed.keys.reshape(seeds, -1)
    return [
        errors[s]
        or Updated(
            metrics={name: values[s] for name, values in means.items()},
            priorities=priorities[s],
            costs=costs[s],
            seen=Seen(q_tm1[s], td[s], explored[s], keys[s]),
        )
        for s in range(seeds)
    ]
