"""What acts in a sampler that differs from the learner: one or several policies, each with its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frugalrl.policies.acting import ActingPolicy
from frugalrl.policies.transforms import Plan
from frugalrl.policies.transforms.ages import Ages
from frugalrl.policies.transforms.transformer import needed_weights
from frugalrl.policies.transforms.weights import changed_weights
from frugalrl.types import PolicySnapshot, SamplerNotFinite, StateDict

Rows = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]


class Member:
    """One transform, the policy that computes it, and which weights it has."""

    def __init__(
        self, plan: Plan, policy: Any, net: nn.Module, *, seed: int, engine: str = "torch", sync_every_updates: int = 1
    ) -> None:
        """
        Args:
            plan: what is done to the weights; its arithmetic is the policy's own.
            policy: it copies what it loads (a `ValuePolicy`, a `SequencePolicy`, an `EnginePolicy`).
            net: a network like the policy's, to tell which parameters are weights.
            seed: of the noise.
            engine: what computes, for messages.
            sync_every_updates: learner updates between two loads.
        """
        self.plan, self.policy, self.engine = plan, policy, engine
        self._weights = needed_weights(plan, net)
        self._seed = seed
        self._ages = Ages(plan.updates_ago, sync_every_updates)
        self._acting: int | None = None
        self._again: int | None = None
        """Of a resumed run: the version that is published once more, which is not counted again."""

    @property
    def version(self) -> int:
        """Of the weights that act."""
        return 0 if self._acting is None else self._acting

    @property
    def name(self) -> str:
        """Transform and engine."""
        return self.plan.computed_by(self.engine)

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a snapshot, if it is time; returns the bytes moved, 0 when nothing was done."""
        moved = self._ages.offer(snapshot)
        if not moved:
            return 0
        moved += self._act_with_oldest()
        again, self._again = self._again == snapshot.version, None
        return 0 if again else moved

    def _act_with_oldest(self) -> int:
        acting = self._ages.acting
        if acting.version == self._acting:
            return 0
        new = changed_weights(self.plan, acting.parameters, self._weights, seed=self._seed, version=acting.version)
        moved: int = self.policy.load(PolicySnapshot(acting.version, new, self.plan.name))
        self._acting = acting.version
        return moved

    def newest(self) -> PolicySnapshot:
        """The learner's weights that were taken last, before any change."""
        return self._ages.taken_last

    def weights_are_finite(self) -> bool:
        """Whether the learner's weights are, of which what acts was made."""
        return all(bool(torch.isfinite(p).all()) for p in self._ages.acting.parameters.values())

    def state_dict(self) -> StateDict:
        """Older weights, where the learner no longer has them, and what was taken last."""
        newest = self._ages.newest if self._again is None else self._again
        return {"newest": newest, "ages": self._ages.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Act again with what was acted with; weights that the learner still has come with the next ``load``."""
        self._ages.load_state_dict(state["ages"])
        if state["ages"]:
            self._acting = None
            self._act_with_oldest()
        else:
            self._again = state["newest"]


class SamplerPolicy:
    """An `ActingPolicy` in which each row may have another transform, other weights and another engine.

    Values are those that its members computed, so an explorer's log-probabilities are of what really acted.
    """

    def __init__(self, members: Sequence[Member], rows: Sequence[int]) -> None:
        """``rows``: how many each member acts for; rows of a run go to the members in their order."""
        self.members = tuple(members)
        self._member_of = np.repeat(np.arange(len(members)), rows)
        self._everyone = np.arange(len(self._member_of))

    @property
    def version(self) -> int:
        """Of the oldest weights that act."""
        return min(member.version for member in self.members)

    def versions(self, rows: Rows | None = None) -> NDArray[np.int64]:
        """Of the weights that act for each of these rows [n], by default for all."""
        of_members = np.array([member.version for member in self.members], np.int64)
        versions: NDArray[np.int64] = of_members[self._member_of if rows is None else self._member_of[rows]]
        return versions

    def load(self, snapshot: PolicySnapshot) -> int:
        """Every member takes it over if it is time; returns the bytes moved, 0 when nothing was done."""
        return sum(member.load(snapshot) for member in self.members)

    def weight_bytes(self, rows: int) -> int:
        """See `ActingPolicy`. Of the member that reads least, as a pass may be for the rows of one alone."""
        return min(int(member.policy.weight_bytes(rows)) for member in self.members)

    def snapshot(self) -> PolicySnapshot:
        """What loading gives the same policy, unless it acts with older weights: those are in ``state_dict``."""
        newest = self.members[0].newest()
        return PolicySnapshot(newest.version, dict(newest.parameters), "|".join(m.plan.name for m in self.members))

    @property
    def gpu_s(self) -> float | None:
        """Seconds of a CUDA device; None on a CPU."""
        seconds = [m.policy.gpu_s for m in self.members if m.policy.gpu_s is not None]
        return sum(seconds) if seconds else None

    def initial_state(self, rows: int) -> dict[str, NDArray[Any]]:
        """What it remembers before an episode, [rows, ...] each; the same for all members."""
        state: dict[str, NDArray[Any]] = self.members[0].policy.initial_state(rows)
        return state

    def q_values(self, obs: NDArray[Any], draw: int = 0) -> NDArray[Any]:
        """Of all rows, for a policy that remembers nothing."""
        return self.values(obs, {}, draw)[0]

    def values(
        self, obs: NDArray[Any], state: Arrays, draw: int = 0, rows: Rows | None = None
    ) -> tuple[NDArray[Any], Arrays]:
        """As `ActingPolicy.values`, for ``rows`` [n] of the run; by default for all rows in their order.

        Raises SamplerNotFinite when a member answers with what is not finite although the learner's weights are.
        """
        if len(self.members) == 1:
            return self._checked(self.members[0], *self.members[0].policy.values(obs, state, draw))
        member_of = self._member_of[self._everyone if rows is None else rows]
        present = np.unique(member_of)
        if len(present) == 1:
            member = self.members[present[0]]
            return self._checked(member, *member.policy.values(obs, state, draw))
        values: NDArray[Any] | None = None
        after: dict[str, NDArray[Any]] = {}
        for number in present:
            mine = np.flatnonzero(member_of == number)
            member = self.members[number]
            part, then = self._checked(
                member, *member.policy.values(obs[mine], {n: x[mine] for n, x in state.items()}, draw)
            )
            if values is None:
                values = np.empty((len(obs), *part.shape[1:]), part.dtype)
                after = {n: np.empty((len(obs), *x.shape[1:]), x.dtype) for n, x in then.items()}
            values[mine] = part
            for name, x in then.items():
                after[name][mine] = x
        assert values is not None
        return values, after

    def _checked(self, member: Member, values: NDArray[Any], state: Arrays) -> tuple[NDArray[Any], Arrays]:
        if not np.isfinite(values).all() and member.weights_are_finite():
            raise SamplerNotFinite(
                f"the sampler ({member.name}) answered with values that are not finite after it took over the weights "
                f"of update {member.version:,}, although these weights are finite; use a milder sampler.transform or "
                f"another sampler.engine"
            )
        return values, state

    def state_dict(self) -> StateDict:
        return {str(i): member.state_dict() for i, member in enumerate(self.members)}

    def load_state_dict(self, state: StateDict) -> None:
        """Raises KeyError when other members were saved."""
        for i, member in enumerate(self.members):
            member.load_state_dict(state[str(i)])


def versions_of(policy: ActingPolicy, rows: Rows | None = None) -> int | NDArray[np.int64]:
    """Of the weights that act for these rows, by default for all of a run's; one number for a plain policy."""
    return policy.versions(rows) if isinstance(policy, SamplerPolicy) else policy.version


def values_of(
    policy: ActingPolicy, rows: Rows, obs: NDArray[Any], state: Arrays, draw: int
) -> tuple[NDArray[Any], Arrays]:
    """Values for these rows [n] of the run."""
    if not isinstance(policy, SamplerPolicy):
        return policy.values(obs, state, draw)
    return policy.values(obs, state, draw, rows)
