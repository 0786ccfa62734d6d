"""What worker processes are made of, without a process: slots, jobs, seeds, how rows are split."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_help import PLAIN, plan

from frugalrl.envs import named_protocol
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.processes import ProcessTransport
from frugalrl.sampling.slots import Control, new_file, slots
from frugalrl.sampling.worker_job import EnvPlan, Job, enough_for_each_group
from frugalrl.types import EnvSpec, Episode, Step, UserError

SHAPES = {"float32": (5,), "uint8": (4, 7, 3), "int64": ()}


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    dtype=st.sampled_from(sorted(SHAPES)),
    seed=st.integers(0, 10**6),
)
def test_what_one_side_writes_the_other_reads(rows: list[int], dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = EnvSpec(id="x", protocol="plain", obs_kind="vector", obs_shape=SHAPES[dtype], obs_dtype=dtype, num_actions=2)
    fd = new_file()
    mine, theirs = slots(fd, rows, spec), slots(fd, rows, spec)
    os.close(fd)
    steps = []
    for slot, size in zip(mine, rows, strict=True):
        episodes = tuple(
            Episode(int(row), int(rng.integers(2**31)), float(rng.normal()), int(rng.integers(10**6)), bool(row % 2))
            for row in np.flatnonzero(rng.random(size) < 0.5)
        )
        step = Step(
            obs=rng.integers(0, 255, (size, *spec.obs_shape)).astype(dtype),
            reward=rng.normal(size=size).astype(np.float32),
            discount=(rng.random(size) < 0.5).astype(np.float32),
            last=rng.random(size) < 0.5,
            valid=rng.random(size) < 0.5,
            episodes=episodes,
        )
        slot.write(step)
        slot.action[:] = rng.integers(0, 9, size)
        steps.append(step)
    for slot, other, step in zip(theirs, mine, steps, strict=True):  # all were written before the first is read
        got = slot.read()
        for name in ("obs", "reward", "discount", "last", "valid"):
            np.testing.assert_array_equal(getattr(got, name), getattr(step, name))
            assert getattr(got, name).dtype == getattr(step, name).dtype
        assert got.episodes == step.episodes
        np.testing.assert_array_equal(slot.action, other.action)


def test_a_text_is_left_and_cut_where_it_does_not_fit() -> None:
    fd = new_file()
    mine, theirs = Control(fd), Control(fd)
    os.close(fd)
    mine.write_text("what happened: ü")
    mine.words[3] = 42
    assert theirs.read_text() == "what happened: ü"
    mine.write_text("x" * 10**6)
    assert set(theirs.read_text()) == {"x"}
    theirs.close()
    assert theirs.words[3] == 42
    assert not [fd for fd in os.listdir("/proc/self/fd") if fd == "frugalrl-worker"]


def test_a_job_survives_its_way() -> None:
    job = Job(
        plan=EnvPlan(env_id="ALE/Pong-v5", protocol=named_protocol("atari100k"), seed=3, env_kwargs={"a": [1, "b"]}),
        first_rows=(4, 6), group_rows=(2, 1), retry_s=0.5, path=("", "/x"), parent=1, memory_fd=4,
        report_fd=5, life_fd=6,
    )  # fmt: skip
    text = job.to_json()
    assert "\n" not in text
    assert Job.from_json(text) == job


@pytest.mark.parametrize("value", [(1, 2), object(), {1: 2}, float("nan")])
def test_arguments_that_json_would_change_are_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"cannot be sent to worker processes; use numbers"):
        plan(value=value)


def test_a_class_of_the_started_script_is_refused() -> None:
    with pytest.raises(UserError, match="move the class into a module"):
        EnvPlan(env_id="__main__:MyEnv", protocol=PLAIN, seed=0)


def test_rows_are_split_as_equally_as_can_be() -> None:
    assert enough_for_each_group(7, 2, 2) == (2, 2, 2, 1)
    with pytest.raises(UserError, match=r"3 environments are too few .* use at least 4 environments"):
        enough_for_each_group(3, 2, 2)


@pytest.mark.parametrize(("workers", "groups"), [(0, 1), (1, 201)])
def test_numbers_of_workers_and_groups_that_cannot_be(workers: int, groups: int) -> None:
    with pytest.raises(UserError, match="sampler"):
        ProcessTransport(plan(), SamplerConfig(kind="central", workers=workers, groups=groups), num_rows=500)
