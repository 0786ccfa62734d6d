"""The token policy: one definition of its probabilities, for whoever generates and for whoever learns.

With logits z of a model and a temperature T the policy is ``softmax(z / T)``. The logits are divided, never the
log-probabilities. Nothing else is done to them: no top-k, no top-p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.nets.token_cost import generation_cost
from frugalrl.nets.token_model import TokenModel
from frugalrl.policies.transforms import Transformer
from frugalrl.types import Cost, Costs, PolicySnapshot, StateDict

_PER_COUNT = 4
"""Numbers that one count of the Philox generator makes."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Responses to a batch of prompts; numpy arrays [N, R]."""

    response: NDArray[np.int64]
    """0 where ``mask`` is False."""
    mask: NDArray[np.bool_]
    log_mu: NDArray[np.float32]
    """NaN where ``mask`` is False."""
    cost: Cost
    """Of inference, without the seconds of the calling thread."""


def log_policy(model: TokenModel, prompt: Tensor, response: Tensor, temperature: float) -> Tensor:
    """[N, P], [N, R] -> [N, R, V]: log-probabilities of every token at every place of the response, with gradient."""
    ids = torch.cat((prompt, response[:, :-1]), 1)
    return torch.log_softmax(model(ids, response.shape[1]) / temperature, -1)


def log_probs(log_pi_all: Tensor, response: Tensor) -> Tensor:
    """[N, R, V], [N, R] -> [N, R]: of what stands in the response."""
    return log_pi_all.gather(-1, response[..., None])[..., 0]


def uniforms(seed: int, first: int, rows: int, width: int) -> NDArray[np.float64]:
    """[rows, width] draws in [0, 1): row i is that of completion ``first + i``, whatever the batch around it.

    A counted stream (Salmon et al. 2011, Philox): each completion has its own counts, so the number of completions is
    all that a checkpoint needs to know.
    """
    counts = -(-width // _PER_COUNT)
    generator = np.random.Generator(np.random.Philox(key=seed, counter=first * counts))
    return generator.random((rows, counts * _PER_COUNT))[:, :width]


class TokenPolicy:
    """Generates with its own copy of a model, in this process."""

    def __init__(
        self,
        build: Callable[[], TokenModel],
        device: torch.device,
        *,
        prompt_tokens: int,
        response_tokens: int,
        end: int | None,
        temperature: float,
        seed: int,
        transform: str = "none",
        sync_every_updates: int = 1,
    ) -> None:
        """
        Args:
            build: makes the model; weights come with ``load``.
            device: on which it generates.
            prompt_tokens: P.
            response_tokens: R, the longest response.
            end: the token that ends a response; None for responses of R tokens each.
            temperature: divides the logits.
            seed: of the stream of draws, and of a transform's noise.
            transform: what is done to weights and arithmetic, see `frugalrl.policies.transforms`.
            sync_every_updates: updates between two snapshots that are taken.
        """
        model = build().to(device)
        self._transformer = Transformer(model, transform, seed=seed, sync_every_updates=sync_every_updates)
        self._device = device
        self._width, self._end, self._temperature, self._seed = response_tokens, end, temperature, seed
        self._cost = generation_cost(model, prompt_tokens, response_tokens, self._transformer.module)

    @property
    def version(self) -> int:
        """Of the weights that act; -1 before there are any."""
        return self._transformer.version

    @property
    def model(self) -> TokenModel:
        """What acts."""
        model = self._transformer.module
        assert isinstance(model, TokenModel)
        return model

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a copy of these parameters; returns the bytes moved, 0 for a snapshot that is not taken."""
        return self._transformer.load(snapshot)

    def keep_output(self, folder: Path) -> None:
        """It prints nothing."""

    def take_costs(self) -> Costs:
        """Nothing: it works in the calling thread."""
        return {}

    def close(self) -> None:
        """Nothing is open."""

    def state_dict(self) -> StateDict:
        """Older weights, where the transform keeps them."""
        return self._transformer.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """The inverse."""
        self._transformer.load_state_dict(state)

    @torch.inference_mode()
    def generate(self, prompt: NDArray[np.int64], first: int) -> Generated:
        """Responses to [N, P] prompts, as completions ``first`` to ``first + N - 1`` of the seed's stream."""
        rows, width, model = len(prompt), self._width, self.model
        draws = torch.as_tensor(uniforms(self._seed, first, rows, width)).to(self._device)
        ids = torch.as_tensor(prompt).to(self._device)
        response = torch.zeros((rows, width), dtype=torch.int64, device=self._device)
        log_mu = torch.full((rows, width), torch.nan, device=self._device)
        mask = torch.zeros((rows, width), dtype=torch.bool, device=self._device)
        alive = torch.ones(rows, dtype=torch.bool, device=self._device)
        cache, passes = model.empty_cache(), 0
        for t in range(width):
            log_pi = torch.log_softmax(model.extend(ids, cache) / self._temperature, -1)
            passes += 1
            token = inverse_cdf(log_pi, draws[:, t])
            ids = token[:, None]
            response[:, t], mask[:, t] = token * alive, alive
            chosen = log_pi.gather(-1, ids)[:, 0]
            log_mu[:, t] = torch.where(alive, chosen.float(), torch.nan)
            if self._end is not None:
                alive = alive & (token != self._end)
                if not alive.any():
                    break
        arrays: list[NDArray[Any]] = [x.cpu().numpy() for x in (response, mask, log_mu)]
        return Generated(arrays[0], arrays[1], arrays[2], self._cost.of(rows, passes))


def inverse_cdf(log_pi: Tensor, u: Tensor) -> Tensor:
    """[N, V], [N] draws in [0, 1) -> [N] tokens; a token of probability 0 is never one of them."""
    reached = log_pi.double().exp().cumsum(-1)
    return (reached <= u[:, None] * reached[:, -1:]).sum(-1)
