"""Value rescaling: a network learns h(Q) where rewards are not clipped.

Source: Pohlen et al., "Observe and Look Further", 2018, section 3.1; Kapturowski et al. 2019, section 2.3.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rescale(x: Tensor, eps: float) -> Tensor:
    """``h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x``, any shape; ``eps`` > 0 keeps h's slope above ``eps``."""
    size = x.abs()
    # sqrt(1 + s) - 1 written without the difference, which loses all digits of a small s
    return x.sign() * (size / ((size + 1.0).sqrt() + 1.0)) + eps * x


def unrescale(y: Tensor, eps: float) -> Tensor:
    """The exact inverse of `rescale`: the x with ``h(x) = y``.

    With u = sqrt(1 + |x|) the definition is ``eps u^2 + u - (1 + eps + |y|) = 0``. The root is taken as
    ``u - 1 = 2 |y| / (1 + 2 eps + sqrt((1 + 2 eps)^2 + 4 eps |y|))``, and ``|x| = (u - 1)(u + 1)``: no difference of
    like numbers, as the published form has one.
    """
    size = y.abs()
    slope = 1.0 + 2.0 * eps
    above = 2.0 * size / (slope + torch.sqrt(slope * slope + 4.0 * eps * size))
    return y.sign() * above * (above + 2.0)
