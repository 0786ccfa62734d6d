"""Heads: what a network's outputs for an action mean, and how they become its Q-value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from frugalrl.math.categorical import support


class Head(Protocol):
    """Turns the outputs of a network into Q-values."""

    @property
    def outputs(self) -> int:
        """Numbers per action; 1 means that the network answers [B, A], more that it answers [B, A, outputs]."""
        ...

    def to_q(self, out: Tensor) -> Tensor:
        """The network's answer -> Q-values [B, A]."""
        ...


@dataclass(frozen=True, slots=True)
class Scalar:
    """The outputs are the Q-values."""

    outputs: int = 1

    def to_q(self, out: Tensor) -> Tensor:
        return out


@dataclass(frozen=True, slots=True)
class Tabular:
    """A table instead of a network: the Q-values are the mean over ``tables`` estimates."""

    tables: int
    init_std: float
    outputs: int = 1

    def to_q(self, out: Tensor) -> Tensor:
        return out


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of the return; the Q-value is their mean (Dabney et al. 2018)."""

    outputs: int

    def to_q(self, out: Tensor) -> Tensor:
        return out.mean(2)


@dataclass(frozen=True, slots=True)
class Categorical:
    """Logits over an evenly spaced support; the Q-value is the expectation (Bellemare et al. 2017)."""

    outputs: int
    v_min: float
    v_max: float

    def to_q(self, out: Tensor) -> Tensor:
        # not as a matrix product, which autocast rounds to bfloat16 and a GPU to TF32: then actions tie that do not
        return (out.softmax(2) * support(self.outputs, self.v_min, self.v_max, out)).sum(2)


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Logits of a policy and, last, the value of the state: A + 1 outputs. As Q-values, which only say what is
    preferred to what, stand the logits."""

    outputs: int = 1

    def to_q(self, out: Tensor) -> Tensor:
        """[..., A + 1] -> logits [..., A]."""
        return out[..., :-1]

    def value(self, out: Tensor) -> Tensor:
        """[..., A + 1] -> V [...]."""
        return out[..., -1]
