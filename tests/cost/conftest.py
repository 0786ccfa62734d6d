"""A machine that does not depend on where the tests run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from frugalrl.cost import Machine, MachineFacts, Tables, load_tables


@pytest.fixture(scope="session")
def tables() -> Tables:
    return load_tables()


@pytest.fixture
def machine(tables: Tables) -> Callable[..., Machine]:
    """make(profile name, gpus=()) -> Machine"""

    def make(name: str = "cloud-2vcpu", gpus: tuple[str, ...] = ()) -> Machine:
        facts = MachineFacts(
            cpu="Test CPU",
            cores=2,
            memory_bytes=8 * 10**9,
            gpus=gpus,
            virtual=True,
            battery=False,
            os="Linux",
            python="3",
        )
        return Machine(facts=facts, profile=tables.machine(name), price=tables.price(name), chosen_because="a test")

    return make
