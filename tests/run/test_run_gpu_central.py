"""Runs of sequence agents on a CUDA device. Run with ``-m gpu``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from run_support import Watcher, r2d2, vtrace
from test_run_resume import assert_same_run

from frugalrl.run.config import RunConfig
from frugalrl.run.status import Silent
from frugalrl.run.train import resume, train

pytestmark = pytest.mark.gpu

LOCKSTEP = ("device=cuda", "sampler.kind=central", "sampler.lockstep=true")


@pytest.mark.parametrize(
    ("build", "settings"),
    [(vtrace, ()), (vtrace, ("net.lstm_units=8",)), (vtrace, ("schedule.lag_blocks=1",)), (r2d2, ())],
    ids=["vtrace", "lstm", "pipelined", "r2d2"],
)
def test_lockstep_comes_back_bit_for_bit(
    build: Callable[..., RunConfig], settings: tuple[str, ...], tmp_path: Path
) -> None:
    config = build(*LOCKSTEP, *settings)
    train(config, tmp_path / "whole", Silent())
    stop = Watcher(at_step=240, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not train(config, tmp_path / "cut", stop).completed
    assert resume(tmp_path / "cut", Silent()).completed
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("build", [vtrace, r2d2])
def test_an_asynchronous_run_ends_with_a_bill(build: Callable[..., RunConfig], tmp_path: Path) -> None:
    done = train(build("device=cuda", "sampler.kind=central", steps=2_000), tmp_path / "run", Silent())
    assert done.completed
    assert done.bill.find("cpu_s").value
