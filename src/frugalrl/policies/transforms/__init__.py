"""What a sampler may do to the learner's weights before it acts with them.

`transformed` and `Transformer` take any module; ``TRANSFORMS`` says what there is. To add one: a function, and an entry
in ``table.py``.
"""

from frugalrl.policies.transforms.table import ALIASES, TRANSFORMS, Plan, Transform, parse, usage
from frugalrl.policies.transforms.transformer import Transformer, transformed

__all__ = ["ALIASES", "TRANSFORMS", "Plan", "Transform", "Transformer", "parse", "transformed", "usage"]
