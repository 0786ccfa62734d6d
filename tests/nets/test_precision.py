from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from frugalrl.nets.heads import Categorical, Head, Quantiles
from frugalrl.nets.precision import Computing, autocast, bf16_is_slow

CPU = torch.device("cpu")


def operators(dtype: torch.dtype) -> set[str]:
    """What torch runs for the Nature network's second convolution."""
    x, w = torch.ones((32, 32, 20, 20), dtype=dtype), torch.ones((64, 32, 4, 4), dtype=dtype)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.inference_mode():
        torch.nn.functional.conv2d(x, w, stride=2)
    return {event.key for event in profile.key_averages()}


def test_slow_is_where_torch_falls_back_to_a_plain_loop() -> None:
    assert "aten::_slow_conv2d_forward" not in operators(torch.float32)
    assert bf16_is_slow(torch.device("cpu")) == ("aten::_slow_conv2d_forward" in operators(torch.bfloat16))


def test_a_gpu_is_never_slow() -> None:
    assert not bf16_is_slow(torch.device("cuda"))


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5)).to(
        memory_format=torch.channels_last  # type: ignore[call-overload]
    )


def test_in_float32_the_network_itself_computes() -> None:
    net = small()
    computing = Computing(net, "fp32", CPU)
    assert computing.net is net
    assert computing.rounded is None
    computing.net(torch.ones(2, 3, 6, 6)).sum().backward()
    before = [p.grad for p in net.parameters()]
    computing.hand_over()
    computing.stepped()
    assert all(p.grad is g for p, g in zip(net.parameters(), before, strict=True))


def test_in_bf16_a_rounded_copy_computes_what_autocast_computes() -> None:
    net, x = small(), torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    computing, oracle = Computing(net, "bf16", CPU), copy.deepcopy(net)
    for _ in range(3):
        for p in (*net.parameters(), *oracle.parameters()):
            p.grad = None
        with autocast("bf16", CPU):
            expected = oracle(x)
        with computing.autocast():
            got = computing.net(x.to(torch.bfloat16))
        assert got.dtype == torch.bfloat16
        assert torch.equal(got, expected)
        for out in (got, expected):
            out.float().square().sum().backward()
        computing.hand_over()
        for mine, theirs in zip(net.parameters(), oracle.parameters(), strict=True):
            assert mine.grad is not None
            assert mine.grad.dtype == torch.float32
            assert mine.grad.stride() == mine.stride(), "Adam walks both by address"
            assert torch.equal(mine.grad, theirs.grad)
        with torch.no_grad():
            for p in (*net.parameters(), *oracle.parameters()):
                p -= 0.01 * p.grad
        computing.stepped()
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_gradients_are_handed_over_once() -> None:
    net = small()
    computing = Computing(net, "bf16", CPU)
    for _ in range(2):  # a second backward pass must not find the gradients of the first
        computing.net(torch.ones(2, 3, 6, 6, dtype=torch.bfloat16)).sum().backward()
        computing.hand_over()
        found = [p.grad.clone() for p in net.parameters()]
    fresh = Computing(small(), "bf16", CPU)
    fresh.net(torch.ones(2, 3, 6, 6, dtype=torch.bfloat16)).sum().backward()
    assert all(map(torch.equal, found, (p.grad.float() for p in fresh.net.parameters())))


def test_weights_that_are_not_rounded_again_are_the_old_ones() -> None:
    net, x = small(), torch.ones(2, 3, 6, 6, dtype=torch.bfloat16)
    computing = Computing(net, "bf16", CPU)
    before = computing.net(x)
    with torch.no_grad():
        net[3].weight += 1
    assert torch.equal(computing.net(x), before)
    computing.stepped()
    assert not torch.equal(computing.net(x), before)


@pytest.mark.parametrize(("device", "noisy"), [("cpu", True), ("cuda", False)])
def test_noisy_layers_and_gpus_stay_under_autocast(device: str, noisy: bool) -> None:
    net = small()
    computing = Computing(net, "bf16", torch.device(device), noisy=noisy)
    assert computing.net is net
    assert computing.rounded is None


@pytest.mark.parametrize("head", [Categorical(51, -10.0, 10.0), Quantiles(51)], ids=["categorical", "quantiles"])
def test_expectations_are_not_rounded_by_autocast(head: Head) -> None:
    """The learner chooses bootstrap actions inside of it: in bfloat16 values near 8 are 0.06 apart."""
    torch.manual_seed(0)
    mean = 8.0 + 0.1 * torch.randn(1_000, 4, 1)
    grid = torch.linspace(-10.0, 10.0, 51)
    out = -((grid - mean) ** 2) / 2 if isinstance(head, Categorical) else mean + grid / 10
    with autocast("bf16", CPU):
        q = head.to_q(out)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q, head.to_q(out), rtol=0.0, atol=1e-5)
