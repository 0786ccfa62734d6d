"""Samplers that differ from the learner: their log-probabilities, versions, costs, failures and resumed runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kill_resume import bill_counts, differences, exact_state, scores
from numpy.typing import NDArray
from run_support import Watcher, cartpole, on_snapshot, r2d2, vtrace

from frugalrl.cost.meters import LapTimer
from frugalrl.run.assemble import assemble
from frugalrl.run.config import RunConfig
from frugalrl.run.events import events
from frugalrl.run.loop import Counters
from frugalrl.run.stackable import why_not_stacked
from frugalrl.run.status import Silent
from frugalrl.run.tell import sampler_in_words
from frugalrl.run.train import resume, train
from frugalrl.types import RunFailed, UserError
from oracles import transforms as oracle

Weights = dict[str, NDArray[np.float32]]
ASYNC = ("sampler.kind=central", "sampler.groups=2")


def learning(*settings: str) -> RunConfig:
    """V-trace that acts by its policy alone and changes fast."""
    return vtrace("agent.learning_rate=0.01", "explore.epsilon.start=0", *settings)


class Seen:
    """What a run collected, time-major, and the learner's weights after each update."""

    def __init__(self, config: RunConfig, rounds: int) -> None:
        timer = LapTimer()
        timer.start()
        parts = assemble(config, timer)
        self.weights: dict[int, Weights] = {}
        self.blocks: list[tuple[Any, ...]] = []
        """obs, action, log_mu, version, valid: what was chosen at obs; [T, B, ...] each."""
        self.published: list[int] = []
        """Before each block, the newest version."""
        self.costs: dict[str, float] = {}
        self._watch(parts)
        try:
            loop = events(config, parts, Counters(), timer)
            for _ in range(rounds):
                event = next(loop)
                for costs in event.costs:
                    cost = costs.get("transport")
                    if cost is not None:
                        for name in ("calls", "bytes_min"):
                            self.costs[name] = self.costs.get(name, 0) + (getattr(cost, name) or 0)
        finally:
            parts.hand.close()
            parts.sampler.close()

    def _watch(self, parts: Any) -> None:
        def keep(made: Any) -> None:
            if made.version not in self.weights:
                self.weights[made.version] = {n: p.detach().numpy().copy() for n, p in made.parameters.items()}

        on_snapshot(parts, keep)
        if hasattr(parts.sampler, "collect"):
            collect = parts.sampler.collect

            def collected(n: int) -> Any:
                self.published.append(max(self.weights))
                made = collect(n)
                d = made.data
                chosen = d.valid & ~d.explored  # without the prefill
                self.blocks.append((d.obs[:-1], d.action[1:], d.log_mu[1:], d.version[1:], chosen[1:]))
                return made

            parts.sampler.collect = collected
        else:
            insert = parts.replay.insert

            def inserted(unroll: Any, rows: Any) -> None:
                u = unroll
                self.blocks.append((u.obs[:-1], u.action, u.log_mu, u.version, u.valid & ~u.explored))
                insert(unroll, rows)

            parts.replay.insert = inserted


def log_pi(logits: NDArray[Any], action: NDArray[Any]) -> NDArray[Any]:
    log = logits - logits.max(-1, keepdims=True)
    log = log - np.log(np.exp(log).sum(-1, keepdims=True))
    return np.take_along_axis(log, action[..., None], -1)[..., 0]


def mlp(weights: Weights, x: NDArray[Any], linear: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """Logits of the two-layer actor-critic of these tests."""
    hidden = np.maximum(linear(x.astype(np.float32), weights["1.weight"], weights["1.bias"]), 0)
    return linear(hidden, weights["2.weight"], weights["2.bias"])[..., :-1]


def fp32(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    return x @ weight.T + bias


def exact(weights: Weights, x: NDArray[Any]) -> NDArray[Any]:
    return mlp(weights, x, fp32)


def int3(weights: Weights, x: NDArray[Any]) -> NDArray[Any]:
    return mlp({n: oracle.round_rows(w, 3) if w.ndim == 2 else w for n, w in weights.items()}, x, fp32)


def int8(weights: Weights, x: NDArray[Any]) -> NDArray[Any]:
    return mlp(weights, x, oracle.int8_linear)


def worst(seen: Seen, logits_of: Callable[[Weights, NDArray[Any]], NDArray[Any]], rows: slice = slice(None)) -> float:
    """Largest difference between a recorded log mu and that of the weights whose version stands beside it."""
    found = 0.0
    for obs, action, log_mu, version, valid in seen.blocks:
        for t in range(len(action)):
            for one in np.unique(version[t, rows]):
                here = np.zeros(len(valid[t]), bool)
                here[rows] = version[t, rows] == one
                own = log_pi(logits_of(seen.weights[one], obs[t]), action[t])
                at = here & valid[t]
                found = max(found, float(np.abs(own - log_mu[t])[at].max(initial=0.0)))
    return found


@pytest.mark.parametrize(
    ("settings", "logits_of", "wrong"),
    [
        (["sampler.transform=int3"], int3, exact),
        (["sampler.transform=int8"], int8, exact),
        (["sampler.transform=int3+stale:2", "sampler.kind=central", "sampler.lockstep=true"], int3, exact),
        (["sampler.transform=int3", *ASYNC], int3, exact),
        (["sampler.engine=onnx", "sampler.transform=int3"], int3, exact),
    ],
    ids=["inline-int3", "inline-int8", "lockstep-int3-stale", "asynchronous-int3", "onnx-int3"],
)
def test_log_mu_is_that_of_the_network_that_acted(settings: list[str], logits_of: Any, wrong: Any) -> None:
    if "sampler.engine=onnx" in settings:
        pytest.importorskip("onnxruntime")
    seen = Seen(learning(*settings), 8)
    assert len(seen.weights) > 3
    right = worst(seen, logits_of)
    assert right < 2e-4
    as_the_learner = worst(seen, wrong)
    assert as_the_learner > max(10 * right, 1e-3)


def test_stale_rows_carry_the_old_version() -> None:
    seen = Seen(learning("sampler.transform=stale:3"), 10)
    assert worst(seen, exact) < 1e-4
    versions, newest = sorted(seen.weights), max(seen.weights)
    assert newest >= 8
    for published, block in zip(seen.published, seen.blocks, strict=True):
        old = [v for v in versions if v <= published - 3]
        assert (block[3] == (old[-1] if old else 0)).all()
    seen.weights = dict.fromkeys(versions, seen.weights[newest])  # the wrong variant: new weights, old versions
    assert worst(seen, exact) > 0.01


def test_each_row_of_a_mix_has_its_own_transform_and_version() -> None:
    mix = 'sampler.mix=["1*int3","1*stale:4","1*int8","1*none"]'
    seen = Seen(learning(mix), 8)
    for row, (right, wrong) in enumerate(((int3, exact), (exact, int3), (None, int3), (exact, int3))):
        rows = slice(row, row + 1)
        if right is not None:
            assert worst(seen, right, rows) < 1e-3, row
        assert worst(seen, wrong, rows) > 0.01, row
    versions = np.concatenate([block[3] for block in seen.blocks])
    assert (versions[:, 0] == versions[:, 3]).all()
    assert (versions[:, 1] <= versions[:, 0]).all()
    assert (versions[:, 1] < versions[:, 0]).any()
    assert sampler_in_words(vtrace(mix)).startswith("inline, 1 of int3, 1 of stale:4, 1 of int8-dynamic")


@pytest.mark.parametrize("extra", [[], ["sampler.kind=central", "sampler.lockstep=true"]])
def test_the_sampler_takes_new_weights_every_few_updates(extra: list[str]) -> None:
    seen = Seen(learning("sampler.sync_every_updates=4", *extra), 10)
    versions = np.unique(np.concatenate([block[3] for block in seen.blocks]))
    assert (np.diff(versions) >= 4).all()
    assert len(versions) >= 2
    assert worst(seen, exact) < 1e-4
    # the load at the start and one per version, each copied twice
    nbytes = sum(w.nbytes for w in seen.weights[0].values())
    assert seen.costs["calls"] == len(versions)
    assert seen.costs["bytes_min"] == 4 * nbytes * len(versions)


CASES: dict[str, tuple[Callable[..., RunConfig], list[str], int]] = {
    "dqn-int4-stale": (cartpole, ["sampler.transform=int4+stale:8"], 300),
    "dqn-noise-every-5": (cartpole, ["sampler.transform=noise:0.1", "sampler.sync_every_updates=5"], 300),
    "dqn-pipelined-int8": (cartpole, ["sampler.transform=int8", "schedule.lag_blocks=1"], 300),
    "vtrace-mix": (vtrace, ['sampler.mix=["1*int3","1*stale:4","1*int8","1*none"]'], 300),
    "vtrace-lockstep-bf16": (
        vtrace,
        ["sampler.transform=bf16+noise:0.1+stale:3", "sampler.kind=central", "sampler.lockstep=true"],
        300,
    ),
    "r2d2-int8-stale": (r2d2, ["sampler.transform=int8+stale:3"], 300),
    "vtrace-onnx-int8": (vtrace, ["sampler.engine=onnx-int8", "sampler.sync_every_updates=3"], 300),
}


QUICK = ("vtrace-mix", "vtrace-onnx-int8")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_a_resumed_run_ends_like_one_that_was_not_cut(name: str, tmp_path: Path) -> None:
    if "onnx" in name:
        pytest.importorskip("onnxruntime")
    build, settings, steps = CASES[name]
    config = build("evaluation.every_env_steps=150", *settings, steps=steps)
    train(config, tmp_path / "whole", Silent())
    reporter = Watcher(at_step=steps * 2 // 5, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = train(config, tmp_path / "cut", reporter)
    assert not stopped.completed
    assert sampler_in_words(config) == reporter.headers[0].sampler != sampler_in_words(build())
    assert resume(tmp_path / "cut", Silent()).completed
    assert differences(exact_state(tmp_path / "whole"), exact_state(tmp_path / "cut")) == []
    assert bill_counts(tmp_path / "whole")[0] == bill_counts(tmp_path / "cut")[0]
    assert scores(tmp_path / "whole") == scores(tmp_path / "cut")


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_values_that_are_not_finite_end_the_run_with_a_checkpoint(engine: str, tmp_path: Path) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    config = vtrace("sampler.transform=noise:1e38", f"sampler.engine={engine}", "env.rows=2")
    with pytest.raises(RunFailed) as error:
        train(config, tmp_path / "run", Silent())
    said = str(error.value)
    assert "answered with values that are not finite after it took over the weights of update 0" in said
    assert "although these weights are finite" in said
    assert "goes on from the checkpoint at step 0" in said
    assert list((tmp_path / "run" / "checkpoints").glob("*-step-000000000000"))


def test_an_asynchronous_sampler_says_the_same(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="values that are not finite after it took over the weights of update 0"):
        train(vtrace("sampler.transform=noise:1e38", *ASYNC), tmp_path / "run", Silent())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["sampler.transform=int9"], "did you mean"),
        (["sampler.engine=tensorrt"], "expected one of torch, onnx, onnx-int8"),
        (["sampler.sync_every_updates=0"], "sampler.sync_every_updates=0: must be at least 1"),
        (['sampler.mix=["2*int8"]'], "is for 2 rows, but there are 4; use --envs 2"),
        (['sampler.mix=["int8:4"]'], "is not written ROWS*TRANSFORM"),
        (['sampler.mix=["4*int8@onx"]'], "has no engine 'onx'; did you mean 'onnx'?"),
        (['sampler.mix=["4*int8"]', "sampler.transform=bf16"], "must be 'none' and 'torch'"),
        (["sampler.transform=bf16", "sampler.engine=onnx"], "bf16 is arithmetic of PyTorch"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(settings: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises((UserError, RunFailed)) as error:
        train(vtrace(*settings), tmp_path / "run", Silent())
    assert says in str(error.value)


def test_seeds_with_a_transform_are_not_stacked() -> None:
    from frugalrl.envs import make_env, named_protocol

    env = make_env("CartPole-v1", protocol=named_protocol("plain"), num_rows=1, seed=0, training=False)
    spec = env.spec
    env.close()
    plain = cartpole("evaluation.episodes=2")
    assert why_not_stacked(plain, spec) is None
    assert "sampler.transform=int4 cannot be stacked" in str(why_not_stacked(cartpole("sampler.transform=int4"), spec))


def test_the_evaluation_scores_the_learner_not_the_sampler() -> None:
    from frugalrl.run.assemble import network_builder
    from frugalrl.run.evaluator import Evaluator

    config = cartpole("sampler.transform=int2")
    timer = LapTimer()
    timer.start()
    parts = assemble(config, timer)
    evaluator = Evaluator(config, parts.spec, network_builder(config, parts.spec), torch.device("cpu"))
    snapshot = parts.learner.snapshot()
    evaluator.run(snapshot, 0, episodes=1)
    net = evaluator._policy.network  # type: ignore[union-attr]
    assert all(torch.equal(p, snapshot.parameters[n]) for n, p in net.named_parameters())
    parts.sampler.close()
