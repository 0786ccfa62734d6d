"""Weights from the thread that learns to the thread that acts, never half-written."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from frugalrl.types import PolicySnapshot


class Handover:
    """Two copies of the parameters: the actor uses one while the learner writes the other.

    ``publish`` and ``take`` may be called from different threads, one thread each. What was taken stays as it is
    until the next ``take`` that returns something.
    """

    def __init__(self) -> None:
        self._copies: list[dict[str, Tensor]] = []
        self._versions = [-1, -1]
        self._acting = 1
        self._waiting = False
        self._lock = threading.Lock()

    def publish(self, snapshot: PolicySnapshot) -> int:
        """Copy these parameters for the actor; what it has not taken yet is replaced. Returns the bytes moved.

        Raises ValueError when names or shapes differ from those of the first snapshot.
        """
        with self._lock, torch.no_grad():
            if not self._copies:
                self._copies = [{n: p.detach().clone() for n, p in snapshot.parameters.items()} for _ in range(2)]
            target = self._copies[1 - self._acting]
            if target.keys() != snapshot.parameters.keys():
                odd = sorted(target.keys() ^ snapshot.parameters.keys())
                raise ValueError(f"the snapshot has other parameters than the first one: {odd}")
            for name, mine in target.items():
                if mine.shape != snapshot.parameters[name].shape:
                    raise ValueError(
                        f"snapshot {name} has shape {tuple(snapshot.parameters[name].shape)}, "
                        f"expected {tuple(mine.shape)}"
                    )
            torch._foreach_copy_(list(target.values()), [snapshot.parameters[n].detach() for n in target])
            self._versions[1 - self._acting] = snapshot.version
            self._waiting = True
        return 2 * sum(p.nbytes for p in target.values())

    def take(self) -> PolicySnapshot | None:
        """The newest parameters, once; None when there are none, or they are being written at this moment."""
        if not self._waiting or not self._lock.acquire(blocking=False):
            return None
        try:
            self._waiting = False
            self._acting = 1 - self._acting
            return PolicySnapshot(version=self._versions[self._acting], parameters=self._copies[self._acting])
        finally:
            self._lock.release()
