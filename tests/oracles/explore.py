"""Slow definitions of the exploration rules: every action's probability, one row at a time, in exact fractions."""

from __future__ import annotations

from fractions import Fraction


def probabilities(name: str, q: list[float], eps: float, share: float) -> list[Fraction]:
    """mu(a) of every action for the explorer ``name``, straight from its one-sentence description."""
    low = [a for a in range(len(q)) if q[a] == min(q)]
    high = [a for a in range(len(q)) if q[a] == max(q)]
    everything = list(range(len(q)))
    explore, exact_share = Fraction(eps), Fraction(share)
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
