"""Slow definition of the chain study: one learner, one seed, plain Python; and the same with a mistake in it."""

from __future__ import annotations

from math import log, sqrt

UP, TO_STATE_2, TO_STATE_3, RESET = range(4)
Table = list[list[float]]


def move(state: int, action: int) -> tuple[int, float]:
    """States 1 to 10 as in the paper."""
    if action == UP:
        return min(state + 1, 10), 0.0
    if action == TO_STATE_2:
        return 2, 0.0
    if action == TO_STATE_3:
        return 3, 0.0
    return 1, 1.0 if state == 10 else 0.0


def nth(members: list[int], u: float) -> int:
    return members[int(u * len(members))]


def mixture_action(q: list[float], u: list[float], eps: float, share: float) -> int:
    if u[0] < eps:
        if u[1] < share:
            return nth([0, 1, 2, 3], u[2])
        return nth([a for a in range(4) if q[a] == min(q)], u[2])
    return nth([a for a in range(4) if q[a] == max(q)], u[2])


def ucb_action(q: list[float], counts: list[int], t: int, u: list[float], bonus: float) -> int:
    untried = [a for a in range(4) if counts[a] == 0]
    if untried:
        return nth(untried, u[2])
    scores = [q[a] + bonus * sqrt(log(t) / counts[a]) for a in range(4)]
    return nth([a for a in range(4) if scores[a] == max(scores)], u[2])


def greedy_return(q: Table) -> int:
    """q[action][state - 1]"""
    state, total = 1, 0.0
    for _ in range(100):
        values = [q[a][state - 1] for a in range(4)]
        state, reward = move(state, values.index(max(values)))
        total += reward
    return int(total)


def best_return(steps: int) -> float:
    """What no policy can exceed in so many steps from state 1: backward induction."""
    value = [0.0] * 11
    for _ in range(steps):
        value = [0.0, *(max(r + value[s_t] for s_t, r in (move(s, a) for a in range(4))) for s in range(1, 11))]
    return value[1]


def learn(
    q_0: Table,
    draws: list[list[list[float]]],
    *,
    gamma: float,
    alpha: float,
    eps: float | None = None,
    share: float | None = None,
    bonus: float | None = None,
    mistake: str = "",
) -> tuple[list[int], list[float]]:
    """Returns and mean TD errors, one for each iteration; draws [iterations][steps][3].

    mistake: "min target" minimises in the target too; "the reset ends the return" does not bootstrap there;
    "goes on" keeps the state between iterations; "" makes none.
    """
    q = [list(row) for row in q_0]
    counts = [[0] * 10 for _ in range(4)]
    returns, td_means, t, state = [], [], 0, 1
    for block in draws:
        if mistake != "goes on":
            state = 1
        td_sum = 0.0
        for u in block:
            t += 1
            here = [q[a][state - 1] for a in range(4)]
            if bonus is None:
                assert eps is not None
                assert share is not None
                action = mixture_action(here, u, eps, share)
            else:
                action = ucb_action(here, [counts[a][state - 1] for a in range(4)], t, u, bonus)
            after, reward = move(state, action)
            there = [q[a][after - 1] for a in range(4)]
            value = min(there) if mistake == "min target" else max(there)
            if mistake == "the reset ends the return" and action == RESET:
                value = 0.0
            td = reward + gamma * value - q[action][state - 1]
            q[action][state - 1] += alpha * td
            counts[action][state - 1] += 1
            td_sum += td
            state = after
        td_means.append(td_sum / len(block))
        returns.append(greedy_return(q))
    return returns, td_means
