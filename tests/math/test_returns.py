"""n-step returns of unrolls against a walk, with ends of every kind; wrong walks must be told apart."""

import numpy as np
import pytest
import torch

from frugalrl.math.returns import double_q_values, n_step_returns
from oracles.replay import Stream, random_events
from oracles.returns import walked_return

T, B, GAMMA = 14, 5, 0.9


def case(seed):
    rng = np.random.default_rng(seed)
    stream = Stream(B, 1, dtype="float32")
    stream.play(random_events(3, B, rng))
    rows = stream.play(random_events(T, B, rng))
    value = rng.normal(size=(T + 1, B))
    fields = rows.reward.astype(np.float64), rows.discount.astype(np.float64), rows.last, rows.valid
    return (*fields, value)


def fast(reward, discount, _, valid, value, n):
    args = (torch.from_numpy(x) for x in (reward, GAMMA * discount, valid, value))
    return n_step_returns(*args, n_step=n).numpy()


def walked(fields, n, **wrong):
    valid = fields[3]
    out = np.full(valid.shape, np.nan)
    for t, b in zip(*np.nonzero(valid), strict=True):
        out[t, b] = walked_return(t, b, *fields, GAMMA, n, **wrong)
    return out


@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_walk(seed, n):
    fields = case(seed)
    valid = fields[3]
    np.testing.assert_allclose(fast(*fields, n)[valid], walked(fields, n)[valid], rtol=1e-12)


@pytest.mark.parametrize("wrong", ["run_over", "limit_ends_return", "drop_tail"])
def test_a_wrong_walk_is_told_apart(wrong):
    fields = case(1)
    valid = fields[3]
    assert not np.allclose(fast(*fields, 5)[valid], walked(fields, 5, **{wrong: True})[valid])


def test_the_online_network_selects_and_the_target_network_values():
    q, select = torch.tensor([[[1.0, 5.0]]]), torch.tensor([[[3.0, 2.0]]])
    assert double_q_values(q, select).item() == 1.0
    assert double_q_values(q, q).item() == 5.0


def test_it_runs_under_vmap():
    reward, discount, _, valid, value = (torch.from_numpy(np.stack(x)) for x in zip(case(0), case(1), strict=True))

    def one(r, d, v, q):
        return n_step_returns(r, GAMMA * d, v, q, n_step=3)

    both = torch.func.vmap(one)(reward, discount, valid, value)
    for k in range(2):
        np.testing.assert_allclose(both[k].numpy(), fast(*case(k), 3))


def test_shapes_that_do_not_fit_are_named():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"value \[3, 2\]"):
        n_step_returns(x, x, x.bool(), x, n_step=1)
    with pytest.raises(ValueError, match="at least 1, but is 0"):
        n_step_returns(x, x, x.bool(), torch.zeros(4, 2), n_step=0)
