"""A module as a sampler has it: rounded, noisy, old, or in other arithmetic."""

from __future__ import annotations

import copy

import torch
from torch import nn

from frugalrl.policies.transforms.ages import Ages
from frugalrl.policies.transforms.table import Plan, parse
from frugalrl.policies.transforms.weights import changed_weights, weight_names
from frugalrl.types import PolicySnapshot, StateDict, UserError


def transformed(module: nn.Module, name: str, *, seed: int = 0, version: int = 0) -> nn.Module:
    """A copy of any module with dense, convolution or recurrent layers, changed as ``name`` says.

    Args:
        module: it is left as it is.
        name: see ``TRANSFORMS``; not ``stale``, which needs old weights: use `Transformer`.
        seed: of the noise.
        version: of the weights; each has noise of its own.

    The copy has no gradients, and answers in bfloat16 for ``bf16``. Raises UserError for a name that is not known and a
    module that the transform cannot change.
    """
    plan = parse(name)
    if plan.updates_ago:
        raise UserError(f"transform={name!r}: a module alone has no older weights; use Transformer, which keeps them")
    made = Transformer(module, name, seed=seed)
    made.load(PolicySnapshot(version=version, parameters=dict(module.named_parameters())))
    return made.module


class Transformer:
    """A transformed copy of a module that takes over new weights as the learner publishes them.

    ``module`` is what acts: record the log-probabilities that it gives, with ``version``.
    """

    def __init__(self, module: nn.Module, name: str, *, seed: int = 0, sync_every_updates: int = 1) -> None:
        """``module`` is copied, with its buffers; its parameters come with ``load``. ``seed``: of the noise.
        ``sync_every_updates``: see `Ages`."""
        self._plan = parse(name)
        self._seed = seed
        self._weights = needed_weights(self._plan, module)
        self._ages = Ages(self._plan.updates_ago, sync_every_updates)
        with torch.no_grad():
            own = copy.deepcopy(module).requires_grad_(False)
            self.module = own if self._plan.compute is None else self._plan.compute.prepare(own)
        self._loaded: int | None = None

    @property
    def name(self) -> str:
        """Of the transform."""
        return self._plan.name

    @property
    def version(self) -> int:
        """Of the weights in ``module``: the learner's updates before them. -1 before the first ``load``."""
        return -1 if self._loaded is None else self._loaded

    @property
    def nbytes(self) -> int:
        """Memory of the weights that are kept beside ``module``."""
        return self._ages.nbytes

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a snapshot, if it is time; returns the bytes moved, 0 when nothing was done.

        Raises ValueError when the parameters are others than the module's.
        """
        parameters = dict(self.module.named_parameters())
        if parameters.keys() - snapshot.parameters.keys():
            missing = sorted(parameters.keys() - snapshot.parameters.keys())
            raise ValueError(f"the snapshot has no parameter {missing[0]} ({len(missing)} are missing)")
        moved = self._ages.offer(snapshot)
        return moved + self._act_with_oldest() if moved else 0

    def _act_with_oldest(self) -> int:
        acting = self._ages.acting
        if acting.version == self._loaded:
            return 0
        new = changed_weights(self._plan, acting.parameters, self._weights, seed=self._seed, version=acting.version)
        moved = 0
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(new[name])
                moved += new[name].nbytes + parameter.nbytes
        if self._plan.compute is not None:
            self._plan.compute.changed(self.module)
        self._loaded = acting.version
        return moved

    def state_dict(self) -> StateDict:
        """The older weights, where a resumed run could not have them from the learner; see `Ages.state_dict`."""
        return self._ages.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Act again with what was acted with."""
        self._ages.load_state_dict(state)
        if state:
            self._loaded = None
            self._act_with_oldest()


def needed_weights(plan: Plan, module: nn.Module) -> dict[str, bool]:
    """The weights that ``plan`` changes, as `weight_names` has them. Raises UserError where there are none, so that it
    would do nothing."""
    names = weight_names(module)
    dense = any(isinstance(m, nn.Linear) for m in module.modules())
    if (plan.changes and not names) or (plan.compute_name == "int8-dynamic" and not dense):
        raise UserError(
            f"transform={plan.name!r} changes dense, convolution and recurrent layers, and this network "
            f"({type(module).__name__}) has none that it could change; use none"
        )
    return names
