"""The first convolution of the Nature network as it is, and over cells of 4 x 4 pixels (`frugalrl.nets.in_depth`).

    python benchmarks/first_convolution.py --precision bf16 --rounds 40

``images``: bytes brought into the layout and type that the convolution reads. ``forward``: without a gradient.
``forward and backward``: the gradient of the filters too. Variants run in turn in one process with one thread; a
figure is the median of its CPU-milliseconds. Both ways give the same numbers (asserted). The last line of the output is
one JSON object.
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

from frugalrl.nets import in_depth
from frugalrl.nets.torsos import interleave4

CHANNELS, PIXELS, FILTERS, KERNEL, STRIDE = 4, 84, 32, 8, 4


def variants(rows: int, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """What is timed, by name, for so many images."""
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(256, (rows, CHANNELS, PIXELS, PIXELS), dtype=torch.uint8, generator=generator)
    weight = torch.randn((FILTERS, CHANNELS, KERNEL, KERNEL), dtype=dtype, generator=generator) / 255
    w = weight.to(memory_format=torch.channels_last).requires_grad_()
    b = torch.zeros(FILTERS, dtype=dtype, requires_grad=True)
    images = {"as it is": interleave4, "in depth": in_depth.cells}
    x = {way: arrange(obs).to(dtype) for way, arrange in images.items()}
    layers: dict[str, Callable[[], Tensor]] = {
        "as it is": lambda: F.conv2d(x["as it is"], w, b, STRIDE),
        "in depth": lambda: F.conv2d(x["in depth"], in_depth.kernel(w), b),
    }
    outer = torch.randn_like(layers["as it is"]())
    assert torch.allclose(layers["as it is"]().float(), layers["in depth"]().float(), rtol=1e-2, atol=0.1)

    def both(layer: Callable[[], Tensor]) -> Callable[[], Any]:
        def run() -> None:
            w.grad = b.grad = None
            layer().backward(outer)  # type: ignore[no-untyped-call]

        return run

    found: dict[str, Callable[[], Any]] = {}
    for way, layer in layers.items():
        found[f"images, {way}"] = lambda arrange=images[way]: arrange(obs).to(dtype)  # type: ignore[misc]
        found[f"forward, {way}"] = torch.no_grad()(layer)
        found[f"forward and backward, {way}"] = both(layer)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rows", type=int, default=32, help="images")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    runs = variants(args.rows, torch.bfloat16 if args.precision == "bf16" else torch.float32)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(args.rounds + 2):  # the first two are for libraries to choose their kernels
        for name, run in runs.items():
            began = time.thread_time()
            run()
            if number >= 2:
                times[name].append(time.thread_time() - began)
    found = {name: round(1e3 * statistics.median(t), 3) for name, t in times.items()}
    for name, ms in found.items():
        print(f"{name:<40} {ms:7.3f} ms")
    about = {"date": datetime.date.today().isoformat(), "torch": torch.__version__, "machine": machine()}
    print(json.dumps({**about, "precision": args.precision, "rows": args.rows, "cpu_ms": found}))


if __name__ == "__main__":
    main()
