"""The serial loop of several seeds: each collects its block, then all make the updates due, as they would alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from frugalrl.algos.agents import TokenConfig
from frugalrl.algos.dqn import DQNLearner
from frugalrl.algos.stacked import StackedLearner
from frugalrl.algos.stacked_gpu import StackedGpuLearner
from frugalrl.cost.flops import bytes_min_replay_row, bytes_min_replay_sample
from frugalrl.cost.meters import LapTimer
from frugalrl.policies.stacked import StackedGpuPolicy, StackedPolicy
from frugalrl.replay import Replay
from frugalrl.replay.stacked import StackedReplay, split
from frugalrl.run.loop import Event, costs_of
from frugalrl.run.stacked_seed import SeedRun
from frugalrl.sampling.stacked import Failure, SeedSampler, StackedSampler
from frugalrl.types import Collected, NonFiniteLoss, Updated


class StackedLoop:
    """The parts of several seeds, put together."""

    def __init__(self, runs: Sequence[SeedRun], timer: LapTimer) -> None:
        """``timer``: of this thread. The runs' parts stay theirs, and can be saved between two rounds."""
        self._timer = timer
        self._runs = list(runs)
        config, spec = runs[0].config, runs[0].spec
        self._schedule, self._rows, self._size = config.schedule, config.env.rows, config.agent.batch_size
        assert not isinstance(config.agent, TokenConfig)
        self._head = config.agent.head()
        self._row_bytes = bytes_min_replay_row(spec)
        self._batch_bytes = bytes_min_replay_sample(spec, self._size, n_step=config.replay.n_step)
        learners = [_learner(run) for run in runs]
        self._learner: StackedLearner | StackedGpuLearner
        if is_on_gpu(runs[0]):
            self._learner = StackedGpuLearner(learners, timer)
        else:
            self._learner = StackedLearner(learners, timer)
        replays = [cast(Replay, run.parts.replay) for run in runs]
        self._replay = StackedReplay(spec, replays, n_step=config.replay.n_step, gamma=config.agent.gamma)
        self._place = {run.config.seed: place for place, run in enumerate(runs)}
        self._lead()

    def _lead(self) -> None:
        """Let the samplers act with the parameters where they lie now."""
        samplers = []
        for run in self._runs:
            sampler = cast(SeedSampler, run.parts.sampler)
            sampler.load(run.parts.learner.snapshot())
            samplers.append(sampler)
        learner, policies = self._learner, [sampler.policy for sampler in samplers]
        policy: StackedPolicy | StackedGpuPolicy
        if isinstance(learner, StackedGpuLearner):
            policy = StackedGpuPolicy(learner.online, self._head, policies)
        else:
            policy = StackedPolicy(learner.online, self._head, policies)
        self._sampler = StackedSampler(samplers, policy, self._timer)

    def drop(self, runs: Sequence[SeedRun]) -> None:
        """Go on without these; their parts keep what they have."""
        if not runs:
            return
        self._learner.drop([i for i, run in enumerate(self._runs) if run in runs])
        self._runs = [run for run in self._runs if run not in runs]
        if self._runs:
            self._lead()

    def round(self) -> list[Event | Failure]:
        """One round of every seed; the error of a seed whose block could not be collected."""
        timer, runs = self._timer, self._runs
        blocks = self._sampler.collect(self._schedule.steps_per_round * self._rows)
        going = []
        for run, block in zip(runs, blocks, strict=True):
            if isinstance(block, Collected):
                run.parts.replay.add(block.data)
                run.counters.env_steps += block.env_steps
                going.append(run)
        timer.lap("replay")
        updated: dict[int, list[Updated]] = {run.config.seed: [] for run in going}
        errors: dict[int, NonFiniteLoss] = {}
        due = [run for run in going if self._is_due(run)]
        for _ in range(self._schedule.updates_per_round):
            due = [run for run in due if run.config.seed not in errors]
            for run, answer in zip(due, self._update(due), strict=True):
                if isinstance(answer, NonFiniteLoss):
                    errors[run.config.seed] = answer
                else:
                    updated[run.config.seed].append(answer)
                    run.counters.updates += 1
        timer.lap("replay")
        for run in due:
            run.parts.sampler.load(run.parts.learner.snapshot())
        timer.lap("transport")
        events: list[Event | Failure] = []
        for run, block in zip(runs, blocks, strict=True):
            if not isinstance(block, Collected):
                events.append(block)
                continue
            done = updated[run.config.seed]
            costs = costs_of(block, done, self._row_bytes, self._batch_bytes)
            events.append(Event(block, tuple(done), costs, errors.get(run.config.seed)))
        return events

    def _is_due(self, run: SeedRun) -> bool:
        return run.counters.env_steps >= self._schedule.warmup_env_steps and run.parts.replay.can_sample(self._size)

    def _update(self, due: Sequence[SeedRun]) -> list[Updated | NonFiniteLoss]:
        """One update of these seeds: together when nobody is missing, else one by one."""
        if len(due) < len(self._runs):
            answers = [self._update_alone(run) for run in due]
            self._learner.refresh()
            return answers
        timer = self._timer
        steps = [run.counters.env_steps for run in due]
        replayed = self._replay.sample([self._place[run.config.seed] for run in due], self._size, steps)
        timer.lap("replay")
        answers = self._learner.update(replayed)
        for run, answer, own in zip(due, answers, split(replayed, len(due)), strict=True):
            if isinstance(answer, Updated) and answer.priorities is not None:
                run.parts.replay.set_priorities(own.keys, answer.priorities)
        return answers

    def _update_alone(self, run: SeedRun) -> Updated | NonFiniteLoss:
        replayed = run.parts.replay.sample(self._size, env_step=run.counters.env_steps)
        self._timer.lap("replay")
        try:
            answer = _learner(run).update(replayed)
        except NonFiniteLoss as error:
            return error
        if answer.priorities is not None:
            run.parts.replay.set_priorities(replayed.keys, answer.priorities)
        return answer


def is_on_gpu(run: SeedRun) -> bool:
    """Whether its networks are."""
    return run.parts.device.type == "cuda"


def _learner(run: SeedRun) -> DQNLearner:
    learner = run.parts.learner
    assert isinstance(learner, DQNLearner)
    return learner
