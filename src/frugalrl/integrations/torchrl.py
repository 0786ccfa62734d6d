"""Counteractive exploration for TorchRL, in the place of its ``EGreedyModule``::

    from frugalrl.integrations.torchrl import CounteractiveModule

    explore = CounteractiveModule(spec=env.action_spec, eps_init=1.0, eps_end=0.05, annealing_num_steps=10_000)
    behaviour = TensorDictSequential(QValueActor(net, in_keys=["observation"], spec=env.action_spec), explore)

TorchRL is imported when ``CounteractiveModule`` is asked for.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from frugalrl.integrations.hooks import as_uniform_share, needed
from frugalrl.types import UserError

if TYPE_CHECKING:
    CounteractiveModule: Any


class Counteracts:
    """The exploratory action is a minimiser of Q instead of a random one: CoAct TD (arXiv 2603.15871, algorithm 1).

    Takes every argument of ``EGreedyModule`` and anneals epsilon as it does: call ``step()``. In addition
    ``action_value_key``, where the Q-values [*batch, A] are (QValueActor writes ``action_value``), and
    ``uniform_share``, the share of exploratory actions that are uniform: 0 is counteractive, 1 epsilon-greedy. Tied
    minimisers are equally likely. Actions may be one-hot or indices. A mask of actions [*batch, A] (true or 1: allowed)
    is heeded, and so is a Q-value of -inf or of the least number of its type, which QValueActor's mask writes.
    Randomness is torch's, as in TorchRL.
    """

    eps: Any
    in_keys: list[Any]
    action_key: Any
    action_mask_key: Any

    def __init__(
        self, *args: Any, action_value_key: Any = "action_value", uniform_share: float = 0.0, **kwargs: Any
    ) -> None:
        """Raises UserError for a share outside of [0, 1]."""
        share = as_uniform_share(uniform_share)
        super().__init__(*args, **kwargs)
        self.action_value_key, self.uniform_share = action_value_key, share
        self.in_keys = [*self.in_keys, action_value_key]

    def forward(self, tensordict: Any) -> Any:
        """Replaces actions in place where TorchRL's exploration type is random.

        Raises:
            UserError: no Q-values, actions or mask where their keys say, or a row in which no action is allowed.
            FloatingPointError: a Q-value is NaN, which has no minimiser. On a CUDA device, asking waits for it.
        """
        from torchrl.envs.utils import ExplorationType, exploration_type

        if exploration_type() not in (ExplorationType.RANDOM, None):
            return tensordict
        q = found(tensordict, self.action_value_key, "Q-values", "action_value_key")
        action = found(tensordict, self.action_key, "actions", "action_key")
        diverged = torch.isnan(q).any(dim=-1)
        if diverged.any():
            raise FloatingPointError(
                f"CounteractiveModule got Q-values that are NaN, in {int(diverged.sum())} of {diverged.numel()} rows: "
                f"the network has diverged; lower the learning rate or clip the gradient"
            )
        mask = None
        if self.action_mask_key is not None:
            mask = found(tensordict, self.action_mask_key, "mask of actions", "action_mask_key")
        allowed = allowed_actions(q, mask)
        worst = q == q.masked_fill(~allowed, torch.inf).amin(dim=-1, keepdim=True)
        anywhere = torch.rand(q.shape[:-1], device=q.device) < self.uniform_share
        chosen = one_of(torch.where(anywhere[..., None], allowed, worst & allowed))
        explores = torch.rand(q.shape[:-1], device=q.device) < self.eps
        tensordict.set(self.action_key, replaced(action, chosen, explores, q.shape))
        return tensordict


def found(tensordict: Any, key: Any, what: str, argument: str) -> Any:
    """The entry ``key``; ``what`` it is, and the argument that names it. Raises UserError when it is not there."""
    entry = tensordict.get(key, None)
    if entry is None:
        names = ", ".join(sorted(map(str, tensordict.keys(True, True)))) or "nothing"
        raise UserError(
            f"CounteractiveModule finds no {what} under {key!r} in the tensordict, which holds {names}; name the place "
            f"with {argument}"
        )
    return entry


def allowed_actions(q: Any, mask: Any) -> Any:
    """[*batch, A] bool, by a mask of booleans or of 0 and 1 (None: all are) and by the Q-values [*batch, A].

    Raises UserError for a row in which nothing is allowed.
    """
    # QValueActor writes the least number where its own mask forbids an action, which would be every minimiser
    least = torch.finfo(q.dtype).min
    allowed = (q > least) if mask is None else (q > least) & mask.bool().expand_as(q)
    stuck = ~allowed.any(dim=-1)
    if stuck.any():
        raise UserError(
            f"CounteractiveModule may take no action in {int(stuck.sum())} of {stuck.numel()} rows: each is forbidden, "
            f"by the mask or by a Q-value of {least:.3g} (QValueActor's mask) or -inf; a mask must leave at "
            f"least one action"
        )
    return allowed


def one_of(members: Any) -> Any:
    """A uniform member of each set: members [*batch, A] bool, none of them empty -> [*batch] int64."""
    # the largest of independent draws is equally likely to be any member's
    return torch.rand(members.shape, device=members.device).masked_fill(~members, -1.0).argmax(dim=-1)


def replaced(action: Any, chosen: Any, explores: Any, shape: Any) -> Any:
    """The actions with ``chosen`` [*batch] where ``explores`` [*batch], encoded as they are.

    Raises UserError for actions that are neither one-hot like the Q-values nor indices.
    """
    if action.shape == shape:
        one_hot = torch.nn.functional.one_hot(chosen, shape[-1]).to(action.dtype)
        return torch.where(explores[..., None], one_hot, action)
    if action.shape == shape[:-1]:
        return torch.where(explores, chosen.to(action.dtype), action)
    raise UserError(
        f"CounteractiveModule needs one Q-value per action: actions are {list(action.shape)}, and Q-values "
        f"{list(shape)}, where {list(shape)} (one-hot) or {list(shape[:-1])} (indices) fits"
    )


@cache
def _made(name: str) -> Any:
    needed("torchrl", "frugalrl.integrations.torchrl", "torchrl")
    from torchrl.modules import EGreedyModule

    return type(name, (Counteracts, EGreedyModule), {"__doc__": Counteracts.__doc__, "__module__": __name__})


def __getattr__(name: str) -> Any:
    if name == "CounteractiveModule":
        return _made(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
