"""An LSTM layer over time that can begin anew in any row of any step, with its backward written out.

A fused LSTM knows one beginning for all rows, so it must be called anew at every reset; this one costs the same
however many there are. Its backward finds the recurrent weights' gradient in one product over all steps, where
automatic differentiation of a loop adds up one per step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, weight: Tensor, h: Tensor, c: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, rows, width = pre.shape[0], pre.shape[1], weight.shape[1]
        outputs, h_before, c_before, c_tanh = (pre.new_empty(steps, rows, width) for _ in range(4))
        gates = torch.empty_like(pre)
        for t in range(steps):
            torch.mul(h, keep[t], out=h_before[t])
            torch.mul(c, keep[t], out=c_before[t])
            raw = torch.addmm(pre[t], h_before[t], weight.t())
            torch.sigmoid(raw, out=gates[t])
            torch.tanh(raw[:, 2 * width : 3 * width], out=gates[t, :, 2 * width : 3 * width])
            i, f, g, o = gates[t].chunk(4, 1)
            c = torch.addcmul(f * c_before[t], i, g)
            torch.tanh(c, out=c_tanh[t])
            h = torch.mul(o, c_tanh[t], out=outputs[t])
        ctx.save_for_backward(weight, h_before, c_before, gates, c_tanh, keep)
        return outputs, h.clone(), c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_h: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        weight, h_before, c_before, gates, c_tanh, keep = ctx.saved_tensors
        steps, rows, width = c_tanh.shape
        i, f, g, o = gates.chunk(4, 2)
        # slopes of everything but the recurrence, for all steps at once
        c_of_h = o * (1.0 - c_tanh * c_tanh)
        o_of_h = c_tanh * o * (1.0 - o)
        ifg_of_c = torch.stack([g * i * (1.0 - i), c_before * f * (1.0 - f), i * (1.0 - g * g)], 2)
        d_pre = torch.empty_like(gates)
        for t in reversed(range(steps)):
            d_h = d_h + d_outputs[t]
            d_c = torch.addcmul(d_c, d_h, c_of_h[t])
            torch.mul(d_c.unsqueeze(1), ifg_of_c[t], out=d_pre[t, :, : 3 * width].view(rows, 3, width))
            torch.mul(d_h, o_of_h[t], out=d_pre[t, :, 3 * width :])
            d_c = d_c * f[t] * keep[t]
            d_h = (d_pre[t] @ weight) * keep[t]
        d_weight = d_pre.flatten(0, 1).t() @ h_before.flatten(0, 1)
        return d_pre, d_weight, d_h, d_c, None


def lstm_scan(pre: Tensor, weight: Tensor, h: Tensor, c: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What ``torch.nn.LSTM`` computes, one layer, with resets.

    Args:
        pre: [T, B, 4H] inputs times input weights plus both biases, in torch's order of gates (input, forget, cell,
            output).
        weight: [4H, H] the recurrent weights.
        h: [B, H] before the first step.
        c: [B, H] before the first step.
        keep: [T, B, 1] in the type of ``pre``: 0 where a row begins a step with ``h = c = 0``, else 1.

    Returns:
        Outputs [T, B, H], and ``h`` and ``c`` [B, H] after the last step.
    """
    y: tuple[Tensor, Tensor, Tensor] = _Scan.apply(pre, weight, h, c, keep)  # type: ignore[no-untyped-call]
    return y
