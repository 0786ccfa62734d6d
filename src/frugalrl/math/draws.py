"""Random draws without a state: each is a function of a seed, a purpose and a running number.

Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011 (Philox, a counter-based generator).
"""

from __future__ import annotations

import numpy as np


def counted_rng(seed: int, purpose: int, count: int) -> np.random.Generator:
    """The generator of one draw: a function of seed, purpose and running number, so there is no state to save."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, purpose, count]))
