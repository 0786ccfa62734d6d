"""Names of actions, where an environment has any."""

from __future__ import annotations

from typing import Any

from frugalrl.envs.rows import RowEnv

_MINATAR = {"n": "NOOP", "l": "LEFT", "u": "UP", "r": "RIGHT", "d": "DOWN", "f": "FIRE"}


def action_meanings(env: RowEnv) -> tuple[str, ...]:
    """A name for each action [A] of ``env``; its number where the environment has no names.

    Read from ``get_action_meanings()`` (Atari by Gymnasium's convention, our toys), from the emulator behind ale-py's
    vector environment, or from a MinAtar game.
    """
    inner = env.inner
    single = getattr(inner, "unwrapped", inner)
    names: list[str] | None = None
    if callable(getattr(single, "get_action_meanings", None)):
        names = [str(name) for name in single.get_action_meanings()]
    elif hasattr(getattr(single, "ale", None), "get_action_set"):
        names = [str(action.name) for action in single.ale.get_action_set()]
    elif hasattr(single, "action_set") and hasattr(single, "game"):
        names = _minatar(single)
    if names is None or len(names) != env.spec.num_actions:
        return tuple(map(str, range(env.spec.num_actions)))
    return tuple(names)


def _minatar(single: Any) -> list[str]:
    letters = single.game.env.action_map
    return [_MINATAR.get(letters[number], letters[number]) for number in single.action_set]
