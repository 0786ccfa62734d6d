"""Agents with an LSTM that act through ONNX Runtime: what they record is the engine's own, and runs come back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kill_resume import bill_counts, differences, exact_state, scores
from numpy.typing import NDArray
from run_support import Watcher, cartpole, on_snapshot, ppo, r2d2, vtrace

from frugalrl.cost.meters import LapTimer
from frugalrl.nets.heads import PolicyValue, Scalar
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.run.assemble import assemble, network_builder
from frugalrl.run.config import RunConfig
from frugalrl.run.events import events
from frugalrl.run.loop import Counters
from frugalrl.run.status import Silent
from frugalrl.run.tell import sampler_in_words
from frugalrl.run.train import resume, train
from frugalrl.types import EnvSpec, PolicySnapshot, RunFailed, UserError

pytest.importorskip("onnxruntime")
from frugalrl.policies.engines.onnx_runtime import OnnxRuntime
from frugalrl.policies.engines.policy import EnginePolicy

LSTM, ACTS_BY_ITSELF = "net.lstm_units=8", ("explore.epsilon.start=0", "agent.learning_rate=0.01")
LOCKSTEP = ("sampler.kind=central", "sampler.lockstep=true", "sampler.groups=1")
ASYNC = ("sampler.kind=central", "sampler.groups=2")
Arrays = dict[str, NDArray[Any]]
Policy = SequencePolicy | EnginePolicy


@dataclass
class Stretch:
    """Steps of some rows, as in `Unroll`."""

    steps: Any
    rows: list[int]
    first: Arrays
    """The state before the first observation."""
    states: Arrays
    """What was recorded of the states before each observation, [T, B, ...]; empty in an unroll."""


class Recorded:
    """What a run recorded, and the learner's weights by version."""

    def __init__(self, config: RunConfig, rounds: int, unrolls: int = 0) -> None:
        """``unrolls``: as many rounds more as it takes to have them; a round of an asynchronous run may bring none."""
        timer = LapTimer()
        timer.start()
        parts = assemble(config, timer)
        self.spec: EnvSpec = parts.spec
        self.compares = config.agent.kind != "r2d2"  # whose log mu nobody reads
        self.stride = config.agent.length - config.agent.overlap
        self._build = network_builder(config, self.spec)
        self._head: Any = Scalar() if config.agent.kind == "r2d2" else PolicyValue()
        self.parameters: dict[int, Any] = {}
        self.unrolls: list[tuple[Any, list[int]]] = []
        self.blocks: list[Any] = []
        self._known: dict[str, Policy] = {}
        self._loaded: dict[str, int] = {}
        self._watch(parts)
        try:
            loop = events(config, parts, Counters(), timer)
            done = 0
            while done < rounds or len(self.unrolls) < unrolls:
                next(loop)
                done += 1
        finally:
            parts.hand.close()
            parts.sampler.close()

    def _watch(self, parts: Any) -> None:
        def keep(made: Any) -> None:
            if made.version not in self.parameters:
                self.parameters[made.version] = {n: p.detach().clone() for n, p in made.parameters.items()}

        on_snapshot(parts, keep)
        if hasattr(parts.sampler, "collect"):
            collect = parts.sampler.collect

            def collected(n: int) -> Any:
                made = collect(n)
                self.blocks.append(made.data)
                return made

            parts.sampler.collect = collected
        else:
            insert = parts.replay.insert

            def inserted(unroll: Any, rows: Any) -> None:
                self.unrolls.append((unroll, [int(row) for row in rows]))
                insert(unroll, rows)

            parts.replay.insert = inserted

    def policy(self, version: int, engine: str) -> Policy:
        """With the weights of this version, until it is asked for again."""
        if engine not in self._known:
            if engine == "torch":
                self._known[engine] = SequencePolicy(self._build, self._head, torch.device("cpu"), share=False)
            else:
                runtime = OnnxRuntime(self._build().eval(), self.spec, int8=engine == "onnx-int8")
                self._known[engine] = EnginePolicy(runtime, self._head)
        policy = self._known[engine]
        if self._loaded.get(engine) != version:
            policy.load(PolicySnapshot(version, self.parameters[version]))
            self._loaded[engine] = version
        return policy

    def stretches(self) -> list[Stretch]:
        """Blocks are one stretch from the first observation of the run on; unrolls begin with a recorded state."""
        if self.unrolls:
            return [Stretch(unroll, rows, dict(unroll.state_at_start), {}) for unroll, rows in self.unrolls]
        whole = {
            name: np.concatenate([getattr(block, name) for block in self.blocks])
            for name in ("obs", "action", "reward", "valid", "log_mu", "version", "explored")
        }
        later = {name: array if name == "obs" else array[1:] for name, array in whole.items()}
        states = {n: np.concatenate([b.state[n] for b in self.blocks]) for n in self.blocks[0].state}
        rows = later["action"].shape[1]
        first = self.policy(0, "torch").initial_state(rows)
        return [Stretch(type("Steps", (), later), list(range(rows)), first, states)]


def log_pi(logits: NDArray[Any], action: NDArray[Any]) -> NDArray[Any]:
    log = logits - logits.max(-1, keepdims=True)
    log = log - np.log(np.exp(log).sum(-1, keepdims=True))
    return np.take_along_axis(log, action[:, None], 1)[:, 0]


def gap(run: Recorded, engines: dict[str, list[int]], *, begins_anew: bool = True) -> tuple[float, int]:
    """Largest difference between what was recorded (log mu, states) and what these engines say for their rows of each
    step, by the weights whose version stands beside it; and how many episodes began on the way."""
    worst, begun = 0.0, 0
    expected: dict[int, Arrays] = {}
    """By row of an asynchronous run: the state with which its next unroll must begin."""
    for stretch in run.stretches():
        steps, state = stretch.steps, {n: np.array(x) for n, x in stretch.first.items()}
        initial = run.policy(0, "torch").initial_state(len(stretch.rows))
        for b, row in enumerate(stretch.rows):
            for name, array in expected.pop(row, {}).items():
                worst = max(worst, float(np.abs(array - state[name][b]).max()))
        for t in range(len(steps.action)):
            for name, recorded in stretch.states.items():
                worst = max(worst, float(np.abs(recorded[t] - state[name]).max()))
            if run.unrolls and t == run.stride:
                expected |= {row: {n: x[b] for n, x in state.items()} for b, row in enumerate(stretch.rows)}
            values, state = acted(run, engines, stretch, t, state)
            if run.compares:
                counts = steps.valid[t] & ~steps.explored[t]
                differences = np.abs(log_pi(values, steps.action[t]) - steps.log_mu[t])[counts]
                worst = max(worst, float(differences.max(initial=0.0)))
            ended = ~steps.valid[t]
            begun += int(ended.sum())
            if begins_anew:
                for name, array in state.items():
                    state[name] = np.where(ended.reshape(-1, *[1] * (array.ndim - 1)), initial[name], array)
        if run.unrolls and run.stride == len(steps.action):
            expected |= {row: {n: x[b] for n, x in state.items()} for b, row in enumerate(stretch.rows)}
    return worst, begun


def acted(
    run: Recorded, engines: dict[str, list[int]], stretch: Stretch, t: int, state: Arrays
) -> tuple[NDArray[Any], Arrays]:
    """Values of one step, and what is remembered after it with the recorded action and reward."""
    steps, rows = stretch.steps, np.array(stretch.rows)
    values, after = (
        np.empty((len(rows), run.spec.num_actions), np.float32),
        {n: np.empty_like(x) for n, x in state.items()},
    )
    for engine, of in engines.items():
        for version in np.unique(steps.version[t]):
            here = np.isin(rows, of) & (steps.version[t] == version)
            if here.any():
                part = {name: array[here] for name, array in state.items()}
                values[here], then = run.policy(int(version), engine).values(steps.obs[t][here], part)
                for name, array in then.items():
                    after[name][here] = array
    return values, after | {"action_tm1": steps.action[t], "reward_tm1": steps.reward[t]}


ALL = [0, 1, 2, 3]
PATHS: dict[str, tuple[Callable[..., RunConfig], list[str], dict[str, list[int]], int]] = {
    "ppo-inline-int8": (ppo, ["sampler.engine=onnx-int8", *ACTS_BY_ITSELF], {"onnx-int8": ALL}, 5),
    "vtrace-lockstep-mix": (
        vtrace, ['sampler.mix=["2*none@onnx-int8","2*none"]', *LOCKSTEP, *ACTS_BY_ITSELF],
        {"onnx-int8": [0, 1], "torch": [2, 3]}, 10,
    ),
    "r2d2-inline-int8": (r2d2, ["sampler.engine=onnx-int8", "agent.learning_rate=0.01"], {"onnx-int8": ALL}, 18),
}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_what_is_recorded_is_of_the_engine_that_acted(name: str) -> None:
    build, settings, engines, rounds = PATHS[name]
    run = Recorded(build(LSTM, *settings), rounds)
    right, begun = gap(run, engines)
    assert right < 1e-5
    assert begun > 3
    assert len(run.parameters) > 3
    assert gap(run, {"torch": ALL})[0] > 1e-4, "what int8 does would not be noticed"
    assert gap(run, engines, begins_anew=False)[0] > 1e-2, "a state that is not reset would not be noticed"


@pytest.mark.parametrize("agent", ["vtrace", "r2d2"])
def test_fp32_in_an_asynchronous_run_is_torch(agent: str) -> None:
    """Rows of any age in any order; each unroll says with which state it began."""
    if agent == "vtrace":
        run = Recorded(vtrace(LSTM, "sampler.engine=onnx", *ASYNC, *ACTS_BY_ITSELF), 0, unrolls=32)
    else:
        run = Recorded(r2d2("sampler.engine=onnx", *ASYNC), 0, unrolls=24)
    assert gap(run, {"torch": ALL})[0] < 1e-5
    assert gap(run, {"torch": ALL}, begins_anew=False)[0] > 1e-3


CASES: dict[str, tuple[Callable[..., RunConfig], list[str], int]] = {
    "ppo": (ppo, [LSTM, "sampler.engine=onnx-int8"], 160),
    "vtrace": (vtrace, [LSTM, "sampler.engine=onnx-int8", "sampler.sync_every_updates=3"], 120),
    "r2d2": (r2d2, ["sampler.engine=onnx-int8", "sampler.transform=stale:3"], 120),
    "vtrace-lockstep": (vtrace, [LSTM, "sampler.engine=onnx", *LOCKSTEP], 200),
    "r2d2-pipelined": (r2d2, ["sampler.engine=onnx", "schedule.lag_blocks=1"], 200),
}
QUICK = ("ppo", "vtrace", "r2d2")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_a_resumed_run_ends_like_one_that_was_not_cut(name: str, tmp_path: Path) -> None:
    build, settings, steps = CASES[name]
    config = build("evaluation.every_env_steps=1_000", "evaluation.episodes=1", *settings, steps=steps)
    whole = train(config, tmp_path / "whole", Silent())
    assert whole.completed
    assert whole.bill.find("calls", "inference").value is not None
    assert (whole.bill.find("bytes_min", "transport").value or 0) > 0
    reporter = Watcher(at_step=steps * 2 // 5, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not train(config, tmp_path / "cut", reporter).completed
    assert reporter.headers[0].sampler == sampler_in_words(config)
    assert resume(tmp_path / "cut", Silent()).completed
    assert differences(exact_state(tmp_path / "whole"), exact_state(tmp_path / "cut")) == []
    assert bill_counts(tmp_path / "whole")[0] == bill_counts(tmp_path / "cut")[0]
    assert scores(tmp_path / "whole") == scores(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("build", [vtrace, r2d2, ppo], ids=["vtrace", "r2d2", "ppo"])
def test_worker_processes_are_answered_by_the_engine(build: Any, tmp_path: Path) -> None:
    config = build(LSTM, "sampler.engine=onnx-int8", "sampler.kind=central", "sampler.workers=1", steps=200)
    assert train(config, tmp_path / "run", Silent()).bill.find("calls", "inference").value


def test_noisy_layers_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises((UserError, RunFailed)) as error:
        train(cartpole("net.noisy_sigma0=0.5", "sampler.engine=onnx"), tmp_path / "run", Silent())
    assert str(error.value) == (
        "engines of ONNX Runtime know no noisy layers, whose noise is new in each forward pass; use "
        "sampler.engine=torch, or net.noisy_sigma0=None"
    )
