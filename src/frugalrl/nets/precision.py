"""bfloat16: where it costs, and what a learner computes with while its weights and optimiser stay in float32."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


def bf16_is_slow(device: torch.device) -> bool:
    """Whether this processor lacks what oneDNN needs for bfloat16 (AVX-512 or newer on x86).

    PyTorch then computes in plain loops: an update of the Nature network takes 9 times as long as in fp32
    (``benchmarks/own_limit.py``, AMD EPYC, family 25, model 1).
    """
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


SLOW_BF16 = "this processor has no fast bfloat16 (AVX-512 or newer), so bf16 takes many times as long as fp32 here"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """What the forward passes of a learner of this precision run in."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


class Computing(Generic[N]):
    """The network that a learner's forward and backward pass go through.

    In bf16 on a CPU that is a copy in bfloat16, rounded once per update and there for whoever acts too: autocast rounds
    all weights in each update, and the policy rounded them again. Elsewhere it is the network itself, under autocast
    where the precision says so; also with noisy layers, whose products with noise stay in float32.
    """

    def __init__(self, net: N, precision: str, device: torch.device, *, noisy: bool = False) -> None:
        self.net: N = net
        self.rounded: Mapping[str, Tensor] | None = None
        """The parameters in bfloat16, changed in place by `stepped`; None where the network itself computes."""
        self._masters: list[Tensor] = []
        self._copies: list[Tensor] = []
        if precision == "bf16" and device.type == "cpu" and not noisy:
            self.net = copy.deepcopy(net).to(torch.bfloat16)
            self.rounded = dict(self.net.named_parameters())
            self._masters, self._copies = list(net.parameters()), list(self.rounded.values())
            precision = "fp32"  # nothing is left to cast
        self._precision, self._device = precision, device

    def autocast(self) -> AbstractContextManager[Any]:
        """What `net` is called in."""
        return autocast(self._precision, self._device)

    def hand_over(self) -> None:
        """After ``backward``: the gradients of the copy become those of the network, in float32."""
        for master, rounded in zip(self._masters, self._copies, strict=True):
            master.grad = None if rounded.grad is None else rounded.grad.to(master.dtype)
            rounded.grad = None

    @torch.no_grad()
    def stepped(self) -> None:
        """After the weights have changed: round them again."""
        if self._copies:
            torch._foreach_copy_(self._copies, self._masters)
