"""How probable is it that one run of a method beats one run of another?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from frugalrl.stats import resample
from frugalrl.stats.estimate import Estimate, Floats, check_level, given, one_run, task_list
from frugalrl.stats.resample import Indices


def _beats(x: Floats, y: Floats) -> Floats:
    """[runs of x, runs of y]: 1 where x is above y, 0.5 where they are equal."""
    return np.asarray((x[:, None] > y) + 0.5 * (x[:, None] == y))


def _score_interval(p: float, m: Floats, n: Floats, level: float) -> tuple[float, float]:
    """All theta with (p - theta)^2 <= z^2 V(theta), by bisection from p to 0 and from p to 1.

    V(theta) is the variance of the mean over tasks if each task had the probability theta: Hanley and McNeil's variance
    of the Mann-Whitney statistic, theta (1 - theta) [1 + (N - 1) ((1 - theta) / (2 - theta) + theta / (1 + theta))] /
    (m n) with N = (m + n) / 2. It is concave: tasks that differ from each other make that mean vary less, not more.
    """
    z = float(special.ndtri((1.0 + level) / 2.0))
    flat, steep = float((1 / (m * n)).mean()) / len(m), float((((m + n) / 2 - 1) / (m * n)).mean()) / len(m)
    ends = []
    for far in (0.0, 1.0):
        near = p
        for _ in range(50):
            theta = (near + far) / 2.0
            shape = (1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta)
            inside = (p - theta) ** 2 <= z * z * theta * (1.0 - theta) * (flat + steep * shape)
            near, far = (theta, far) if inside else (near, theta)
        ends.append((near + far) / 2.0)
    return ends[0], ends[1]


def probability_of_improvement(
    a: ArrayLike | Sequence[ArrayLike],
    b: ArrayLike | Sequence[ArrayLike],
    *,
    rng: np.random.Generator | None = None,
    draws: int = 2000,
    level: float = 0.95,
    method: Literal["score", "percentile"] = "score",
) -> Estimate:
    """Mean over tasks of P(X > Y) + 0.5 P(X = Y), X a run of a and Y a run of b (Agarwal et al. 2021, as rliable).

    Args:
        a, b: Scores [runs, tasks], or lists with one array [runs] per task; the same tasks in the same order. The two
            may have different numbers of runs. Runs count as independent, also where both used the same seeds.
        rng: Needed by the percentile method only.
        method: ``score``: Newcombe 2006 (Statistics in Medicine 25, 559-573, method 5), with the variance of a mean
            over tasks. It stays open where every run of a beats every run of b; a bootstrap then claims [1, 1].
            ``percentile``: runs of a and of b resampled independently within each task, as rliable does.

    Raises:
        ValueError: a score that is not finite, different tasks, a wrong level, draws or method; no rng for percentile.
    """
    ours, theirs = task_list(a, "scores of a"), task_list(b, "scores of b")
    if len(ours) != len(theirs):
        raise ValueError(f"both methods have the same tasks: a has {len(ours)}, b has {len(theirs)}")
    check_level(level)
    wins = [_beats(x, y) for x, y in zip(ours, theirs, strict=True)]
    sizes = [len(task) for task in [*ours, *theirs]]
    value, n = float(np.mean([win.mean() for win in wins])), min(sizes)
    if n < 2:
        return Estimate(value, None, n, level, one_run(level))
    if method == "score":
        m, k = np.array([win.shape for win in wins], np.float64).T
        ends = _score_interval(value, m, k, level)
        return Estimate(value, ends, n, level, "Newcombe's score interval")
    if method != "percentile":
        raise ValueError(f"there is no interval method {method!r}; use 'score' or 'percentile'")

    def evaluate(picked: Indices) -> Floats:
        pairs = zip(wins, picked[: len(wins)], picked[len(wins) :], strict=True)
        return np.asarray(np.mean([win[i[:, :, None], j[:, None, :]].mean((1, 2)) for win, i, j in pairs], axis=0))

    found, how = resample.interval(
        evaluate, value, sizes, rng=given(rng), draws=draws, level=level, method="percentile"
    )
    return Estimate(value, found, n, level, how)
