"""The learners of several seeds as one: each update is one gradient step of every seed, on a batch of its own.

Nothing is shared but the calls: a seed has its own loss, gradient norm, Adam state and target period, and its learner
stays an ordinary `DQNLearner` whose tensors are views into the stack, so it can be saved, loaded and played alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.algos.adam import fused_step
from frugalrl.algos.dqn import DQNLearner, Target
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.stacked import StackedMLP, views
from frugalrl.replay.stacked import split
from frugalrl.types import NonFiniteLoss, Replayed, Seen, Updated


class StackedLearner:
    """Takes over the tensors of learners that differ only in their seed. For networks that are plain MLPs on a CPU."""

    def __init__(self, learners: Sequence[DQNLearner], timer: LapTimer) -> None:
        """``timer``: of the thread that calls ``update``."""
        self._timer = timer
        self._learners = list(learners)
        self._config = learners[0].config
        self._stack()

    def _stack(self) -> None:
        learners = self._learners
        self.online = StackedMLP([learner.networks[0] for learner in learners])
        """The networks that act."""
        self._target = StackedMLP([learner.networks[1] for learner in learners])
        flat = self.online.flat
        first = torch.zeros_like(flat), torch.zeros_like(flat)
        count = len(list(learners[0].networks[0].parameters()))
        steps = torch.zeros(len(learners), count)
        for s, learner in enumerate(learners):
            net = learner.networks[0]
            moments = {name: views(m[s], net) for name, m in zip(("exp_avg", "exp_avg_sq"), first, strict=True)}
            learner.optimizer.move_to({"step": list(steps[s]), **moments})
            learner.moved()
        self._steps = steps
        self._rows = [
            (p, g, m, v, t)
            for p, g, m, v, t in zip(flat, self.online.gradient, first[0], first[1], steps[:, 0], strict=True)
        ]

    def drop(self, places: Sequence[int]) -> None:
        """Go on without these seeds (positions in the stack); their learners keep what they have."""
        self._learners = [learner for i, learner in enumerate(self._learners) if i not in places]
        if self._learners:
            self._stack()

    def update(self, replayed: Replayed) -> list[Updated | NonFiniteLoss]:
        """One gradient step of every seed on its part of ``replayed`` [S * batch_size, ...]; see `StackedReplay`.

        A seed whose loss or gradient norm is not finite answers with the error, and nothing of it is changed.
        """
        timer, seeds, batch = self._timer, len(self._learners), replayed.batch
        head = self._learners[0].networks[0].head

        def q_of(out: Tensor) -> Tensor:
            return head.to_q(out.flatten(0, 1)).view(*out.shape[:2], -1)

        def tensor(x: NDArray[Any]) -> Tensor:
            return torch.from_numpy(x).view(seeds, -1)

        x_tm1, x_t = (self.online.features(o.reshape(seeds, -1, *o.shape[1:])) for o in (batch.obs_tm1, batch.obs_t))
        timer.lap("learner")
        out_t = self._target.forward(x_t)
        q_select_t = q_of(self.online.forward(x_t) if self._config.double else out_t)
        timer.lap("target")
        out_tm1 = self.online.forward(x_tm1, keep=True).requires_grad_()
        fields = (batch.a_tm1, batch.r_t, batch.discount_t, q_select_t, replayed.weight)
        target = Target(*(f if isinstance(f, Tensor) else tensor(f) for f in fields))
        found = torch.func.vmap(self._loss)(out_tm1, out_t, target)
        (gradient,) = torch.autograd.grad(found["loss"].sum(), out_tm1)
        self.online.backward(x_tm1, gradient)
        errors = self._step(found["loss"], replayed)
        answers = self._answers(found, q_of(out_tm1.detach()).numpy(), replayed, errors)
        timer.lap("learner")
        self._copy_targets(errors)
        return answers

    def _loss(self, out_tm1: Tensor, out_t: Tensor, target: Target) -> dict[str, Tensor]:
        """The loss of one seed, as its learner has it."""
        loss = self._learners[0].loss(out_tm1, out_t, target)
        found = {"loss": loss.loss, "td": loss.td, **{f"metric/{k}": v for k, v in loss.metrics.items()}}
        return found if loss.priority is None else found | {"priority": loss.priority}

    def _step(self, losses: Tensor, replayed: Replayed) -> list[NonFiniteLoss | None]:
        """Clip and step; returns what kept a seed from it."""
        gradient, bound = self.online.gradient, self._config.max_grad_norm
        norms = [0.0] * len(self._learners)
        if bound is not None:
            norms = torch.linalg.vector_norm(gradient, dim=1).tolist()
            for row, norm in zip(gradient, norms, strict=True):
                if bound / (norm + 1e-6) < 1.0:
                    row.mul_(bound / (norm + 1e-6))
        why = [self._error(*e) for e in zip(range(len(norms)), losses.tolist(), norms, strict=True)]
        errors: list[NonFiniteLoss | None] = [None] * len(why)
        if any(why):
            batches = split(replayed, len(why))
            errors = [None if w is None else NonFiniteLoss(w, own) for w, own in zip(why, batches, strict=True)]
        sound = [row for row, error in zip(self._rows, errors, strict=True) if error is None]
        if sound:
            p, g, m, v, t = (list(column) for column in zip(*sound, strict=True))
            with torch.no_grad():
                state = {"step": t, "exp_avg": m, "exp_avg_sq": v}
                fused_step(p, g, state, lr=self._config.learning_rate, eps=self._config.adam_eps)
                self._steps.copy_(self._steps[:, :1].expand_as(self._steps).clone())
        for learner, error in zip(self._learners, errors, strict=True):
            learner.version += error is None
        return errors

    def _error(self, place: int, loss: float, norm: float) -> str | None:
        update = self._learners[place].version + 1
        if not math.isfinite(loss):
            return f"the loss of update {update} is {loss}"
        return None if math.isfinite(norm) else f"the gradient norm of update {update} is {norm}"

    def _answers(
        self,
        found: dict[str, Tensor],
        q_tm1: NDArray[Any],
        replayed: Replayed,
        errors: Sequence[NonFiniteLoss | None],
    ) -> list[Updated | NonFiniteLoss]:
        seeds = len(self._learners)
        td = found["td"].numpy()
        td_abs = np.abs(td)
        priorities = found["priority"].numpy() if "priority" in found else td_abs
        means: dict[str, Any] = {
            "loss": found["loss"].detach().tolist(),
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
                costs=self._learners[s].costs,
                seen=Seen(q_tm1[s], td[s], explored[s], keys[s]),
            )
            for s in range(seeds)
        ]

    def _copy_targets(self, errors: Sequence[NonFiniteLoss | None]) -> None:
        period = self._config.target_period_updates
        for s, (learner, error) in enumerate(zip(self._learners, errors, strict=True)):
            if error is None and learner.version % period == 0:
                self._target.flat[s].copy_(self.online.flat[s])
        self._timer.lap("target")
