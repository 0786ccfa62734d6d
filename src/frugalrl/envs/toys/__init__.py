"""Toys: environments in vectorised numpy whose optimal return is known exactly."""

import gymnasium as gym

from frugalrl.envs.toys.catch import Catch, CatchVector
from frugalrl.envs.toys.deep_sea import DeepSea, DeepSeaVector
from frugalrl.envs.toys.recall import Recall, RecallVector, best_without_memory
from frugalrl.envs.toys.time_limit_chain import TimeLimitChain, TimeLimitChainVector, optimal_value

TOYS = ("frugalrl/Catch-v0", "frugalrl/DeepSea-v0", "frugalrl/Recall-v0", "frugalrl/TimeLimitChain-v0")
"""Gymnasium ids of the toys."""

_CLASSES = {"Catch": "catch", "DeepSea": "deep_sea", "Recall": "recall", "TimeLimitChain": "time_limit_chain"}


def register_toys() -> None:
    """Registers the toys with Gymnasium; harmless when called twice."""
    for name, module in _CLASSES.items():
        env_id = f"frugalrl/{name}-v0"
        if env_id not in gym.registry:
            gym.register(
                id=env_id,
                entry_point=f"frugalrl.envs.toys.{module}:{name}",
                vector_entry_point=f"frugalrl.envs.toys.{module}:{name}Vector",
            )


__all__ = [
    "TOYS",
    "Catch",
    "CatchVector",
    "DeepSea",
    "DeepSeaVector",
    "Recall",
    "RecallVector",
    "TimeLimitChain",
    "TimeLimitChainVector",
    "best_without_memory",
    "optimal_value",
    "register_toys",
]
