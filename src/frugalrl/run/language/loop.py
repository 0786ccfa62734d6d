"""The loop of language models: complete a round of prompts, then make the gradient steps on it. Serial."""

from __future__ import annotations

from collections.abc import Iterator

from frugalrl.algos.grpo import GRPOLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.run.language.warm_start import WarmStart
from frugalrl.run.loop import Counters, Event
from frugalrl.sampling.tokens import TokenSampler
from frugalrl.types import BadBatch, Updated


def token_rounds(
    sampler: TokenSampler, learner: GRPOLearner, warm_start: WarmStart | None, counters: Counters, timer: LapTimer
) -> Iterator[Event]:
    """The rounds of the warm start, as far as it is not over, then those of RL, for ever.

    An agent step is one generated token that counts. Between two events nothing is in flight, so state can be saved.
    """
    while learner.imitating:
        assert warm_start is not None
        yield warm_start.round()
    sampler.load(learner.snapshot())
    timer.lap("transport")
    while True:
        collected = sampler.collect(learner.config.prompts)
        counters.env_steps += collected.env_steps
        updated: list[Updated] = []
        failure = None
        try:
            for update in learner.updates(collected.data):
                updated.append(update)
                counters.updates += 1
        except BadBatch as error:
            failure = error
        if updated:
            sampler.load(learner.snapshot())
            timer.lap("transport")
        yield Event(collected, tuple(updated), (collected.costs, *(u.costs for u in updated)), failure)
