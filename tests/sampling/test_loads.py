"""Loads of weights are on the bill once, whenever a run is cut and resumed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue
from frugalrl.policies.sampler_policy import Member, SamplerPolicy
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.transforms import parse
from frugalrl.sampling.loads import Loads
from frugalrl.types import Cost, EnvSpec, PolicySnapshot

SPEC = EnvSpec(id="x", protocol="p", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=3)


def build() -> torch.nn.Module:
    return build_actor_critic(SPEC, NetConfig(hidden_units=(6,)))


def plain() -> SequencePolicy:
    return SequencePolicy(build, PolicyValue(), torch.device("cpu"), share=False)


def mixed() -> SamplerPolicy:
    plans = [parse(name) for name in ("noise:0.1", "stale:2")]
    return SamplerPolicy([Member(plan, plain(), build(), seed=3) for plan in plans], (1, 1))


def snapshot(version: int) -> PolicySnapshot:
    return PolicySnapshot(version=version, parameters={n: p.detach() for n, p in build().named_parameters()})


@pytest.mark.parametrize("policy", [plain, mixed])
@pytest.mark.parametrize("cuts", [(1,), (3,), (3, 3), (5, 5, 5), (0, 1, 2, 3, 4, 5)])
def test_a_resumed_sampler_books_what_an_uninterrupted_one_does(
    policy: Callable[[], SequencePolicy | SamplerPolicy], cuts: tuple[int, ...]
) -> None:
    """A resumed loop publishes once more what acted; it may be cut again before that."""

    def booked(cuts: tuple[int, ...]) -> Cost:
        loads, total = Loads(policy()), Cost()
        for round_, version in enumerate((0, 0, 2, 3, 3, 3, 4)):
            loads.load(snapshot(version))
            if round_ != 3:  # else it is cut with something that is not yet booked
                total += loads.take()
            for _ in range(cuts.count(round_)):
                saved = loads.state_dict()
                loads = Loads(policy())
                loads.load_state_dict(saved)
            if round_ in cuts:
                loads.load(snapshot(version))
        return total + loads.take()

    assert booked(cuts) == booked(())
    assert booked(()).calls in (3, 4)


def test_a_sampler_of_another_kind_is_refused_and_an_older_checkpoint_is_not() -> None:
    for one, other in ((plain, mixed), (mixed, plain)):
        with pytest.raises(ValueError, match="another one than was saved"):
            Loads(one()).load_state_dict(Loads(other()).state_dict())
    Loads(plain()).load_state_dict({})
