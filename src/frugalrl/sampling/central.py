"""Central sampling in lockstep: all rows step together, group after group, so that timing changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from frugalrl.cost.meters import LapTimer
from frugalrl.math.explore import Explorer
from frugalrl.policies.acting import ActingPolicy
from frugalrl.sampling.block import Block
from frugalrl.sampling.chooser import Chooser
from frugalrl.sampling.draws import Ints
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.incarnations import Incarnations
from frugalrl.sampling.loads import Loads
from frugalrl.sampling.row_actor import RowActor, grown
from frugalrl.sampling.transport import Message, Transport
from frugalrl.types import Collected, Cost, EnvFailed, PolicySnapshot, StateDict, merge_costs

_LOOK_EVERY_S = 0.25


@runtime_checkable
class Exact(Protocol):
    """A transport whose groups can be brought back to the very step at which they stood."""

    def mark(self) -> None: ...

    def roll_back(self) -> None: ...

    def exact_state_dict(self) -> dict[str, Any]: ...

    @property
    def not_restored(self) -> tuple[int, ...]: ...


class CentralSampler:
    """As `InlineSampler`, with the environments behind a transport: while one group is acted for, others step.

    Groups are acted for in their order, one forward pass each. With one group the rows are those of an inline sampler
    bit for bit, with more they agree as far as forward passes of different sizes do: noise of the network is another
    one in each pass. An environment that fails ends the block, as inline: a group that is started again cannot be part
    of a lockstep.
    """

    def __init__(
        self,
        transport: Transport,
        policy: ActingPolicy,
        explorer: Explorer,
        explore: ExploreConfig,
        *,
        prefill_env_steps: int,
        seed: int,
        forward_cost: Callable[[int], Cost],
        timer: LapTimer,
        needs_log_mu: bool = False,
        whole_unrolls: bool = True,
    ) -> None:
        """``forward_cost``: FLOPs and bytes of a forward pass over so many rows. ``timer``: of the thread that calls
        ``collect``. ``whole_unrolls``: a block is ``ceil(n / rows)`` steps of every row, resets included; else as many
        as ``n`` transitions take. The other arguments as in `InlineSampler`."""
        self._transport, self._policy, self._timer, self._whole = transport, policy, timer, whole_unrolls
        rows = transport.num_rows
        self._chooser = Chooser(
            explorer, explore, transport.spec, rows, seed=seed, prefill_env_steps=prefill_env_steps,
            needs_log_mu=needs_log_mu,
        )  # fmt: skip
        self._actor = RowActor(policy, self._chooser, rows, forward_cost=forward_cost)
        self._incarnations = Incarnations(transport.group_rows)
        ends = np.cumsum(transport.group_rows)
        self._rows: list[Ints] = [np.arange(b - n, b) for b, n in zip(ends, transport.group_rows, strict=True)]
        self._came: dict[int, Message] = {}
        self._standing: list[Message] = []
        """The step of each group that waits for actions."""
        self._started = False
        """Blocks were returned, by this sampler or by the one that it goes on from."""
        self._restored = self._begun = False
        self._lost = np.zeros(rows, np.bool_)
        """Rows that were not brought back: their next step is a reset, wherever they stand."""
        self._loads = Loads(policy)
        self.env_steps = 0

    @property
    def forwards(self) -> int:
        """Forward passes so far, one per group and step."""
        return self._actor.forwards

    def load(self, snapshot: PolicySnapshot) -> None:
        """Act with these parameters from now on."""
        self._loads.load(snapshot)

    def acting(self) -> PolicySnapshot:
        """What it acts with."""
        return self._policy.snapshot()

    def epsilon(self) -> float | None:
        """The mean exploration probability over rows at this point of the run; None for a rule that has none."""
        return self._chooser.epsilon(self.env_steps)

    def collect(self, n: int) -> Collected:
        """``ceil(n / rows)`` steps of every row, or as many as make ``n`` transitions, fewer than ``n + rows``; the
        first block of all begins with the reset.

        When an environment fails (EnvFailed) or values are not finite (FloatingPointError), the block is dropped:
        ``state_dict`` then gives the state before it.
        """
        # of two steps of a row at most one is a reset
        steps = -(-n // self._transport.num_rows) if self._whole else 2 * -(-n // self._transport.num_rows) + 1
        before = self.env_steps
        self._actor.mark()
        try:
            first = None if self._begun else self._begin(steps)
            if isinstance(self._transport, Exact):
                self._transport.mark()
            collected = self._collect(steps, first, sys.maxsize if self._whole else n)
        except (EnvFailed, FloatingPointError):
            self.env_steps = before
            self._actor.roll_back()
            if isinstance(self._transport, Exact) and self._started:
                self._transport.roll_back()
            raise
        self._started = True
        return collected

    def _begin(self, steps: int) -> Block | None:
        """Wait for the first step of all groups; the block that holds it, unless an earlier run has stored it."""
        self._transport.start()
        block = None if self._restored else self._new_block(steps + 1)
        for group, rows in enumerate(self._rows):
            message = self._next(group)
            self._standing.append(message)
            if block is not None:
                self._actor.forget(rows)
                block.add(0, rows, message.step, *self._actor.see(rows, message.step))
        self._begun = True
        return block

    def _new_block(self, steps: int) -> Block:
        return Block(self._transport.spec, steps, self._transport.num_rows, self._actor.state)

    def _collect(self, steps: int, first: Block | None, most: int) -> Collected:
        """``most``: transitions, after which it takes no further step."""
        block = first or self._new_block(steps)
        begin = block.steps - steps
        costs_before = self._actor.costs
        counted = self.env_steps
        for at in range(begin, block.steps):
            valid_next = 0
            for group, rows in enumerate(self._rows):
                if at > begin:
                    self._store(block, at - 1, group, rows)
                message = self._standing[group]
                self._act(block, at, rows, message, counted)
                valid_next += int(np.count_nonzero(~(message.step.last | self._lost[rows])))
            self._lost[:] = False
            # what is a transition is known before it comes, so that schedules need not wait for all groups
            counted += valid_next
            if counted - self.env_steps >= most:
                block.end_after(at + 1)
                break
        for group, rows in enumerate(self._rows):
            self._store(block, block.steps - 1, group, rows)
        return self._close_block(block, costs_before)

    def _act(self, block: Block, at: int, rows: Ints, message: Message, env_steps: int) -> None:
        state = {name: array[rows] for name, array in self._actor.state.items()}
        action = self._actor.act(rows, message.step, state, env_steps).action
        block.add_q(at, rows, self._actor.values)
        self._timer.lap("inference")
        self._incarnations.answered(message, action)
        self._transport.reply(message, action)
        self._timer.lap("transport")

    def _store(self, block: Block, at: int, group: int, rows: Ints) -> None:
        message = self._next(group)
        self._standing[group] = message
        fields, state = self._actor.see(rows, message.step)
        block.add(at, rows, message.step, fields, state)
        self._timer.lap("replay")

    def _next(self, group: int) -> Message:
        """The next step of this group."""
        while group not in self._came:
            messages = self._transport.poll(0.0)
            self._timer.lap("transport")
            if not messages:
                messages = self._transport.poll(_LOOK_EVERY_S)
                self._timer.lap("waiting")
            for message in messages:
                self._admit(message)
        return self._came.pop(group)

    def _admit(self, message: Message) -> None:
        verdict = self._incarnations.judge(message)
        if verdict == "again":
            answer = self._incarnations.answer(message)
            if answer is not None:
                self._transport.reply(message, answer)
        elif verdict == "new" and self._begun:
            faults = self._transport.take_faults()
            if faults:
                raise EnvFailed(faults[-1].sentence) from faults[-1].cause
            raise EnvFailed(f"Group {message.group} was started again.")
        elif verdict != "old":
            self._came[message.group] = message

    def _close_block(self, block: Block, costs_before: Cost) -> Collected:
        steps = int(np.count_nonzero(block.data.valid))
        self.env_steps += steps
        counted = self._transport.take_costs()
        frames = steps * self._transport.spec.frames_per_step
        environment = replace(counted.get("environment", Cost()), env_steps=steps, frames=frames)
        own = {
            "inference": grown(self._actor.costs, costs_before),
            "transport": self._loads.take(),
        }
        costs = merge_costs([{**counted, "environment": environment}, own])
        return Collected(data=block.data, episodes=tuple(block.episodes), env_steps=steps, costs=costs, q=block.q)

    def state_dict(self) -> StateDict:
        """Streams, counters, what policy and explorer remember; the environments exactly, where the transport can."""
        exact = isinstance(self._transport, Exact) and self._started
        return {
            "env_steps": self.env_steps,
            "started": self._started,
            "actor": self._actor.state_dict(),
            "loads": self._loads.state_dict(),
            "transport": _exactly(self._transport) if exact else self._transport.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> tuple[int, ...]:
        """Before the first ``collect``. Returns the rows that could not be brought back exactly and start a new
        episode.

        Raises ValueError when policy or explorer remember something else than was saved, or the policy has another
        transform.
        """
        self._actor.load_state_dict(state["actor"])
        self._loads.load_state_dict(state.get("loads", {}))
        self.env_steps = state["env_steps"]
        self._started = state["started"]
        if not self._started:
            return ()
        self._transport.load_state_dict(state["transport"])
        self._restored = isinstance(self._transport, Exact)
        lost = self._transport.not_restored if isinstance(self._transport, Exact) else range(self._transport.num_rows)
        if lost:
            self._chooser.forget(np.array(lost))
            self._lost[list(lost)] = True
        return tuple(lost)

    def close(self) -> None:
        """End the environments."""
        self._transport.close()


def _exactly(transport: Transport) -> dict[str, Any]:
    assert isinstance(transport, Exact)
    return transport.exact_state_dict()
