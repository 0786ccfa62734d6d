"""n-step windows with the correct tails.

A window starts at row s and takes in rows s+1 ... s+n, and stops earlier

- after a row with discount 0 (game over, or a life loss trained as one): nothing is bootstrapped,
- after a row with ``last`` and discount 1 (a time limit): it bootstraps from the final observation,
- before a row that is not valid without ``last`` (an environment that could not be brought back): it bootstraps from
  the last observation seen.

Because a row that is not valid always follows ``last`` (the ring refuses anything else), ``valid`` shows both.

Its reward is ``sum_j gamma^(j-1) * d_1 ... d_(j-1) * r_j``, its discount ``gamma^k * d_1 ... d_k`` with k the real
length, and its end row s+k. Source: Sutton 1988; Hessel et al. 2018 (Rainbow), section 3, multi-step learning.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.ring import Ints, Ring


class Windows(NamedTuple):
    """Windows of N starts."""

    reward: NDArray[np.float32]
    """[N] discounted sum of rewards."""
    discount: NDArray[np.float32]
    """[N] what the bootstrap value is multiplied with."""
    end: Ints
    """[N] absolute row of the bootstrap observation."""


def windows(ring: Ring, start: Ints, env: Ints | int, n_step: int, gamma: float) -> Windows:
    """The windows from absolute rows ``start`` [N]; rows up to ``start + n_step`` must be in the ring."""
    if n_step == 1:
        at = ring.at(start + 1, env)
        return Windows(ring.take("reward", at), ring.take("discount", at) * np.float32(gamma), start + 1)
    steps = np.arange(1, n_step + 1)
    env_column: Any = env[:, None] if isinstance(env, np.ndarray) else env
    at = ring.at(start[:, None] + steps, env_column)
    reward = ring.take("reward", at).astype(np.float64)
    discount = ring.take("discount", at).astype(np.float64)
    goes_on = (discount[:, :-1] != 0.0) & ring.take("valid", at[:, 1:])

    inside = np.ones(at.shape, np.bool_)  # the first row is the transition itself, always there
    np.logical_and.accumulate(goes_on, axis=1, out=inside[:, 1:])
    length = inside.sum(axis=1)
    carried = np.cumprod(np.where(inside, gamma * discount, 1.0), axis=1)
    total = reward[:, 0] + (np.where(inside, reward, 0.0)[:, 1:] * carried[:, :-1]).sum(axis=1)
    return Windows(total.astype(np.float32), carried[:, -1].astype(np.float32), start + length)
