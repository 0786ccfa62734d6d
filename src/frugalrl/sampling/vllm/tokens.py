"""vLLM behind the calls of `frugalrl.sampling.tokens.TokenEngine`: weights from snapshots, completions by number."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from frugalrl.cost.meters import LapTimer
from frugalrl.nets.token_cost import generation_cost
from frugalrl.nets.token_model import TokenModel
from frugalrl.policies.tokens import Generated
from frugalrl.policies.transforms import Transformer, parse
from frugalrl.sampling.vllm.engine import VllmEngine
from frugalrl.sampling.vllm.heads import Heads
from frugalrl.types import Costs, EngineFailed, PolicySnapshot, RunFailed, StateDict

_PRECISION = {"": "fp32", "bf16": "bf16", "int8-dynamic": "int8"}
_PREFIX = "lm."
"""`TokenModel` holds Hugging Face's model under this name."""
_PER_COUNT = 4


def completion_seeds(seed: int, first: int, rows: int) -> NDArray[np.int64]:
    """[rows] seeds: row i is that of completion ``first + i``, whatever the batch around it.

    One count of the Philox generator each (Salmon et al. 2011), as in `frugalrl.policies.tokens.uniforms`.
    """
    words = np.random.Philox(key=seed, counter=first).random_raw(rows * _PER_COUNT)[::_PER_COUNT]
    return (words >> np.uint64(1)).astype(np.int64)


class VllmTokens:
    """Generates in vLLM's process with its own copy of the weights.

    Rounding, noise and age of a transform are done to the weights here, before they are pushed; ``bf16`` and ``int8``
    are the engine's own arithmetic.
    """

    def __init__(
        self,
        build: Callable[[], TokenModel],
        python: Path,
        *,
        prompt_tokens: int,
        response_tokens: int,
        end: int | None,
        temperature: float,
        seed: int,
        timer: LapTimer,
        transform: str = "none",
        sync_every_updates: int = 1,
    ) -> None:
        """Nothing is started before ``load``. Arguments as those of `TokenPolicy`, and:

        Args:
            python: see `find_python`.
            timer: of the thread that calls; the building of the engine is a lap of its own.

        Raises UserError for a transform that is not known, and for a model that vLLM cannot compute.
        """
        plan = parse(transform, "sampler.transform")
        of_weights = [part for part in plan.name.split("+") if part != plan.compute_name]
        model = build()
        self._transformer = Transformer(
            model, "+".join(of_weights) or "none", seed=seed, sync_every_updates=sync_every_updates
        )
        self._heads = Heads(model.lm.config.to_dict())
        self._engine = VllmEngine(python, _PRECISION[plan.compute_name], max_length=prompt_tokens + response_tokens)
        # weights have the sizes that the same arithmetic gives them here; vLLM computes in bf16 around int8
        acts = model if plan.compute is None else plan.compute.prepare(copy.deepcopy(model)).to(torch.bfloat16)
        self._cost = generation_cost(model, prompt_tokens, response_tokens, acts)
        self._width, self._end, self._temperature, self._seed = response_tokens, end, temperature, seed
        self._timer = timer
        self._pushed: int | None = None
        self._failure: RunFailed | None = None

    @property
    def version(self) -> int:
        """Of the weights that act; -1 before there are any."""
        return self._transformer.version

    def keep_output(self, folder: Path) -> None:
        """Append what the process prints to ``vllm.log`` in this folder; before the first ``load``."""
        self._engine.log = folder / "vllm.log"

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a copy of these parameters; returns the bytes moved, 0 for a snapshot that is not taken.

        A process that fails is told of by the next ``generate``: there, the learner is between two rounds.
        """
        moved = self._transformer.load(snapshot)
        if self.version != self._pushed and self._failure is None:
            moved += self._push()
        return moved

    def _push(self) -> int:
        first = self._pushed is None
        weights = {n.removeprefix(_PREFIX): w for n, w in self._transformer.module.named_parameters()}
        try:
            moved = self._engine.load(self._heads.config, self._heads.widened(weights))
        except RunFailed as error:
            self._failure = error
            return 0
        self._pushed = self.version
        if first:
            self._timer.lap("startup")
        return moved

    def generate(self, prompt: NDArray[np.int64], first: int) -> Generated:
        """Responses to [N, P] prompts, as completions ``first`` to ``first + N - 1`` of the seed's stream.

        Raises EngineFailed: the process failed, now or when it was given weights, or its log-probabilities are not
        finite.
        """
        if self._failure is not None:
            raise EngineFailed(str(self._failure))
        rows = len(prompt)
        try:
            done = self._engine.generate(
                prompt,
                np.full(rows, prompt.shape[1]),
                completion_seeds(self._seed, first, rows),
                max_tokens=self._width,
                temperature=self._temperature,
                eos_token_id=self._end,
            )
        except RunFailed as error:
            raise EngineFailed(str(error)) from None
        mask = np.arange(self._width) < done.counts[:, None]
        log_mu = np.where(mask, done.log_mu, np.float32(np.nan))
        return Generated(done.tokens, mask, log_mu, self._cost.of_each(done.counts))

    def take_costs(self) -> Costs:
        """CPU-seconds of the process since the last time."""
        return self._engine.take_costs()

    def state_dict(self) -> StateDict:
        """Older weights, where the transform or the sync keeps them."""
        return self._transformer.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """The inverse; before the first ``load``, which builds the engine with them."""
        self._transformer.load_state_dict(state)

    def close(self) -> None:
        """End the process."""
        self._engine.close()
