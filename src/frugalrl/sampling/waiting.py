"""The three rules by which waiting requests become one batch.

A batch is run when it is full, when a share of the live rows waits (Sample Factory's rule: a third), or when the oldest
request has waited for the deadline. "Live" is what can still be waited for, never the configured number: with fewer
live rows than a batch has, SEED's inference stops for good.
"""

from __future__ import annotations

from typing import Literal

from frugalrl.sampling.transport import Message

Rule = Literal["full", "share", "deadline"]
RULES: tuple[Rule, ...] = ("full", "share", "deadline")


class Waiting:
    """Requests in the order in which they came, at most one of each group."""

    def __init__(self, num_rows: int, *, max_batch_rows: int | None, live_share: float, deadline_s: float) -> None:
        self._full = num_rows if max_batch_rows is None else min(max_batch_rows, num_rows)
        self._live_share, self._deadline_s = live_share, deadline_s
        self._messages: dict[int, Message] = {}
        self.rows = 0
        """Rows that wait."""

    def add(self, message: Message) -> None:
        """A request joins; one of an earlier incarnation of its group leaves."""
        self.remove(message.group)
        self._messages[message.group] = message
        self.rows += len(message.step.last)

    def remove(self, group: int) -> None:
        """The request of this group, if there is one, is not to be answered."""
        gone = self._messages.pop(group, None)
        if gone is not None:
            self.rows -= len(gone.step.last)

    def due(self, now: float, live_rows: int) -> Rule | None:
        """The rule that says that a batch is to be run now."""
        if not self._messages:
            return None
        if self.rows >= self._full:
            return "full"
        if self.rows >= self._live_share * live_rows:
            return "share"
        return "deadline" if self.left_s(now) <= 0 else None

    def left_s(self, now: float) -> float:
        """Seconds until the oldest request has waited for the deadline; infinite when nothing waits."""
        oldest = min((m.arrived_s for m in self._messages.values()), default=float("inf"))
        return oldest + self._deadline_s - now

    def take(self) -> list[Message]:
        """The oldest requests, as many as fit into a batch, at least one."""
        batch: list[Message] = []
        rows = 0
        for message in list(self._messages.values()):
            rows += len(message.step.last)
            if batch and rows > self._full:
                break
            batch.append(message)
            self.remove(message.group)
        return batch
