"""V-trace: value targets and advantages for a policy other than the one that acted; also under ``torch.func.vmap``.

Espeholt et al. 2018, "IMPALA", equation 1 (targets), remark 2 (lambda) and section 4.2 (advantages)::

    delta_t = min(rho_bar, pi/mu) * (r_t + discount_t * V_{t+1} - V_t)
    vs_t    = V_t + delta_t + discount_t * c_t * (vs_{t+1} - V_{t+1})          c_t = lambda * min(c_bar, pi/mu)
    adv_t   = min(pg_rho_bar, pi/mu) * (r_t + discount_t * vs_{t+1} - V_t)

``discount_t`` already holds gamma and is 0 at a game over. Where a row is no transition the trace is cut: there vs = V,
so that the step before it bootstraps from V of the episode's final observation, if its discount is not 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class VTrace(NamedTuple):
    """Targets of one unroll, without gradients, [T, B] each."""

    vs: Tensor
    """Target of the value at each row; V itself where the row is not valid."""
    advantage: Tensor
    """What multiplies the gradient of log pi, truncated ratio included; 0 where the row is not valid."""
    ratio: Tensor
    """pi/mu of the action taken, not truncated; 1 where the row is not valid."""
    error: Tensor
    """The advantage without its ratio: ``r_t + discount_t * vs_{t+1} - V_t``; 0 where the row is not valid."""


@torch.no_grad()
def vtrace(
    log_pi: Tensor,
    log_mu: Tensor,
    reward: Tensor,
    discount: Tensor,
    values: Tensor,
    *,
    valid: Tensor,
    rho_bar: float | None = 1.0,
    c_bar: float | None = 1.0,
    pg_rho_bar: float | None = 1.0,
    lambda_: float = 1.0,
) -> VTrace:
    """Targets and advantages of T steps in B environment rows. What stands in rows that are not valid is not read.

    Args:
        log_pi: [T, B] log-probability of the action taken, under the policy that learns.
        log_mu: [T, B] the same under the policy that acted.
        reward: [T, B]
        discount: [T, B] gamma, or 0 where the return ends.
        values: [T+1, B] of the observations; the last one bootstraps.
        valid: [T, B] bool.
        rho_bar: largest ratio in delta; it decides whose value the targets estimate. None: not truncated.
        c_bar: largest ratio in the trace; it decides how far a correction reaches. None: not truncated.
        pg_rho_bar: largest ratio in the advantage. None: not truncated.
        lambda_: multiplies the trace; 1 gives targets over n steps, 0 over one.

    Raises:
        ValueError: the shapes do not fit together; all are named.
    """
    _check(values, log_pi=log_pi, log_mu=log_mu, reward=reward, discount=discount, valid=valid)
    log_ratio = torch.where(valid, log_pi - log_mu, 0.0)
    ratio = log_ratio.exp()
    rho, c, pg_rho = (ratio if bar is None else ratio.clamp(max=bar) for bar in (rho_bar, c_bar, pg_rho_bar))
    v_tm1, v_t = values[:-1], values[1:]
    gone = torch.where(valid, discount, 0.0)
    delta = torch.where(valid, rho * (reward + gone * v_t - v_tm1), 0.0)
    carry = c * gone if lambda_ == 1.0 else lambda_ * c * gone
    # one fused call per step: for T of 20 to 100 this beats a scan in log T steps on a CPU
    above = torch.zeros_like(values[-1])
    corrections = []
    for delta_t, carry_t in zip(reversed(delta.unbind()), reversed(carry.unbind()), strict=True):
        above = torch.addcmul(delta_t, carry_t, above)
        corrections.append(above)
    vs = v_tm1 + torch.stack(corrections[::-1])
    vs_t = torch.cat((vs[1:], values[-1:]))
    error = torch.where(valid, reward + gone * vs_t - v_tm1, 0.0)
    return VTrace(vs, pg_rho * error, ratio, error)


def _check(values: Tensor, **rows: Tensor) -> None:
    shape = rows["log_pi"].shape
    fits = len(shape) == 2 and len(shape) == values.ndim and values.shape == (shape[0] + 1, shape[1])
    if not fits or shape[0] < 1 or any(x.shape != shape for x in rows.values()):
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in {**rows, "values": values}.items())
        raise ValueError(f"expected values [T+1, B] and the rest [T, B] with T at least 1, but got {shapes}")
