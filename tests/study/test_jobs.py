"""Which cells share a process."""

from __future__ import annotations

import pytest
import torch

from frugalrl.study.jobs import jobs_of
from frugalrl.study.matrix import Cell, Method, Study, cells

METHODS = tuple(Method(name=name) for name in ("a", "b", "c"))


def sizes(methods: int, seeds: int, processes: int, env: str = "CartPole-v1", stack: bool = True) -> list[int]:
    study = Study(envs=(env,), methods=METHODS[:methods], seeds=tuple(range(seeds)), baseline="a")
    jobs = jobs_of(cells(study), processes=processes, stack=stack, begun=lambda _: False)
    assert sorted(c.key for job in jobs for c in job) == sorted(c.key for c in cells(study))
    assert all(len({(c.env, c.method) for c in job}) == 1 for job in jobs)
    return [len(job) for job in jobs]


@pytest.mark.parametrize(
    ("methods", "seeds", "processes", "expected"),
    [
        (2, 10, 2, [10, 10]),
        (3, 10, 2, [5] * 6),
        (1, 10, 2, [5, 5]),
        (1, 40, 1, [14, 14, 12]),
        (1, 1, 4, [1]),
        (3, 4, 16, [2] * 6),
    ],
)
def test_stacks_keep_all_cores_at_work(methods: int, seeds: int, processes: int, expected: list[int]) -> None:
    assert sizes(methods, seeds, processes) == expected


def test_seeds_with_a_convolution_have_a_process_each() -> None:
    assert sizes(2, 3, 2, env="MinAtar/Breakout-v1") == [1] * 6


@pytest.mark.parametrize(("env", "stacks"), [("MinAtar/Breakout-v1", [3, 3]), ("ALE/Pong-v5", [1] * 6)])
def test_a_gpu_stacks_convolutions_where_the_environment_is_cheap(
    env: str, stacks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert sizes(2, 3, 2, env=env) == stacks


def test_stacking_can_be_turned_off() -> None:
    assert sizes(2, 3, 2, stack=False) == [1] * 6


def test_what_was_begun_is_not_mixed_with_what_was_not() -> None:
    study = Study(envs=("CartPole-v1",), methods=METHODS[:1], seeds=(0, 1, 2, 3), baseline="a")

    def begun(cell: Cell) -> bool:
        return cell.seed == 2

    jobs = jobs_of(cells(study), processes=1, stack=True, begun=begun)
    assert [[c.seed for c in job] for job in jobs] == [[0, 1, 3], [2]]
