"""Environment variables: what the user set, and how threads wait, decided before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PRICES = "FRUGALRL_PRICES"


def seen() -> Mapping[str, str]:
    """The environment as the user has it."""
    return dict(os.environ)


def prepare(threads: int | None = None) -> None:
    """Set the thread variables the user left open. Must run before torch and numpy are imported."""
    from dataclasses import replace

    from frugalrl.cost.machine import usable_cores
    from frugalrl.cost.threads import choose_threads, openmp_environment

    plan = choose_threads(usable_cores())
    for name, value in openmp_environment(replace(plan, torch_threads=threads or plan.torch_threads)).items():
        os.environ.setdefault(name, value)


def price_file(option: Path | None) -> Path | None:
    """The user's price file: the option, else the environment variable."""
    if option is not None:
        return option
    named = os.environ.get(PRICES)
    return Path(named) if named else None
