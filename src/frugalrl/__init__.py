"""FrugalRL: deep reinforcement learning that reaches a score for the least compute, and shows the bill.

The public names load on first use (PEP 562), so that ``import frugalrl`` costs next to nothing and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frugalrl.cost import Bill, Ledger, load_tables, make_bill
    from frugalrl.envs import PROTOCOLS, Protocol, make_env
    from frugalrl.envs.check import check_env
    from frugalrl.math.explore import EXPLORERS, counteractive, epsilon_greedy
    from frugalrl.recipes import RECIPES, build_config
    from frugalrl.run.config import BudgetConfig, RunConfig
    from frugalrl.run.config_io import override
    from frugalrl.run.evaluate import Score
    from frugalrl.run.score_run import evaluate_run
    from frugalrl.run.status import Reporter, Silent, Status
    from frugalrl.run.train import Outcome, resume, train
    from frugalrl.types import Cost, RunFailed, UserError

_HOME = {
    "Bill": "cost",
    "BudgetConfig": "run.config",
    "Cost": "types",
    "EXPLORERS": "math.explore",
    "Ledger": "cost",
    "Outcome": "run.train",
    "PROTOCOLS": "envs",
    "Protocol": "envs",
    "RECIPES": "recipes",
    "RunConfig": "run.config",
    "RunFailed": "types",
    "Reporter": "run.status",
    "Score": "run.evaluate",
    "Silent": "run.status",
    "Status": "run.status",
    "UserError": "types",
    "build_config": "recipes",
    "check_env": "envs.check",
    "counteractive": "math.explore",
    "epsilon_greedy": "math.explore",
    "evaluate_run": "run.score_run",
    "load_tables": "cost",
    "make_bill": "cost",
    "make_env": "envs",
    "override": "run.config_io",
    "resume": "run.train",
    "train": "run.train",
}

__all__ = [
    "EXPLORERS",
    "PROTOCOLS",
    "RECIPES",
    "Bill",
    "BudgetConfig",
    "Cost",
    "Ledger",
    "Outcome",
    "Protocol",
    "Reporter",
    "RunConfig",
    "RunFailed",
    "Score",
    "Silent",
    "Status",
    "UserError",
    "build_config",
    "check_env",
    "counteractive",
    "epsilon_greedy",
    "evaluate_run",
    "load_tables",
    "make_bill",
    "make_env",
    "override",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"frugalrl.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'frugalrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__doc__"]
