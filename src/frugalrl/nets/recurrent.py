"""The recurrent core of sequence networks: an LSTM that also reads the last action and the last reward.

Source: Hochreiter & Schmidhuber 1997 (LSTM, with the forget gate of Gers et al. 2000, as PyTorch has it);
Kapturowski et al. 2019, section 2.3 (last action and reward as inputs).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.nets.lstm_scan import lstm_scan
from frugalrl.nets.sequence import State

_STEPS_PER_CUT = 8
"""With fewer steps than that from one row with a reset to the next, the scan is quicker than fused calls between them
(2 vCPU AMD EPYC, family 25, model 1: at 20 to 120 steps and 16 to 256 units, up to four times)."""


class LSTMCore(nn.Module):
    """One LSTM layer over features, last reward and last action (one-hot; zeros where there was none).

    It computes in the type of its weights, also under autocast: what is rounded in one step is remembered in all later
    ones. The state is float32, or float64 where the weights are.

    Args:
        features: width F of what it reads at each step besides last action and reward.
        num_actions: A.
        hidden: width of its output, of ``h`` and of ``c``.
    """

    def __init__(self, features: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.num_actions, self.hidden = num_actions, hidden
        self.lstm = nn.LSTM(features + 1 + num_actions, hidden)

    def initial_state(self, rows: int) -> dict[str, Tensor]:
        """``h`` and ``c`` [rows, hidden] zeros, ``action_tm1`` [rows] int64 -1, ``reward_tm1`` [rows] float32 0."""
        weight = self._weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        zeros = torch.zeros((rows, self.hidden), dtype=dtype, device=weight.device)
        return {
            "h": zeros,
            "c": zeros.clone(),
            "action_tm1": torch.full((rows,), -1, dtype=torch.int64, device=weight.device),
            "reward_tm1": torch.zeros(rows, device=weight.device),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [B, F] and the state before them -> output [B, hidden] and the state after.

        ``action_tm1`` and ``reward_tm1`` pass through: who acts writes what comes next.
        """
        with torch.autocast(x.device.type, enabled=False):
            inputs = self._inputs(x, state["action_tm1"], state["reward_tm1"])
            y, h, c = self._one(inputs, self._own(state["h"]), self._own(state["c"]))
        return y, {**state, "h": h.to(state["h"].dtype), "c": c.to(state["c"].dtype)}

    def unroll(self, x: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State) -> Tensor:
        """T+1 steps at once: features [T+1, B, F] -> outputs [T+1, B, hidden].

        ``action`` and ``reward`` [T, B] are those between the rows, as in `Unroll`; where ``reset`` [T+1, B] is True
        the row begins with the initial state; ``state`` is the one before row 0.
        """
        return self._run(x, action, reward, reset, state)[0]

    def state_after(self, x: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State) -> dict[str, Tensor]:
        """K steps: features, action and reward [K, B, ...], reset [K+1, B] -> the state before row K.

        It is the initial one where ``reset[K]`` is True.
        """
        _, h, c = self._run(x, action[:-1], reward[:-1], reset[:-1], state)
        after = {"h": h.to(state["h"].dtype), "c": c.to(state["c"].dtype)}
        after |= {"action_tm1": action[-1], "reward_tm1": reward[-1].to(state["reward_tm1"].dtype)}
        initial = self.initial_state(len(h))
        fresh = reset[-1]
        return {k: torch.where(fresh[:, None] if v.dim() == 2 else fresh, initial[k], v) for k, v in after.items()}

    def _run(
        self, x: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, and ``h`` and ``c`` after the last row."""
        start = reset.clone()
        start[0] = False  # what comes before row 0 is said by the state
        rewards = torch.cat([state["reward_tm1"][None], reward.to(state["reward_tm1"].dtype)])
        action_tm1 = torch.cat([state["action_tm1"][None], action]).masked_fill(start, -1)
        with torch.autocast(x.device.type, enabled=False):
            inputs = self._inputs(x, action_tm1, rewards.masked_fill(start, 0.0))
            h, c = self._own(state["h"]), self._own(state["c"])
            cuts = [0, *start.any(1).nonzero().flatten().tolist(), len(start)]
            if len(start) < _STEPS_PER_CUT * (len(cuts) - 2):
                return self._scanned(inputs, start, h, c)
            parts = []
            for begin, end in pairwise(cuts):
                fresh = start[begin].unsqueeze(1)
                y, (h, c) = self._fused(inputs[begin:end], h.masked_fill(fresh, 0.0), c.masked_fill(fresh, 0.0))
                parts.append(y)
        return parts[0] if len(parts) == 1 else torch.cat(parts), h, c

    def _scanned(self, inputs: Tensor, start: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lstm = self.lstm
        pre = F.linear(inputs, lstm.weight_ih_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0)  # type: ignore[arg-type, operator]
        return lstm_scan(pre, self._weight, h, c, self._own(~start).unsqueeze(-1))

    def _one(self, inputs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step; on a CPU by the cell, as `nn.LSTM` packs its weights anew in each call there (docs/samplers.md)."""
        lstm = self.lstm
        if inputs.device.type == "cpu":
            weights = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0)
            h, c = torch.lstm_cell(inputs, (h, c), *weights)  # type: ignore[arg-type]
            return h, h, c
        y, (h, c) = self._fused(inputs.unsqueeze(0), h, c)
        return y[0], h, c

    def _fused(self, inputs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self.lstm(inputs, (h[None], c[None]))
        return y, (h[0], c[0])

    def _inputs(self, x: Tensor, action_tm1: Tensor, reward_tm1: Tensor) -> Tensor:
        hot = F.one_hot(action_tm1 + 1, self.num_actions + 1)[..., 1:]
        return torch.cat([self._own(x), self._own(reward_tm1).unsqueeze(-1), self._own(hot)], -1)

    def _own(self, x: Tensor) -> Tensor:
        return x.to(self._weight.dtype)

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self.lstm.weight_hh_l0  # type: ignore[assignment]
        return weight
