"""Several networks of one build as one function, whatever their layers: ``torch.func.vmap`` over stacked parameters.

For a device where a few large calls are cheaper than many small ones. On a CPU it computes the same and saves nothing;
multilayer perceptrons have `frugalrl.nets.stacked` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from frugalrl.nets.q_network import ValueNetwork


class StackedNetworks:
    """S networks. Parameters and noise stay with each of them; ``gather`` copies them into the stack, which is what a
    recorded graph reads."""

    def __init__(self, nets: Sequence[ValueNetwork], parameters: Sequence[Tensor] | None = None) -> None:
        """``parameters``: of another stack, which gathers them; by default this one has its own."""
        # the first layer only prepares observations: for all networks at once, outside of vmap
        self._first = nets[0][0]
        self._rest = nn.Sequential(*list(nets[0])[1:])
        self._names = [name for name, _ in self._rest.named_parameters()]
        self._noise_names = [name for name, _ in self._rest.named_buffers()]
        self._own = list(zip(*(list(net.parameters()) for net in nets), strict=True))
        rests = [nn.Sequential(*list(net)[1:]) for net in nets]
        self._own_noise = list(zip(*(list(rest.buffers()) for rest in rests), strict=True))
        with torch.no_grad():
            self.parameters = [torch.stack(each) for each in self._own] if parameters is None else list(parameters)
            """[S, *shape] of each parameter, in the network's order."""
            self._noise = [torch.stack(each) for each in self._own_noise]

    @torch.no_grad()
    def gather(self) -> None:
        """Copy the parameters of the networks into the stack."""
        for whole, each in zip(self.parameters, self._own, strict=True):
            torch.stack(each, out=whole)

    @torch.no_grad()
    def gather_noise(self) -> None:
        """Copy what the noisy layers of the networks hold."""
        for whole, each in zip(self._noise, self._own_noise, strict=True):
            torch.stack(each, out=whole)

    def prepared(self, obs: Tensor) -> Tensor:
        """Observations [S, B, *obs_shape] as the layers after the first read them."""
        x: Tensor = self._first(obs.flatten(0, 1))
        return x.view(*obs.shape[:2], *x.shape[1:])

    def __call__(self, x: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """Prepared observations -> the heads' outputs, [S, B, A] or [S, B, A, outputs]; ``parameters``: instead of
        those gathered, for a gradient."""
        given = self.parameters if parameters is None else parameters
        values: dict[str, Any] = dict(zip(self._names, given, strict=True))
        noise = dict(zip(self._noise_names, self._noise, strict=True))

        def one(params: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor) -> Tensor:
            out: Tensor = functional_call(self._rest, {**params, **buffers}, (rows,))
            return out

        out: Tensor = vmap(one)(values, noise, x)
        return out
