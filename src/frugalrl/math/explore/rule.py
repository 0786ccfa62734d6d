"""What an exploration rule gets and gives, and the steps that all rules share.

A rule is a function of a `View`, which is all it may look at in one step, and of its `Memory`, arrays that the sampler
owns: it saves them, takes them back when an environment failed, and tells the rule which episodes ended. A rule draws
nothing: its randomness is ``View.u``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import EnvSpec

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Memory = dict[str, NDArray[Any]]
"""What a rule remembers between steps; empty for most rules. A rule changes the arrays in place."""


class Choice(NamedTuple):
    """What a rule answers, one entry per row."""

    action: Ints
    """[B] int64"""
    log_mu: NDArray[np.float32]
    """[B] float32: log-probability with which this action was chosen; NaN where it could not be known."""
    explored: Bools
    """[B] bool: the action came from the exploration branch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knobs:
    """The numbers of the rules that stay the same in all steps of a run."""

    uniform_share: float = 0.5
    """Uniform part of the exploration branch, in [0, 1]."""
    ez_mu: float = 2.0
    """Exponent of the zeta distribution of a repetition's length, P(n) ~ n ** -ez_mu."""
    ez_max_steps: int = 10_000
    """Longest repetition, agent steps."""
    ucb_c: float = 2.0
    """Weight of the bonus for rarely tried actions, in the units of Q."""
    seed: int = 0
    """What makes the fixed actions of one run differ from those of another."""


class View(NamedTuple):
    """What a rule may look at in one step of B rows with A actions."""

    q: Floats | None
    """[B, A] Q-values of the acting network; None when every row explores and the rule can do without."""
    obs: NDArray[Any]
    """[B, *obs_shape]: the observations that Q belongs to."""
    last: Bools
    """[B] bool: True in a row that is about to be reset, whose action is not used."""
    eps: Floats
    """[B] in [0, 1]: probability of the exploration branch."""
    temperature: Floats | None
    """[B], at least 0; None for a rule that does not name it among its knobs."""
    u: Floats
    """[B, 3] uniform draws in [0, 1), each row from its own stream."""
    num_actions: int
    knobs: Knobs


ChooseFn = Callable[[View, Memory], Choice]
"""A rule. Raises ValueError for wrong arguments, FloatingPointError for a Q-value that is NaN or infinite."""
StartFn = Callable[[EnvSpec, int], Memory]
"""(environment, number of rows) -> what the rule remembers at the beginning. Raises UserError for an environment on
which the rule cannot work."""


def below_eps(eps: Floats, u: Floats, memory: Memory) -> Bools:
    """[B]: the rows whose first draw says explore."""
    return u[:, 0] < eps


def no_memory(spec: EnvSpec, num_rows: int) -> Memory:
    """What a rule without memory starts with."""
    return {}


def nothing_ends(memory: Memory, ended: Bools) -> None:
    """For rules whose memory outlives an episode."""


@dataclass(frozen=True, slots=True)
class Explorer:
    """An exploration rule and what the rest must know about it."""

    name: str
    choose: ChooseFn
    knobs: tuple[str, ...]
    """The fields of the exploration config that the rule reads."""
    full_support: bool
    """True: with eps, share and temperature above 0 every action has positive probability, so dividing by mu is
    allowed."""
    doc: str
    explores: Callable[[Floats, Floats, Memory], Bools] | None = None
    """(eps, u, memory) -> [B] bool: rows whose action does not depend on Q. When it is true of all rows the forward
    pass can be skipped (``q=None``). None: the rule needs Q in every step."""
    start: StartFn = no_memory
    end: Callable[[Memory, Bools], None] = nothing_ends
    """(memory, ended [B]): forget what must not outlive the episodes of these rows."""

    @property
    def explored_needs_q(self) -> bool:
        """False: a step in which every row explores needs no forward pass."""
        return self.explores is None


def needed_q(view: View, name: str) -> Floats:
    """The Q-values, for a rule that needs them in every row."""
    if view.q is None:
        raise ValueError(f"the explorer {name!r} needs q in every row, but q is None")
    return view.q


def check_q(q: Floats, eps: Floats, u: Floats) -> None:
    """Shapes, finite Q-values and eps in its range."""
    check_shapes(q, eps, u)
    if not np.isfinite(q).all():
        raise diverged(q)
    check_eps(eps)


def check_shapes(q: Floats, eps: Floats, u: Floats) -> None:
    """q [B, A], eps [B], u [B, 3]."""
    if q.ndim != 2 or eps.shape != q.shape[:1] or u.shape != (q.shape[0], 3):
        raise ValueError(f"expected q [B, A], eps [B], u [B, 3], but got q {q.shape}, eps {eps.shape}, u {u.shape}")


def check_eps(eps: Floats) -> None:
    """Probabilities, not NaN."""
    if not (eps >= 0.0).all() or not (eps <= 1.0).all():
        raise bad_eps(eps)


def check_all_explore(name: str, explores: Bools, eps: Floats, u: Floats) -> None:
    """Without Q no row may need it."""
    if not explores.all():
        row = int(np.argmin(explores))
        raise ValueError(f"{name} got no q, but row {row} does not explore (u={u[row, 0]}, eps={eps[row]})")


def diverged(q: Floats, what: str = "Q-values") -> FloatingPointError:
    """The error that names the first Q-value (or ``what`` the network gives) which is not finite."""
    row, action = (int(i) for i in np.argwhere(~np.isfinite(q))[0])
    return FloatingPointError(
        f"{what} must be finite, but row {row}, action {action} is {q[row, action]}: the network has diverged"
    )


def bad_eps(eps: Floats) -> ValueError:
    """The error for a probability outside of its range."""
    return ValueError(f"eps must lie in [0, 1], but is {eps.tolist()}")


def one_of(allowed: Bools, draw: Floats) -> tuple[Ints, Ints]:
    """A uniform member of each row's set: allowed [B, A], draw [B] in [0, 1) -> members [B], sizes of the sets [B]."""
    size = allowed.sum(axis=1)
    nth = (draw * size).astype(np.int64)
    action = (allowed.cumsum(axis=1) > nth[:, None]).argmax(axis=1)
    return action.astype(np.int64, copy=False), size
