"""How often a sampler took over new weights, and the bytes that it moved for them."""

from __future__ import annotations

from frugalrl.policies.acting import ActingPolicy
from frugalrl.policies.sampler_policy import SamplerPolicy
from frugalrl.types import Cost, PolicySnapshot, StateDict


class Loads:
    """Loads snapshots into a policy and counts them until they are booked."""

    def __init__(self, policy: ActingPolicy) -> None:
        self._policy = policy
        self._calls = self._moved = 0

    def load(self, snapshot: PolicySnapshot) -> None:
        """A snapshot that was loaded before, or that the policy did not take over, is not counted."""
        before = self._policy.version
        moved = self._policy.load(snapshot)
        if moved if isinstance(self._policy, SamplerPolicy) else snapshot.version != before:
            self._calls += 1
            self._moved += moved

    def take(self) -> Cost:
        """What was not yet booked."""
        cost = Cost(calls=self._calls, flop=0.0, bytes_min=float(self._moved))
        self._calls = self._moved = 0
        return cost

    def state_dict(self) -> StateDict:
        """Of a policy that keeps weights of its own; others load once more what they had, and count that."""
        if not isinstance(self._policy, SamplerPolicy):
            return {}
        return {"calls": self._calls, "moved": self._moved, "policy": self._policy.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Raises ValueError when a sampler of another kind was saved."""
        if bool(state) != isinstance(self._policy, SamplerPolicy):
            raise ValueError("the sampler's transform is another one than was saved")
        if isinstance(self._policy, SamplerPolicy):
            self._calls, self._moved = state["calls"], state["moved"]
            self._policy.load_state_dict(state["policy"])
