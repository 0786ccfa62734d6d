"""FLOPs counted once per module, input shape and direction, and lower bounds on bytes moved.

Convention: matrix products, convolutions and attention; a multiply-add is two; no element-wise work. The same
convention as model FLOPs in MFU figures. The count is made by ``torch.utils.flop_counter.FlopCounterMode`` on an
eager deep copy, which computes it once.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from frugalrl.types import EnvSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class FlopCount:
    """FLOPs of one call."""

    forward: float
    backward: float
    """0 when only the forward was asked for."""
    uncounted: tuple[str, ...] = ()
    """Operations that may hold matrix work and have no formula: fused recurrent layers, custom operators."""

    @property
    def total(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


_CACHE: WeakKeyDictionary[Any, dict[tuple[Any, ...], FlopCount]] = WeakKeyDictionary()

_OPAQUE = ("mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn", "_thnn_fused_lstm_cell_backward_impl")


def count_flops(module: torch.nn.Module, *example_inputs: torch.Tensor, backward: bool = False) -> FlopCount:
    """FLOPs of ``module(*example_inputs)``, and of its backward if asked; multiply by the number of calls.

    Inputs need no gradient, so the first layer's input gradient is not counted, as in training. Parameters with
    ``requires_grad=False`` cost no backward. Cached per module object, input shapes and dtypes, and direction.
    """
    key = (backward, *((tuple(x.shape), x.dtype) for x in example_inputs))
    known = _CACHE.setdefault(module, {})
    if key not in known:
        known[key] = _count(module, example_inputs, backward)
    return known[key]


def count_flops_of(work: Callable[[], object]) -> float:
    """FLOPs of one call of ``work``, which is really run: for work that is no module (a whole update)."""
    from torch.utils.flop_counter import FlopCounterMode

    with _without_compiler(), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], backward: bool) -> FlopCount:
    # the meta device computes nothing, but its kernels for matrix products are written in Python and import torch's
    # compiler, which costs seconds; it is asked where fused recurrent layers must come apart to be counted
    found = _count_on("cpu", module, inputs, backward)
    if found.uncounted:
        with suppress(NotImplementedError, RuntimeError):  # the module looks at values, or has no meta kernel
            apart = _count_on("meta", module, inputs, backward)
            return apart if len(apart.uncounted) < len(found.uncounted) else found
    return found


def _count_on(device: str, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], backward: bool) -> FlopCount:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(getattr(module, "_orig_mod", module)).to(device)
    moved = tuple(x.detach().to(device) for x in inputs)
    opaque = _opaque_ops()
    with torch.set_grad_enabled(backward), torch.random.fork_rng(devices=[]), _without_compiler(opaque), opaque:
        with FlopCounterMode(display=False) as counter:
            out = twin(*moved)
        forward = float(counter.get_total_flops())
        back = 0.0
        if backward:
            leaves = [t for t in _tensors(out) if t.requires_grad]
            if leaves:
                with FlopCounterMode(display=False) as counter:
                    torch.stack([t.sum() for t in leaves]).sum().backward()  # type: ignore[no-untyped-call]
                back = float(counter.get_total_flops())
    return FlopCount(forward, back, tuple(sorted(opaque.seen)))


@contextmanager
def _without_compiler(*modes: Any) -> Iterator[None]:
    """Keep dispatch modes from importing torch's compiler, which costs 3 to 5 CPU-seconds at the start of every run.

    They load it only to switch it off inside themselves (``torch._compile._disable_dynamo``, which remembers in
    ``__dynamo_disable`` what to call). What is counted here is not compiled, so there is nothing to switch off. Where
    torch does this in another way, nothing happens but the import.
    """
    from torch.utils import flop_counter

    if "torch._dynamo" in sys.modules:
        yield
        return
    kinds = [getattr(flop_counter, "_FlopCounterMode", None), *(type(mode) for mode in modes)]
    raws = [getattr(getattr(kind, "__torch_dispatch__", None), "__wrapped__", None) for kind in kinds]
    marked = [raw for raw in raws if raw is not None and not hasattr(raw, "__dynamo_disable")]
    for raw in marked:
        raw.__dynamo_disable = raw
    try:
        yield
    finally:
        for raw in marked:
            del raw.__dynamo_disable


def _opaque_ops() -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.seen: set[str] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            space, name = func.namespace, func._schema.name.partition("::")[2]
            if space not in ("aten", "prim", "prims", "profiler") or name in _OPAQUE:
                self.seen.add(f"{space}::{name}")
            return func(*args, **(kwargs or {}))

    return Watch()


def _tensors(value: object) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


# -- bytes -----------------------------------------------------------------------------------------------------------


def weight_bytes(module: torch.nn.Module, batch: int) -> int:
    """Bytes of the parameters and buffers that one forward reads.

    All of them, but for a submodule that has a method ``bytes_read(batch)`` and so reads only some of its own.
    """
    total = 0
    for part in module.modules():
        read: Callable[[int], int] | None = getattr(part, "bytes_read", None)
        if read is not None:
            total += read(batch)
        else:
            own = (*part.parameters(recurse=False), *part.buffers(recurse=False))
            total += sum(t.numel() * t.element_size() for t in own)
    return total


def bytes_min_forward(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], outputs: object, weights: int | None = None
) -> int:
    """Lower bound of one forward: weights, inputs and outputs move once. Activations may stay in the cache.

    ``weights``: bytes of the weights where something else than ``module`` computes the same; None: of the module.
    """
    moved = (*inputs, *_tensors(outputs))
    read = weight_bytes(module, len(inputs[0])) if weights is None else weights
    return read + sum(t.numel() * t.element_size() for t in moved)


def bytes_min_adam(num_weights: int, *, itemsize: int = 4) -> int:
    """Lower bound of one Adam step: reads weight, gradient and two moments, writes weight and two moments."""
    return 7 * num_weights * itemsize


def bytes_min_update(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], outputs: object) -> int:
    """Lower bound of forward, backward and Adam on ``module``.

    The backward reads the weights again and writes one gradient per trainable weight.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    gradients = sum(p.numel() * p.element_size() for p in trained)
    adam = sum(bytes_min_adam(p.numel(), itemsize=p.element_size()) for p in trained)
    return bytes_min_forward(module, inputs, outputs) + weight_bytes(module, len(inputs[0])) + gradients + adam


def bytes_min_replay_row(spec: EnvSpec) -> int:
    """Bytes of one environment row written to a single-frame replay.

    One frame of the stack; action int64, reward and discount and log-probability float32, version int64, and
    three flags.
    """
    return _frame_bytes(spec) + 8 + 3 * 4 + 8 + 3


def bytes_min_replay_sample(spec: EnvSpec, batch_size: int, *, n_step: int = 1) -> int:
    """Lower bound of gathering a batch: each distinct frame is read once, both observations are written once."""
    frame = _frame_bytes(spec)
    distinct = min(2 * spec.frame_stack, spec.frame_stack + n_step)
    scalars = 8 + 3 * 4 + 8 + 1
    return batch_size * (frame * (distinct + 2 * spec.frame_stack) + 2 * scalars)


def _frame_bytes(spec: EnvSpec) -> int:
    import numpy as np

    return prod(spec.obs_shape) // spec.frame_stack * int(np.dtype(spec.obs_dtype).itemsize)
