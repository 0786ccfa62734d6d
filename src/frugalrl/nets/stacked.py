"""Several multilayer perceptrons of one shape, with all their weights in one block of memory.

Forward and backward are written out, each layer of all networks in one call, and the calls that autograd makes around
each product are saved. Products go through numpy, whose BLAS is faster than torch's on an AMD processor
(``benchmarks/stacked_seeds.py`` measures both ends); the rest are torch's fused kernels on the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalrl.nets.dense import PerAction
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.nets.torsos import Flat

Array = NDArray[Any]
_through_relu = torch.ops.aten.threshold_backward.grad_input


class _Layer(NamedTuple):
    """One dense layer of all networks: views into the block. All but the last have a ReLU."""

    weight: Array
    """[S, out, in]"""
    into: Array
    """[S, in, out], the same memory."""
    bias: Tensor
    """[S, 1, out]"""
    bias_array: Array
    """The same memory."""


class _Room(NamedTuple):
    """Activations of one layer [S, N, out], twice the same memory."""

    array: Array
    tensor: Tensor


class StackedMLP:
    """S networks; their own parameters become views, so each can still be used and trained alone."""

    def __init__(self, nets: Sequence[ValueNetwork]) -> None:
        first, *rest = nets[0]
        assert isinstance(first, Flat)
        self._num_indices = first.num_indices
        self._per_action = rest[-1].outputs if isinstance(rest[-1], PerAction) else 0
        size = sum(p.numel() for p in nets[0].parameters())
        like = next(nets[0].parameters())
        self.flat = block(len(nets), size, dtype=like.dtype)
        """[S, P] the parameters of each network, in its own order."""
        self._dtype = self.flat.numpy().dtype
        with torch.no_grad():
            for row, net in zip(self.flat, nets, strict=True):
                for parameter, view in zip(net.parameters(), views(row, net), strict=True):
                    view.copy_(parameter)
                    parameter.data = view
        self._layers = _layers(self.flat, nets[0])
        self._found = torch.zeros_like(self.flat)
        self._gradients = _layers(self._found, nets[0])
        self._kept: list[_Room] = []
        self._scratch: list[_Room] = []

    def features(self, obs: Array) -> Array:
        """Observations [S, N, *obs_shape] -> what the first layer reads, [S, N, D]."""
        if self._num_indices is None:
            return obs.reshape(*obs.shape[:2], -1).astype(self._dtype, copy=False)
        hot: Array = (obs[..., None] == np.arange(self._num_indices)).astype(self._dtype)
        return hot

    def forward(self, x: Array, *, keep: bool = False) -> Tensor:
        """Features [S, N, D] -> the heads' outputs, [S, N, A] or [S, N, A, outputs]; ``keep`` what `backward` needs."""
        self._make_room(x.shape[1])
        *hidden, last = self._layers
        h = x
        with np.errstate(over="ignore", invalid="ignore"):  # as torch does; who uses the values looks at them
            for layer, room in zip(hidden, self._kept if keep else self._scratch, strict=True):
                h = np.matmul(h, layer.into, out=room.array)
                room.tensor.add_(layer.bias).relu_()
            end = h @ last.into
            end += last.bias_array
        return self.outputs(end)

    def outputs(self, ends: Array) -> Tensor:
        """What the last layers gave as the heads' outputs, [S, N, A] or [S, N, A, outputs]; the same memory."""
        out = torch.from_numpy(ends)
        return out.view(*out.shape[:2], -1, self._per_action) if self._per_action else out

    def forward_few(self, obs: Array) -> Tensor:
        """Observations [S, B, *obs_shape] of a few rows -> what `forward` gives: one product for all networks."""
        h = self.features(obs)
        with np.errstate(over="ignore", invalid="ignore"):
            for i, layer in enumerate(self._layers):
                if i:
                    np.maximum(h, 0.0, out=h)
                h = h @ layer.into
                h += layer.bias_array
        return self.outputs(h)

    def backward(self, x: Array, gradient: Tensor) -> Tensor:
        """From the features and the gradient of the outputs of the last kept forward pass to the parameters' [S, P].

        The next call writes over what this one gave.
        """
        g = gradient.reshape(*x.shape[:2], -1).numpy()
        grads = self._gradients
        np.add.reduce(g, 1, keepdims=True, out=grads[-1].bias_array)
        with np.errstate(over="ignore", invalid="ignore"):
            for i in reversed(range(1, len(grads))):
                below, room = self._kept[i - 1], self._scratch[i - 1]
                np.matmul(g.swapaxes(1, 2), below.array, out=grads[i].weight)
                g = np.matmul(g, self._layers[i].weight, out=room.array)
                _through_relu(room.tensor, below.tensor, 0, grad_input=room.tensor)
                torch.sum(room.tensor, 1, keepdim=True, out=grads[i - 1].bias)
            np.matmul(g.swapaxes(1, 2), x, out=grads[0].weight)
        return self._found

    def _make_room(self, batch: int) -> None:
        """Activations for a batch size: those that `backward` needs, and one set for all else."""
        if self._scratch and self._scratch[0].array.shape[1] == batch:
            return
        seeds, widths = len(self.flat), [layer.bias.shape[-1] for layer in self._layers[:-1]]

        def rooms() -> list[_Room]:
            tensors = [block(seeds, batch * w, dtype=self.flat.dtype).view(seeds, batch, w) for w in widths]
            return [_Room(t.numpy(), t) for t in tensors]

        self._scratch, self._kept = rooms(), rooms()


def block(rows: int, columns: int, *, dtype: torch.dtype) -> Tensor:
    """Zeros [rows, columns] from numpy, which asks for huge pages where an array is large: a stack is walked through in
    every update, and with pages of 4 KiB the processor looks for addresses half of the time."""
    like = torch.empty(0, dtype=dtype).numpy()
    return torch.from_numpy(np.zeros((rows, columns), like.dtype))


def views(row: Tensor, net: ValueNetwork) -> list[Tensor]:
    """A row of a block [P] as the tensors that the parameters of a network are, in its order."""
    parts: list[Tensor] = []
    start = 0
    for parameter in net.parameters():
        parts.append(row[start : start + parameter.numel()].view(parameter.shape))
        start += parameter.numel()
    return parts


def _layers(flat: Tensor, net: ValueNetwork) -> list[_Layer]:
    """Per layer the weights and biases of all rows of a block [S, P]: views."""
    found: list[_Layer] = []
    start = 0
    for m in net:
        if isinstance(m, nn.Linear):
            rows, columns = m.weight.shape
            stop = start + rows * columns
            weight = flat[:, start:stop].numpy().reshape(len(flat), rows, columns)
            bias = flat[:, None, stop : stop + rows]
            found.append(_Layer(weight, weight.swapaxes(1, 2), bias, bias.numpy()))
            start = stop + rows
    return found
