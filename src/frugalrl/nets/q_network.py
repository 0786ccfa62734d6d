"""A Q-network: torso, hidden layers, head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from frugalrl.nets.config import NetConfig
from frugalrl.nets.torsos import Flat, Hidden, minatar, nature
from frugalrl.types import EnvSpec, UserError


class Dueling(nn.Module):
    """Q = V + A - mean A, each from its own hidden layer (Wang et al. 2016, equation 9)."""

    def __init__(self, features: int, hidden: int, num_actions: int) -> None:
        super().__init__()
        self.value = _stream(features, hidden, 1)
        self.advantage = _stream(features, hidden, num_actions)

    def forward(self, x: Tensor) -> Tensor:
        advantage: Tensor = self.advantage(x)
        value: Tensor = self.value(x)
        return value + advantage - advantage.mean(-1, keepdim=True)


def _stream(features: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Hidden(features, hidden), nn.Linear(hidden, outputs))


def torso_name(spec: EnvSpec, config: NetConfig) -> str:
    """The torso that ``auto`` stands for. Raises UserError where the observation does not fit the torso."""
    image = spec.obs_kind == "image"
    name: str = config.torso
    if name == "auto":
        name = ("nature" if min(spec.obs_shape[-2:]) >= 36 else "minatar") if image else "mlp"
    if name == "nature" and (not image or min(spec.obs_shape[-2:]) < 36):
        raise UserError(
            f"net.torso='nature' needs images of at least 36x36 pixels, but {spec.id} gives {spec.obs_kind} "
            f"observations of shape {spec.obs_shape}; use net.torso=auto"
        )
    if name == "minatar" and (not image or min(spec.obs_shape[-2:]) < 3):
        raise UserError(
            f"net.torso='minatar' needs images, but {spec.id} gives {spec.obs_kind} observations of shape "
            f"{spec.obs_shape}; use net.torso=auto"
        )
    return name


def build_q_network(spec: EnvSpec, config: NetConfig) -> nn.Module:
    """obs [B, *obs_shape] in the environment's dtype -> Q-values [B, A]. PyTorch's default initialisation."""
    name = torso_name(spec, config)
    layers: list[nn.Module] = []
    if name == "mlp":
        flat = Flat(spec)
        layers.append(flat)
        features = flat.features
    else:
        torso = nature(spec) if name == "nature" else minatar(spec)
        with torch.no_grad():
            features = torso(torch.zeros((1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype))).shape[1]
        layers.extend(torso)
    hidden = config.hidden_units[:-1] if config.dueling else config.hidden_units
    for width in hidden:
        layers.append(Hidden(features, width))
        features = width
    if config.dueling:
        layers.append(Dueling(features, config.hidden_units[-1], spec.num_actions))
    else:
        layers.append(nn.Linear(features, spec.num_actions))
    network = nn.Sequential(*layers)
    # channels_last halves the cost of a convolution's training step on a CPU; it is a layout, not another function
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
