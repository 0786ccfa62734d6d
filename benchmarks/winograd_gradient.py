#!/usr/bin/env python3
"""Both gradients of the Nature network's third convolution: oneDNN's, and by Winograd's minimal filtering.

    python benchmarks/winograd_gradient.py --rounds 60 --rows 32 --out evidence/bench/winograd-gradient.json

F(4 x 4, 3 x 3) of Lavin & Gray 2016 ("Fast algorithms for convolutional neural networks") in public operators of torch:
sums of shifted rows and columns, and matrix products for the 6 x 6 points. 7 x 7 outputs are two tiles of 4 on each
axis; the row that both have is counted once. It needs 0.33 of the multiplications; the sums are what it costs. Both
ways run in turn in one process with one thread; a figure is the median of its CPU-milliseconds. Both give the
gradients of float64 up to rounding (asserted). The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from side_by_side import machine
from torch import Tensor

CHANNELS, SIDE, OUT, POINTS, TILES, STEP = 64, 9, 7, 6, 2, 3
"""In and out channels, pixels on a side before and after, points and tiles on an axis, pixels from tile to tile."""
# G of the paper: what a filter of 3 is at the points 0, 1, -1, 2, -2 and infinity
FILTER_AT_POINTS = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24.0


def input_at_points(out: Tensor, x: Tensor) -> None:
    """B^T of the paper along the first axis: six pixels of a tile -> six points."""
    even, odd = torch.sub(x[4], x[2], alpha=4), torch.sub(x[3], x[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(x[4], x[2], out=even)
    torch.sub(x[3], x[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(even, torch.sub(x[0], x[2]), alpha=4, out=out[0])
    torch.add(torch.sub(x[5], x[3]), torch.sub(x[1], x[3]), alpha=4, out=out[5])


def output_gradient_at_points(out: Tensor, g: Tensor) -> None:
    """A of the paper along the first axis: the gradient of a tile's four outputs -> six points."""
    even, odd = g[0] + g[2], g[1] + g[3]
    out[0].copy_(g[0])
    out[5].copy_(g[3])
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.add(g[0], g[2], alpha=4, out=even)
    torch.add(g[1], g[3], alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])


def input_gradient(out: Tensor, v: Tensor) -> None:
    """B along the first axis: six points of two tiles [6, 2, ...] -> nine pixels, three of them in both tiles."""
    s12, d12, s34, d34 = v[1] + v[2], v[1] - v[2], v[3] + v[4], v[3] - v[4]
    x4 = (s12 + s34).add_(v[0])
    minus_x2 = torch.add(s34, s12, alpha=4).add_(v[0], alpha=5)
    x3 = torch.add(d12, d34, alpha=2).sub_(v[5], alpha=5)
    minus_half_x1 = torch.add(d34, d12, alpha=2).sub_(v[5], alpha=2)
    torch.mul(v[0, 0], 4, out=out[0])
    torch.mul(minus_half_x1[0], -2, out=out[1])
    torch.neg(minus_x2[0], out=out[2])
    torch.add(x3[0], v[0, 1], alpha=4, out=out[3])
    torch.sub(x4[0], minus_half_x1[1], alpha=2, out=out[4])
    torch.sub(v[5, 0], minus_x2[1], out=out[5])
    out[6].copy_(x3[1])
    out[7].copy_(x4[1])
    out[8].copy_(v[5, 1])


class Winograd:
    """Memory for so many images, kept from call to call. Images and gradients are [B, H, W, C]."""

    def __init__(self, rows: int) -> None:
        b, c, t, p = rows, CHANNELS, TILES, POINTS
        self.rows = b
        self.once = torch.zeros(b, t, 4, t, 4, c)  # outputs by tile; what two tiles share is zero in the second
        self.input_1, self.input_2 = torch.empty(p, b, t, SIDE * c), torch.empty(p, p, b, t, t, c)
        self.output_1, self.output_2 = torch.empty(p, b, t, t * 4 * c), torch.empty(p, p, b, t, t, c)
        self.filters, self.images = torch.empty(p * p, c, c), torch.empty(p * p, b * t * t, c)
        self.columns = torch.empty(p, b, SIDE, t, c)
        self.both = torch.kron(FILTER_AT_POINTS, FILTER_AT_POINTS)

    def input(self, x: Tensor) -> Tensor:
        b, c, t, p = self.rows, CHANNELS, TILES, POINTS
        input_at_points(
            self.input_1, x.as_strided((p, b, t, SIDE * c), (SIDE * c, SIDE * SIDE * c, STEP * SIDE * c, 1))
        )
        lines = self.input_1.as_strided(
            (p, p, b, t, t, c), (c, b * t * SIDE * c, t * SIDE * c, SIDE * c, STEP * c, 1)
        )  # fmt: skip
        input_at_points(self.input_2.transpose(0, 1), lines)
        return self.input_2.view(p * p, b * t * t, c)

    def output(self, g: Tensor) -> Tensor:
        b, c, t, p = self.rows, CHANNELS, TILES, POINTS
        for i, (to_rows, rows) in enumerate(((slice(0, 4), slice(0, 4)), (slice(1, 4), slice(4, 7)))):
            for j, (to_columns, columns) in enumerate(((slice(0, 4), slice(0, 4)), (slice(1, 4), slice(4, 7)))):
                self.once[:, i, to_rows, j, to_columns] = g[:, rows, columns]
        output_gradient_at_points(self.output_1, self.once.view(b, t, 4, t * 4 * c).permute(2, 0, 1, 3))
        lines = self.output_1.view(p, b, t, t, 4, c).permute(4, 0, 1, 2, 3, 5)
        output_gradient_at_points(self.output_2.transpose(0, 1), lines)
        return self.output_2.view(p * p, b * t * t, c)

    def gradients(self, g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the input [B, 9, 9, C], the filters [F, 3, 3, C] and the bias [F]."""
        b, c, t, p = self.rows, CHANNELS, TILES, POINTS
        at_x, at_g = self.input(x), self.output(g)
        torch.bmm(at_g.transpose(1, 2), at_x, out=self.filters)
        of_filters = (self.both.T @ self.filters.view(p * p, c * c)).view(3, 3, c, c).permute(2, 0, 1, 3)
        at_weight = (self.both @ weight.reshape(c, 9, c)).transpose(0, 1)
        torch.bmm(at_g, at_weight, out=self.images)
        tiles = self.images.view(p, p, b, t, t * c).permute(0, 3, 1, 2, 4)
        input_gradient(self.columns.view(p, b, SIDE, t * c).permute(2, 0, 1, 3), tiles)
        of_input = torch.empty(b, SIDE, SIDE, c)
        input_gradient(of_input.permute(2, 0, 1, 3), self.columns.permute(0, 3, 1, 2, 4))
        return of_input, of_filters, g.sum((0, 1, 2))


def by_onednn(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """The same of what PyTorch calls in a backward pass."""
    g, x, weight = (of.permute(0, 3, 1, 2) for of in (g, x, weight))  # channels-last, as the network computes
    got = torch.ops.aten.convolution_backward(
        g, x, weight, [CHANNELS], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, True]
    )  # fmt: skip
    return got[0].permute(0, 2, 3, 1), got[1].permute(0, 2, 3, 1), got[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--rows", type=int, default=32, help="images")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    g, x = torch.randn(args.rows, OUT, OUT, CHANNELS), torch.randn(args.rows, SIDE, SIDE, CHANNELS)
    weight = torch.randn(CHANNELS, 3, 3, CHANNELS) / 24
    winograd = Winograd(args.rows)
    exact = by_onednn(g.double(), x.double(), weight.double())
    runs: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "oneDNN": lambda: by_onednn(g, x, weight), "Winograd": lambda: winograd.gradients(g, x, weight),
    }  # fmt: skip
    errors = {
        name: max(float((got - true).abs().max() / true.abs().max()) for got, true in zip(run(), exact, strict=True))
        for name, run in runs.items()
    }
    assert max(errors.values()) < 3e-5, errors
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            began = time.thread_time()
            for _ in range(5):
                run()
            times[name].append((time.thread_time() - began) / 5)
    record = {
        "benchmark": "winograd_gradient", "date": datetime.date.today().isoformat(), "machine": machine(),
        "torch": torch.__version__, "cpu_capability": torch.backends.cpu.get_cpu_capability(), "rows": args.rows,
        "rounds": args.rounds, "median_ms": {k: round(1e3 * statistics.median(t), 3) for k, t in times.items()},
        "largest_error": errors,
        "speed": round(statistics.median(a / b for a, b in zip(times["oneDNN"], times["Winograd"], strict=True)), 3),
    }  # fmt: skip
    line = json.dumps(record)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
