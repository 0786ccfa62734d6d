"""A network as a file, and the file read back as a function: torch.export programs and ONNX.

Both take observations [B, *obs_shape] in the environment's own dtype, with any B, and give Q-values [B, A] float32 and
the greedy action [B] int64.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalrl.nets.q_network import ValueNetwork
from frugalrl.types import UserError

Played = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""obs [B, *obs_shape] -> Q-values [B, A], actions [B]."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file."""

    name: str
    suffix: str
    write: Callable[[ValueNetwork, Tensor, Path], None]
    """Network, observations of a batch of 2, file."""
    read: Callable[[Path], Played]
    packages: tuple[str, ...] = ()
    """What it needs besides torch; the extra has the name of the format."""

    def require(self) -> None:
        """Raises UserError that names the extra when a package is missing."""
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise UserError(
                f"--to {self.name} needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
                f"run: pip install 'frugalrl[{self.name}]'"
            )


class Greedy(nn.Module):
    """Q-values and their argmax, the first of equal ones."""

    def __init__(self, network: ValueNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        q = self.network.q_values(obs)
        return q, q.argmax(-1)


@contextmanager
def hushed() -> Iterator[None]:
    """The exporters warn and log about their own insides; not for our user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _program(network: ValueNetwork, obs: Tensor) -> torch.export.ExportedProgram:
    # channels_last is a layout for training on a CPU; a file holds plain weights
    plain = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    program = torch.export.export(Greedy(plain).eval(), (obs,), dynamic_shapes={"obs": {0: torch.export.Dim("batch")}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds the paths of this machine
    return program


def _write_torch(network: ValueNetwork, obs: Tensor, path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(_program(network, obs), file)


def _read_torch(path: Path) -> Played:
    with path.open("rb") as file:
        module = torch.export.load(file).module()

    def played(obs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        with torch.inference_mode():
            q, action = module(torch.from_numpy(np.ascontiguousarray(obs)))
        return q.numpy(), action.numpy()

    return played


def _write_onnx(network: ValueNetwork, obs: Tensor, path: Path) -> None:
    found = torch.onnx.export(
        _program(network, obs),
        dynamo=True,
        dynamic_shapes={"obs": {0: "batch"}},
        input_names=["obs"],
        output_names=["q", "action"],
        verbose=False,
    )
    assert found is not None
    found.save(path, external_data=False)


def _read_onnx(path: Path) -> Played:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def played(obs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        q, action = session.run(["q", "action"], {"obs": np.ascontiguousarray(obs)})
        return q, action

    return played


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("torch", ".pt2", _write_torch, _read_torch),
        Format("onnx", ".onnx", _write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime")),
    )
}
"""By the word of ``--to``."""
