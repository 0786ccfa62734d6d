"""The hooks for Stable-Baselines3 and TorchRL as far as they need neither."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy import stats

from frugalrl.importance import Correction
from frugalrl.integrations import hooks, sb3, slime, torchrl
from frugalrl.integrations.trl_sampler import SamplerCopy
from frugalrl.types import UserError


@pytest.mark.parametrize(
    ("module", "name", "package", "extra"),
    [
        (sb3, "CounteractiveDQN", "stable_baselines3", "sb3"),
        (sb3, "CorrectedPPO", "stable_baselines3", "sb3"),
        (torchrl, "CounteractiveModule", "torchrl", "torchrl"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, package: str, extra: str
) -> None:
    for loaded in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    module._made.cache_clear()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=rf"needs the package {package}; run: pip install 'frugalrl\[{extra}\]'"):
        getattr(module, name)
    module._made.cache_clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize("mixin", [sb3.Counteracts, torchrl.Counteracts])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), None, "a"])
def test_a_share_is_in_0_to_1(mixin: type, share: float) -> None:
    with pytest.raises(UserError, match=r"uniform_share is a share .* in \[0, 1\], but is"):
        mixin(uniform_share=share)


@pytest.mark.parametrize("name", ["sequence-tis:2", "geometric-mask:0.5,2"])
def test_ppo_is_corrected_by_steps(name: str) -> None:
    with pytest.raises(UserError, match="one of steps"):
        sb3.SamplesFromCopy(correction=name)
    with pytest.raises(UserError, match="one of steps"):
        sb3.of_steps(Correction.parse("token-tis:2+k1-sum:0.01") if name[0] == "s" else Correction.parse(name))


@pytest.mark.parametrize("wrong", [None, 2.0])
def test_what_is_no_name_is_said(wrong: object) -> None:
    for takes in (hooks.as_correction, slime.tis_function, lambda c: sb3.SamplesFromCopy(correction=c)):
        with pytest.raises(UserError, match=rf"correction={wrong!r} is no correction: give a short name"):
            takes(wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"sampler_transform={wrong!r} is no name of a transform"):
        sb3.SamplesFromCopy(sampler_transform=wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"SamplerCopy={wrong!r} is no name of a transform"):
        SamplerCopy(wrong)  # type: ignore[arg-type]


def test_names_are_checked() -> None:
    with pytest.raises(UserError, match="did you mean 'token-tis'"):
        sb3.SamplesFromCopy(correction="tokn-tis:2")
    with pytest.raises(UserError, match="bf16"):
        sb3.SamplesFromCopy(sampler_transform="bf61")
    for module in (sb3, torchrl):
        with pytest.raises(AttributeError, match="Counteractive"):
            module.Counteractive  # noqa: B018


def test_members_are_equally_likely() -> None:
    torch.manual_seed(0)
    members = torch.tensor([[True, False, True, True], [False, True, False, False]]).repeat(6_000, 1)
    chosen = torchrl.one_of(members).numpy()
    assert (chosen[1::2] == 1).all()
    counts = np.bincount(chosen[0::2], minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]]).pvalue > 1e-3


def test_actions_keep_their_encoding() -> None:
    explores, chosen = torch.tensor([True, False]), torch.tensor([2, 2])
    one_hot = torch.tensor([[1, 0, 0], [0, 1, 0]])
    assert torchrl.replaced(one_hot, chosen, explores, torch.Size([2, 3])).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert torchrl.replaced(torch.tensor([0, 1]), chosen, explores, torch.Size([2, 3])).tolist() == [2, 1]
    with pytest.raises(UserError, match=r"actions are \[2, 1\], and Q-values \[2, 3\]"):
        torchrl.replaced(torch.zeros(2, 1), chosen, explores, torch.Size([2, 3]))
