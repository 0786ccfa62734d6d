"""The learners of several seeds as one: each update is one gradient step of every seed, on a batch of its own.

Nothing is shared but the calls: a seed has its own loss, gradient norm, Adam state and target period, and its learner
stays an ordinary `DQNLearner` whose tensors are views into the stack, so it can be saved, loaded and played alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.algos.adam import fused_step
from frugalrl.algos.dqn import DQNLearner, Target
from frugalrl.algos.stacked_answers import answers_of, errors_of, losses_of, refusal
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.heads import Head
from frugalrl.nets.stacked import StackedMLP, block, views
from frugalrl.types import NonFiniteLoss, Replayed, Updated


class _Row(NamedTuple):
    """What one seed's step changes: its row of every block."""

    parameters: Tensor
    """[P]"""
    adam: dict[str, Tensor]


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
        online, target, optimizers, self._costs, *_ = zip(*(learner.lend() for learner in learners), strict=True)
        self._head: Head = online[0].head
        self.online = StackedMLP(online)
        """The networks that act."""
        self._target = StackedMLP(target)
        flat = self.online.flat
        first = block(*flat.shape, dtype=flat.dtype), block(*flat.shape, dtype=flat.dtype)
        steps = torch.zeros(len(learners), len(list(online[0].parameters())))
        for s, (learner, net, optimizer) in enumerate(zip(learners, online, optimizers, strict=True)):
            moments = {name: views(m[s], net) for name, m in zip(("exp_avg", "exp_avg_sq"), first, strict=True)}
            optimizer.move_to({"step": list(steps[s]), **moments})
            learner.moved()
        self._steps = steps
        self._rows = [
            _Row(p, {"step": t, "exp_avg": m, "exp_avg_sq": v})
            for p, m, v, t in zip(flat, *first, steps[:, 0], strict=True)
        ]

    def drop(self, places: Sequence[int]) -> None:
        """Go on without these seeds (positions in the stack); their learners keep what they have."""
        self._learners = [learner for i, learner in enumerate(self._learners) if i not in places]
        if self._learners:
            self._stack()

    def refresh(self) -> None:
        """Learners have made updates alone: the stack is where their tensors lie, so it knows."""

    def update(self, replayed: Replayed) -> list[Updated | NonFiniteLoss]:
        """One gradient step of every seed on its part of ``replayed`` [S * batch_size, ...]; see `StackedReplay`.

        A seed whose loss or gradient norm is not finite answers with the error, and nothing of it is changed.
        """
        timer, seeds, batch = self._timer, len(self._learners), replayed.batch

        def q_of(out: Tensor) -> Tensor:
            return self._head.to_q(out.flatten(0, 1)).view(*out.shape[:2], -1)

        def tensor(x: NDArray[Any]) -> Tensor:
            return torch.from_numpy(x).view(seeds, -1)

        online, targets = self.online, self._target
        x_tm1, x_t = (online.features(o.reshape(seeds, -1, *o.shape[1:])) for o in (batch.obs_tm1, batch.obs_t))
        timer.lap("learner")
        out_t = targets.forward(x_t)
        q_select_t = q_of(online.forward(x_t) if self._config.double else out_t)
        timer.lap("target")
        out_tm1 = online.forward(x_tm1, keep=True).requires_grad_()
        fields = (batch.a_tm1, batch.r_t, batch.discount_t, q_select_t, replayed.weight)
        target = Target(*(f if isinstance(f, Tensor) else tensor(f) for f in fields))
        found = losses_of(self._learners[0], out_tm1, out_t, target)
        (gradient,) = torch.autograd.grad(found["loss"].sum(), out_tm1)
        why = self._step(online.backward(x_tm1, gradient), found["loss"].tolist())
        self._steps[:, 1:] = self._steps[:, :1]
        errors = errors_of(why, replayed)
        arrays = {name: value.detach().numpy() for name, value in found.items()}
        answers = answers_of(arrays, q_of(out_tm1.detach()).numpy(), replayed, errors, self._costs)
        timer.lap("learner")
        self._copy_targets(errors)
        return answers

    def _step(self, gradients: Tensor, losses: Sequence[float]) -> list[str | None]:
        """Clip and step each seed by its gradient, a row of [S, P]; returns what kept each from that."""
        config, limit = self._config, self._config.max_grad_norm
        norms = [0.0] * len(losses) if limit is None else torch.linalg.vector_norm(gradients, dim=1).tolist()
        why = [refusal(*each) for each in zip(self._learners, losses, norms, strict=True)]
        going = [place for place, bad in enumerate(why) if bad is None]
        with torch.no_grad():
            if limit is not None:
                scale = [min(1.0, limit / (norm + 1e-6)) for norm in norms]  # as each learner has it
                gradients.mul_(torch.tensor(scale, dtype=gradients.dtype)[:, None])
            if going:
                rows = [self._rows[place] for place in going]
                adam = {name: [row.adam[name] for row in rows] for name in rows[0].adam}
                parts = [row.parameters for row in rows], [gradients[place] for place in going]
                fused_step(*parts, adam, lr=config.learning_rate, eps=config.adam_eps)
        for place in going:
            self._learners[place].version += 1
        return why

    def _copy_targets(self, errors: Sequence[NonFiniteLoss | None]) -> None:
        period = self._config.target_period_updates
        for s, (learner, error) in enumerate(zip(self._learners, errors, strict=True)):
            if error is None and learner.version % period == 0:
                self._target.flat[s].copy_(self.online.flat[s])
        self._timer.lap("target")
