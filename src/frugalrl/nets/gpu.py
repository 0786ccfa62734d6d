"""Work on a CUDA device that costs few calls: one copy in, recorded graphs, one copy out, one wait.

With the batches of value learning the device is faster than the calls that give it work. So the inputs of a piece of
work travel in one block of pinned memory, its kernels are recorded once as a CUDA graph and started with one call, and
its answers come back in one copy. The host waits once, for the answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
T = TypeVar("T")

_ALIGN = 256
EAGER_CALLS = 3
"""Calls of a piece of work before it is recorded: libraries choose and load their kernels in these."""
TIMED_EVERY = 16
"""One piece of work in so many is timed: reading two events takes some microseconds."""
_RECORDING = threading.Lock()  # a device can record for one thread at a time


def settle(precision: str) -> None:
    """Make CUDA devices compute what ``agent.precision`` says, the same way each time: TF32 only where it was asked
    for, and no convolution whose sums depend on the order in which threads arrive. Holds for the process."""
    products = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = products
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


class Staged:
    """Arrays of fixed shapes on their way to a device, in one block of pinned memory and with one copy.

    Whoever calls ``put`` must have waited for the work that reads what was put before.
    """

    def __init__(self, arrays: Sequence[Array], device: torch.device) -> None:
        """``arrays``: examples."""
        self._layout = layout_of(arrays)
        starts = np.cumsum([0] + [-(-a.nbytes // _ALIGN) * _ALIGN for a in arrays]).tolist()
        self._host = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._device = torch.empty(starts[-1], dtype=torch.uint8, device=device)
        self._views: list[Array] = []
        self.tensors: list[Tensor] = []
        """The arrays on the device: always the same memory."""
        for array, start in zip(arrays, starts, strict=False):
            part = slice(start, start + array.nbytes)
            self._views.append(self._host[part].numpy().view(array.dtype).reshape(array.shape))
            dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
            self.tensors.append(self._device[part].view(dtype).view(array.shape))

    def fits(self, arrays: Sequence[Array]) -> bool:
        """Whether these arrays have the shapes and types of the examples."""
        return layout_of(arrays) == self._layout

    def put(self, arrays: Sequence[Array]) -> None:
        """Send these arrays; returns before they have arrived."""
        for view, array in zip(self._views, arrays, strict=True):
            np.copyto(view, array)
        self._device.copy_(self._host, non_blocking=True)


def layout_of(arrays: Sequence[Array]) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Shapes and types."""
    return tuple((a.shape, a.dtype.str) for a in arrays)


class Recorded(Generic[T]):
    """Work on tensors that stay where they are: run as it is a few times, then recorded as a CUDA graph.

    The work must not wait for the device. What it returns lies in the same memory from the first recorded call on.
    """

    def __init__(self, work: Callable[[], T], *, record: bool = True) -> None:
        """``record=False``: on a CPU, where the work runs as it is each time."""
        self._work, self._record = work, record
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._out: T | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether the next call starts a graph."""
        return self._graph is not None

    def __call__(self) -> T:
        """Give the work to the device; returns before it is done."""
        if not self._record or self._calls < EAGER_CALLS:
            self._calls += 1
            return self._work()
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            # another thread may give work to the device meanwhile
            with _RECORDING, torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._out = self._work()
            self._graph = graph
        self._graph.replay()
        assert self._out is not None
        return self._out


class Fetch:
    """Brings a tensor to the host, in pinned memory."""

    def __init__(self) -> None:
        self._host: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def __call__(self, tensor: Tensor) -> Array:
        """A copy of ``tensor``; waits for the work that makes it."""
        if tensor.device.type == "cpu":
            return np.array(tensor.numpy())
        if self._host is None or self._host.shape != tensor.shape or self._host.dtype != tensor.dtype:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        if self._arrived is None:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record()
        self._arrived.synchronize()
        found: Array = self._host.numpy().copy()
        return found


class GpuClock:
    """Seconds that a device works on the parts of something that is done again and again.

    One call in `TIMED_EVERY` is timed, and stands for those after it. None until the first one is.
    """

    def __init__(self, parts: int) -> None:
        self._parts, self._calls = parts, 0
        self._events: list[torch.cuda.Event] = []
        self._timing = False
        self.seconds: list[float | None] = [None] * parts
        """Of one call, by part."""

    def start(self, *, timed: bool = True) -> None:
        """Before the first part. ``timed=False``: not this call, whose kernels the device waits for."""
        self._timing = timed and self._calls % TIMED_EVERY == 0
        self._calls += timed
        if self._timing and not self._events:
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(self._parts + 1)]  # type: ignore[no-untyped-call]
        self.mark(0)

    def mark(self, part: int) -> None:
        """After part number ``part``, from 1."""
        if self._timing:
            self._events[part].record()

    def read(self) -> None:
        """After the host has waited for the last part."""
        if self._timing:
            ends = zip(self._events, self._events[1:], strict=False)
            self.seconds = [a.elapsed_time(b) / 1e3 for a, b in ends]


class GpuForward:
    """A function of observations on the host, answered by a CUDA device."""

    def __init__(self, device: torch.device, forward: Callable[[Tensor], Tensor], *, own_queue: bool = False) -> None:
        """``forward``: observations on the device -> answers on the device, without a gradient. ``own_queue``: do not
        stand behind the updates that another thread has given to the device."""
        self._stream = torch.cuda.Stream(device, priority=-1) if own_queue else None  # type: ignore[no-untyped-call]
        self._device, self._forward = device, forward
        self._fetch, self._clock = Fetch(), GpuClock(1)
        self._staged: Staged | None = None
        self.seconds: float | None = None
        """That the device has worked; see `GpuClock`."""

    def queue(self) -> AbstractContextManager[Any]:
        """In it, the calling thread gives work to the queue of this object."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def wait_for_parameters(self) -> None:
        """What the calling thread has given to the device comes before any later call."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())

    def forget(self) -> None:
        """The parameters lie elsewhere now: record again."""
        self._staged = None

    def __call__(self, obs: Array) -> Array:
        """obs [B, *obs_shape] -> what ``forward`` answers; waits for it."""
        if self._staged is None or not self._staged.fits([obs]):
            self._prepare(obs)
        assert self._staged is not None
        self._staged.put([obs])
        self._clock.start(timed=self._work.is_recorded)
        answer = self._work()
        self._clock.mark(1)
        found = self._fetch(answer)
        self._clock.read()
        (one,) = self._clock.seconds
        if one is not None:
            self.seconds = (self.seconds or 0.0) + one
        return found

    def _prepare(self, obs: Array) -> None:
        self._staged = Staged([obs], self._device)
        (x,) = self._staged.tensors

        def work() -> Tensor:
            with torch.inference_mode():
                return self._forward(x)

        self._work = Recorded(work, record=self._device.type == "cuda")


def grown(before: float | None, now: float | None) -> float | None:
    """What ``seconds`` has grown by; None where nothing was timed."""
    return None if now is None else now - (before or 0.0)
