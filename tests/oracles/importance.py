"""Slow definitions of importance weights, and expectations under a sampler by enumeration, in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WRONG = ("geometric for product", "sum of exp", "bounds on mu/pi", "masked tokens count", "clips up", "mean over kept")


def slow_weights(
    log_pi: np.ndarray,
    log_mu: np.ndarray,
    mask: np.ndarray,
    *,
    level: str | None = "token",
    mode: str = "truncate",
    low: float | None = None,
    high: float | None = None,
    normalize: bool = False,
    reject: Any = None,
    wrong: str = "",
) -> np.ndarray:
    """Weights [B, T], one token at a time; ``wrong``: one of `WRONG`, a mistake that tests must see."""
    rows, steps = log_mu.shape
    weight = np.zeros((rows, steps))
    for b in range(rows):
        counted = [t for t in range(steps) if mask[b, t] or wrong == "masked tokens count"]
        d = {t: float(log_pi[b, t]) - float(log_mu[b, t]) for t in counted}
        for t in counted:
            if level is None:
                ratio = 1.0
            elif level == "token":
                ratio = math.exp(d[t])
            elif wrong == "sum of exp":
                ratio = math.fsum(math.exp(x) for x in d.values())
            elif level == "geometric" or wrong == "geometric for product":
                ratio = math.exp(math.fsum(d.values()) / len(d))
            else:
                ratio = math.prod(math.exp(x) for x in d.values())
            kept = reject is None or slow_kept(d, t, reject)
            weight[b, t] = slow_mode(ratio, mode if level else "vanilla", low, high, wrong) if kept else 0.0
    if normalize and weight.any():  # where everything was dropped, weights of 0 stay 0
        n = (weight > 0).sum() if wrong == "mean over kept" else mask.sum()
        weight = weight / (weight.sum() / n)
    return np.where(mask, weight, 0.0)


def slow_mode(ratio: float, mode: str, low: float | None, high: float | None, wrong: str = "") -> float:
    low, high = 0.0 if low is None else low, math.inf if high is None else high
    if wrong == "bounds on mu/pi":
        low, high = (0.0 if high == math.inf else 1.0 / high), (1.0 / low if low else math.inf)
    if mode == "vanilla":
        return ratio
    if mode == "mask":
        return ratio if low <= ratio <= high else 0.0
    if mode == "truncate" and wrong == "clips up":
        return min(max(ratio, 1.0 / high), high)
    return min(max(ratio, low), high)


def slow_kept(d: dict[int, float], t: int, reject: Any) -> bool:
    """Whether `frugalrl.math.importance.rejection.Rejection` keeps the token."""

    def inside(k: float, ratio: float) -> bool:
        low = 0.0 if reject.low is None else reject.low
        high = math.inf if reject.high is None else reject.high
        return low <= ratio <= high if reject.statistic == "k1" else k <= high

    def of(x: float) -> float:
        return {"k1": -x, "k2": x * x / 2, "k3": math.exp(x) - 1 - x}[reject.statistic]

    if reject.over == "token":
        return inside(of(d[t]), math.exp(d[t]))
    if reject.over == "max":
        return all(inside(of(x), math.exp(x)) for x in d.values())
    n = len(d) if reject.over == "mean" else 1
    return inside(sum(of(x) for x in d.values()) / n, math.exp(sum(d.values()) / n))


# -- expectations ------------------------------------------------------------------------------------------------------


@dataclass
class Estimate:
    """Of a gradient: E[estimate], the sum of its components' variances and the largest norm, by enumeration."""

    mean: np.ndarray
    variance: float
    largest: float

    def against(self, truth: np.ndarray) -> tuple[float, float, float]:
        """Relative bias, variance, cosine; a mean of 0 has no direction, and a cosine of 0."""
        size, length = float(np.linalg.norm(truth)), float(np.linalg.norm(self.mean))
        cosine = float(self.mean @ truth) / (length * size) if length else 0.0
        return float(np.linalg.norm(self.mean - truth)) / size, self.variance, cosine


def expectation(probabilities: Sequence[float], values: Sequence[np.ndarray]) -> Estimate:
    """Mean and variance of an estimate that takes these values with these probabilities."""
    p = np.array(probabilities)[:, None]
    x = np.stack(values)
    mean = (p * x).sum(0)
    return Estimate(mean, float((p * (x - mean) ** 2).sum()), float(np.linalg.norm(x, axis=1).max()))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@dataclass
class Bandit:
    """One action out of A; pi is a softmax of theta, mu one of theta with noise on it."""

    theta: np.ndarray
    noise: np.ndarray
    reward: np.ndarray

    @classmethod
    def draw(cls, seed: int, sigma: float, arms: int = 16) -> Bandit:
        """The same learner and rewards for each ``sigma``; the noise grows with it."""
        rng = np.random.default_rng(seed)
        return cls(rng.normal(size=arms), sigma * rng.normal(size=arms), rng.normal(size=arms))

    @property
    def log_pi(self) -> np.ndarray:
        return log_softmax(self.theta)

    @property
    def log_mu(self) -> np.ndarray:
        return log_softmax(self.theta + self.noise)

    def true_gradient(self) -> np.ndarray:
        """Of E_pi[R]: pi_a (R_a - E_pi[R])."""
        pi = np.exp(self.log_pi)
        return pi * (self.reward - pi @ self.reward)

    def estimate(self, weight: np.ndarray) -> Estimate:
        """Of REINFORCE with E_pi[R] as the baseline, from one sample of mu with these weights per action."""
        pi, mu = np.exp(self.log_pi), np.exp(self.log_mu)
        baseline = pi @ self.reward
        score = np.eye(len(pi)) - pi
        return expectation(mu, [weight[a] * (self.reward[a] - baseline) * score[a] for a in range(len(pi))])


@dataclass
class Tree:
    """Sequences of ``length`` tokens; the logits of a token depend on the ones before it. theta [nodes, V]."""

    length: int
    theta: np.ndarray
    noise: np.ndarray
    reward: np.ndarray

    @classmethod
    def draw(cls, seed: int, sigma: float, vocabulary: int = 3, length: int = 4) -> Tree:
        rng = np.random.default_rng(seed)
        nodes = sum(vocabulary**t for t in range(length))
        theta, noise = rng.normal(size=(nodes, vocabulary)), sigma * rng.normal(size=(nodes, vocabulary))
        return cls(length, theta, noise, rng.normal(size=vocabulary**length))

    def sequences(self) -> list[tuple[int, ...]]:
        return list(itertools.product(range(self.theta.shape[1]), repeat=self.length))

    def nodes(self, sequence: Sequence[int]) -> list[int]:
        """Number of the node before each token: those of depth t follow those of all smaller depths."""
        v = self.theta.shape[1]
        found, offset, place = [], 0, 0
        for t, token in enumerate(sequence):
            found.append(offset + place)
            offset, place = offset + v**t, place * v + token
        return found

    def log_probs(self, logits: np.ndarray) -> np.ndarray:
        """[sequences, T] of each token."""
        table = log_softmax(logits)
        return np.array([[table[n, a] for n, a in zip(self.nodes(s), s, strict=True)] for s in self.sequences()])

    @property
    def log_pi(self) -> np.ndarray:
        return self.log_probs(self.theta)

    @property
    def log_mu(self) -> np.ndarray:
        return self.log_probs(self.theta + self.noise)

    def estimate(self, weight: np.ndarray, *, under_pi: bool = False) -> Estimate:
        """Of REINFORCE per token with E_pi[R] as the baseline; weights [sequences, T]; one sequence is drawn."""
        pi = np.exp(log_softmax(self.theta))
        p = np.exp(self.log_pi.sum(1))
        baseline = float(p @ self.reward)
        values = []
        for i, s in enumerate(self.sequences()):
            gradient = np.zeros_like(self.theta)
            for t, (node, token) in enumerate(zip(self.nodes(s), s, strict=True)):
                score = -pi[node]
                score[token] += 1.0
                gradient[node] += weight[i, t] * (self.reward[i] - baseline) * score
            values.append(gradient.ravel())
        return expectation(p if under_pi else np.exp(self.log_mu.sum(1)), values)

    def true_gradient(self) -> np.ndarray:
        return self.estimate(np.ones_like(self.log_pi), under_pi=True).mean


def finite_differences(value: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of a number by central differences."""
    gradient = np.zeros_like(at)
    for i in np.ndindex(*at.shape):
        moved = [at.copy(), at.copy()]
        moved[0][i] += step
        moved[1][i] -= step
        gradient[i] = (value(moved[0]) - value(moved[1])) / (2 * step)
    return gradient
