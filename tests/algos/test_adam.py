"""Adam against torch's own, and clipping against torch's own: same numbers from the same kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from frugalrl.algos.adam import _CLEARED_EVERY, _UNCOUNTED, Adam, clear_denormals


def networks(layout: torch.memory_format) -> tuple[nn.Module, nn.Module]:
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
        made.append(net.to(memory_format=layout))  # type: ignore[call-overload]
    return made[0], made[1]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("max_norm", [None, 0.1, 1e9])
def test_equals_torch_bit_for_bit(layout: torch.memory_format, max_norm: float | None) -> None:
    one, two = networks(layout)
    ours = Adam(dict(one.named_parameters()), lr=1e-2, eps=1e-8)
    theirs = torch.optim.Adam(two.parameters(), lr=1e-2, eps=1e-8, fused=True)
    for _ in range(20):
        x = torch.randn(5, 4, 8, 8)
        ours.zero_grad()
        theirs.zero_grad()
        for net in (one, two):
            net(x).square().mean().backward()
        if max_norm is not None:
            norm = ours.clip(max_norm)
            assert norm == pytest.approx(nn.utils.clip_grad_norm_(two.parameters(), max_norm).item(), rel=1e-6)
        ours.step()
        theirs.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0 if max_norm is None else 1e-4, atol=0 if max_norm is None else 1e-6)


def test_clipping_scales_the_whole_gradient_and_leaves_a_small_one_alone() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = Adam({"w": weight}, lr=1.0, eps=1e-8)
    weight.grad = torch.tensor([3.0, 4.0])
    assert optimizer.clip(10.0) == 5.0
    assert weight.grad.tolist() == [3.0, 4.0]
    assert optimizer.clip(1.0) == 5.0
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))


def test_building_it_does_not_import_the_compiler() -> None:
    """torch.optim.Adam does, for 1.7 CPU-seconds at the start of every run."""
    import subprocess
    import sys

    code = (
        "import torch, sys; from frugalrl.algos.adam import Adam; p = torch.ones(2, requires_grad=True); "
        "p.sum().backward(); Adam({'p': p}, lr=.1, eps=1e-8).step(); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_another_beta_and_a_rate_that_falls_equal_torch_bit_for_bit(beta1: float) -> None:
    one, two = networks(torch.contiguous_format)
    ours = Adam(dict(one.named_parameters()), lr=1.0, eps=1e-8, beta1=beta1)
    theirs = torch.optim.Adam(two.parameters(), lr=1.0, eps=1e-8, betas=(beta1, 0.999), fused=True)
    for k in range(5):
        x = torch.randn(5, 4, 8, 8)
        ours.zero_grad()
        theirs.zero_grad()
        for net in (one, two):
            net(x).square().mean().backward()
        theirs.param_groups[0]["lr"] = rate = 1e-2 * (1 - k / 5)
        ours.step(rate)
        theirs.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("max_norm", [None, 0.1, 1e9])
def test_the_guarded_step_is_the_step(max_norm: float | None) -> None:
    """The CPU's fused kernel reads the flag as well."""
    one, two = networks(torch.channels_last)
    guarded, plain = (Adam(dict(n.named_parameters()), lr=1e-2, eps=1e-8) for n in (one, two))
    for _ in range(5):
        x = torch.randn(5, 4, 8, 8)
        norm = guarded.guarded_step(one(x).square().mean(), max_norm)
        plain.zero_grad()
        two(x).square().mean().backward()
        if max_norm is not None:
            assert norm.item() == pytest.approx(plain.clip(max_norm), rel=1e-5)
        plain.step()
    for name, tensor in guarded.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-4, atol=1e-7)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_the_guarded_step_leaves_everything_where_the_loss_is_not_finite(bad: float, max_norm: float | None) -> None:
    net, _ = networks(torch.contiguous_format)
    adam = Adam(dict(net.named_parameters()), lr=1e-2, eps=1e-8)
    x = torch.randn(5, 4, 8, 8)
    adam.guarded_step(net(x).square().mean(), max_norm)
    before = {name: t.clone() for name, t in adam.state_dict().items()}
    weights = [p.detach().clone() for p in net.parameters()]
    adam.guarded_step(net(x).square().mean() * bad, max_norm)
    assert all(torch.equal(before[name], t) for name, t in adam.state_dict().items())
    assert all(torch.equal(w, p) for w, p in zip(weights, net.parameters(), strict=True))
    adam.guarded_step(net(x).square().mean(), max_norm)
    assert not any(torch.equal(w, p) for w, p in zip(weights, net.parameters(), strict=True))


def stepped(share: float, steps_before: int) -> tuple[Adam, torch.optim.Adam, Tensor, Tensor]:
    """Ours and torch's, the same state with denormal mean gradients, one step along gradients that are partly 0."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(64, 50, generator=generator) * 1e-3
    mean[torch.rand(64, 50, generator=generator) < share] = 5e-45
    gradient = torch.where(mean.abs() < 1e-38, 0.0, mean)
    ours, theirs = (torch.full((64, 50), 0.02, requires_grad=True) for _ in range(2))
    done = torch.tensor(float(steps_before))
    mine = Adam({"w": ours}, lr=1e-3, eps=1e-8)
    mine.load_state_dict({"w/step": done, "w/exp_avg": mean, "w/exp_avg_sq": gradient.square()})
    torchs = torch.optim.Adam([theirs], lr=1e-3, eps=1e-8, fused=True)
    theirs.grad = torch.zeros_like(theirs)
    torchs.step()
    torchs.state[theirs].update(step=done.clone(), exp_avg=mean.clone(), exp_avg_sq=gradient.square())
    with torch.no_grad():
        theirs.fill_(0.02)
    for parameter in (ours, theirs):
        parameter.grad = gradient.clone()
    mine.step()
    torchs.step()
    return mine, torchs, ours, theirs


@pytest.mark.parametrize(("steps_before", "cleared"), [(99, True), (100, False), (24_999, True)])
def test_denormal_numbers_leave_the_state_and_the_weights_do_not_feel_it(steps_before: int, cleared: bool) -> None:
    mine, torchs, ours, theirs = stepped(0.3, steps_before)
    assert torch.equal(ours, theirs)
    kept = torchs.state[theirs]["exp_avg"]
    small = (kept != 0) & (kept.abs() < torch.finfo(torch.float32).smallest_normal)
    assert 0.2 < small.float().mean() < 0.4, "torch keeps them"
    state = mine.state_dict()
    assert torch.equal(state["w/exp_avg"], torch.where(small, 0.0, kept) if cleared else kept)
    assert torch.equal(state["w/exp_avg_sq"], torchs.state[theirs]["exp_avg_sq"])


def test_steps_are_counted_beyond_what_float32_holds() -> None:
    """Else denormal numbers are never cleared again after 2^24 steps, and no weight would feel it but the clock."""
    before = 15_999_999
    mine, torchs, ours, theirs = stepped(0.3, before)
    assert mine.state_dict()["w/step"].item() == 8_000_000
    assert torchs.state[theirs]["step"].item() == 16_000_000
    for _ in range(20):
        mine.step()
        torchs.step()
    assert mine.state_dict()["w/step"].item() == 8_000_020
    assert torch.equal(ours, theirs), "the bias corrections are 1 to the last digit"
    assert _UNCOUNTED % _CLEARED_EVERY == _UNCOUNTED // 2 % _CLEARED_EVERY == 0
    assert _UNCOUNTED + 1 < 2**24


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_denormal_numbers_are_cleared(dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).smallest_normal
    x = torch.tensor([0.0, smallest, -smallest, smallest / 2, -smallest / 4, 1.0, -1e-30], dtype=dtype)
    clear_denormals(x)
    assert x.tolist() == torch.tensor([0.0, smallest, -smallest, 0.0, 0.0, 1.0, -1e-30], dtype=dtype).tolist()


def test_a_weight_without_gradient_would_keep_a_denormal_number_for_ever() -> None:
    """What `clear_denormals` is for: the state after a gradient of 1 and then none, in ours and in torch's."""
    ours, theirs = (torch.ones(40, requires_grad=True) for _ in range(2))
    mine, torchs = Adam({"w": ours}, lr=1e-3, eps=1e-8), torch.optim.Adam([theirs], lr=1e-3, eps=1e-8, fused=True)
    for number in range(1_200):
        ours.grad, theirs.grad = (torch.full((40,), float(number == 0)) for _ in range(2))
        mine.step()
        torchs.step()
    assert torch.equal(ours, theirs)
    assert bool((torchs.state[theirs]["exp_avg"] != 0).all())
    assert not mine.state_dict()["w/exp_avg"].any()
