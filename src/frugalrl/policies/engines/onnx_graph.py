"""A feed-forward network as an ONNX graph, layer by layer, and its weights as the graph's initializers.

Written out, not traced: a graph takes milliseconds instead of the seconds of an exporter, and every initializer is
known to be a function of one parameter, so that new weights are written in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalrl.nets.dense import Dueling, PerAction
from frugalrl.nets.impala_torsos import Residual
from frugalrl.nets.noisy import NoisyLinear
from frugalrl.nets.recurrent_q import SequenceQ
from frugalrl.nets.torsos import Flat, FlattenLast, Hidden, Images, ScaledConv2d
from frugalrl.types import UserError

Array = NDArray[np.float32]
_OPSET, _IR = 17, 8


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model: input ``obs``, output ``out``."""

    model: Any
    sources: Mapping[str, tuple[str, Callable[[Array], Array]]]
    """By initializer: the parameter it is made of, and how."""
    dense: tuple[str, ...]
    """Initializers [in, out] that are the weights of dense layers."""

    def values(self, parameters: Mapping[str, Tensor]) -> dict[str, Array]:
        """All initializers, from parameters by name."""
        return {
            name: np.ascontiguousarray(change(parameters[parameter].detach().cpu().float().numpy()))
            for name, (parameter, change) in self.sources.items()
        }


def graph_of(net: nn.Module, obs_shape: tuple[int, ...], image_dtype: str = "") -> Graph:
    """The graph of a network without memory.

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
        self._sources: dict[str, tuple[str, Callable[[Array], Array]]] = {}
        self._initial: list[Any] = []
        self._dense: list[str] = []
        self._parameters: dict[str, Tensor] = {}

    def write(self, net: nn.Module, obs_shape: tuple[int, ...], image_dtype: str) -> Graph:
        from onnx import TensorProto, numpy_helper

        helper = self._helper
        if isinstance(net, SequenceQ) and net.core is None:
            parts = [("body", net.body), ("head", net.head)]
        elif isinstance(net, nn.Sequential):
            parts = [("", net)]
        else:
            raise UserError(
                f"engines of ONNX Runtime act without memory, and {type(net).__name__} has a recurrent core; use "
                f"sampler.engine=torch, or net.lstm_units=None"
            )
        self._parameters = dict(net.named_parameters())
        x = "obs"
        for path, part in parts:
            x = self._layer(path, part, x)
        self._nodes.append(helper.make_node("Identity", [x], ["out"]))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(image_dtype or "float32"))
        values = {n: np.ascontiguousarray(f(self._numpy(p))) for n, (p, f) in self._sources.items()}
        graph = helper.make_graph(
            self._nodes,
            "policy",
            [helper.make_tensor_value_info("obs", kind, ["batch", *obs_shape])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in values.items()] + self._initial,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        return Graph(model, self._sources, tuple(self._dense))

    def _layer(self, path: str, layer: nn.Module, x: str) -> str:
        inside = f"{path}." if path else ""
        if isinstance(layer, nn.Sequential):
            for name, child in layer.named_children():
                x = self._layer(f"{inside}{name}", child, x)
            return x
        if isinstance(layer, NoisyLinear):
            raise UserError("engines of ONNX Runtime know no noisy layers: their noise is new in each forward pass")
        if isinstance(layer, nn.Linear):
            return self._linear(path, layer, x)
        if isinstance(layer, nn.Conv2d):
            return self._conv(path, layer, x)
        if isinstance(layer, Residual):
            inner = self._conv(f"{path}.first", layer.first, self._add("Relu", [x]))
            return self._add("Add", [x, self._conv(f"{path}.second", layer.second, self._add("Relu", [inner]))])
        if isinstance(layer, Dueling):
            return self._dueling(path, layer, x)
        simple: dict[type[nn.Module], Callable[[], str]] = {
            Flat: lambda: x,
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

    def _reshape(self, x: str, shape: list[int]) -> str:
        from onnx import numpy_helper

        name = f"shape{len(self._nodes)}"
        self._initial.append(numpy_helper.from_array(np.array(shape, np.int64), name))
        return self._add("Reshape", [x, name])

    def _parameter(self, name: str, change: Callable[[Array], Array] = lambda w: w) -> str:
        self._sources[name] = name, change
        return name

    def _numpy(self, name: str) -> Array:
        values: Array = self._parameters[name].detach().cpu().float().numpy()
        return values

    def _add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        out = f"{op}{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(op, inputs, [out], **attributes))
        return out


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
