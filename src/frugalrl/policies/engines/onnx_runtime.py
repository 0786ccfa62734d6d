"""ONNX Runtime as the engine that computes a policy, in fp32 or with dense layers and LSTMs in int8."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalrl.nets.sequence import next_name
from frugalrl.policies.engines.onnx_graph import Array, Graph, graph_of
from frugalrl.types import EnvSpec, UserError

_LEVELS = 64
"""Of a weight in int8, to each side: 7 bits, ORT's ``reduce_range``. A processor without VNNI adds pairs of products in
16 bits, which overflow with all 8."""


class OnnxRuntime:
    """Forward passes of a network, by the weights that came last. The memory of a recurrent one is kept by who calls.

    New weights are written over the initializers of one graph, and a session is made of it: an exporter is not run
    again. One thread computes; it does not spin while it waits.
    """

    def __init__(self, net: nn.Module, spec: EnvSpec, *, int8: bool) -> None:
        """``int8``: dense layers and LSTMs as `onnxruntime.quantization.quantize_dynamic` makes them (per output,
        symmetric weights, activations rounded per call); convolutions, and the gates and the state of an LSTM, stay in
        fp32.

        Raises UserError when a package is missing, or the network is none that can be written as a graph.
        """
        _require()
        import onnxruntime

        image = spec.obs_kind == "image"
        self._num_indices = spec.num_indices if spec.obs_kind == "index" else None
        width = self._num_indices or int(np.prod(spec.obs_shape))
        self._image = image
        self._graph: Graph = graph_of(net, spec.obs_shape if image else (width,), spec.obs_dtype if image else "")
        self._int8 = int8
        self._outputs = ["out", *map(next_name, self._graph.changed)]
        self._first = _first_state(net)
        self._model = quantized(self._graph) if int8 else self._graph.model
        self._at = {initial.name: initial for initial in self._model.graph.initializer}
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = self._options.inter_op_num_threads = 1
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._options.log_severity_level = 3
        self._session: Any = None

    def load(self, parameters: Mapping[str, Tensor]) -> None:
        """Compute with these from now on."""
        import onnxruntime
        from onnx import numpy_helper

        def write(name: str, value: NDArray[Any]) -> None:
            self._at[name].CopyFrom(numpy_helper.from_array(value, name))

        for name, value in self._graph.values(parameters).items():
            if self._int8 and name in self._graph.dense:
                whole, scale = rounded(value)
                write(f"{name}_quantized", whole)
                write(f"{name}_scale", scale)
            elif self._int8 and name in self._graph.lstm:
                whole, scale = rounded(value[0].T)
                write(f"{name}_quantized", whole[None])
                write(f"{name}_scale", scale[None])
            else:
                write(name, value)
        self._session = onnxruntime.InferenceSession(
            self._model.SerializeToString(), self._options, providers=["CPUExecutionProvider"]
        )

    def initial_state(self, rows: int) -> dict[str, NDArray[Any]]:
        """What the network remembers before an episode, [rows, ...] each; empty for one without memory."""
        return {name: np.repeat(x, rows, 0) for name, x in self._first.items()}

    def __call__(self, obs: NDArray[Any]) -> Array:
        """obs [B, *obs_shape] in the environment's type -> the network's outputs at the first step of an episode."""
        return self.step(obs, self.initial_state(len(obs)))[0]

    def step(self, obs: NDArray[Any], state: Mapping[str, NDArray[Any]]) -> tuple[Array, Mapping[str, NDArray[Any]]]:
        """obs [B, *obs_shape] and the state before it -> the network's outputs, float32 [B, ...], and the state after.

        As `SequenceNetwork.step`: ``action_tm1`` and ``reward_tm1`` pass through.
        """
        if self._num_indices is not None:
            fed = np.zeros((len(obs), self._num_indices), np.float32)
            fed[np.arange(len(obs)), obs] = 1.0
        elif self._image:
            fed = np.ascontiguousarray(obs)
        else:
            fed = np.ascontiguousarray(obs.reshape(len(obs), -1), dtype=np.float32)
        out, *after = self._session.run(self._outputs, {"obs": fed, **state})
        return out, {**state, **dict(zip(self._graph.changed, after, strict=True))}

    @property
    def weight_bytes(self) -> int:
        """Of the weights that a forward pass reads."""
        return sum(len(initial.raw_data) for initial in self._at.values())

    @property
    def nbytes(self) -> int:
        """Of the weights that a sync writes."""
        return sum(int(initial.ByteSize()) for initial in self._at.values())


def rounded(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """weight [in, out] -> whole numbers of the same shape and scales [out], as ORT rounds."""
    largest = np.abs(weight).max(0)
    scale = np.where(largest > 0, largest / np.float32(_LEVELS), np.float32(1)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        whole = np.clip(np.round(weight / scale), -_LEVELS, _LEVELS).astype(np.int8)
    return whole, scale


def quantized(graph: Graph) -> Any:
    """The model with its dense layers and LSTMs in int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        plain = Path(folder) / "fp32.onnx"
        before = logging.root.manager.disable
        onnx.save(graph.model, plain)
        logging.disable(logging.WARNING)  # it recommends a preparation that these graphs do not need
        try:
            quantize_dynamic(
                plain, path, op_types_to_quantize=["MatMul", "LSTM"], per_channel=True, reduce_range=True,
                weight_type=QuantType.QInt8,
            )  # fmt: skip
        finally:
            logging.disable(before)
        return onnx.load(path)


def _first_state(net: Any) -> dict[str, NDArray[Any]]:
    """Before an episode, of one row."""
    state = net.initial_state(1) if hasattr(net, "initial_state") else {}
    return {name: x.cpu().numpy() for name, x in state.items()}


def _require() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"the sampler's engine needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"run: pip install 'frugalrl[onnx]', or use sampler.engine=torch"
        )
