from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from frugalrl.cost import (
    bytes_min_adam,
    bytes_min_forward,
    bytes_min_replay_row,
    bytes_min_replay_sample,
    bytes_min_update,
    count_flops,
    count_flops_of,
)
from frugalrl.types import EnvSpec

MLP = (4 * 64, 64 * 64, 64 * 2)
CONVS = (
    20 * 20 * 32 * 4 * 8 * 8,
    9 * 9 * 64 * 32 * 4 * 4,
    7 * 7 * 64 * 64 * 3 * 3,
    7 * 7 * 64 * 512,
    512 * 6,
)
"""Multiply-adds of one observation, layer by layer."""


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def nature() -> nn.Sequential:
    convs = (nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU())
    return nn.Sequential(*convs, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6))


def by_hand(layers: tuple[int, ...], batch: int) -> tuple[int, int]:
    """A multiply-add is 2; backward costs a weight gradient per layer and an input gradient for all but the first."""
    forward = 2 * batch * sum(layers)
    return forward, forward + 2 * batch * sum(layers[1:])


@pytest.mark.parametrize(("make", "shape", "layers"), [(mlp, (4,), MLP), (nature, (4, 84, 84), CONVS)])
@pytest.mark.parametrize("batch", [1, 32])
def test_flops_equal_the_hand_count(make: type, shape: tuple[int, ...], layers: tuple[int, ...], batch: int) -> None:
    forward, backward = by_hand(layers, batch)
    module, x = make(), torch.zeros(batch, *shape)
    count = count_flops(module, x)
    assert (count.forward, count.backward, count.uncounted) == (forward, 0, ())
    count = count_flops(module, x, backward=True)
    assert (count.forward, count.backward) == (forward, backward)
    assert count.total == forward + backward


def test_memory_format_does_not_change_the_count() -> None:
    module = nature().to(memory_format=torch.channels_last)
    assert count_flops(module, torch.zeros(2, 4, 84, 84), backward=True).total == sum(by_hand(CONVS, 2))


def test_frozen_layers_cost_no_weight_gradient() -> None:
    module = mlp()
    for p in module[0].parameters():
        p.requires_grad_(False)
    # weight gradients of layers 2 and 3, input gradient of layer 3 only
    assert count_flops(module, torch.zeros(8, 4), backward=True).backward == 2 * 8 * (MLP[1] + 2 * MLP[2])


def test_counting_leaves_module_and_randomness_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    torch.manual_seed(0)
    count_flops(module, torch.ones(8, 4), backward=True)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


class CountsItsCalls(nn.Module):
    calls: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.log: list[str] = CALLS

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        CALLS.append(x.device.type)
        if x.sum() > 0:  # looks at values
            return {"q": self.linear(x)}
        return {"q": self.linear(x), "index": x.argmax(1)}


CALLS: list[str] = []


def test_cached_per_shape_and_direction() -> None:
    CALLS.clear()
    module = CountsItsCalls()
    assert count_flops(module, torch.ones(2, 4)).forward == 2 * 2 * 12
    assert CALLS == ["cpu"]
    for _ in range(3):
        count_flops(module, torch.zeros(2, 4))
    assert len(CALLS) == 1
    assert count_flops(module, torch.zeros(5, 4), backward=True).backward == 2 * 5 * 12
    assert len(CALLS) == 2


def test_counting_does_not_load_the_compiler() -> None:
    code = (
        "import sys, torch; from frugalrl.cost.flops import count_flops; "
        "count_flops(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)), "
        "torch.zeros(3, 4), backward=True); "
        "print([m for m in ('torch._dynamo', 'sympy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]", "loading it costs every run 3 to 5 CPU-seconds"


def test_an_operator_without_a_formula_is_named() -> None:
    @torch.library.custom_op("frugal_test::secret", mutates_args=())
    def secret(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    @secret.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    class Secret(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = secret(x)
            return result

    assert count_flops(Secret(), torch.ones(4, 4)).uncounted == ("frugal_test::secret",)


def test_recurrent_layers_are_counted() -> None:
    count = count_flops(nn.LSTM(8, 16), torch.zeros(5, 2, 8))
    assert count.forward == 2 * 5 * 2 * 4 * 16 * (8 + 16)
    assert count.uncounted == ()


def test_flops_of_a_whole_piece_of_work() -> None:
    module, x = mlp(), torch.ones(4, 4)
    assert count_flops_of(lambda: module(x).sum().backward()) == sum(by_hand(MLP, 4))


def test_bytes() -> None:
    module, x = nn.Linear(4, 2), torch.zeros(3, 4)
    weights = (4 * 2 + 2) * 4
    assert bytes_min_forward(module, (x,), module(x)) == weights + 3 * 4 * 4 + 3 * 2 * 4
    assert bytes_min_adam(10) == 280
    assert bytes_min_update(module, (x,), module(x)) == (weights + 48 + 24) + 2 * weights + 7 * weights


def test_replay_bytes() -> None:
    spec = EnvSpec(
        id="x",
        protocol="plain",
        obs_kind="image",
        obs_shape=(4, 84, 84),
        obs_dtype="uint8",
        num_actions=6,
        frame_stack=4,
    )
    frame = 84 * 84
    assert bytes_min_replay_row(spec) == frame + 31
    assert bytes_min_replay_sample(spec, 32) == 32 * (5 * frame + 8 * frame + 58)
    assert bytes_min_replay_sample(spec, 1, n_step=10) == 8 * frame + 8 * frame + 58
    index = EnvSpec(id="x", protocol="plain", obs_kind="index", obs_shape=(), obs_dtype="int64", num_actions=2)
    assert bytes_min_replay_row(index) == 8 + 31
