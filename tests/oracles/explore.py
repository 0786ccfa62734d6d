"""Slow definitions of the exploration rules: one row at a time, in exact fractions or many decimal digits."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from hashlib import blake2b


def probabilities(name: str, q: list[float], eps: float, share: float) -> list[Fraction]:
    """mu(a) of every action for the explorer ``name``, straight from its one-sentence description."""
    low = [a for a in range(len(q)) if q[a] == min(q)]
    everything = list(range(len(q)))
    explore, exact_share = Fraction(eps), Fraction(share)
    high = highest(q)
    if name == "epsilon-greedy":
        parts = [(explore, everything), (1 - explore, high)]
    elif name == "counteractive":
        parts = [(explore, low), (1 - explore, high)]
    elif name == "counteractive-mixed":
        parts = [(explore * exact_share, everything), (explore * (1 - exact_share), low), (1 - explore, high)]
    else:
        raise AssertionError(name)
    mu = [Fraction(0)] * len(q)
    for probability, members in parts:
        for action in members:
            mu[action] += probability / len(members)
    assert sum(mu) == 1
    return mu


def highest(q: list[float]) -> list[int]:
    return [a for a in range(len(q)) if q[a] == max(q)]


def pick(members: list[int], draw: float) -> int:
    return members[int(draw * len(members))]


def softmax(q: list[float], temperature: float, sign: int = 1) -> list[Decimal]:
    """exp(sign * q / temperature), normalised, in 60 digits and without a shift: a Decimal does not overflow."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**17, -(10**17)
        weights = [(sign * Decimal(x) / Decimal(temperature)).exp() for x in q]
        return [w / sum(weights) for w in weights]


def drawn(p: list[Decimal], draw: float) -> int:
    """The first action whose cumulated probability lies above the draw."""
    return next(a for a in range(len(p)) if sum(p[: a + 1]) > Decimal(draw) * sum(p))


def softmin_mu(q: list[float], eps: float, temperature: float) -> list[Decimal]:
    soft, high = softmax(q, temperature, sign=-1), highest(q)
    exact = Decimal(eps)
    return [exact * p + (1 - exact) * (Decimal(a in high) / len(high)) for a, p in enumerate(soft)]


def zeta(exponent: float, longest: int) -> list[float]:
    """P(n) of n = 1 ... longest, in this order."""
    weights = [1.0 / n**exponent for n in range(1, longest + 1)]
    return [w / math.fsum(weights) for w in weights]


class SlowEz:
    """One row of epsilon-z-greedy, told like algorithm 1; ``extra`` more steps and ``survives`` ends are wrong."""

    def __init__(self, exponent: float, longest: int, extra: int = 0, survives: bool = False) -> None:
        self.p, self.extra, self.survives = zeta(exponent, longest), extra, survives
        self.n, self.action = 0, -1

    def act(self, q: list[float], eps: float, u: list[float]) -> tuple[int, float, bool]:
        """-> action, mu, whether it explores."""
        if self.n > 0:
            self.n -= 1
            return self.action, 1.0, True
        explores = u[0] < eps
        if explores:
            self.action = pick(list(range(len(q))), u[2])
            duration = next(n for n in range(1, len(self.p) + 1) if math.fsum(self.p[:n]) > u[1] or n == len(self.p))
            self.n = duration - 1 + self.extra
            action = self.action
        else:
            action = pick(highest(q), u[2])
        return action, float(probabilities("epsilon-greedy", q, eps, 1.0)[action]), explores

    def end(self) -> None:
        if not self.survives:
            self.n = 0


def fixed_action(obs: bytes, num_actions: int, seed: int) -> int:
    """floor(h * A / 2**53) in whole numbers, h the upper 53 bits of the digest."""
    digest = blake2b(obs, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return (int.from_bytes(digest, "little") >> 11) * num_actions >> 53


class SlowUcb:
    """UCB on a table as it is told; ``per_state`` False counts actions over all states and is wrong."""

    def __init__(self, c: float, per_state: bool = True) -> None:
        self.c, self.per_state = c, per_state
        self.history: list[tuple[int, int]] = []

    def act(self, q: list[float], state: int, draw: float) -> tuple[int, float, bool]:
        """-> action, mu, whether it explores; ``note`` what was really done afterwards."""
        counts = [sum(h == (state, a) if self.per_state else h[1] == a for h in self.history) for a in range(len(q))]
        never = [a for a, n in enumerate(counts) if n == 0]
        if never:
            members = never
        else:
            t = len(self.history) + 1
            members = highest([x + self.c * math.sqrt(math.log(t) / n) for x, n in zip(q, counts, strict=True)])
        action = pick(members, draw)
        return action, 1 / len(members), action not in highest(q)

    def note(self, state: int, action: int) -> None:
        self.history.append((state, action))
