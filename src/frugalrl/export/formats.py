"""A program as a file, and the file read back as a function: torch.export programs and ONNX.

Both take observations [B, *obs_shape] in the environment's own dtype, with any B, and the state where there is one, and
give preferences (Q-values or logits) [B, A] float32, the greedy action [B] int64, and the state after.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.export.program import Names, Program
from frugalrl.types import UserError

Array = NDArray[Any]
Played = Callable[..., tuple[Array, ...]]
"""A program's inputs [B, ...] in its order -> its outputs [B, ...]."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file."""

    name: str
    suffix: str
    write: Callable[[Program, Sequence[Tensor], Path], None]
    """Program, its inputs of a batch of 2, file."""
    read: Callable[[Path, Names], Played]
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


def _dynamic(names: Names, batch: Any) -> dict[str, Any]:
    """That the first dimension of every input is the batch; by the parameters of `Greedy` and `GreedyStep`."""
    obs = {"obs": {0: batch}}
    return obs | {"state": tuple({0: batch} for _ in names.state)} if names.state else obs


def _exported(program: Program, inputs: Sequence[Tensor]) -> torch.export.ExportedProgram:
    # channels_last is a layout for training on a CPU; a file holds plain weights
    plain = program.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    exported = torch.export.export(
        plain.eval(), tuple(inputs), dynamic_shapes=_dynamic(program.names, torch.export.Dim("batch"))
    )
    for part in exported.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it holds the paths of this machine
    return exported


def _write_torch(program: Program, inputs: Sequence[Tensor], path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(_exported(program, inputs), file)


def _read_torch(path: Path, names: Names) -> Played:
    with path.open("rb") as file:
        module = torch.export.load(file).module()

    def played(*inputs: Array) -> tuple[Array, ...]:
        with torch.inference_mode():
            outputs = module(*(torch.from_numpy(np.ascontiguousarray(x)) for x in inputs))
        return tuple(x.numpy() for x in outputs)

    return played


def _write_onnx(program: Program, inputs: Sequence[Tensor], path: Path) -> None:
    names = program.names
    found = torch.onnx.export(
        _exported(program, inputs),
        dynamo=True,
        dynamic_shapes=_dynamic(names, "batch"),
        input_names=names.inputs,
        output_names=names.outputs,
        verbose=False,
    )
    assert found is not None
    found.save(path, external_data=False)


def _read_onnx(path: Path, names: Names) -> Played:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def played(*inputs: Array) -> tuple[Array, ...]:
        feed = {name: np.ascontiguousarray(x) for name, x in zip(names.inputs, inputs, strict=True)}
        return tuple(session.run(list(names.outputs), feed))

    return played


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("torch", ".pt2", _write_torch, _read_torch),
        Format("onnx", ".onnx", _write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime")),
    )
}
"""By the word of ``--to``."""
