"""Several multilayer perceptrons of one shape, with all their weights in one block of memory.

Forward and backward are written out, network by network: a network's weights and the activations of its batch stay in
the processor's cache while it is worked on, and the calls that autograd makes around each product are saved. Products
go through numpy, whose BLAS is faster than torch's on an AMD processor (``benchmarks/stacked_seeds.py`` measures both
ends); the rest are torch's fused kernels on the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalrl.nets.dense import PerAction
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.nets.torsos import Flat, Hidden

Array = NDArray[Any]
_through_relu = torch.ops.aten.threshold_backward.grad_input


def is_plain_mlp(net: ValueNetwork) -> bool:
    """Whether a network is dense layers one after the other, without noise and dueling streams."""
    first, *rest = net
    *hidden, last = [m for m in rest if not isinstance(m, PerAction)]
    return isinstance(first, Flat) and type(last) is nn.Linear and all(type(m) is Hidden for m in hidden)


class _Layer(NamedTuple):
    """One dense layer of one network: views into its row of the block. All but the last have a ReLU."""

    weight: Array
    """[out, in]"""
    bias: Tensor
    """[out]"""
    bias_array: Array
    """The same memory."""


class _Room(NamedTuple):
    """Activations of one layer [N, out], twice the same memory."""

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
        self.gradient = torch.zeros_like(self.flat[0])
        """[P] what `backward` found for one network."""
        self._dtype = self.flat.numpy().dtype
        with torch.no_grad():
            for row, net in zip(self.flat, nets, strict=True):
                for parameter, view in zip(net.parameters(), views(row, net), strict=True):
                    view.copy_(parameter)
                    parameter.data = view
        self._layers = [_layers(row, nets[0]) for row in self.flat]
        self._gradients = _layers(self.gradient, nets[0])
        self._blocks = _blocks(self.flat, nets[0])
        self._kept: list[list[_Room]] = []
        self._scratch: list[_Room] = []

    def features(self, obs: Array) -> Array:
        """Observations [S, N, *obs_shape] -> what the first layer reads, [S, N, D]."""
        if self._num_indices is None:
            return obs.reshape(*obs.shape[:2], -1).astype(self._dtype, copy=False)
        hot: Array = (obs[..., None] == np.arange(self._num_indices)).astype(self._dtype)
        return hot

    def forward(self, x: Array, *, keep: bool = False) -> Tensor:
        """Features [S, N, D] -> the heads' outputs, [S, N, A] or [S, N, A, outputs]; ``keep`` what `backward` needs."""
        ends = self.ends(x.shape[1])
        for s in range(len(x)):
            self.forward_one(s, x[s], ends[s], keep=keep)
        return self.outputs(ends)

    def ends(self, batch: int) -> Array:
        """Room [S, N, A * outputs] for what the last layers give."""
        self._make_room(batch)
        return np.empty((len(self._layers), batch, len(self._layers[0][-1].bias)), self._dtype)

    def outputs(self, ends: Array) -> Tensor:
        """What the last layers gave as the heads' outputs, [S, N, A] or [S, N, A, outputs]; the same memory."""
        out = torch.from_numpy(ends)
        return out.view(*out.shape[:2], -1, self._per_action) if self._per_action else out

    def forward_one(self, s: int, x: Array, end: Array, *, keep: bool = False) -> None:
        """Network ``s``: features [N, D] -> ``end`` [N, A * outputs], a part of `ends`."""
        *hidden, last = self._layers[s]
        h = x
        with np.errstate(over="ignore", invalid="ignore"):  # as torch does; who uses the values looks at them
            for layer, room in zip(hidden, self._kept[s] if keep else self._scratch, strict=True):
                h = np.matmul(h, layer.weight.T, out=room.array)
                room.tensor.add_(layer.bias).relu_()
            np.matmul(h, last.weight.T, out=end)
            end += last.bias_array

    def forward_few(self, obs: Array) -> Tensor:
        """Observations [S, B, *obs_shape] of a few rows -> what `forward` gives: one product for all networks."""
        h = self.features(obs)
        with np.errstate(over="ignore", invalid="ignore"):
            for i, (weight, bias) in enumerate(self._blocks):
                if i:
                    np.maximum(h, 0.0, out=h)
                h = h @ weight
                h += bias
        return self.outputs(h)

    def backward(self, x: Array, gradient: Tensor) -> Iterator[int]:
        """From the features and the gradient of the outputs of the last kept forward pass to ``gradient``.

        Network by network: yields the number of the one whose gradient is there, while that is still in the cache.
        """
        width = len(self._layers[0][-1].bias)
        outer = gradient.reshape(*x.shape[:2], width).numpy()
        grads = self._gradients
        for s, own in enumerate(self._layers):
            g = outer[s]
            np.add.reduce(g, 0, out=grads[-1].bias_array)
            with np.errstate(over="ignore", invalid="ignore"):
                for i in reversed(range(1, len(own))):
                    below, room = self._kept[s][i - 1], self._scratch[i - 1]
                    np.matmul(g.T, below.array, out=grads[i].weight)
                    g = np.matmul(g, own[i].weight, out=room.array)
                    _through_relu(room.tensor, below.tensor, 0, grad_input=room.tensor)
                    torch.sum(room.tensor, 0, out=grads[i - 1].bias)
                np.matmul(g.T, x[s], out=grads[0].weight)
            yield s

    def _make_room(self, batch: int) -> None:
        """Activations for a batch size: one set per network for `backward`, one for all that is not kept."""
        if self._scratch and len(self._scratch[0].array) == batch:
            return

        widths = [len(layer.bias) for layer in self._layers[0][:-1]]
        room = block(1 + len(self._layers), batch * sum(widths), dtype=self.flat.dtype)

        def rooms(row: Tensor) -> list[_Room]:
            ends = np.cumsum([batch * width for width in widths]).tolist()
            parts = [row[end - batch * width : end].view(batch, width) for end, width in zip(ends, widths, strict=True)]
            return [_Room(t.numpy(), t) for t in parts]

        self._scratch, *self._kept = map(rooms, room)


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


def _layers(row: Tensor, net: ValueNetwork) -> list[_Layer]:
    own = iter(views(row, net))
    dense = [m for m in net if isinstance(m, nn.Linear)]
    found = []
    for _ in dense:
        weight, bias = next(own), next(own)
        found.append(_Layer(weight.numpy(), bias, bias.numpy()))
    return found


def _blocks(flat: Tensor, net: ValueNetwork) -> list[tuple[Array, Array]]:
    """Per layer the weights [S, in, out] and biases [S, 1, out] of all networks: views."""
    found: list[tuple[Array, Array]] = []
    start = 0
    for m in net:
        if isinstance(m, nn.Linear):
            rows, columns = m.weight.shape
            stop = start + rows * columns
            weight = flat[:, start:stop].numpy().reshape(len(flat), rows, columns)
            bias = flat[:, None, stop : stop + rows].numpy()
            found.append((weight.swapaxes(1, 2), bias))
            start = stop + rows
    return found
