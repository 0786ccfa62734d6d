"""The inline sampler: environments and policy in the thread that calls it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from frugalrl.cost.meters import LapTimer
from frugalrl.envs import RowEnv
from frugalrl.math.explore import EXPLORERS, Choice, Explorer, Knobs, Memory, View, counteractive, uniform
from frugalrl.math.schedules import of_rows
from frugalrl.nets.gpu import grown
from frugalrl.policies.sampler_policy import SamplerPolicy, versions_of
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.inline_block import Block, no_choice
from frugalrl.sampling.loads import Loads
from frugalrl.sampling.row_policy import row_policy
from frugalrl.sampling.streams import RowStreams
from frugalrl.types import Collected, Cost, EnvFailed, PolicySnapshot, StateDict, Step


class InlineSampler:
    """Turns snapshots into rows of experience, one environment step at a time."""

    def __init__(
        self,
        env: RowEnv,
        policy: ValuePolicy | SequencePolicy | SamplerPolicy,
        config: ExploreConfig,
        *,
        prefill_env_steps: int,
        seed: int,
        inference_cost: Cost,
        timer: LapTimer,
        explorer: Explorer | None = None,
        needs_log_mu: bool = False,
        whole_unrolls: bool = False,
    ) -> None:
        """``inference_cost``: FLOPs and bytes of one forward pass over all rows. ``prefill_env_steps``: agent steps.
        ``timer``: of the thread that calls ``collect``; the sampler marks its laps in it. ``explorer``: the rule that
        ``config`` names, by default one for Q-values. ``whole_unrolls``: a block is ``ceil(n / rows)`` steps of all."""
        self._env = env
        self._policy = policy
        self._config = config
        self._explorer = explorer = explorer or EXPLORERS[config.name]
        self._memory = explorer.start(env.spec, env.num_rows)
        self._knobs = Knobs(
            uniform_share=config.uniform_share,
            ez_mu=config.ez_mu,
            ez_max_steps=config.ez_max_steps,
            ucb_c=config.ucb_c,
            seed=seed,
        )
        self._has_temperature = "temperature" in explorer.knobs
        self._prefill, self._whole = prefill_env_steps, whole_unrolls
        self._streams = RowStreams(seed, env.num_rows)
        self._inference_cost = inference_cost
        self._rows = row_policy(policy, env.num_rows, self._q_values)
        self._remembers = bool(self._rows.state)
        # without a consumer of mu a row that explores at random needs no forward pass, unless the policy remembers
        self._explores = None if needs_log_mu or self._remembers else explorer.explores
        self._timer = timer
        self._loads = Loads(policy)
        self._step: Step | None = None
        self._gpu_s_before: float | None = None
        self.env_steps = 0
        self.forwards = 0
        self._q: np.ndarray[Any, Any] | None = None  # of the forward pass of this step, if there was one

    def load(self, snapshot: PolicySnapshot) -> None:
        """Act with these parameters from now on."""
        self._loads.load(snapshot)

    def acting(self) -> PolicySnapshot:
        """What it acts with."""
        return self._policy.snapshot()

    def collect(self, n: int) -> Collected:
        """Step all rows until at least ``n`` valid transitions were made: exactly ``n`` with one row, fewer than
        ``n + rows`` with more, as a row that is reset makes none.

        When the environment fails (EnvFailed) or Q-values are not finite (FloatingPointError), the block is dropped:
        ``state_dict`` then gives the state before it.
        """
        before = self._mark()
        try:
            return self._collect(n)
        except (EnvFailed, FloatingPointError):
            self._roll_back(*before)
            raise

    def _collect(self, n: int) -> Collected:
        timer = self._timer
        block, step = self._open()
        timer.lap("environment")
        while (block.calls * len(step.last) if self._whole else self.env_steps - block.env_steps_before) < n:
            self._q = None
            choice = self._act(step)
            timer.lap("inference")
            step = self._advance(block, choice)
            timer.lap("environment")
        collected = self._close(block)
        timer.lap("inference")
        return collected

    def _open(self) -> tuple[Block, Step]:
        """A new block, and the step at which the rows stand; the first block of all begins with the reset."""
        block, self._gpu_s_before = Block(self.env_steps, self.forwards), self._policy.gpu_s
        if self._step is None:
            self._step = self._env.reset()
            self._rows.arrive(self._step)
            block.add(self._step, no_choice(self._env.num_rows), versions_of(self._policy), self._rows.state)
        return block, self._step

    def _advance(self, block: Block, choice: Choice) -> Step:
        """One step of all rows into the block."""
        self._rows.acted(choice.action)
        self._step = step = self._env.step(choice.action)
        self._rows.arrive(step)
        block.add(step, choice, versions_of(self._policy), self._rows.state, self._q)
        block.calls += 1
        self.env_steps += int(np.count_nonzero(step.valid))
        return step

    def _close(self, block: Block) -> Collected:
        env, one = self._env, self._inference_cost
        steps, forwards = self.env_steps - block.env_steps_before, self.forwards - block.forwards_before
        data = block.rows()
        costs = {
            "environment": Cost(calls=block.calls, env_steps=steps, frames=steps * env.spec.frames_per_step),
            "inference": Cost(
                calls=forwards,
                flop=forwards * (one.flop or 0.0),
                bytes_min=forwards * (one.bytes_min or 0.0),
                gpu_s=grown(self._gpu_s_before, self._policy.gpu_s),
            ),
            "transport": self._loads.take(),
        }
        return Collected(data=data, episodes=tuple(block.episodes), env_steps=steps, costs=costs, q=block.q())

    def epsilon(self) -> float | None:
        """The mean exploration probability over rows at this point of the run; None for a rule that has none."""
        if self.env_steps < self._prefill:
            return 1.0
        if "epsilon" not in self._explorer.knobs:
            return None
        return float(of_rows(self._config.epsilon, self.env_steps, self._env.num_rows).mean())

    def _act(self, step: Step) -> Choice:
        choice = self._choose(step)
        if self._memory and step.last.any():
            self._explorer.end(self._memory, step.last)
        return choice

    def _choose(self, step: Step) -> Choice:
        u = self._streams.next()
        if step.last.all():  # every row is about to be reset: its action is not used
            return no_choice(len(u))
        prefilling = self.env_steps < self._prefill
        if prefilling and self._config.prefill == "uniform":
            if self._remembers:
                self._forward(step)
                self._q = None
            return uniform(self._env.spec.num_actions, u)
        if prefilling:
            choice = counteractive(self._forward(step), np.ones(len(u)), u)
            self._q = None  # these are not the actions of the explorer, so nobody is to judge it by them
            return choice
        explorer, config, memory = self._explorer, self._config, self._memory
        eps = of_rows(config.epsilon, self.env_steps, len(u))
        skip = self._explores is not None and self._explores(eps, u, memory).all()
        view = View(
            q=None if skip else self._forward(step),
            obs=step.obs,
            last=step.last,
            eps=eps,
            temperature=of_rows(config.temperature, self.env_steps, len(u)) if self._has_temperature else None,
            u=u,
            num_actions=self._env.spec.num_actions,
            knobs=self._knobs,
        )
        return explorer.choose(view, memory)

    def _forward(self, step: Step) -> np.ndarray[Any, Any]:
        self.forwards += 1
        self._q = q = self._rows.values(step.obs)
        return q

    def _q_values(self, obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return cast(ValuePolicy | SamplerPolicy, self._policy).q_values(obs, self.forwards)

    def _mark(self) -> tuple[Step | None, int, int, Memory, Memory]:
        self._streams.mark()
        if self._step is not None:
            self._env.mark()
        return self._step, self.env_steps, self.forwards, _copies(self._memory), self._rows.state

    def _roll_back(self, step: Step | None, env_steps: int, forwards: int, memory: Memory, state: Memory) -> None:
        self._streams.roll_back()
        self._step, self.env_steps, self.forwards, self._memory = step, env_steps, forwards, memory
        self._rows.state = state
        if step is not None:
            self._env.roll_back()

    def state_dict(self) -> StateDict:
        """Streams, counters, what it remembers, the environment's state; the standing observation is replayed."""
        return {
            "env_steps": self.env_steps,
            "forwards": self.forwards,
            "started": self._step is not None,
            "streams": self._streams.state_dict(),
            "explorer": _copies(self._memory),
            "policy": dict(self._rows.state),
            "loads": self._loads.state_dict(),
            "env": self._env.state_dict() if self._step is not None else {},
        }

    def load_state_dict(self, state: StateDict) -> tuple[int, ...]:
        """Returns the rows that could not be brought back exactly and start a new episode.

        Raises ValueError when the explorer remembers something else than was saved, or the transform is another one.
        """
        self.env_steps = state["env_steps"]
        self.forwards = state["forwards"]
        self._streams.load_state_dict(state["streams"])
        memory = _copies(state.get("explorer", {}))  # absent in checkpoints older than these memories
        if _shapes(memory) != _shapes(self._memory):
            raise ValueError(
                f"the explorer {self._config.name!r} remembers {_shapes(self._memory)}, but {_shapes(memory)} was saved"
            )
        self._memory = memory
        self._rows.state = _copies(state.get("policy", {}))
        self._loads.load_state_dict(state.get("loads", {}))
        if not state["started"]:
            return ()
        restored = self._env.load_state_dict(state["env"])
        self._step = restored.step
        if self._memory and restored.not_restored:
            ended = np.zeros(self._env.num_rows, np.bool_)
            ended[list(restored.not_restored)] = True
            self._explorer.end(self._memory, ended)
        return tuple(restored.not_restored)

    def close(self) -> None:
        self._env.close()


def _copies(memory: Memory) -> Memory:
    return {name: np.array(array) for name, array in memory.items()}


def _shapes(memory: Memory) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in memory.items()}
