"""Rules that stay with an arbitrary action: for a while, or for ever in one state.

They are controls for counteractive exploration: within a run argmin Q of a state hardly changes, so part of its effect
may come from persistence alone.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.explore.rule import (
    Bools,
    Choice,
    Floats,
    Ints,
    Memory,
    View,
    below_eps,
    check_all_explore,
    check_eps,
    check_q,
    one_of,
)
from frugalrl.types import EnvSpec

# -- epsilon-z-greedy ------------------------------------------------------------------------------------------------


def ez_greedy(view: View, memory: Memory) -> Choice:
    """With probability eps a uniform action for n steps, n from a zeta distribution, else a maximiser of Q.

    Dabney, Ostrovski and Barreto, "Temporally-Extended epsilon-Greedy Exploration", ICLR 2021, appendix B, algorithm
    1, with P(n) ~ n ** -ez_mu up to ez_max_steps. n counts all steps with the action, so that ez_max_steps = 1 is
    epsilon-greedy; the pseudocode of the paper acts once more, because it does not count the first step. A repetition
    ends with its episode.

    ``u[:, 0]`` decides whether the row begins a repetition, ``u[:, 1]`` picks its length, ``u[:, 2]`` the action.
    Inside a repetition the action is certain given the memory: log_mu is 0, whatever Q is. Memory: ``left`` [B] int64,
    steps still to repeat; ``action`` [B] int64.
    """
    q, eps, u = view.q, view.eps, view.u
    check_eps(eps)
    repeats = memory["left"] > 0
    begins = ~repeats & (u[:, 0] < eps)
    explored = repeats | begins
    anything = (u[:, 2] * view.num_actions).astype(np.int64)
    if q is None:
        check_all_explore("epsilon-z-greedy", explored, eps, u)
        action = np.where(repeats, memory["action"], anything)
        mu = np.where(eps < 1.0, np.nan, 1.0 / view.num_actions)
    else:
        check_q(q, eps, u)
        high = q == q.max(axis=1, keepdims=True)
        greedy, num_high = one_of(high, u[:, 2])
        action = np.where(repeats, memory["action"], np.where(begins, anything, greedy))
        mu = eps * (1.0 / view.num_actions) + (1.0 - eps) * (high[np.arange(len(q)), action] / num_high)
    mu[repeats] = 1.0

    length = zeta_length(u[:, 1], view.knobs.ez_mu, view.knobs.ez_max_steps)
    memory["left"][:] = np.where(repeats, memory["left"] - 1, np.where(begins, length - 1, 0))
    memory["action"][:] = action
    return Choice(action, np.log(mu).astype(np.float32), explored)


def ez_start(spec: EnvSpec, num_rows: int) -> Memory:
    """No row repeats anything."""
    return {"left": np.zeros(num_rows, np.int64), "action": np.zeros(num_rows, np.int64)}


def ez_end(memory: Memory, ended: Bools) -> None:
    """A repetition ends with its episode."""
    memory["left"][ended] = 0


def ez_explores(eps: Floats, u: Floats, memory: Memory) -> Bools:
    """[B]: rows that repeat or begin to."""
    return (memory["left"] > 0) | below_eps(eps, u, memory)


def zeta_length(draw: Floats, exponent: float, longest: int) -> Ints:
    """Lengths with P(n) ~ n ** -exponent, n = 1 ... longest: draw [B] in [0, 1) -> [B] int64, increasing in draw."""
    cumulated = _cumulated_zeta(exponent, longest)
    length: Ints = np.searchsorted(cumulated, draw * cumulated[-1], side="right").astype(np.int64) + 1
    return length


@lru_cache(maxsize=8)
def _cumulated_zeta(exponent: float, longest: int) -> NDArray[np.float64]:
    cumulated = (np.arange(1, longest + 1, dtype=np.float64) ** -exponent).cumsum()
    cumulated.flags.writeable = False
    return cumulated


# -- a fixed random action per state ---------------------------------------------------------------------------------


def fixed_random(view: View, memory: Memory) -> Choice:
    """With probability eps an arbitrary action that is always the same in this state, else a maximiser of Q.

    The arbitrary action is a hash of the observation's bytes and of the run's seed, uniform over actions. Given the
    state it is certain, so mu is that of a rule with one exploratory action. Our own control, no source.
    """
    q, eps, u = view.q, view.eps, view.u
    check_eps(eps)
    explored = u[:, 0] < eps
    fixed = actions_of_states(view.obs, view.num_actions, view.knobs.seed)
    if q is None:
        check_all_explore("fixed-random", explored, eps, u)
        return Choice(fixed, np.where(eps < 1.0, np.nan, 0.0).astype(np.float32), explored)
    check_q(q, eps, u)
    high = q == q.max(axis=1, keepdims=True)
    greedy, num_high = one_of(high, u[:, 2])
    action = np.where(explored, fixed, greedy)
    mu = eps * (action == fixed) + (1.0 - eps) * (high[np.arange(len(q)), action] / num_high)
    return Choice(action, np.log(mu).astype(np.float32), explored)


def actions_of_states(obs: NDArray[Any], num_actions: int, seed: int) -> Ints:
    """obs [B, *obs_shape] -> one pseudo-random action per state, [B] int64; the same in every process."""
    if obs.dtype.kind == "f":
        obs = obs + 0.0  # -0.0 and 0.0 are the same state
    key = seed.to_bytes(8, "little")
    digests = b"".join(blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in obs)
    # the upper 53 bits as a draw in [0, 1)
    draws = (np.frombuffer(digests, "<u8") >> np.uint64(11)) * 2.0**-53
    return (draws * num_actions).astype(np.int64)
