"""The sampler of language models: groups, rewards, versions, costs, and a state that is one number."""

from __future__ import annotations

import numpy as np
import torch

from frugalrl.cost.meters import LapTimer
from frugalrl.envs.lm import find_task, train_prompts
from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.token_model import TokenModel, build_token_model
from frugalrl.policies.tokens import TokenPolicy
from frugalrl.sampling.tokens import TokenSampler
from frugalrl.types import PolicySnapshot

TASK = find_task("lm:copy", {"length": 2, "end": True})
TINY = TokenNetConfig(layers=1, width=8, heads=2, mlp_width=8)


def build() -> TokenModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        longest = TASK.prompt_tokens + TASK.answer_tokens
        return build_token_model(TINY, vocabulary=len(TASK.vocabulary), longest=longest)


def sampler(every: int = 1) -> TokenSampler:
    engine = TokenPolicy(
        build,
        torch.device("cpu"),
        prompt_tokens=TASK.prompt_tokens,
        response_tokens=TASK.answer_tokens,
        end=TASK.end,
        temperature=1.0,
        seed=2,
        sync_every_updates=every,
    )
    timer = LapTimer()
    timer.start()
    made = TokenSampler(engine, TASK, samples=4, seed=7, timer=timer)
    made.load(PolicySnapshot(version=3, parameters=dict(build().named_parameters())))
    return made


def test_completions_of_a_prompt_stand_together_and_all_is_counted() -> None:
    got = sampler().collect(5)
    data = got.data
    np.testing.assert_array_equal(data.group, np.repeat(np.arange(5), 4))
    np.testing.assert_array_equal(data.prompt, np.repeat(train_prompts(TASK, 7, 0, 5), 4, axis=0))
    assert (data.version == 3).all()
    assert got.env_steps == data.mask.sum() == sum(e.length for e in got.episodes)
    assert [e.raw_return for e in got.episodes] == data.reward.tolist()
    np.testing.assert_array_equal(data.reward, (data.response == TASK.answer(data.prompt)).all(-1))
    assert set(got.costs) == {"environment", "inference", "transport"}
    assert got.costs["inference"].calls == TASK.answer_tokens
    weights = sum(p.numel() for p in build().parameters())
    # kept as a snapshot, then copied into the module: each time read and written
    assert got.costs["transport"].bytes_min == 4 * 4 * weights
    assert len({tuple(row) for row in data.response[:4]}) > 1


def test_a_sampler_that_was_brought_back_goes_on_bit_for_bit() -> None:
    one = sampler()
    one.collect(3)
    state = one.state_dict()
    expected = one.collect(4).data
    other = sampler()
    assert other.load_state_dict(state) == ()
    found = other.collect(4).data
    for name in ("prompt", "response", "mask", "log_mu", "group", "version", "reward"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_snapshot_that_the_engine_does_not_take_is_no_transport() -> None:
    """Of versions 3 to 10 every third is taken, also after the sampler was brought back in between."""
    parameters = dict(build().named_parameters())
    made = sampler(every=3)
    one = made.collect(1).costs["transport"]
    for version in (4, 5, 6, 7):
        made.load(PolicySnapshot(version=version, parameters=parameters))
    again = sampler(every=3)
    again.load_state_dict(made.state_dict())
    for version in (7, 8, 9, 10):
        again.load(PolicySnapshot(version=version, parameters=parameters))
    got = again.collect(1)
    assert (got.data.version == 9).all()
    assert one.calls == 1
    assert got.costs["transport"].calls == 2
    assert one.bytes_min is not None
    assert got.costs["transport"].bytes_min == 2 * one.bytes_min
