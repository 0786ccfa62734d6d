"""The V-trace learner on a CUDA device against the one on the CPU. Run with ``-m gpu``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_impala import EXACT, IMAGE, VECTOR, batch_of

from frugalrl.algos.impala import ImpalaConfig, ImpalaLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.types import EnvSpec

pytestmark = pytest.mark.gpu


def new(device: str, spec: EnvSpec, lstm_units: int | None, **changes: Any) -> ImpalaLearner:
    timer = LapTimer()
    timer.start()
    config = ImpalaConfig(**({"unroll_steps": 5, "batch_unrolls": 3, "learning_rate": 1e-2} | changes))
    net = NetConfig(hidden_units=(8,), lstm_units=lstm_units)
    build = lambda: build_actor_critic(spec, net)  # noqa: E731
    return ImpalaLearner(config, spec, build, device=torch.device(device), seed=0, timer=timer)


@pytest.mark.parametrize("lstm_units", [None, 6])
@pytest.mark.parametrize("spec", [VECTOR, IMAGE], ids=["vector", "image"])
def test_updates_equal_those_of_the_cpu_in_float64(spec: EnvSpec, lstm_units: int | None) -> None:
    there, here = (new(device, spec, lstm_units, **EXACT) for device in ("cuda", "cpu"))
    for seed in range(6):
        batch = batch_of(here, spec, seed)
        theirs, ours = there.update(batch), here.update(batch)
        assert {k: float(v) for k, v in theirs.metrics.items()} == pytest.approx(
            {k: float(v) for k, v in ours.metrics.items()}, rel=1e-6, abs=1e-8
        )
    mine, other = there.weights(), here.weights()
    assert max(float((w.cpu() - other[n]).abs().max()) for n, w in mine.items()) < 1e-7


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_every_precision_makes_finite_updates(precision: str) -> None:
    learner = new("cuda", IMAGE, None, precision=precision)
    for seed in range(3):
        assert learner.update(batch_of(learner, IMAGE, seed)).metrics["loss"] == pytest.approx(0.0, abs=1e3)
