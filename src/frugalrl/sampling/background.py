"""Central sampling that never waits for the learner's step: an engine in a thread of its own, unrolls in a queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from frugalrl.cost.meters import LapTimer
from frugalrl.math.explore import Explorer
from frugalrl.policies.acting import ActingPolicy
from frugalrl.policies.handover import Handover
from frugalrl.policies.sampler_policy import SamplerPolicy
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.sampling.chooser import Chooser
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.draws import Ints
from frugalrl.sampling.engine import Engine
from frugalrl.sampling.engine_meters import EngineStatistics
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.handoff import Handoff
from frugalrl.sampling.row_actor import RowActor, grown
from frugalrl.sampling.transport import Fault, Transport
from frugalrl.types import Cost, Costs, Episode, PolicySnapshot, StateDict, Unroll, merge_costs

_WAIT_S = 0.05
_COUNT_EVERY_S = 0.25
_STOP_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What happened since the last ``take``."""

    episodes: tuple[Episode, ...]
    env_steps: int
    invalid_rows: int
    """Rows between two episodes, of all environments."""
    costs: Costs
    """What was counted; the engine's seconds are on its timer."""
    statistics: EngineStatistics
    faults: tuple[Fault, ...]


class BackgroundSampler:
    """Samples without a pause from ``start`` to ``close``; the learner gets complete unrolls and publishes snapshots.

    All methods are called by the learner's thread.
    """

    def __init__(
        self,
        transport: Transport,
        policy: ActingPolicy,
        explorer: Explorer,
        explore: ExploreConfig,
        config: SamplerConfig,
        *,
        unroll_steps: int,
        overlap_steps: int = 0,
        batch_unrolls: int,
        prefill_env_steps: int,
        seed: int,
        forward_cost: Callable[[int], Cost],
        timer: LapTimer,
    ) -> None:
        """
        Args:
            policy: it shares the parameters it is given or copies them, as it likes: it is given copies.
            unroll_steps: transitions T of an unroll, overlap included.
            overlap_steps: transitions that an unroll shares with the one before it.
            batch_unrolls: unrolls of one update; ``config.queue_batches`` of these may wait for the learner.
            forward_cost: FLOPs and bytes of a forward pass over so many rows.
            timer: of the engine's thread, which starts it; anyone may ``take`` from it.
        """
        rows = transport.num_rows
        self._transport, self._policy, self._timer = transport, policy, timer
        self._chooser = Chooser(
            explorer, explore, transport.spec, rows, seed=seed, prefill_env_steps=prefill_env_steps, needs_log_mu=True
        )
        self._actor = RowActor(policy, self._chooser, rows, forward_cost=forward_cost)
        store = UnrollStore(
            transport.spec, rows, length=unroll_steps, overlap=overlap_steps, state=policy.initial_state(rows)
        )
        self._engine = Engine(transport, self._actor, store, config, timer=timer)
        self._queue = Handoff(config.queue_batches * batch_unrolls)
        self._handover = Handover()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._stop = threading.Event()
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._lock = threading.Lock()  # over what the engine's thread collects for ``take``
        self._episodes: list[Episode] = []
        self._faults: list[Fault] = []
        self._counted: list[Costs] = []
        self._error: BaseException | None = None
        self._taken_steps, self._taken_invalid, self._taken_costs = 0, 0, self._actor.costs
        self._loads = self._moved = 0

    # ------------------------------------------------------------------ the learner's side

    def load(self, snapshot: PolicySnapshot) -> None:
        """Act with a copy of these parameters from the next batch on."""
        self._moved += self._handover.publish(snapshot)
        self._loads += 1
        if self._thread.ident is None:
            self._take_weights()

    def start(self) -> None:
        """Begin to sample. Call ``load`` first."""
        self._thread.start()

    def get(self, n: int, timeout_s: float | None = None) -> tuple[Unroll, Ints] | None:
        """The oldest ``n`` complete unrolls as one batch and their rows [n]; None when there were not so many in time.

        Raises what ended the engine: EnvFailed, FloatingPointError, RunFailed.
        """
        return self._queue.get(n, timeout_s)

    def take(self) -> Taken:
        """What happened since the last call. Raises what ended the engine, once all before it was taken."""
        with self._lock:
            episodes, self._episodes = tuple(self._episodes), []
            faults, self._faults = tuple(self._faults), []
            counted, self._counted = self._counted, []
        steps, forward = self._engine.env_steps, self._actor.costs
        env_steps, self._taken_steps = steps - self._taken_steps, steps
        invalid = self._engine.invalid_rows
        invalid_rows, self._taken_invalid = invalid - self._taken_invalid, invalid
        costs = merge_costs(counted)
        frames = env_steps * self._transport.spec.frames_per_step
        costs["environment"] = replace(costs.get("environment", Cost()), env_steps=env_steps, frames=frames)
        costs["inference"] = grown(forward, self._taken_costs)
        loads = Cost(calls=self._loads, flop=0.0, bytes_min=float(self._moved))
        costs["transport"] = costs.get("transport", Cost()) + loads
        self._taken_costs = forward
        self._loads = self._moved = 0
        if self._error is not None and not (episodes or env_steps or faults):
            raise self._error
        return Taken(
            episodes=episodes,
            env_steps=env_steps,
            invalid_rows=invalid_rows,
            costs=costs,
            statistics=self.statistics(),
            faults=faults,
        )

    def statistics(self) -> EngineStatistics:
        """What the engine has done so far, and who waited for whom."""
        return replace(
            self._engine.statistics(), blocked_s=self._queue.blocked_s, learner_waited_s=self._queue.starved_s
        )

    @property
    def env_steps(self) -> int:
        """Valid transitions so far."""
        return self._engine.env_steps

    @property
    def forwards(self) -> int:
        """Forward passes so far."""
        return self._actor.forwards

    def acting(self) -> PolicySnapshot:
        """What it acts with."""
        snapshot: PolicySnapshot = self._ask(self._policy.snapshot)
        return snapshot

    def epsilon(self) -> float | None:
        """The mean exploration probability over rows at this point of the run; None for a rule that has none."""
        return self._chooser.epsilon(self.env_steps)

    def state_dict(self) -> StateDict:
        """Streams, counters, what the explorer remembers, and how often environments were started. Open unrolls, those
        in the queue and the environments' own state are not in it."""
        state: StateDict = self._ask(self._state)
        return state

    def _state(self) -> StateDict:
        return {
            "env_steps": self._engine.env_steps,
            "taken_steps": self._taken_steps,
            "untold_invalid_rows": self._engine.invalid_rows - self._taken_invalid,
            "actor": self._actor.state_dict(),
            "transport": self._transport.state_dict(),
            "policy": self._policy.state_dict() if isinstance(self._policy, SamplerPolicy) else {},
        }

    def load_state_dict(self, state: StateDict) -> tuple[int, ...]:
        """Before ``start``. Returns the rows that are not where they were: all, each starts a new episode.

        Raises ValueError when policy or explorer remember something else than was saved.
        """
        self._actor.load_state_dict(state["actor"])
        self._engine.env_steps = state["env_steps"]
        # what was stepped while the run was saved is told by the next ``take``, so that every step is counted once;
        # checkpoints of earlier versions do not say
        self._taken_steps = state["taken_steps" if "taken_steps" in state else "env_steps"]
        self._engine.invalid_rows = state.get("untold_invalid_rows", 0)
        self._transport.load_state_dict(state["transport"])
        if isinstance(self._policy, SamplerPolicy):
            self._policy.load_state_dict(state["policy"])
        rows = np.arange(self._transport.num_rows)
        self._actor.forget(rows)
        return tuple(rows.tolist())

    def close(self) -> None:
        """End the engine and the environments, whatever they do. Harmless when called twice."""
        self._stop.set()
        self._queue.close()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)
        self._transport.close()

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Have the engine's thread answer between two batches; it may be gone, or not be there yet."""
        if not self._thread.is_alive():
            return question()
        future: Future[Any] = Future()
        self._asked.put((question, future))
        while True:
            try:
                return future.result(timeout=0.2)
            except TimeoutError:
                if not self._thread.is_alive() and not future.done():
                    return question()

    # ------------------------------------------------------------------ the engine's thread

    def _run(self) -> None:
        try:
            self._timer.start()
            self._transport.start()
            counted_at = time.monotonic()
            while not self._stop.is_set():
                self._between()
                ready = self._engine.turn(_WAIT_S)
                with self._lock:
                    self._episodes.extend(self._engine.take_episodes())
                    # at once: a step after a fault must never be told before it, the run may end with that step
                    self._faults.extend(self._transport.take_faults())
                for unroll, rows in ready:
                    self._put(unroll, rows)
                if time.monotonic() - counted_at > _COUNT_EVERY_S:
                    counted_at = time.monotonic()
                    self._count()
            self._count()
        except BaseException as error:  # whatever it is, it belongs to whoever waits for unrolls
            self._error = error
            with self._lock:
                self._faults.extend(self._transport.take_faults())
            self._queue.fail(error)

    def _between(self) -> None:
        """What may only happen between two batches: newer weights, and questions."""
        if self._take_weights():
            self._timer.lap("transport")
        try:
            while True:
                question, future = self._asked.get_nowait()
                try:
                    future.set_result(question())
                except BaseException as error:
                    future.set_exception(error)
                self._timer.lap("checkpoint")
        except Empty:
            pass

    def _take_weights(self) -> bool:
        snapshot = self._handover.take()
        if snapshot is None:
            return False
        moved = self._policy.load(snapshot)  # always: what it had before may be written from now on
        with self._lock:
            self._counted.append({"transport": Cost(bytes_min=float(moved))})
        return True

    def _put(self, unroll: Unroll, rows: Ints) -> None:
        while not self._queue.put(unroll, rows, _WAIT_S) and not self._stop.is_set():
            self._timer.lap("waiting")
            self._between()
        self._timer.lap("waiting")

    def _count(self) -> None:
        costs = self._transport.take_costs()
        with self._lock:
            self._counted.append(costs)
