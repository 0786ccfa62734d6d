"""The first two convolutions of the Nature network as they are, and with space moved into channels (space to depth).

    python benchmarks/first_convolution.py --precision bf16 --rounds 40

A convolution of 8 x 8 with stride 4 over 4 channels is one of 2 x 2 with stride 1 over 64 channels of an image whose
4 x 4 pixels have become channels; the kernel is rearranged the same way. Variants run in turn in one process with one
thread; a figure is the median of its CPU-milliseconds. ``forward``: without a gradient. Both give the same numbers
(asserted). The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from side_by_side import machine
from torch import Tensor
from torch.nn import functional as F

BATCH = 32
LAYERS = {"first (8x8, stride 4)": (4, 84, 32, 8, 4), "second (4x4, stride 2)": (32, 20, 64, 4, 2)}
"""Channels, pixels on each side, filters, kernel, stride."""


def deeper(x: Tensor, k: int) -> Tensor:
    """[N, C, H, W] -> [N, k * k * C, H / k, W / k], channels last."""
    n, c, h, w = x.shape
    cells = x.permute(0, 2, 3, 1).reshape(n, h // k, k, w // k, k, c).permute(0, 1, 3, 2, 4, 5)
    return cells.reshape(n, h // k, w // k, k * k * c).permute(0, 3, 1, 2)


def variants(name: str, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    channels, pixels, filters, kernel, stride = LAYERS[name]
    last: Any = {"memory_format": torch.channels_last}
    x = torch.randn(BATCH, channels, pixels, pixels, dtype=dtype).to(**last)
    x.requires_grad_(channels > 4)  # images have no gradient
    w = (torch.randn(filters, channels, kernel, kernel, dtype=dtype) / kernel).to(**last).requires_grad_()
    b = torch.randn(filters, dtype=dtype, requires_grad=True)
    images = deeper(x.detach(), stride) if channels == 4 else None

    def as_it_is() -> Tensor:
        return F.conv2d(x, w, b, stride)

    def in_depth() -> Tensor:
        return F.conv2d(deeper(x, stride) if images is None else images, deeper(w, stride), b)

    outer = torch.randn_like(as_it_is()).to(**last)
    assert torch.allclose(as_it_is().float(), in_depth().float(), rtol=1e-2, atol=0.1)

    def forward(layer: Callable[[], Tensor]) -> Callable[[], Any]:
        return torch.no_grad()(layer)

    def both(layer: Callable[[], Tensor]) -> Callable[[], Any]:
        def run() -> None:
            w.grad = b.grad = x.grad = None
            layer().backward(outer)  # type: ignore[no-untyped-call]

        return run

    return {
        f"{name}, {what}, {how}": make(layer)
        for what, make in (("forward", forward), ("forward and backward", both))
        for how, layer in (("as it is", as_it_is), ("space to depth", in_depth))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    runs: dict[str, Callable[[], Any]] = {}
    for name in LAYERS:
        runs |= variants(name, dtype)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(args.rounds + 2):  # the first two are for libraries to choose their kernels
        for name, run in runs.items():
            began = time.thread_time()
            run()
            if number >= 2:
                times[name].append(time.thread_time() - began)
    found = {name: round(1e3 * statistics.median(t), 3) for name, t in times.items()}
    for name, ms in found.items():
        print(f"{name:<60} {ms:7.3f} ms")
    about = {"date": datetime.date.today().isoformat(), "torch": torch.__version__, "machine": machine()}
    print(json.dumps({**about, "precision": args.precision, "cpu_ms": found}))


if __name__ == "__main__":
    main()
