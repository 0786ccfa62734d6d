"""Called from somebody's own program, a run neither depends on torch's global state nor leaves it changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from kill_resume import differences, exact_state
from run_support import cartpole

from frugalrl.run.config import BudgetConfig
from frugalrl.run.score_run import evaluate_run
from frugalrl.run.train import resume, train
from frugalrl.types import UserError


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, nullcontext])
def test_modes_and_defaults_of_the_caller_change_nothing(
    around: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    train(cartpole(steps=200), tmp_path / "alone")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with around():
            done = train(cartpole(steps=200), str(tmp_path / "inside"))
            assert resume(str(tmp_path / "inside"), budget=BudgetConfig(env_steps=200)).completed
            score = evaluate_run(str(tmp_path / "inside"), episodes=2)
        assert (torch.get_num_threads(), torch.get_default_dtype()) == (2, torch.float64)
        assert torch.equal(torch.rand(1, dtype=torch.float32), expected)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
    assert done.completed
    assert score.episodes == 2
    assert differences(exact_state(tmp_path / "alone"), exact_state(tmp_path / "inside")) == []


def test_no_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="episodes=0: play at least 1"):
        evaluate_run(tmp_path, episodes=0)


def test_budgets_that_never_end_a_run_are_refused() -> None:
    with pytest.raises(ValueError, match=r"budget\.hours=nan: must be positive"):
        BudgetConfig(hours=np.nan)
    with pytest.raises(ValueError, match=r"budget\.env_steps=2000\.5: must be a whole number"):
        BudgetConfig(env_steps=2000.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"budget\.target_score=nan"):
        BudgetConfig(target_score=np.nan)
