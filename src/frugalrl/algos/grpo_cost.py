"""What the gradient steps of a round cost, by role."""

from __future__ import annotations

from dataclasses import dataclass

from frugalrl.algos.grpo_config import GRPOConfig
from frugalrl.nets.token_cost import sequence_flops, update_bytes
from frugalrl.nets.token_model import TokenModel
from frugalrl.types import Cost


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """Costs of one gradient step, and of what comes before the first one of a round."""

    step: Cost
    before: dict[str, Cost]
    imitation: Cost
    """One supervised step."""

    def of(self, *, first: bool) -> dict[str, Cost]:
        """Of a gradient step, by role."""
        return {"learner": self.step} | (self.before if first else {})


def costs_of_round(
    model: TokenModel,
    config: GRPOConfig,
    *,
    prompt_tokens: int,
    response_tokens: int,
    old: bool,
    reference: bool,
) -> RoundCosts:
    """``old``: log pi_old takes a forward pass of its own; ``reference``: so does the reference of the KL term.

    The model reads prompt and response but for the last token, and answers at the places of the response.
    """
    tokens = prompt_tokens + response_tokens - 1
    flops = sequence_flops(model, tokens, response_tokens)
    size, rows = config.batch_size, config.prompts * config.samples
    passes = Cost(
        calls=config.minibatches,
        flop=rows * flops.forward,
        bytes_min=float(config.minibatches * sum(p.numel() * p.element_size() for p in model.parameters())),
    )
    return RoundCosts(
        step=Cost(
            calls=1, updates=1, flop=size * flops.total, bytes_min=update_bytes(model, size, tokens, response_tokens)
        ),
        before=({"correction": passes} if old else {}) | ({"target": passes} if reference else {}),
        imitation=Cost(
            calls=1,
            flop=config.warm_start_batch * flops.total,
            bytes_min=update_bytes(model, config.warm_start_batch, tokens, response_tokens),
        ),
    )
