"""A rule that counts what it tried: an upper confidence bound for tables."""

from __future__ import annotations

import numpy as np

from frugalrl.math.explore.rule import Choice, Memory, View, check_q, needed_q, one_of
from frugalrl.types import EnvSpec, UserError


def ucb(view: View, memory: Memory) -> Choice:
    """argmax_a Q(s, a) + c * sqrt(log t / N_t(s, a)); actions never tried in s come first. Ties are uniform.

    Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002, as Sutton and Barto
    2018 write it (equation 2.10), per state; with c = 2 the baseline of Korkmaz, "Counteractive RL", section 4. N
    counts earlier choices of ``a`` in ``s`` and t is one more than all earlier choices in any state; the rows of one
    step share both, and the uniform prefill is not counted. ``explored`` where the action is not a maximiser of Q;
    ``eps`` is not used; ``u[:, 2]`` breaks ties.

    Memory: ``tried`` [S, A] int64; ``choices`` [1] int64.
    """
    q = needed_q(view, "ucb")
    check_q(q, view.eps, view.u)
    tried, choices, state = memory["tried"], memory["choices"], view.obs
    counts = tried[state]
    never = counts == 0
    bonus = view.knobs.ucb_c * np.sqrt(np.log(choices + 1.0) / np.maximum(counts, 1))
    bound = q + bonus
    best = bound == bound.max(axis=1, keepdims=True)
    action, size = one_of(np.where(never.any(axis=1, keepdims=True), never, best), view.u[:, 2])

    acts = ~view.last
    np.add.at(tried, (state[acts], action[acts]), 1)  # two rows may stand in the same state
    choices += np.count_nonzero(acts)
    explored = q[np.arange(len(q)), action] < q.max(axis=1)
    return Choice(action, np.log(1.0 / size).astype(np.float32), explored)


def ucb_start(spec: EnvSpec, num_rows: int) -> Memory:
    """Nothing was tried. Raises UserError without a finite number of states."""
    if spec.num_indices is None:
        raise UserError(
            f"the explorer 'ucb' counts visits of states and needs an environment with index observations (Discrete), "
            f"but {spec.id} gives {spec.obs_kind} observations of shape {spec.obs_shape}; use another --explore, "
            f"see 'frugal list explorers'"
        )
    return {"tried": np.zeros((spec.num_indices, spec.num_actions), np.int64), "choices": np.zeros(1, np.int64)}
