"""A small softmax policy over tokens, and samplers of it that are healthy or broken in a known way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oracles.importance import log_softmax

BROKEN = {
    "temperature 0.6": "temperature mismatch",
    "learner at 0.6": "temperature mismatch",
    "mixed, 0.8": "temperature mismatch",
    "mixed, 0.9": "temperature mismatch",
    "mixed, 1.25": "temperature mismatch",
    "top-k 4": "truncated support",
    "top-p 0.9": "truncated support",
    "shifted": "shifted tokens",
    "shifted, -1 first": "shifted tokens",
    "NaN": "missing log-probs",
    "zeros": "missing log-probs",
    "constant": "missing log-probs",
    "padded with -1": "missing log-probs",
    "log-probs / 1.5": "temperature mismatch",
    "log-probs / 0.7": "temperature mismatch",
    "log10": "temperature mismatch",
    "log2": "temperature mismatch",
    "drawn by another": "negative KL estimate",
}
"""Ways to be broken, and the warning that each must give."""
HEALTHY = ("fp32", "bf16", "int4", "noise 0.3", "uniform", "mixed, noise 0.3", "mixed, 4 bits")


@dataclass
class TokenPolicy:
    """Logits of the next token by the last one and the position: a Markov chain over V tokens."""

    logits: np.ndarray
    """[T, V, V]"""

    @classmethod
    def draw(cls, seed: int = 0, steps: int = 16, vocabulary: int = 12) -> TokenPolicy:
        rng = np.random.default_rng(seed)
        return cls(2.0 * rng.normal(size=(steps, vocabulary, vocabulary)))

    def play(self, rows: int, rng: np.random.Generator, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [rows, T] drawn by a sampler with these logits, and the contexts they were drawn in."""
        steps, v, _ = logits.shape
        last, tokens, contexts = np.zeros(rows, np.int64), [], []
        for t in range(steps):
            contexts.append(last)
            last = (logits[t, last] + rng.gumbel(size=(rows, v))).argmax(-1)
            tokens.append(last)
        return np.stack(tokens, 1), np.stack(contexts, 1)


def log_probs(logits: np.ndarray, tokens: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """[rows, T] in float32."""
    table = log_softmax(logits)
    return table[np.arange(len(logits)), contexts, tokens].astype(np.float32)


def bf16(x: np.ndarray) -> np.ndarray:
    """Rounded to 8 bits of mantissa."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).view(np.float32).astype(np.float64)


def quantised(x: np.ndarray, bits: int) -> np.ndarray:
    scale = np.abs(x).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.round(x / scale) * scale


def truncated(logits: np.ndarray, *, k: int | None = None, p: float | None = None) -> np.ndarray:
    """Logits with everything outside of the top k, or of the smallest set of mass p, at -1e9."""
    order = np.argsort(-logits, -1)
    rank = np.argsort(order, -1)
    if k is not None:
        return np.where(rank < k, logits, -1e9)
    probabilities = np.exp(log_softmax(np.take_along_axis(logits, order, -1)))
    before = np.cumsum(probabilities, -1) - probabilities
    return np.where(np.take_along_axis(before, rank, -1) < p, logits, -1e9)


def recorded(how: str, seed: int = 0, rows: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """log pi and log mu [rows, T] of a learner in fp32 and of a sampler that is one of `HEALTHY` or `BROKEN`."""
    rng = np.random.default_rng([seed, 1])
    policy = TokenPolicy.draw(seed)
    learner = sampler = policy.logits
    if how.startswith("mixed"):  # of ten contexts seven are sharp and three are open
        learner = sampler = learner * np.where(rng.random((*learner.shape[:2], 1)) < 0.7, 4.5, 0.5)
    if how == "uniform":
        learner = np.zeros_like(learner)
    samplers = {
        "bf16": lambda: bf16(learner), "int4": lambda: quantised(learner, 4), "temperature 0.6": lambda: learner / 0.6,
        "noise 0.3": lambda: learner + 0.3 * rng.normal(size=learner.shape),
        "drawn by another": lambda: learner + 0.3 * rng.normal(size=learner.shape),
        "top-k 4": lambda: truncated(learner, k=4), "top-p 0.9": lambda: truncated(learner, p=0.9),
        "uniform": lambda: np.zeros_like(learner), "mixed, 4 bits": lambda: quantised(learner, 4),
        "mixed, noise 0.3": lambda: learner + 0.3 * rng.normal(size=learner.shape),
        **{f"mixed, {t:g}": lambda t=t: learner / t for t in (0.8, 0.9, 1.25)},
    }  # fmt: skip
    sampler = samplers[how]() if how in samplers else learner
    if how == "learner at 0.6":
        learner = learner / 0.6
    drawn = policy.play(rows, rng, learner if how in ("learner at 0.6", "drawn by another") else sampler)
    log_pi, log_mu = log_probs(learner, *drawn), log_probs(sampler, *drawn)
    if how == "shifted":
        return log_pi[:, 1:], log_mu[:, :-1]
    if how == "shifted, -1 first":  # the place that a shift leaves empty is filled
        return log_pi[:, :8], np.concatenate([np.full((len(log_mu), 1), -1.0, np.float32), log_mu[:, :7]], 1)
    if how == "NaN":
        log_mu[3, 5] = np.nan
    if how == "zeros":
        log_mu[rng.random(log_mu.shape) < 0.05] = 0.0
    if how == "constant":
        log_mu[:] = -1.0
    if how == "padded with -1":
        past = np.arange(log_mu.shape[1]) >= rng.integers(4, log_mu.shape[1], size=(rows, 1))
        log_mu, log_pi = np.where(past, -1.0, log_mu), np.where(past, -rng.gamma(2.0, 2.0, log_pi.shape), log_pi)
    divided = {"log-probs / 1.5": 1.5, "log-probs / 0.7": 0.7, "log10": np.log(10.0), "log2": np.log(2.0)}
    if how in divided:
        log_mu = log_mu / divided[how]
    return log_pi, log_mu
