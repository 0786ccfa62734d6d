"""Loss and priority of sequences by hand, their masks, and many at once."""

import numpy as np
import pytest
import torch

from frugalrl.math.sequence_loss import sequence_priority, sequence_q_loss

T, B, A = 6, 4, 3


def case(seed):
    rng = np.random.default_rng(seed)
    return {
        "q": torch.from_numpy(rng.normal(size=(T, B, A))),
        "action": torch.from_numpy(rng.integers(A, size=(T, B))),
        "target": torch.from_numpy(rng.normal(size=(T, B))),
        "mask": torch.from_numpy(rng.random((T, B)) < 0.6),
        "weight": torch.from_numpy(rng.uniform(0.1, 1.0, B)),
    }


def slow(q, action, target, mask, weight):
    total, td, gradient = 0.0, np.zeros((T, B)), np.zeros((T, B, A))
    for t, b in zip(*np.nonzero(mask.numpy()), strict=True):
        a = int(action[t, b])
        td[t, b] = float(target[t, b] - q[t, b, a])
        total += float(weight[b]) * td[t, b] ** 2 / 2 / B
        gradient[t, b, a] = -float(weight[b]) * td[t, b] / B
    return total, td, gradient


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_by_hand(seed):
    x = case(seed)
    x["q"].requires_grad_()
    loss, td = sequence_q_loss(**x)
    loss.backward()
    total, want, gradient = slow(**{k: v.detach() for k, v in x.items()})
    assert loss.item() == pytest.approx(total)
    np.testing.assert_allclose(td, want)
    np.testing.assert_allclose(x["q"].grad, gradient)


def test_what_is_masked_is_not_looked_at():
    x = case(0)
    poisoned = torch.where(x["mask"], x["target"], torch.nan)
    x["q"].requires_grad_()
    loss, _ = sequence_q_loss(**(x | {"target": poisoned}))
    loss.backward()
    assert loss.item() == pytest.approx(slow(**{k: v.detach() for k, v in x.items()})[0])
    assert x["q"].grad.isfinite().all()


def test_priorities_by_hand():
    td = torch.tensor([[1.0, -2.0], [-3.0, 9.0], [2.0, 9.0]])
    mask = torch.tensor([[True, True], [True, False], [True, False]])
    got = sequence_priority(td, mask, max_share=0.9)
    torch.testing.assert_close(got, torch.tensor([0.9 * 3 + 0.1 * 2, 2.0]))
    assert sequence_priority(td, torch.zeros_like(mask), max_share=0.9).tolist() == [0.0, 0.0]
    assert not torch.allclose(got, sequence_priority(td, torch.ones_like(mask), max_share=0.9))


def test_many_at_once():
    both = {
        k: torch.stack(v) for k, v in zip(case(0), zip(case(0).values(), case(1).values(), strict=True), strict=True)
    }

    def one(q, action, target, mask, weight):
        loss, td = sequence_q_loss(q, action, target, mask, weight=weight)
        return loss, sequence_priority(td, mask, max_share=0.9)

    losses, priorities = torch.func.vmap(one)(*both.values())
    for k in range(2):
        loss, priority = one(*case(k).values())
        torch.testing.assert_close(losses[k], loss)
        torch.testing.assert_close(priorities[k], priority)


def test_shapes_that_do_not_fit_are_named():
    x = case(0)
    with pytest.raises(ValueError, match=r"weight \[6\]"):
        sequence_q_loss(**(x | {"weight": torch.ones(6)}))
