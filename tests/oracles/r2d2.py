"""One R2D2 update by loops: sequence by sequence and step by step, with returns that are walked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalrl.algos.r2d2 import R2D2Config
from frugalrl.nets.recurrent_q import SequenceQ
from frugalrl.types import ReplayedUnrolls, Unroll
from oracles.returns import walked_return


def q_of_sequence(net: SequenceQ, unroll: Unroll, b: int, cut: int, *, through_burn_in: bool = False) -> Tensor:
    """Q-values [T+1, A] of one sequence; those before ``cut`` without gradient."""
    state = {k: torch.from_numpy(v[b : b + 1]) for k, v in unroll.state_at_start.items()}
    state = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    out = []
    for t in range(unroll.num_steps + 1):
        if t and not unroll.valid[t - 1, b]:
            state = {k: v.double() if v.is_floating_point() else v for k, v in net.initial_state(1).items()}
        elif t and net.recurrent:
            state["action_tm1"] = torch.from_numpy(unroll.action[t - 1, b : b + 1])
            state["reward_tm1"] = torch.from_numpy(unroll.reward[t - 1, b : b + 1]).double()
        with torch.set_grad_enabled(t >= cut or through_burn_in):
            q, state = net.step(torch.from_numpy(unroll.obs[t, b : b + 1]), state)
        out.append(q[0])
    return torch.stack(out)


def h(x: float, eps: float | None) -> float:
    return x if eps is None else float(np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + eps * x)


def h_inverse(y: float, eps: float | None) -> float:
    if eps is None:
        return y
    root = np.sqrt(1 + 4 * eps * (abs(y) + 1 + eps))
    return float(np.sign(y) * (((root - 1) / (2 * eps)) ** 2 - 1))


def slow_update(
    config: R2D2Config, online: SequenceQ, target: SequenceQ, replayed: ReplayedUnrolls, **wrong: Any
) -> tuple[float, list[float], list[np.ndarray]]:
    """Loss, priorities, and the gradients of the online network's parameters."""
    unroll, cut = replayed.batch, config.burn_in_steps
    total, priorities = torch.zeros((), dtype=torch.float64), []
    fields = unroll.reward.astype(np.float64), unroll.discount.astype(np.float64), unroll.last, unroll.valid
    for b, weight in enumerate(replayed.weight):
        q = q_of_sequence(online, unroll, b, cut, through_burn_in=wrong.get("through_burn_in", False))
        chooser, judge = q.detach().numpy(), q_of_sequence(target, unroll, b, cut).detach().numpy()
        best = (chooser if config.double else judge).argmax(1)
        value = np.zeros((unroll.num_steps + 1, unroll.action.shape[1]))
        value[:, b] = [h_inverse(judge[t, a], config.rescale_eps) for t, a in enumerate(best)]
        tds = []
        for t in range(cut, unroll.num_steps):
            if not unroll.valid[t, b] and not wrong.get("all_rows", False):
                continue
            goal = walked_return(t, b, *fields, value, config.gamma, config.n_step)
            td = h(goal, config.rescale_eps) - q[t, unroll.action[t, b]]
            total = total + (1.0 if wrong.get("no_weights", False) else float(weight)) * td**2 / 2
            tds.append(abs(float(td.detach())))
        share = config.priority_max_share
        priorities.append(share * max(tds) + (1 - share) * sum(tds) / len(tds) if tds else 0.0)
    loss = total / len(replayed.weight)
    gradients = torch.autograd.grad(loss, list(online.parameters()))
    return float(loss.detach()), priorities, [g.numpy() for g in gradients]
