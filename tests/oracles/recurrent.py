"""The recurrent core, gate by gate and step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from frugalrl.nets.recurrent import LSTMCore


def lstm_unroll(
    core: LSTMCore, x: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: dict[str, Tensor]
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Outputs [T+1, B, hidden] and the state before each row, by a loop over rows and environments."""
    w_in, w_hid = core.lstm.weight_ih_l0, core.lstm.weight_hh_l0
    bias = core.lstm.bias_ih_l0 + core.lstm.bias_hh_l0
    steps, rows = reset.shape
    outputs, before = [], []
    h, c = list(state["h"]), list(state["c"])
    last_a, last_r = state["action_tm1"].tolist(), [r.to(x.dtype) for r in state["reward_tm1"]]
    for t in range(steps):
        for b in range(rows):
            if t and reset[t, b]:
                h[b], c[b] = torch.zeros_like(h[b]), torch.zeros_like(c[b])
                last_a[b], last_r[b] = -1, torch.zeros((), dtype=x.dtype)
        before.append({"h": torch.stack(h), "c": torch.stack(c), "action_tm1": torch.tensor(last_a)})
        for b in range(rows):
            hot = torch.zeros(core.num_actions, dtype=x.dtype)
            if last_a[b] >= 0:
                hot[last_a[b]] = 1.0
            i, f, g, o = (w_in @ torch.cat([x[t, b], last_r[b][None], hot]) + w_hid @ h[b] + bias).chunk(4)
            c[b] = f.sigmoid() * c[b] + i.sigmoid() * g.tanh()
            h[b] = o.sigmoid() * c[b].tanh()
            if t < steps - 1:
                last_a[b], last_r[b] = int(action[t, b]), reward[t, b].to(x.dtype)
        outputs.append(torch.stack(h))
    return torch.stack(outputs), before
