#!/usr/bin/env python3
"""Values of the distributional losses as public implementations compute them: fixtures for our tests.

    benchmarks/peers make losses
    git clone https://github.com/Kaixhin/Rainbow RAINBOW
    benchmarks/.venvs/losses/bin/python benchmarks/peer_losses.py --rainbow RAINBOW > tests/fixtures/losses.json

- quantile loss: ``sb3_contrib.common.utils.quantile_huber_loss`` (kappa 1) and ``rlax.quantile_q_learning``
- C51 projection and loss: ``rlax.categorical_l2_project``, ``rlax.categorical_q_learning`` and, unmodified, the method
  ``Agent.learn`` of Kaixhin's Rainbow with networks that answer given probabilities.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rlax
import torch
from sb3_contrib.common.utils import quantile_huber_loss

BATCH, ACTIONS, ATOMS, QUANTILES = 5, 3, 7, 4
V_MIN, V_MAX, GAMMA = -2.0, 3.0, 0.9


def inputs() -> dict[str, Any]:
    rng = np.random.default_rng(20261125)
    discount = np.full(BATCH, GAMMA)
    discount[1] = 0.0
    reward = rng.normal(size=BATCH)
    reward[2], reward[3] = 9.0, -9.0  # beyond both ends of the support
    reward[1] = V_MIN + 2 * (V_MAX - V_MIN) / (ATOMS - 1)  # exactly on an atom
    return {
        "a_tm1": rng.integers(ACTIONS, size=BATCH),
        "r_t": reward,
        "discount_t": discount,
        "logits_tm1": rng.normal(size=(BATCH, ACTIONS, ATOMS)),
        "logits_t": rng.normal(size=(BATCH, ACTIONS, ATOMS)),
        "theta_tm1": rng.normal(size=(BATCH, ACTIONS, QUANTILES)),
        "theta_t": rng.normal(size=(BATCH, ACTIONS, QUANTILES)),
        "select": rng.normal(size=(BATCH, ACTIONS)),
        "weight": rng.uniform(0.2, 1.0, BATCH),
    }


def of_rlax(x: dict[str, Any]) -> dict[str, Any]:
    j = {k: jnp.asarray(v) for k, v in x.items()}
    atoms = jnp.linspace(V_MIN, V_MAX, ATOMS)
    tau = (jnp.arange(QUANTILES) + 0.5) / QUANTILES
    best = j["select"].argmax(1)
    p_t = jax.nn.softmax(j["logits_t"])[jnp.arange(BATCH), best]
    z_t = j["r_t"][:, None] + j["discount_t"][:, None] * atoms
    # a selector is a distribution whose mean is the value that selects
    selector = jnp.repeat(j["select"][..., None], QUANTILES, 2)
    quantile = {
        str(kappa): jax.vmap(rlax.quantile_q_learning, in_axes=(0, None, 0, 0, 0, 0, 0, None))(
            j["theta_tm1"].swapaxes(1, 2), tau, j["a_tm1"], j["r_t"], j["discount_t"],
            selector.swapaxes(1, 2), j["theta_t"].swapaxes(1, 2), kappa,
        ).tolist()
        for kappa in (0.0, 0.5, 1.0)
    }  # fmt: skip
    learn = jax.vmap(rlax.categorical_double_q_learning, in_axes=(None, 0, 0, 0, 0, None, 0, 0))
    return {
        "projected": jax.vmap(rlax.categorical_l2_project, in_axes=(0, 0, None))(z_t, p_t, atoms).tolist(),
        "cross_entropy": learn(
            atoms, j["logits_tm1"], j["a_tm1"], j["r_t"], j["discount_t"], atoms, j["logits_t"], j["select"]
        ).tolist(),
        "quantile": quantile,
    }


def of_sb3(x: dict[str, Any]) -> dict[str, Any]:
    t = {k: torch.tensor(v) for k, v in x.items()}
    rows = torch.arange(BATCH)
    target = t["r_t"][:, None] + t["discount_t"][:, None] * t["theta_t"][rows, t["select"].argmax(1)]
    current = t["theta_tm1"][rows, t["a_tm1"]]
    pairs = zip(current, target, strict=True)
    return {"quantile": {"1.0": [float(quantile_huber_loss(c[None], n[None])) for c, n in pairs]}}


def of_rainbow(x: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One ``Agent.learn`` with stand-ins for its networks and memory; the loss is what it gives back as priority."""
    sys.modules["model"] = types.SimpleNamespace(DQN=None)  # type: ignore[assignment]
    sys.path.insert(0, str(folder))
    from agent import Agent

    # its terminal mask multiplies one discount for all entries, and online probabilities select the action
    p_select = torch.softmax(torch.tensor(x["logits_t"] * 2.0), 2)

    class Online:
        def __call__(self, states: Any, log: bool = False) -> torch.Tensor:
            return log_p if log else p_select

        def zero_grad(self) -> None: ...

        def parameters(self) -> list[Any]:
            return []  # nothing to clip: the gradient that is read is that of the logits

    class Target:
        def __call__(self, states: Any) -> torch.Tensor:
            return torch.softmax(torch.tensor(x["logits_t"]), 2)

        def reset_noise(self) -> None: ...

    agent = Agent.__new__(Agent)
    agent.atoms, agent.Vmin, agent.Vmax = ATOMS, V_MIN, V_MAX
    agent.batch_size, agent.n, agent.discount = BATCH, 1, GAMMA
    agent.support = torch.linspace(V_MIN, V_MAX, ATOMS, dtype=torch.float64)
    agent.norm_clip = 10.0
    agent.delta_z = (V_MAX - V_MIN) / (ATOMS - 1)
    logits = torch.tensor(x["logits_tm1"], requires_grad=True)
    log_p = torch.log_softmax(logits, 2)
    agent.online_net, agent.target_net = Online(), Target()
    agent.optimiser = types.SimpleNamespace(step=lambda: None)
    priorities: list[float] = []
    nonterminal = torch.tensor((x["discount_t"] > 0).astype(float))[:, None]
    batch = (
        None, torch.zeros(BATCH, dtype=torch.float64), torch.tensor(x["a_tm1"]), torch.tensor(x["r_t"]),
        None, nonterminal, torch.tensor(x["weight"]),
    )  # fmt: skip
    agent.learn(
        types.SimpleNamespace(
            sample=lambda size: batch, update_priorities=lambda keys, loss: priorities.extend(loss.tolist())
        )
    )
    support = agent.support
    return {
        "select": (p_select * support).sum(2).tolist(),
        "cross_entropy": priorities,
        "gradient": logits.grad.tolist() if logits.grad is not None else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rainbow", type=Path, required=True, help="a clone of Kaixhin/Rainbow")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    commit = subprocess.run(["git", "-C", str(args.rainbow), "rev-parse", "HEAD"], capture_output=True, text=True)
    x = inputs()
    document = {
        "made_by": "benchmarks/peer_losses.py",
        "versions": {n: importlib.metadata.version(n) for n in ("rlax", "jax", "sb3-contrib", "torch")}
        | {"Kaixhin/Rainbow": commit.stdout.strip()},
        "v_min": V_MIN,
        "v_max": V_MAX,
        "inputs": {k: np.asarray(v).tolist() for k, v in x.items()},
        "rlax": of_rlax(x),
        "sb3_contrib": of_sb3(x),
        "rainbow": of_rainbow(x, args.rainbow),
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
