"""The hook in TorchRL itself: ``scripts/trainer_env sb3``, then ``pytest -m sb3 -n 0``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torchrl", reason="the environment of scripts/trainer_env sb3")

import torch
from scipy import stats
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.data import Categorical, OneHot
from torchrl.envs import GymEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor, QValueActor, ValueOperator
from torchrl.objectives import ClipPPOLoss

from frugalrl.importance import correct
from frugalrl.integrations.torchrl import CounteractiveModule
from frugalrl.types import UserError

pytestmark = [pytest.mark.sb3, pytest.mark.filterwarnings("ignore")]


def step(q: Any, *, one_hot: bool, **settings: Any) -> Any:
    """[B] indices of the actions after one exploring step; the greedy action came in."""
    spec = OneHot(q.shape[-1]) if one_hot else Categorical(q.shape[-1])
    mask = settings.pop("mask", None)
    module = CounteractiveModule(spec=spec, action_mask_key=None if mask is None else "mask", **settings)
    greedy = q.argmax(-1)
    action = torch.nn.functional.one_hot(greedy, q.shape[-1]) if one_hot else greedy
    data = {"action": action, "action_value": q} | ({} if mask is None else {"mask": mask})
    out = module(TensorDict(data, batch_size=q.shape[:-1]))["action"]
    return out.argmax(-1) if one_hot else out


@pytest.mark.parametrize("one_hot", [True, False])
def test_it_explores_with_argmin(one_hot: bool) -> None:
    torch.manual_seed(0)
    q = torch.randn(4, 16, 5)
    assert (step(q, one_hot=one_hot, eps_init=1.0) == q.argmin(-1)).all()
    assert (step(q, one_hot=one_hot, eps_init=0.0, eps_end=0.0) == q.argmax(-1)).all()
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert (step(q, one_hot=one_hot, eps_init=1.0) == q.argmax(-1)).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_shares_ties_and_masks(share: float, masked: bool) -> None:
    torch.manual_seed(1)
    rows, eps = 40_000, 0.3
    q = torch.tensor([2.0, 1.0, 1.0, 1.5, 0.0] if masked else [2.0, 1.0, 1.0, 1.5]).repeat(rows, 1)
    mask = {"mask": (q > 0.0)} if masked else {}
    action = step(q, one_hot=False, eps_init=eps, eps_end=eps, uniform_share=share, **mask)
    counts = np.bincount(action.numpy(), minlength=q.shape[-1])
    expected = eps * (share * np.full(4, 0.25) + (1 - share) * np.array([0, 0.5, 0.5, 0])) + [1 - eps, 0, 0, 0]
    possible = expected > 0
    assert counts[4:].sum() == counts[:4][~possible].sum() == 0
    assert stats.chisquare(counts[:4][possible], rows * expected[possible]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("shape", "said"), [((4, 5), "1 of 4 rows"), ((5,), "1 of 1 rows"), ((2, 3, 5), "1 of 6 rows")]
)
def test_a_diverged_network_is_said(shape: tuple[int, ...], said: str) -> None:
    q = torch.zeros(shape)
    q.view(-1, 5)[0, 2] = torch.nan
    with pytest.raises(FloatingPointError, match=said):
        step(q, one_hot=False, eps_init=1.0)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks_of_zeros_and_ones(dtype: Any, share: float) -> None:
    q = torch.tensor([[2.0, 1.0, -1.0]]).repeat(200, 1)
    mask = torch.tensor([[1, 1, 0]]).repeat(200, 1).to(dtype)
    taken = step(q, one_hot=False, eps_init=1.0, uniform_share=share, mask=mask)
    assert taken.unique().tolist() == ([0, 1] if share else [1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_action_that_the_actor_masks_is_not_its_minimiser(share: float) -> None:
    actor = QValueActor(torch.nn.Linear(4, 3), in_keys=["observation"], spec=Categorical(3), action_mask_key="mask")
    mask = torch.tensor([[True, True, False]]).repeat(200, 1)
    data = actor(TensorDict({"observation": torch.randn(200, 4), "mask": mask}, [200]))
    q = data["action_value"].detach()
    taken = step(q, one_hot=False, eps_init=1.0, uniform_share=share)
    assert set(taken.tolist()) == {0, 1}
    if share == 0:
        assert (taken == q[:, :2].argmin(-1)).all()
    assert step(q.masked_fill(~mask, -torch.inf), one_hot=False, eps_init=1.0).max() == 1


def test_a_row_in_which_nothing_is_allowed_is_said() -> None:
    q, mask = torch.randn(5, 3), torch.ones(5, 3, dtype=torch.bool)
    mask[2] = False
    with pytest.raises(UserError, match="may take no action in 1 of 5 rows"):
        step(q, one_hot=True, eps_init=1.0, mask=mask)
    with pytest.raises(UserError, match="may take no action in 1 of 5 rows"):
        step(q.where(mask, torch.finfo(q.dtype).min), one_hot=False, eps_init=1.0)


def test_in_an_environment() -> None:
    torch.manual_seed(0)
    env = GymEnv("CartPole-v1")
    net = torch.nn.Linear(4, 2)
    explore = CounteractiveModule(spec=env.action_spec, eps_init=1.0, eps_end=0.1, annealing_num_steps=50)
    behaviour = TensorDictSequential(QValueActor(net, in_keys=["observation"], spec=env.action_spec), explore)
    data = env.rollout(30, behaviour, break_when_any_done=False)
    assert (data["action"].argmax(-1) == net(data["observation"]).argmin(-1)).all()
    for _ in range(80):
        explore.step()
    assert float(explore.eps) == pytest.approx(0.1)
    restored = CounteractiveModule(spec=env.action_spec)
    restored.load_state_dict(explore.state_dict())
    assert float(restored.eps) == pytest.approx(0.1)


def test_the_three_lines_for_ppo() -> None:
    """docs/integrations.md: the gradient is that of -w A log pi, w truncated; without the lines it is another."""
    torch.manual_seed(0)
    net, value = torch.nn.Linear(4, 3), torch.nn.Linear(4, 1)
    actor = ProbabilisticActor(
        TensorDictModule(net, ["observation"], ["logits"]), in_keys=["logits"], out_keys=["action"],
        distribution_class=torch.distributions.Categorical, return_log_prob=True,
    )  # fmt: skip
    loss = ClipPPOLoss(
        actor, ValueOperator(value, in_keys=["observation"]), entropy_coeff=0.0, normalize_advantage=False
    )
    obs, log_mu = torch.randn(2, 8, 4), torch.full((2, 8), -1.1) - torch.rand(2, 8)
    action, advantage = torch.randint(3, (2, 8)), torch.randn(2, 8, 1)
    log_pi_old = net(obs).log_softmax(-1).gather(-1, action[..., None]).squeeze(-1).detach()

    def gradient(corrected: bool) -> Any:
        data = TensorDict(
            {"observation": obs, "action": action, "action_log_prob": log_mu.clone(), "advantage": advantage.clone(),
             "value_target": torch.zeros(2, 8, 1)}, batch_size=[2, 8],
        )  # fmt: skip
        if corrected:
            c = correct(log_pi_old, data["action_log_prob"], level="token", mode="truncate", high=1.2)
            data["advantage"] *= c.weight[..., None]
            data["action_log_prob"] = log_pi_old
        net.zero_grad()
        loss.zero_grad()
        loss(data)["loss_objective"].backward()
        return next(p.grad.clone() for p in loss.actor_network_params.values(True, True) if p.shape == net.weight.shape)

    weight = (log_pi_old - log_mu).exp().clamp(max=1.2)
    log_pi = net(obs).log_softmax(-1).gather(-1, action[..., None]).squeeze(-1)
    wanted = torch.autograd.grad(-(weight * advantage.squeeze(-1) * log_pi).mean(), net.weight)[0]
    torch.testing.assert_close(gradient(True), wanted)
    assert not torch.allclose(gradient(False), gradient(True), rtol=1e-2)


def test_what_does_not_fit_is_said() -> None:
    module = CounteractiveModule(spec=Categorical(3), eps_init=1.0)
    wrong = TensorDict({"action": torch.zeros(2, 1), "action_value": torch.zeros(2, 3)}, batch_size=[2])
    with pytest.raises(UserError, match="one Q-value per action"):
        module(wrong)


@pytest.mark.parametrize(
    ("given", "missing"), [("action_mask", "Q-values under 'action_value'"), ("action_value", "mask")]
)
def test_what_is_not_in_the_tensordict_is_named(given: str, missing: str) -> None:
    module = CounteractiveModule(spec=Categorical(2), action_mask_key="action_mask")
    with pytest.raises(UserError, match=f"finds no {missing}.*which holds action, {given}"):
        module(TensorDict({"action": torch.tensor(0), given: torch.ones(2, dtype=torch.bool)}, []))


def test_a_missing_action_is_named() -> None:
    module = CounteractiveModule(spec=Categorical(2))
    with pytest.raises(UserError, match=r"finds no actions under 'action'.*which holds action_value"):
        module(TensorDict({"action_value": torch.zeros(3, 2)}, [3]))
