"""The slow definition of the Q-learning loss, one entry at a time, in Python floats."""

from __future__ import annotations

from collections.abc import Sequence


def slow_q_loss(
    q_tm1: Sequence[Sequence[float]],
    a_tm1: Sequence[int],
    r_t: Sequence[float],
    discount_t: Sequence[float],
    q_t: Sequence[Sequence[float]],
    q_select_t: Sequence[Sequence[float]],
    weight: Sequence[float],
    huber_delta: float | None,
) -> tuple[float, list[float], list[list[float]]]:
    """Loss, signed TD errors, and the gradient with respect to q_tm1."""
    batch = len(a_tm1)
    total, tds, gradient = 0.0, [], [[0.0] * len(q_tm1[0]) for _ in range(batch)]
    for i in range(batch):
        best = max(range(len(q_t[i])), key=lambda a: q_select_t[i][a])
        td = r_t[i] + discount_t[i] * q_t[i][best] - q_tm1[i][a_tm1[i]]
        if huber_delta is None or abs(td) <= huber_delta:
            loss, slope = td * td / 2, td
        else:
            loss = huber_delta * (abs(td) - huber_delta / 2)
            slope = huber_delta if td > 0 else -huber_delta
        total += weight[i] * loss / batch
        gradient[i][a_tm1[i]] = -weight[i] * slope / batch
        tds.append(td)
    return total, tds, gradient
