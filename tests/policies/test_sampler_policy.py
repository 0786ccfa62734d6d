"""Several policies as one: who acts for which row, with what it remembers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue
from frugalrl.policies.engines import onnx_runtime
from frugalrl.policies.sampler_policy import Member, SamplerPolicy, values_of, versions_of
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.transforms import parse
from frugalrl.types import EnvSpec, PolicySnapshot, SamplerNotFinite, UserError

SPEC = EnvSpec(id="x", protocol="p", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=3)


def build(lstm: int | None = 5) -> torch.nn.Module:
    return build_actor_critic(SPEC, NetConfig(hidden_units=(6,), lstm_units=lstm))


def member(name: str) -> Member:
    plan = parse(name)
    policy = SequencePolicy(build, PolicyValue(), torch.device("cpu"), plan.compute_name or "fp32", share=False)
    return Member(plan, policy, build(), seed=3)


def snapshot(version: int) -> PolicySnapshot:
    torch.manual_seed(version)
    return PolicySnapshot(version=version, parameters={n: p.detach() for n, p in build().named_parameters()})


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [4, 0, 2], [1, 0], [3], [2, 4, 3]])
def test_each_row_is_acted_for_by_its_own_member_with_its_own_memory(rows: list[int]) -> None:
    names, counts = ("int2", "stale:4", "none"), (2, 2, 1)
    policy = SamplerPolicy([member(n) for n in names], counts)
    alone = [member(n) for n in names]
    for version in (0, 3, 6):
        policy.load(snapshot(version))
        for one in alone:
            one.load(snapshot(version))
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((5, 4), dtype=np.float32)
    state = policy.initial_state(5)
    state["h"] = rng.standard_normal((5, 5)).astype(np.float32)
    of = np.array(rows)
    here = {name: x[of] for name, x in state.items()}
    values, after = values_of(policy, of, obs[of], here, 0)
    for place, row in enumerate(rows):
        mine = alone[(0, 0, 1, 1, 2)[row]]
        expected, then = mine.policy.values(obs[[row]], {name: x[[row]] for name, x in state.items()})
        np.testing.assert_allclose(values[place], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after["h"][place], then["h"][0], rtol=1e-5, atol=1e-6)
    assert np.array_equal(versions_of(policy, of), np.array([6, 6, 0, 0, 6])[of])
    filled = np.concatenate([obs[of], np.zeros((2, 4), np.float32)])
    longer = {name: np.concatenate([x, np.zeros((2, *x.shape[1:]), x.dtype)]) for name, x in here.items()}
    np.testing.assert_allclose(values_of(policy, of, filled, longer, 0)[0][: len(of)], values, rtol=1e-5, atol=1e-6)


def test_what_was_saved_before_the_first_weights_came_can_be_loaded() -> None:
    """A run writes a checkpoint before it does anything, and may die there."""
    saved = SamplerPolicy([member("stale:4"), member("int2")], (1, 1)).state_dict()
    policy, fresh = (SamplerPolicy([member("stale:4"), member("int2")], (1, 1)) for _ in range(2))
    policy.load_state_dict(saved)
    assert policy.load(snapshot(0)) == fresh.load(snapshot(0)) > 0
    assert policy.versions().tolist() == [0, 0]


def test_weights_of_the_learner_that_are_not_finite_are_not_blamed_on_the_sampler() -> None:
    policy = SamplerPolicy([member("int4")], [2])
    broken = dict(snapshot(0).parameters)
    broken["out.weight"] = torch.full_like(broken["out.weight"], torch.nan)
    policy.load(PolicySnapshot(version=0, parameters=broken))
    obs = np.ones((2, 4), np.float32)
    assert np.isnan(policy.values(obs, policy.initial_state(2))[0]).all()
    policy = SamplerPolicy([member("noise:1e39")], [2])
    policy.load(snapshot(7))
    with pytest.raises(SamplerNotFinite, match=r"\(noise:1e\+39\).*weights of update 7, although"):
        policy.values(obs, policy.initial_state(2))


def test_a_missing_package_is_said_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"packages onnx, onnxruntime; run: pip install 'frugalrl\[onnx\]'"):
        onnx_runtime.OnnxRuntime(build(None), SPEC, int8=False)
