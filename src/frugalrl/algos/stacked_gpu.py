"""The learners of several seeds as one on a CUDA device: each update is one gradient step of every seed.

A seed has its own loss, gradient norm, clip, Adam state, noise, augmentation and target period. Networks of any kind
are called through `StackedNetworks`; the whole update is two recorded graphs, one copy in and one copy out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.algos.dqn import DQNLearner, Target
from frugalrl.algos.stacked_answers import answers_of, errors_of, losses_of, refusal
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.gpu import Fetch, GpuClock, Recorded, Staged
from frugalrl.nets.heads import Head
from frugalrl.nets.noisy import has_noise
from frugalrl.nets.stacked_vmap import StackedNetworks
from frugalrl.replay.stacked import split
from frugalrl.types import Costs, NonFiniteLoss, Replayed, Updated

Array = NDArray[Any]


class StackedGpuLearner:
    """Trains learners that differ only in their seed. Their tensors stay where they are and hold the truth: each can be
    saved, loaded and trained alone, but then the stack must be told (``refresh``)."""

    def __init__(self, learners: Sequence[DQNLearner], timer: LapTimer) -> None:
        """``timer``: of the thread that calls ``update``."""
        self._timer = timer
        self._learners = list(learners)
        self._config = learners[0].config
        self._stack()

    def _stack(self) -> None:
        lent = [learner.lend() for learner in self._learners]
        self._online_nets, self._target_nets, self._optimizers, self._costs, self._augments, self._renew = zip(
            *lent, strict=True
        )
        self._head: Head = self._online_nets[0].head
        self._noisy = has_noise(self._online_nets[0])
        self.online = StackedNetworks(self._online_nets)
        """The networks that learn; whoever acts with them shares their parameters."""
        self._target = StackedNetworks(self._target_nets)
        self._staged: Staged | None = None
        self._fetch, self._clock = Fetch(), GpuClock(2)

    def drop(self, places: Sequence[int]) -> None:
        """Go on without these seeds (positions in the stack); their learners keep what they have."""
        self._learners = [learner for i, learner in enumerate(self._learners) if i not in places]
        if self._learners:
            self._stack()

    def refresh(self) -> None:
        """Learners have made updates alone."""
        self.online.gather()
        self._target.gather()

    def update(self, replayed: Replayed) -> list[Updated | NonFiniteLoss]:
        """One gradient step of every seed on its part of ``replayed`` [S * batch_size, ...]; see `StackedReplay`.

        A seed whose loss or gradient norm is not finite answers with the error, and nothing of it is changed.
        """
        timer = self._timer
        arrays = self._arrays(replayed)
        if self._staged is None or not self._staged.fits(arrays):
            self._prepare(arrays)
        assert self._staged is not None
        self._staged.put(arrays)
        for renew in self._renew if self._noisy else ():
            renew()
        timer.lap("learner")
        self._clock.start(timed=self._step.is_recorded)
        self._targets()
        self._clock.mark(1)
        timer.lap("target")
        packed = self._step()
        self._clock.mark(2)
        found = self._unpack(self._fetch(packed))
        self._clock.read()
        rows = zip(self._learners, found["loss"].tolist(), found.pop("norm").tolist(), strict=True)
        why = [refusal(*each) for each in rows]
        for learner, bad in zip(self._learners, why, strict=True):
            learner.version += bad is None
        answers = answers_of(found, found.pop("q"), replayed, errors_of(why, replayed), self._costs_now())
        timer.lap("learner")
        self._copy_targets(why)
        return answers

    def _arrays(self, replayed: Replayed) -> list[Array]:
        """obs_tm1, obs_t, a_tm1, r_t, discount_t, weight: [S, B, ...]; images augmented, each seed's as its own
        learner would."""
        seeds, batch = len(self._learners), replayed.batch
        obs = batch.obs_tm1, batch.obs_t
        if self._augments[0].on:
            parts = zip(split(replayed, seeds), self._learners, self._augments, strict=True)
            each = [augment(p.batch.obs_tm1, p.batch.obs_t, learner.version) for p, learner, augment in parts]
            obs = np.concatenate([tm1 for tm1, _ in each]), np.concatenate([t for _, t in each])
        rest = (batch.a_tm1, batch.r_t, batch.discount_t, replayed.weight)
        return [x.reshape(seeds, -1, *x.shape[1:]) for x in (*obs, *rest)]

    def _prepare(self, arrays: Sequence[Array]) -> None:
        device = self.online.parameters[0].device
        self._staged = Staged(arrays, device)
        obs_tm1, obs_t, *fields = self._staged.tensors
        a_tm1, r_t, discount_t, weight = fields
        self._ends: tuple[Tensor, Tensor] | None = None

        def targets() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                for nets in (self.online, self._target):
                    nets.gather_noise()
                x_t = self.online.prepared(obs_t)
                out_t = self._target(x_t)
                self._ends = out_t, self._q_of(self.online(x_t) if self._config.double else out_t)
            return self._ends

        def step() -> Tensor:
            assert self._ends is not None
            out_t, q_select_t = self._ends
            leaves = [p.detach().requires_grad_() for p in self.online.parameters]
            out_tm1 = self.online(self.online.prepared(obs_tm1), leaves)
            found = losses_of(self._learners[0], out_tm1, out_t, Target(a_tm1, r_t, discount_t, q_select_t, weight))
            gradients = torch.autograd.grad(found["loss"].sum(), leaves)
            found["norm"] = self._take_steps(gradients, found["loss"].detach())
            self.online.gather()
            found["q"] = q = self._q_of(out_tm1.detach())
            self._shapes = {name: value.shape for name, value in found.items()}
            return torch.cat([value.detach().reshape(-1).to(q.dtype) for value in found.values()])

        record = device.type == "cuda"
        self._targets, self._step = Recorded(targets, record=record), Recorded(step, record=record)

    def _q_of(self, out: Tensor) -> Tensor:
        return self._head.to_q(out.flatten(0, 1)).view(*out.shape[:2], -1)

    @torch.no_grad()
    def _take_steps(self, gradients: Sequence[Tensor], losses: Tensor) -> Tensor:
        """Clip and step each seed by its own gradient where it and the loss are finite; returns the norms [S]."""
        limit = self._config.max_grad_norm
        norms, scale = torch.zeros_like(losses), torch.ones_like(losses)
        if limit is not None:
            each = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
            norms = torch.linalg.vector_norm(each, dim=0)
            scale = (limit / (norms + 1e-6)).clamp(max=1.0)
        not_finite = (~(torch.isfinite(losses) & torch.isfinite(norms))).to(torch.float32)
        # in the memory layout of the seeds' own parameters, so that nothing is copied seed by seed
        laid_out: list[Tensor] = []
        for g, like in zip(gradients, self._optimizers[0].parameters, strict=True):
            room = torch.empty_strided(g.shape, (like.numel(), *like.stride()), dtype=g.dtype, device=g.device)
            laid_out.append(torch.mul(g, scale.view(-1, *[1] * like.dim()), out=room))
        for s, optimizer in enumerate(self._optimizers):
            optimizer.step_unless(not_finite[s], [g[s] for g in laid_out])
        return norms

    def _unpack(self, packed: Array) -> dict[str, Array]:
        found: dict[str, Array] = {}
        start = 0
        for name, shape in self._shapes.items():
            size = shape.numel()
            found[name] = packed[start : start + size].reshape(shape)
            start += size
        return found

    def _costs_now(self) -> list[Costs]:
        """The costs of each seed's update, with its share of the device's seconds."""
        seeds = len(self._learners)
        target, learner = (None if s is None else s / seeds for s in self._clock.seconds)
        return [
            {
                **costs,
                "target": replace(costs["target"], gpu_s=target),
                "learner": replace(costs["learner"], gpu_s=learner),
            }
            for costs in self._costs
        ]

    @torch.no_grad()
    def _copy_targets(self, why: Sequence[str | None]) -> None:
        period, copied = self._config.target_period_updates, False
        for learner, bad, online, target in zip(self._learners, why, self._online_nets, self._target_nets, strict=True):
            if bad is None and learner.version % period == 0:
                torch._foreach_copy_(list(target.parameters()), list(online.parameters()))
                copied = True
        if copied:
            self._target.gather()
        self._timer.lap("target")
