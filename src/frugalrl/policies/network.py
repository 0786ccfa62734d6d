"""What all policies with a network share: parameters that come from snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from frugalrl.cost.flops import weight_bytes
from frugalrl.policies.few_rows import few_rows_forward
from frugalrl.policies.small import numpy_forward
from frugalrl.policies.transforms.int8_dynamic import pack, to_int8
from frugalrl.types import PolicySnapshot

N = TypeVar("N", bound=nn.Module)


class NetworkPolicy(Generic[N]):
    """A network that acts; its parameters come from snapshots.

    Parameters that already live on the policy's device in its type are shared, not copied: a serial loop publishes for
    free. In int8, and in bf16 where the snapshot has no rounded parameters, the policy keeps a copy, made once per
    snapshot instead of once per forward pass.
    """

    def __init__(self, net: N, device: torch.device, precision: str = "fp32", *, share: bool = True) -> None:
        """``share=False`` always copies: what the learner does after ``load`` is not seen before the next ``load``.
        ``precision``: one of the learner's, or int8-dynamic (see `frugalrl.policies.transforms`), which must copy."""
        dtype = {"bf16": torch.bfloat16, "fp64": torch.float64}.get(precision, torch.float32)
        self._net: N = net.to(device, dtype).requires_grad_(False)
        self._device = next(self._net.parameters()).device  # with its number
        self._bf16 = precision == "bf16"
        self._int8 = precision == "int8-dynamic"
        if self._int8:
            to_int8(self._net)
        self._acts_in = torch.float32 if self._bf16 else dtype
        self._may_share = share
        self._shared: Mapping[str, Any] | None = None
        self._copied: tuple[Mapping[str, Any], list[Tensor], list[Tensor], int] | None = None
        """After a copy: the mapping it came from, this policy's tensors, those of the mapping, bytes moved."""
        self.version = 0
        self._find_short_ways()

    def weight_bytes(self, rows: int) -> int:
        """See `ActingPolicy`."""
        return weight_bytes(self._net, rows)

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a snapshot; returns the bytes that were moved.

        Raises ValueError when a parameter is missing or has another shape.
        """
        self.version = snapshot.version
        given: Mapping[str, Any] = snapshot.parameters
        if self._bf16 and snapshot.rounded is not None:
            given = snapshot.rounded
        if given is self._shared:  # a serial learner changes the same tensors in place
            return 0
        if self._copied is not None and given is self._copied[0]:
            _, mine, theirs, moved = self._copied
            with torch.no_grad():
                torch._foreach_copy_(mine, theirs)
            self._pack()
            self._loaded()
            return moved
        moved = 0
        elsewhere = False
        with torch.no_grad():
            for name, parameter in self._net.named_parameters():
                new = given.get(name)
                if new is None:
                    raise ValueError(f"the snapshot has no parameter {name}")
                if new.shape != parameter.shape:
                    raise ValueError(f"snapshot {name} has shape {tuple(new.shape)}, expected {tuple(parameter.shape)}")
                if new.dtype != parameter.dtype or not self._may_share:
                    parameter.copy_(new)
                    moved += new.nbytes + parameter.nbytes
                elif new.data_ptr() != parameter.data_ptr():
                    moved += 0 if new.device == self._device else new.nbytes
                    parameter.data = new.detach().to(self._device)
                    elsewhere = True
        self._shared = given if self._is_shared(given) else None
        if not self._may_share:
            own = dict(self._net.named_parameters())
            self._copied = given, list(own.values()), [given[n] for n in own], moved
        if elsewhere:
            self._find_short_ways()
            self._moved()
        self._pack()
        self._loaded()
        return moved

    def _find_short_ways(self) -> None:
        """What computes the same on a CPU for small networks and for few rows, from the parameters where they are."""
        plain = self._device.type == "cpu" and not self._int8
        self._small = numpy_forward(self._net) if plain and not self._bf16 else None
        self._few = few_rows_forward(self._net) if plain else None

    def _pack(self) -> None:
        if self._int8:
            pack(self._net)

    def _moved(self) -> None:
        """Parameters lie elsewhere now."""

    def _loaded(self) -> None:
        """Parameters have other values now."""

    @property
    def gpu_s(self) -> float | None:
        """Seconds that a CUDA device has worked for this policy; None on a CPU and until the first was timed."""
        return None

    def snapshot(self) -> PolicySnapshot:
        """What it acts with, bf16 in float32: loading it gives the same policy."""
        parameters = {n: p.to(self._acts_in) for n, p in self._net.named_parameters()}
        return PolicySnapshot(version=self.version, parameters=parameters)

    def _is_shared(self, given: Mapping[str, Any]) -> bool:
        return all(p.data_ptr() == given[n].data_ptr() for n, p in self._net.named_parameters())

    @property
    def network(self) -> N:
        """obs [B, *obs_shape] in the environment's dtype -> the head's outputs; the one that acts, not a copy."""
        return self._net
