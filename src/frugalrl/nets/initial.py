"""Initial weights of an actor-critic, where they are not PyTorch's."""

from __future__ import annotations

import math

import torch
from torch import nn

POLICY_GAIN = 0.01
"""So small that at first all actions are about as likely."""
VALUE_GAIN = 1.0


@torch.no_grad()
def orthogonal(network: nn.Module, out: nn.Linear) -> None:
    """Orthogonal weights with gain sqrt(2) (Saxe et al. 2014; an LSTM's with gain 1) and biases of 0, in place.

    ``out`` is the network's last layer, rows of logits and then one row of the value: their gains are 0.01 and 1, as in
    the A2C and PPO of OpenAI Baselines and in CleanRL's PPO. The kernels of convolutions are orthogonal as matrices
    [channels out, everything else].
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer is not out:
            nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LSTM):
            for name, weight in layer.named_parameters():
                nn.init.orthogonal_(weight) if name.startswith("weight") else nn.init.zeros_(weight)
    nn.init.orthogonal_(out.weight[:-1], POLICY_GAIN)
    nn.init.orthogonal_(out.weight[-1:], VALUE_GAIN)
    nn.init.zeros_(out.bias)
