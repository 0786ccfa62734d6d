"""Adam (Kingma & Ba 2015) on torch's fused kernel, with the state by parameter name, and gradient clipping.

``torch.optim.Adam`` computes the same with the same kernel. For a small network its wrappers cost more than the
kernel, and importing what they need costs 1.7 CPU-seconds at the start of every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from frugalrl.types import StateDict

_CLEARED_EVERY = 100
"""Steps between two clearings; a number takes some 140 from the smallest normal one to where rounding keeps it."""
_UNCOUNTED = 16_000_000
"""float32 counts to 2^24; both this number of steps and half of it have bias corrections of exactly 1."""


class Adam:
    """Steps a fixed set of parameters in place. The second beta is 0.999; no weight decay."""

    def __init__(self, parameters: Mapping[str, Tensor], *, lr: float, eps: float, beta1: float = 0.9) -> None:
        self._names = list(parameters)
        self._parameters = list(parameters.values())
        self._lr, self._eps, self._beta1 = lr, eps, beta1
        # moments have the parameter's memory layout: the fused kernel walks all of them by address
        self._state: dict[str, list[Tensor]] = {
            "step": [torch.zeros((), dtype=torch.float32, device=p.device) for p in self._parameters],
            "exp_avg": [torch.zeros_like(p, requires_grad=False) for p in self._parameters],
            "exp_avg_sq": [torch.zeros_like(p, requires_grad=False) for p in self._parameters],
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def clip(self, max_norm: float) -> float:
        """Scale all gradients so that their joint Euclidean norm is at most ``max_norm``; returns the norm before."""
        gradients = self._gradients()
        norm: float = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])).item()
        scale = max_norm / (norm + 1e-6)
        if scale < 1.0:
            for gradient in gradients:
                gradient.mul_(scale)
        return norm

    @torch.no_grad()
    def step(self, lr: float | None = None) -> None:
        """One step along the gradients; ``lr``: of this step only, None for the one given at the start."""
        lr = self._lr if lr is None else lr
        fused_step(self._parameters, self._gradients(), self._state, lr=lr, eps=self._eps, beta1=self._beta1)

    @property
    def parameters(self) -> list[Tensor]:
        """What is stepped."""
        return self._parameters

    def guarded_step(self, loss: Tensor, max_norm: float | None) -> Tensor:
        """Gradients of ``loss``, clipping and a step, without the host: a loss or norm that is not finite leaves
        parameters and state as they are. Returns the global norm before clipping; 0 where nothing is clipped.

        For a CUDA device, whose fused kernel reads ``found_inf``. Nothing is written to ``.grad``.
        """
        gradients = list(torch.autograd.grad(loss, self._parameters))
        with torch.no_grad():
            gradients = [_laid_out(g, p) for g, p in zip(gradients, self._parameters, strict=True)]
            norm = torch.zeros_like(loss)
            if max_norm is not None:
                norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
                torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
            self.step_unless((~(torch.isfinite(loss) & torch.isfinite(norm))).to(torch.float32), gradients)
        return norm

    @torch.no_grad()
    def step_unless(self, found_inf: Tensor, gradients: list[Tensor]) -> None:
        """A step along these gradients, which have the memory layout of their parameters, without the host;
        ``found_inf``: a scalar, 1 leaves parameters and state as they are."""
        fused_step(self._parameters, gradients, self._state, lr=self._lr, eps=self._eps, found_inf=found_inf)
        torch._foreach_sub_(self._state["step"], [found_inf] * len(self._parameters))

    def move_to(self, state: Mapping[str, list[Tensor]]) -> None:
        """Keep the state in these tensors from now on, ``step``, ``exp_avg`` and ``exp_avg_sq``; what is here moves."""
        for key, tensors in state.items():
            torch._foreach_copy_(tensors, self._state[key])
        self._state = dict(state)

    def state_dict(self) -> StateDict:
        """``name/step``, ``name/exp_avg``, ``name/exp_avg_sq`` of each parameter: the live tensors."""
        state: StateDict = {}
        for key, tensors in self._state.items():
            state |= {f"{name}/{key}": tensor for name, tensor in zip(self._names, tensors, strict=True)}
        return state

    def load_state_dict(self, state: StateDict) -> None:
        """Copy a state into the live tensors, which keep their layout. Raises KeyError for a missing parameter."""
        for key, tensors in self._state.items():
            for name, tensor in zip(self._names, tensors, strict=True):
                tensor.copy_(torch.as_tensor(state[f"{name}/{key}"]))

    def _gradients(self) -> list[Any]:
        return [p.grad for p in self._parameters]


def _laid_out(gradient: Tensor, like: Tensor) -> Tensor:
    """In the memory layout of its parameter, which the kernel walks by address; ``backward`` does the same."""
    return gradient if gradient.stride() == like.stride() else torch.empty_like(like).copy_(gradient)


def fused_step(
    parameters: list[Tensor],
    gradients: list[Any],
    state: Mapping[str, list[Tensor]],
    *,
    lr: float,
    eps: float,
    beta1: float = 0.9,
    found_inf: Tensor | None = None,
) -> None:
    """One step of Adam in place; ``state`` holds ``step``, ``exp_avg`` and ``exp_avg_sq`` of each parameter.

    ``found_inf``: a flag on a CUDA device; 1 leaves parameters and moments as they are.
    """
    steps = state["step"]
    torch._foreach_add_(steps, 1)
    torch._fused_adam_(
        parameters,
        gradients,
        state["exp_avg"],
        state["exp_avg_sq"],
        [],
        steps,
        lr=lr,
        beta1=beta1,
        beta2=0.999,
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
        found_inf=found_inf,
    )
    if steps[0].device.type == "cpu" and steps[0].item() % _CLEARED_EVERY == 0:
        if steps[0].item() >= _UNCOUNTED:
            torch._foreach_sub_(steps, _UNCOUNTED / 2)
        for moment in (*state["exp_avg"], *state["exp_avg_sq"]):
            clear_denormals(moment)


def clear_denormals(moment: Tensor) -> None:
    """Set what is nearer to 0 than the smallest normal number to 0, in place.

    The mean gradient of a weight that gets none any more shrinks by ``beta1`` per step until it is a denormal number
    that rounding keeps for ever: a tenth and more of all weights after 100,000 steps of Freeway. Some processors take
    hundreds of cycles for a vector that has one (``benchmarks/adam_denormals.py``). No weight feels the difference:
    such a step is far below its last digit.
    """
    moment.masked_fill_(moment.abs() < torch.finfo(moment.dtype).smallest_normal, 0.0)
