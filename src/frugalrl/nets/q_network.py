"""A value network: torso, hidden layers, head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from frugalrl.nets.config import NetConfig
from frugalrl.nets.dense import Dense, Dueling, PerAction
from frugalrl.nets.heads import Head, Scalar, Tabular
from frugalrl.nets.impala_torsos import impala_deep, impala_shallow
from frugalrl.nets.table import Table
from frugalrl.nets.torsos import Flat, Images, minatar, nature
from frugalrl.types import EnvSpec, UserError


class ValueNetwork(nn.Sequential):
    """Observations in the environment's dtype -> the head's outputs, [B, A] or [B, A, N]."""

    def __init__(self, *layers: Any, head: Head | None = None) -> None:
        super().__init__(*layers)
        self.head: Head = head or Scalar()

    def q_values(self, obs: Tensor) -> Tensor:
        """obs [B, *obs_shape] -> Q-values [B, A]."""
        return self.head.to_q(self(obs))


def prepared(net: ValueNetwork, obs: Tensor) -> Tensor:
    """Images as the first layer of a network makes them, for several networks of one build: they take that as it is."""
    first = net[0]
    return first(obs) if isinstance(first, Images) else obs


_SMALLEST = {"nature": 36, "impala-shallow": 20, "impala-deep": 1, "minatar": 3}
"""Pixels that the torsos for images need on each side."""
_TORSOS = {"nature": nature, "minatar": minatar, "impala-shallow": impala_shallow, "impala-deep": impala_deep}


def torso_name(spec: EnvSpec, config: NetConfig) -> str:
    """The torso that ``auto`` stands for. Raises UserError where the observation does not fit the torso."""
    image = spec.obs_kind == "image"
    name: str = config.torso
    if name == "auto":
        name = next((t for t in ("nature", "minatar") if image and min(spec.obs_shape[-2:]) >= _SMALLEST[t]), "mlp")
    least = _SMALLEST.get(name, 0)
    if least and (not image or min(spec.obs_shape[-2:]) < least):
        size = f" of at least {least}x{least} pixels" if least > 3 else ""
        raise UserError(
            f"net.torso={name!r} needs images{size}, but {spec.id} gives {spec.obs_kind} observations of shape "
            f"{spec.obs_shape}; use net.torso=auto"
        )
    return name


def torso_layers(spec: EnvSpec, config: NetConfig) -> tuple[list[nn.Module], int]:
    """The torso as a list of layers, and the number of features D that it gives, [B, D].

    Raises UserError where the observation does not fit.
    """
    name = torso_name(spec, config)
    if name == "mlp":
        flat = Flat(spec)
        return [flat], flat.features
    torso = _TORSOS[name](spec)
    with torch.no_grad():
        features = torso(torch.zeros((1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype))).shape[1]
    return list(torso), features


def build_q_network(spec: EnvSpec, config: NetConfig, head: Head | None = None) -> ValueNetwork:
    """Torso, hidden layers and head for an environment, with PyTorch's default initialisation.

    ``head``: Q-values themselves when None. Raises UserError where the observation does not fit.
    """
    head = head or Scalar()
    if isinstance(head, Tabular):
        return ValueNetwork(_table(spec, head), head=head)
    layers, features = torso_layers(spec, config)
    dense = Dense(config.noisy_sigma0)
    hidden = config.hidden_units[:-1] if config.dueling else config.hidden_units
    for width in hidden:
        layers.append(dense.hidden(features, width))
        features = width
    if config.dueling:
        layers.append(Dueling(features, config.hidden_units[-1], spec.num_actions, head.outputs, config.noisy_sigma0))
    else:
        layers.append(dense.linear(features, spec.num_actions * head.outputs))
        if head.outputs > 1:
            layers.append(PerAction(head.outputs))
    network = ValueNetwork(*layers, head=head)
    # channels_last halves the cost of a convolution's training step on a CPU; it is a layout, not another function
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _table(spec: EnvSpec, head: Tabular) -> Table:
    if spec.num_indices is None:
        raise UserError(
            f"a tabular agent needs index observations (a Discrete space), but {spec.id} gives {spec.obs_kind} "
            f"observations of shape {spec.obs_shape}; use another recipe"
        )
    return Table(spec.num_indices, spec.num_actions, head.tables, head.init_std)
