"""A network as an ONNX graph, layer by layer, and its weights as the graph's initializers.

Written out, not traced: a graph takes milliseconds instead of the seconds of an exporter, and every initializer is
known to be a function of certain parameters, so that new weights are written in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalrl.nets.actor_critic import RecurrentActorCritic
from frugalrl.nets.dense import Dueling, PerAction
from frugalrl.nets.impala_torsos import Residual
from frugalrl.nets.noisy import NoisyLinear
from frugalrl.nets.recurrent import LSTMCore
from frugalrl.nets.recurrent_q import SequenceQ
from frugalrl.nets.sequence import WRITTEN_BY_WHO_ACTS, next_name
from frugalrl.nets.torsos import Flat, FlattenLast, Hidden, Images, ScaledConv2d
from frugalrl.types import UserError

Array = NDArray[np.float32]
Source = tuple[tuple[str, ...], Callable[..., Array]]
"""Parameters by name, and what makes an initializer of them."""
_OPSET, _IR = 17, 8


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model of one step. Inputs: ``obs`` and each array of the state; outputs: ``out`` and what becomes of the
    arrays that the network itself changes, by `next_name`."""

    model: Any
    sources: Mapping[str, Source]
    """By initializer: what it is made of."""
    dense: tuple[str, ...]
    """Initializers [in, out] that are the weights of dense layers."""
    lstm: tuple[str, ...]
    """Initializers [1, 4 * hidden, in] that are the weights of an LSTM."""
    changed: tuple[str, ...]
    """The arrays of the state that come out anew."""

    def values(self, parameters: Mapping[str, Tensor]) -> dict[str, Array]:
        """All initializers, from parameters by name."""
        return _made(self.sources, parameters)


def graph_of(net: nn.Module, obs_shape: tuple[int, ...], image_dtype: str = "") -> Graph:
    """The graph of one step of a network.

    Args:
        net: of the kinds that `frugalrl.nets` builds.
        obs_shape: of what the graph is fed with, without the batch: [C, H, W], or [D] for vectors and one-hot indices.
        image_dtype: numpy's name of the observation's type; empty: float32.

    Raises UserError for a network that is not of such layers.
    """
    return _Writer().write(net, obs_shape, image_dtype)


class _Writer:
    def __init__(self) -> None:
        from onnx import helper

        self._helper = helper
        self._nodes: list[Any] = []
        self._sources: dict[str, Source] = {}
        self._initial: list[Any] = []
        self._dense: list[str] = []
        self._lstm: list[str] = []
        self._state: dict[str, Tensor] = {}
        self._changed: tuple[str, ...] = ()
        self._image = False

    def write(self, net: nn.Module, obs_shape: tuple[int, ...], image_dtype: str) -> Graph:
        from onnx import TensorProto, numpy_helper

        helper = self._helper
        self._image = len(obs_shape) == 3
        x = "obs"
        for path, part in _parts(net):
            x = self._layer(path, part, x)
        self._nodes.append(helper.make_node("Identity", [x], ["out"]))
        inputs = {"obs": (np.dtype(image_dtype or "float32"), obs_shape)}
        inputs |= {name: (s.numpy().dtype, tuple(s.shape[1:])) for name, s in self._state.items()}
        values = _made(self._sources, dict(net.named_parameters()))
        graph = helper.make_graph(
            self._nodes,
            "policy",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), ["batch", *shape])
                for name, (dtype, shape) in inputs.items()
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
                for name in ("out", *map(next_name, self._changed))
            ],
            [numpy_helper.from_array(value, name) for name, value in values.items()] + self._initial,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        return Graph(model, self._sources, tuple(self._dense), tuple(self._lstm), self._changed)

    def _layer(self, path: str, layer: nn.Module, x: str) -> str:
        inside = f"{path}." if path else ""
        if isinstance(layer, nn.Sequential):
            for name, child in layer.named_children():
                x = self._layer(f"{inside}{name}", child, x)
            return x
        if isinstance(layer, NoisyLinear):
            raise UserError(
                "engines of ONNX Runtime know no noisy layers, whose noise is new in each forward pass; use "
                "sampler.engine=torch, or net.noisy_sigma0=None"
            )
        if isinstance(layer, nn.Linear):
            return self._linear(path, layer, x)
        if isinstance(layer, nn.Conv2d):
            return self._conv(path, layer, x)
        if isinstance(layer, Residual):
            inner = self._conv(f"{path}.first", layer.first, self._add("Relu", [x]))
            return self._add("Add", [x, self._conv(f"{path}.second", layer.second, self._add("Relu", [inner]))])
        if isinstance(layer, Dueling):
            return self._dueling(path, layer, x)
        if isinstance(layer, LSTMCore):
            return self._core(path, layer, x)
        simple: dict[type[nn.Module], Callable[[], str]] = {
            Flat: lambda: self._add("Flatten", [self._add("Cast", [x], to=1)], axis=1) if self._image else x,
            Images: lambda: self._add("Cast", [x], to=1),
            nn.ReLU: lambda: self._add("Relu", [x]),
            FlattenLast: lambda: self._add("Flatten", [self._add("Transpose", [x], perm=[0, 2, 3, 1])], axis=1),
        }
        if type(layer) in simple:
            return simple[type(layer)]()
        if isinstance(layer, nn.MaxPool2d):
            k, s, p = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
            return self._add("MaxPool", [x], kernel_shape=k, strides=s, pads=[*p, *p])
        if isinstance(layer, PerAction):
            return self._reshape(x, [0, -1, layer.outputs])
        raise UserError(
            f"engines of ONNX Runtime do not know the layer {type(layer).__name__}; use sampler.engine=torch"
        )

    def _linear(self, path: str, layer: nn.Linear, x: str) -> str:
        weight = self._parameter(f"{path}.weight", np.transpose)
        self._dense.append(weight)
        x = self._add("MatMul", [x, weight])
        if layer.bias is not None:
            x = self._add("Add", [x, self._parameter(f"{path}.bias")])
        return self._add("Relu", [x]) if isinstance(layer, Hidden) else x

    def _conv(self, path: str, layer: nn.Conv2d, x: str) -> str:
        scale = np.float32(layer.scale if isinstance(layer, ScaledConv2d) else 1.0)
        weight = self._parameter(f"{path}.weight", lambda w: w * scale)
        p = _pair(layer.padding)
        return self._add(
            "Conv",
            [x, weight, self._parameter(f"{path}.bias")],
            kernel_shape=_pair(layer.kernel_size),
            strides=_pair(layer.stride),
            pads=[*p, *p],
        )

    def _dueling(self, path: str, layer: Dueling, x: str) -> str:
        value = self._layer(f"{path}.value", layer.value, x)
        advantage = self._layer(f"{path}.advantage", layer.advantage, x)
        if layer.outputs > 1:
            advantage = self._reshape(advantage, [0, -1, layer.outputs])
            value = self._reshape(value, [0, 1, layer.outputs])
        mean = self._add("ReduceMean", [advantage], axes=[1], keepdims=1)
        return self._add("Sub", [self._add("Add", [value, advantage]), mean])

    def _core(self, path: str, core: LSTMCore, x: str) -> str:
        """One step in time of an LSTM that also reads the last reward and action; -1 equals none of the actions."""
        self._state = core.initial_state(1)
        self._changed = tuple(name for name in self._state if name not in WRITTEN_BY_WHO_ACTS)
        first, second = self._whole([0]), self._whole([1])
        reward = self._add("Unsqueeze", ["reward_tm1", second])
        taken = self._add(
            "Equal", [self._add("Unsqueeze", ["action_tm1", second]), self._whole(range(core.num_actions))]
        )
        inputs = self._add("Concat", [x, reward, self._add("Cast", [taken], to=1)], axis=1)
        wih, whh = (self._gates(f"{path}.lstm.weight_{of}_l0") for of in ("ih", "hh"))
        self._lstm += [wih, whh]
        bias = f"{path}.lstm.bias"
        self._sources[bias] = (
            (f"{path}.lstm.bias_ih_l0", f"{path}.lstm.bias_hh_l0"),
            lambda ih, hh: np.concatenate([_as_onnx(ih), _as_onnx(hh)])[None],
        )
        h, c = (self._add("Unsqueeze", [name, first]) for name in ("h", "c"))
        after = ["h_after", "c_after"]
        step = [self._add("Unsqueeze", [inputs, first]), wih, whh, bias, "", h, c]
        self._nodes.append(self._helper.make_node("LSTM", step, ["", *after], hidden_size=core.hidden))
        for name, then in zip(("h", "c"), after, strict=True):
            self._nodes.append(self._helper.make_node("Squeeze", [then, first], [next_name(name)]))
        return next_name("h")

    def _gates(self, name: str) -> str:
        self._sources[name] = (name,), lambda w: _as_onnx(w)[None]
        return name

    def _reshape(self, x: str, shape: list[int]) -> str:
        return self._add("Reshape", [x, self._whole(shape)])

    def _whole(self, numbers: Iterable[int]) -> str:
        from onnx import numpy_helper

        name = f"whole{len(self._initial)}"
        self._initial.append(numpy_helper.from_array(np.array([*numbers], np.int64), name))
        return name

    def _parameter(self, name: str, change: Callable[[Array], Array] = lambda w: w) -> str:
        self._sources[name] = (name,), change
        return name

    def _add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        out = f"{op}{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(op, inputs, [out], **attributes))
        return out


def _made(sources: Mapping[str, Source], parameters: Mapping[str, Tensor]) -> dict[str, Array]:
    return {
        name: np.ascontiguousarray(make(*(parameters[p].detach().cpu().float().numpy() for p in of)))
        for name, (of, make) in sources.items()
    }


def _parts(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """What is applied one after the other, by path."""
    if isinstance(net, RecurrentActorCritic):
        return [("body", net.body), ("core", net.core), ("out", net.out)]
    if isinstance(net, SequenceQ):
        core: list[tuple[str, nn.Module]] = [] if net.core is None else [("core", net.core)]
        return [("body", net.body), *core, ("head", net.head)]
    return [("", net)]


def _as_onnx(gates: Array) -> Array:
    """Rows of PyTorch's input, forget, cell and output gate in the order of ONNX: input, output, forget, cell."""
    i, f, g, o = np.split(gates, 4)
    return np.concatenate([i, o, f, g])


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
