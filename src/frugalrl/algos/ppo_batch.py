"""The batch of one PPO update on the learner's device, and the minibatches it is cut into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.math.ppo import Part, normalised
from frugalrl.nets.actor_critic import ActorCriticNetwork

_CERTAIN = -0.01
"""Mean log pi above which a learner is nearly certain of what was done, so that a sampler may be so too."""


@dataclass(frozen=True, slots=True)
class Batch:
    """T steps of B unrolls; what the learner thought of them with the weights that it had when they came in."""

    obs: Tensor
    """[T+1, B, *obs_shape]"""
    action: Tensor
    """[T, B]"""
    reward: Tensor
    """[T, B] as the environment gave it: a recurrent network reads it."""
    reset: Tensor
    """[T+1, B] bool: the recurrent state begins anew."""
    state: Mapping[str, Tensor]
    """[B, ...] before row 0."""
    part: Part
    """[T, B] each."""

    def minibatches(
        self, rng: np.random.Generator, number: int, *, whole: bool, normalise: bool
    ) -> Iterator[Minibatch]:
        """The batch in ``number`` random parts of nearly equal size, each transition in one of them.

        ``whole``: parts are made of whole unrolls, which a recurrent network needs; else of transitions.
        ``normalise``: advantages of each part get mean 0 and standard deviation 1.
        """
        mask = self.part.mask
        if whole:
            pool = np.arange(mask.shape[1])
        else:
            pool = np.flatnonzero(mask.cpu().numpy())
        for index in np.array_split(rng.permutation(pool), number):
            if not len(index):
                continue
            chosen = torch.from_numpy(index).to(mask.device)
            part = Part(*(x[:, chosen] if whole else x.flatten()[chosen] for x in self.part))
            if normalise:
                part = part._replace(advantage=normalised(part.advantage, part.mask))
            yield Minibatch(self, chosen, part, whole)


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Some transitions [n], or some unrolls [T, b], of a batch."""

    batch: Batch
    chosen: Tensor
    part: Part
    whole: bool

    @property
    def size(self) -> int:
        """Unrolls, or transitions."""
        return len(self.chosen)

    def action(self) -> Tensor:
        """Shaped like the fields of ``part``."""
        return self.batch.action[:, self.chosen] if self.whole else self.batch.action.flatten()[self.chosen]

    def outputs(self, net: ActorCriticNetwork) -> Tensor:
        """[n, A + 1] or [T, b, A + 1]."""
        batch, rows = self.batch, self.chosen
        if not self.whole:
            out: Tensor = net(batch.obs[:-1].flatten(0, 1)[rows])
            return out
        state = {name: x[rows] for name, x in batch.state.items()}
        # V of the last observation is no one's to learn
        obs, action, reward, reset = (x[:-1, rows] for x in (batch.obs, batch.action, batch.reward, batch.reset))
        return net.unroll(obs, action, reward, reset, state)


def check_sampler(log_old: NDArray[np.floating], log_mu: NDArray[np.floating], valid: NDArray[np.bool_]) -> None:
    """Raises ValueError where the sampler's log-probabilities are missing, or those of a sampler without chance.

    Log-probabilities above 0 or of -inf, and an empty batch, are refused by `frugalrl.math.importance.apply`.
    """
    mine, theirs = log_old[valid], log_mu[valid]
    unknown = int(np.count_nonzero(np.isnan(theirs)))
    if unknown:
        raise ValueError(
            f"log_mu is not known (NaN) for {unknown} of {theirs.size} transitions; the sampler must record the "
            f"probability of what it does"
        )
    if theirs.size and not theirs.any() and mine.mean() < _CERTAIN:
        raise ValueError(
            f"log_mu is 0 for all {theirs.size} transitions while the policy gives them a probability of "
            f"{np.exp(mine.mean()):.2g} (geometric mean): the sampler is greedy or argmin, what it never does has "
            f"probability 0, and no ratio corrects that; use a mixture, such as explore.epsilon below 1"
        )
