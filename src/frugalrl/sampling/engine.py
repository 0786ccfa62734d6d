"""The inference engine: one policy acts for all environments, in batches of whoever waits.

What SEED RL (Espeholt et al., ICLR 2020) keeps beside the accelerator is kept here: recurrent state, last action and
open unroll of each row; actors hold nothing but environments. What differs from it: batches have a deadline, a message
has a sequence number, so that one that comes twice is stored once, and each stored step is stamped with the version
that chose its action.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from frugalrl.cost.meters import LapTimer
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.draws import Ints
from frugalrl.sampling.engine_meters import EngineMeters, EngineStatistics
from frugalrl.sampling.incarnations import Incarnations
from frugalrl.sampling.row_actor import RowActor
from frugalrl.sampling.transport import Message, Transport
from frugalrl.sampling.waiting import Rule, Waiting
from frugalrl.types import Episode, Step, Unroll


class Engine:
    """Answers the messages of a transport and cuts what it sees into unrolls. One thread calls all methods."""

    def __init__(
        self,
        transport: Transport,
        actor: RowActor,
        store: UnrollStore,
        config: SamplerConfig,
        *,
        timer: LapTimer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``timer`` of the thread that calls; ``clock``: seconds, as in ``Message.arrived_s``."""
        self._transport, self._actor, self._store = transport, actor, store
        self._timer, self._clock = timer, clock
        self._incarnations = Incarnations(transport.group_rows)
        self._waiting = Waiting(
            transport.num_rows,
            max_batch_rows=config.max_batch_rows,
            live_share=config.live_share,
            deadline_s=config.deadline_ms / 1000,
        )
        self._largest = config.max_batch_rows or transport.num_rows
        ends = np.cumsum(transport.group_rows)
        self._rows = [np.arange(end - n, end) for end, n in zip(ends, transport.group_rows, strict=True)]
        self._fresh: set[int] = set()
        """Groups whose waiting message is the first of a new incarnation."""
        self._live = 0
        self._meters = EngineMeters()
        self._episodes: list[Episode] = []
        self.env_steps = 0
        """Valid transitions so far."""
        self.invalid_rows = 0
        """Rows between two episodes so far, the first resets included."""

    def turn(self, wait_s: float) -> list[tuple[Unroll, Ints]]:
        """Wait at most ``wait_s`` for messages, and run the batches that are due.

        Returns the unrolls that are complete, with the rows they belong to, in the order of their batches.

        Raises:
            EnvFailed: environments failed more often than they may.
            FloatingPointError: the policy's values are not finite.
            RunFailed: the transport lost a step.
        """
        self._receive(wait_s)
        ready: list[tuple[Unroll, Ints]] = []
        while True:
            self._live = self._transport.live_rows()
            rule = self._waiting.due(self._clock(), self._live)
            if rule is None:
                return ready
            self._run(self._waiting.take(), rule, ready)

    def _receive(self, wait_s: float) -> None:
        messages = self._transport.poll(0.0)
        self._timer.lap("transport")
        if not messages:
            now = self._clock()
            messages = self._transport.poll(max(min(wait_s, self._waiting.left_s(now)), 0.0))
            self._meters.starved_s += self._clock() - now
            self._timer.lap("waiting")
        # of two incarnations in one poll the later one is the newer
        for message in sorted(messages, key=lambda m: m.arrived_s):
            self._admit(message)

    def _admit(self, message: Message) -> None:
        verdict = self._incarnations.judge(message)
        if verdict in ("again", "old"):
            self._meters.repeated += 1
            answer = self._incarnations.answer(message)
            if verdict == "again" and answer is not None:
                self._transport.reply(message, answer)
            return
        if verdict == "new":
            self._fresh.add(message.group)
        self._waiting.add(message)

    def _run(self, batch: list[Message], rule: Rule, ready: list[tuple[Unroll, Ints]]) -> None:
        batch.sort(key=lambda m: m.group)  # so that a forward pass does not depend on who came first
        parts = [self._rows[m.group] for m in batch]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        now = self._clock()
        for message, part in zip(batch, parts, strict=True):
            self._meters.queue_s.add(now - message.arrived_s)
            if message.group in self._fresh:
                self._fresh.discard(message.group)
                self._meters.dropped_steps += self._store.drop(part)
                self._actor.forget(part)
        step = joined([m.step for m in batch])
        self._timer.lap("transport")
        fields, state = self._actor.see(rows, step)
        if not step.valid.all():  # `Unroll`: where nothing was a transition there is no probability either
            fields["log_mu"][~step.valid] = np.nan
        complete = self._store.append(rows, step.obs, fields, state)
        if complete is not None:
            ready.append(complete)
        valid = int(np.count_nonzero(step.valid))
        self.env_steps += valid
        self.invalid_rows += len(rows) - valid
        self._episodes.extend(step.episodes)
        self._timer.lap("replay")
        forwards = self._actor.forwards
        action = self._actor.act(rows, step, state, self.env_steps).action
        if self._actor.forwards > forwards:
            self._meters.forward_s.add(self._actor.forward_s)
        self._timer.lap("inference")
        begin = 0
        for message, part in zip(batch, parts, strict=True):
            own = action[begin : begin + len(part)]
            begin += len(part)
            self._incarnations.answered(message, own)
            self._transport.reply(message, own)
        self._meters.batch(rule, len(rows), min(self._largest, self._live))
        self._timer.lap("transport")

    def take_episodes(self) -> tuple[Episode, ...]:
        """Episodes that ended since the last call."""
        episodes, self._episodes = tuple(self._episodes), []
        return episodes

    def statistics(self) -> EngineStatistics:
        """What it has done so far; any thread may ask."""
        return self._meters.read(restarts=self._incarnations.restarts, live_rows=self._live)


def joined(steps: list[Step]) -> Step:
    """Steps of several groups as one."""
    if len(steps) == 1:
        return steps[0]
    names = ("obs", "reward", "discount", "last", "valid")
    arrays = {name: np.concatenate([getattr(s, name) for s in steps]) for name in names}
    return Step(**arrays, episodes=tuple(e for s in steps for e in s.episodes))
