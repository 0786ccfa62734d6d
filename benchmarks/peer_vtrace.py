#!/usr/bin/env python3
"""Values of V-trace as public implementations compute them: a fixture for our tests.

    benchmarks/peers make losses
    git clone https://github.com/facebookresearch/torchbeast TORCHBEAST
    benchmarks/.venvs/losses/bin/python benchmarks/peer_vtrace.py --torchbeast TORCHBEAST > tests/fixtures/vtrace.json

- ``rlax.vtrace_td_error_and_advantage``: errors vs - V and advantages, one row at a time; its c is always min(1, ratio)
- ``torchbeast.core.vtrace.from_importance_weights`` (which follows DeepMind's scalable_agent): vs and advantages
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rlax
import torch

T, B, GAMMA = 6, 3, 0.9
BARS = ((1.0, 1.0), (2.0, 1.5), (1.0, 0.7))
"""rho_bar and pg_rho_bar."""


def inputs() -> dict[str, Any]:
    """Steps [T, B] without a row between episodes: there both libraries restart within a step."""
    rng = np.random.default_rng(20261126)
    discount = np.full((T, B), GAMMA)
    discount[2, 1] = discount[4, 2] = 0.0
    return {
        "log_pi": np.log(rng.uniform(0.05, 0.95, (T, B))),
        "log_mu": np.log(rng.uniform(0.05, 0.95, (T, B))),
        "reward": rng.normal(size=(T, B)),
        "discount": discount,
        "values": rng.normal(size=(T + 1, B)),
    }


def of_rlax(x: dict[str, Any], rho_bar: float, pg_rho_bar: float) -> dict[str, Any]:
    vs, advantages = np.zeros((T, B)), np.zeros((T, B))
    for b in range(B):
        row = {k: jnp.asarray(v[:, b]) for k, v in x.items()}
        found = rlax.vtrace_td_error_and_advantage(
            row["values"][:-1], row["values"][1:], row["reward"], row["discount"],
            jnp.exp(row["log_pi"] - row["log_mu"]), 1.0, rho_bar, pg_rho_bar,
        )  # fmt: skip
        vs[:, b] = np.asarray(found.errors) + x["values"][:-1, b]
        advantages[:, b] = np.asarray(found.pg_advantage)
    return {"vs": vs.tolist(), "advantage": advantages.tolist()}


def of_torchbeast(x: dict[str, Any], folder: Path, rho_bar: float, pg_rho_bar: float) -> dict[str, Any]:
    # by its path: the package's own __init__ wants its compiled parts
    spec = importlib.util.spec_from_file_location("vtrace_of_torchbeast", folder / "torchbeast" / "core" / "vtrace.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    t = {k: torch.tensor(v) for k, v in x.items()}
    found = module.from_importance_weights(
        log_rhos=t["log_pi"] - t["log_mu"],
        discounts=t["discount"],
        rewards=t["reward"],
        values=t["values"][:-1],
        bootstrap_value=t["values"][-1],
        clip_rho_threshold=rho_bar,
        clip_pg_rho_threshold=pg_rho_bar,
    )
    return {"vs": found.vs.tolist(), "advantage": found.pg_advantages.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torchbeast", type=Path, required=True, help="a clone of facebookresearch/torchbeast")
    folder = parser.parse_args().torchbeast
    jax.config.update("jax_enable_x64", True)
    x = inputs()
    commit = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    cases = [
        {
            "rho_bar": rho_bar,
            "pg_rho_bar": pg_rho_bar,
            "rlax": of_rlax(x, rho_bar, pg_rho_bar),
            "torchbeast": of_torchbeast(x, folder, rho_bar, pg_rho_bar),
        }
        for rho_bar, pg_rho_bar in BARS
    ]
    document = {
        "made_by": "benchmarks/peer_vtrace.py",
        "versions": {name: importlib.metadata.version(name) for name in ("rlax", "jax", "torch")}
        | {"facebookresearch/torchbeast": commit},
        "inputs": {k: v.tolist() for k, v in x.items()},
        "cases": cases,
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
