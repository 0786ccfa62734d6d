"""Which message of a group is its next step, which came twice, and which belongs to an incarnation that is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from frugalrl.sampling.draws import Ints
from frugalrl.sampling.transport import Message
from frugalrl.types import RunFailed

Verdict = Literal["new", "next", "again", "old"]
"""``new``: first step of a new incarnation; ``next``: one step more; ``again``: the newest step came once more;
``old``: of an earlier incarnation, or a step that was answered long ago."""


@dataclass
class _Group:
    run_id: int | None = None
    seq: int = -1
    answer: Ints | None = None
    """The actions of the newest step, once it is answered."""
    gone: set[int] = field(default_factory=set)


class Incarnations:
    """Run id, sequence number and last answer of each group."""

    def __init__(self, group_rows: tuple[int, ...]) -> None:
        self._rows = group_rows
        self._groups = [_Group() for _ in group_rows]
        self.restarts = 0
        """Incarnations beyond the first of each group."""

    def judge(self, message: Message) -> Verdict:
        """What a message is; a ``new`` or ``next`` one is expected no more.

        Raises RunFailed when a step is missing between this message and the one before.
        """
        group = self._groups[message.group]
        if message.run_id in group.gone:
            return "old"
        if message.run_id != group.run_id:
            self._check(message, expected=0)
            if group.run_id is not None:
                group.gone.add(group.run_id)
                self.restarts += 1
            group.run_id, group.seq, group.answer = message.run_id, 0, None
            return "new"
        if message.seq <= group.seq:
            return "again" if message.seq == group.seq else "old"
        self._check(message, expected=group.seq + 1)
        if group.answer is None:
            raise RunFailed(
                f"Group {message.group} sent step {message.seq} before step {group.seq} was answered; its transport is "
                f"broken."
            )
        group.seq, group.answer = message.seq, None
        return "next"

    def _check(self, message: Message, expected: int) -> None:
        if message.seq != expected:
            raise RunFailed(
                f"Group {message.group} sent step {message.seq} where step {expected} was expected (run id "
                f"{message.run_id}); a step was lost, its transport is broken."
            )
        rows = len(message.step.last)
        if rows != self._rows[message.group]:
            raise RunFailed(f"Group {message.group} sent {rows} rows where it has {self._rows[message.group]}.")

    def answered(self, message: Message, action: Ints) -> None:
        """The newest step of this group has these actions."""
        self._groups[message.group].answer = action

    def answer(self, message: Message) -> Ints | None:
        """The actions given for the newest step of this group; None while it waits for them."""
        return self._groups[message.group].answer
