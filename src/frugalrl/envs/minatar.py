"""MinAtar games: what the protocol sets, and a repair without which an episode does not follow from its seed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from frugalrl.envs.protocols import Protocol


class ForgetLastAction(gym.Wrapper[Any, Any, Any, Any]):
    """MinAtar keeps the last action across episodes, so a sticky first step would repeat one of the episode before."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets, and starts from "no action yet" as a new environment does."""
        answer = self.env.reset(seed=seed, options=options)
        game: Any = self.unwrapped
        game.game.last_action = 0
        return answer


def minatar_kwargs(protocol: Protocol) -> dict[str, Any]:
    """Constructor arguments that the protocol sets; empty under ``plain``."""
    kwargs = {
        "sticky_action_prob": protocol.sticky_probability,
        "difficulty_ramping": protocol.difficulty_ramping,
    }
    return {name: value for name, value in kwargs.items() if value is not None}
