"""The snapshots that a sampler has taken lately, of which the oldest acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from frugalrl.types import PolicySnapshot, StateDict


class Ages:
    """Copies of snapshots: what is offered is taken every few updates, and acts some updates later."""

    def __init__(self, updates_ago: int = 0, sync_every_updates: int = 1) -> None:
        """
        Args:
            updates_ago: updates k between the newest snapshot taken and the one that acts. Acting is the newest that
                is at least k updates old; until there is one, the first.
            sync_every_updates: updates between two snapshots that are taken; those between are not looked at.
        """
        if updates_ago < 0 or sync_every_updates < 1:
            raise ValueError(
                f"updates_ago={updates_ago}, sync_every_updates={sync_every_updates}: need at least 0, and at least 1"
            )
        self._ago, self._every = updates_ago, sync_every_updates
        self._kept: list[tuple[int, dict[str, Tensor]]] = []
        """(version, parameters), oldest first; the first one acts."""
        self._free: list[dict[str, Tensor]] = []

    @property
    def newest(self) -> int | None:
        """Version that was taken last; None before the first."""
        return self._kept[-1][0] if self._kept else None

    @property
    def acting(self) -> PolicySnapshot:
        """What acts. Its tensors stay as they are until the next snapshot is taken."""
        version, parameters = self._kept[0]
        return PolicySnapshot(version=version, parameters=parameters)

    @property
    def taken_last(self) -> PolicySnapshot:
        """The newest."""
        version, parameters = self._kept[-1]
        return PolicySnapshot(version=version, parameters=parameters)

    @property
    def nbytes(self) -> int:
        """Memory of the copies."""
        return sum(t.nbytes for _, kept in self._kept for t in kept.values())

    def offer(self, snapshot: PolicySnapshot) -> int:
        """Copy a snapshot if it is time; returns the bytes moved, 0 when it was not taken."""
        newest = self.newest
        if newest is not None and newest <= snapshot.version < newest + self._every:
            return 0
        if newest is not None and snapshot.version < newest:  # another run: what is old here means nothing there
            self._free += [kept for _, kept in self._kept]
            self._kept = []
        copy = self._copied(snapshot.parameters)
        self._kept.append((snapshot.version, copy))
        while len(self._kept) > 1 and self._kept[1][0] <= snapshot.version - self._ago:
            self._free.append(self._kept.pop(0)[1])
        del self._free[1:]
        return 2 * sum(t.nbytes for t in copy.values())

    def _copied(self, parameters: Mapping[str, Any]) -> dict[str, Tensor]:
        if not self._free:
            return {n: p.detach().clone() for n, p in parameters.items()}
        copy = self._free.pop()
        with torch.no_grad():
            torch._foreach_copy_(list(copy.values()), [parameters[n].detach() for n in copy])
        return copy

    def state_dict(self) -> StateDict:
        """All copies where a resumed run could not make them from the learner's weights; else nothing, as before the
        first snapshot."""
        if not self._kept or (not self._ago and self._every == 1):
            return {}
        return {
            "versions": [version for version, _ in self._kept],
            "parameters": {str(i): dict(kept) for i, (_, kept) in enumerate(self._kept)},
        }

    def load_state_dict(self, state: StateDict, device: torch.device | None = None) -> None:
        """The inverse; without copies in ``state`` nothing changes."""
        if not state:
            return
        self._free = []
        self._kept = [
            (
                int(version),
                {n: torch.as_tensor(a).detach().clone().to(device) for n, a in state["parameters"][str(i)].items()},
            )
            for i, version in enumerate(state["versions"])
        ]
