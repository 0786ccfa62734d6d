"""The recurrent core: fused calls equal the loop over steps, and forgetting at resets matters."""

import pytest
import torch

from frugalrl.nets.lstm_scan import lstm_scan
from frugalrl.nets.recurrent import LSTMCore
from oracles.recurrent import lstm_unroll

T, B, F, A, H = 23, 4, 3, 2, 5


def case(seed, share, dtype=torch.float64):
    torch.manual_seed(seed)
    core = LSTMCore(F, A, H).to(dtype)
    reset = torch.rand(T + 1, B) < share
    reset[0] = False
    state = {
        "h": torch.randn(B, H, dtype=dtype),
        "c": torch.randn(B, H, dtype=dtype),
        "action_tm1": torch.tensor([-1, 0, 1, -1]),
        "reward_tm1": torch.randn(B),
    }
    x = torch.randn(T + 1, B, F, dtype=dtype, requires_grad=True)
    return core, x, torch.randint(A, (T, B)), torch.randn(T, B), reset, state


@pytest.mark.parametrize(("share", "way"), [(0.0, "fused"), (0.02, "cut"), (0.1, "scan"), (0.5, "scan"), (1.0, "scan")])
def test_the_unroll_is_the_loop_over_steps(share, way):
    core, x, action, reward, reset, state = case(3, share)
    cuts = int(reset.any(1).sum())
    assert way == ("fused" if not cuts else "cut" if 8 * cuts <= T + 1 else "scan")
    fast = core.unroll(x, action, reward, reset, state)
    slow, _ = lstm_unroll(core, x, action, reward, reset, state)
    torch.testing.assert_close(fast, slow)
    weights = torch.randn_like(slow)
    leaves = [x, *core.parameters()]
    for a, b in zip(
        torch.autograd.grad((fast * weights).sum(), leaves),
        torch.autograd.grad((slow * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_the_scan_is_that_of_differences():
    torch.manual_seed(0)
    args = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 2, 8), (8, 2), (2, 2), (2, 2))
    ]
    keep = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64).unsqueeze(-1)
    assert torch.autograd.gradcheck(lambda *a: lstm_scan(*a, keep), args)


def test_an_unroll_that_forgets_nothing_is_another_one():
    core, x, action, reward, reset, state = case(3, 0.3)
    slow, _ = lstm_unroll(core, x, action, reward, reset, state)
    never = core.unroll(x, action, reward, torch.zeros_like(reset), state)
    assert (never - slow).abs().max() > 0.01


def test_steps_that_carry_their_state_give_the_unroll():
    core, x, action, reward, reset, state = case(5, 0.2)
    whole = core.unroll(x, action, reward, reset, state)
    initial = core.initial_state(B)
    for t in range(T + 1):
        if t:
            state = {**state, "action_tm1": action[t - 1], "reward_tm1": reward[t - 1]}
            state = {k: torch.where(reset[t].view(-1, *[1] * (v.dim() - 1)), initial[k], v) for k, v in state.items()}
        y, state = core.step(x[t], state)
        torch.testing.assert_close(y, whole[t])


def test_no_gradient_crosses_a_reset():
    core, x, action, reward, _, state = case(1, 0.0)
    reset = torch.zeros(T + 1, B, dtype=torch.bool)
    reset[4, 1] = True
    (grad,) = torch.autograd.grad(core.unroll(x, action, reward, reset, state)[4:].sum(), x)
    assert (grad[:4, 1] == 0).all()
    assert (grad[:4, 0] != 0).any()


def test_the_initial_state_says_that_nothing_happened_yet():
    state = LSTMCore(F, A, H).initial_state(3)
    assert state["action_tm1"].tolist() == [-1] * 3
    assert state["action_tm1"].dtype == torch.int64
    assert all((state[k] == 0).all() for k in ("h", "c", "reward_tm1"))
    assert state["h"].shape == (3, H)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_under_autocast_the_state_keeps_its_precision(share):
    core, x, action, reward, reset, state = case(2, share, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = core.unroll(x, action, reward, reset, state)
        rounded = core.unroll(x.bfloat16(), action, reward, reset, state)
        _, after = core.step(x[0].bfloat16(), state)
    assert y.dtype == after["h"].dtype == after["c"].dtype == torch.float32
    torch.testing.assert_close(y, core.unroll(x, action, reward, reset, state))
    torch.testing.assert_close(y, rounded, atol=0.02, rtol=0.02)


def test_a_rounded_copy_acts_with_a_float32_state():
    core, x, *_, state = case(2, 0.0, torch.float32)
    full, _ = core.step(x[0], state)
    y, after = core.to(torch.bfloat16).step(x[0], state)
    assert y.dtype == torch.bfloat16
    assert after["c"].dtype == torch.float32
    torch.testing.assert_close(y.float(), full, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("cut", [1, 3, T])
def test_a_burn_in_and_the_rest_are_the_whole(cut):
    core, x, action, reward, reset, state = case(4, 0.3)
    before = core.state_after(x[:cut], action[:cut], reward[:cut], reset[: cut + 1], state)
    rest = core.unroll(x[cut:], action[cut:], reward[cut:], reset[cut:], before)
    torch.testing.assert_close(rest, core.unroll(x, action, reward, reset, state)[cut:])
    late = core.unroll(x[cut:], action[cut:], reward[cut:], reset[cut:], state)
    assert (late - rest).abs().max() > 0.01
