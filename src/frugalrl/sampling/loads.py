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
        self._again: int | None = None
        """Of a resumed run: the version that is loaded once more, which is not counted again."""

    def load(self, snapshot: PolicySnapshot) -> None:
        """A snapshot that was loaded before, or that the policy did not take over, is not counted."""
        before = self._version()
        moved = self._policy.load(snapshot)
        self._again = None
        if moved if isinstance(self._policy, SamplerPolicy) else snapshot.version != before:
            self._calls += 1
            self._moved += moved

    def _version(self) -> int:
        return self._policy.version if self._again is None else self._again

    def take(self) -> Cost:
        """What was not yet booked."""
        cost = Cost(calls=self._calls, flop=0.0, bytes_min=float(self._moved))
        self._calls = self._moved = 0
        return cost

    def state_dict(self) -> StateDict:
        """What was not yet booked, what acts, and the weights of a policy that keeps its own."""
        state: StateDict = {"calls": self._calls, "moved": self._moved, "version": self._version()}
        if isinstance(self._policy, SamplerPolicy):
            state["policy"] = self._policy.state_dict()
        return state

    def load_state_dict(self, state: StateDict) -> None:
        """Raises ValueError when a sampler of another kind was saved."""
        if ("policy" in state) != isinstance(self._policy, SamplerPolicy):
            raise ValueError("the sampler's transform is another one than was saved")
        if not state:  # of a plain policy, in checkpoints older than its counts
            return
        self._calls, self._moved, self._again = state["calls"], state["moved"], state.get("version")
        if isinstance(self._policy, SamplerPolicy):
            self._policy.load_state_dict(state["policy"])
