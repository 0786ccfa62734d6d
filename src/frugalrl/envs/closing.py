"""Closing environments: what was played stands, whatever they do in ``close``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from frugalrl.envs.rows import say_error


def close_all(envs: Sequence[Any], env_id: str, each: str) -> None:
    """Closes each of them; those that raise are told in one warning, ``each`` is what they are."""
    failed: list[str] = []
    for env in envs:
        try:
            env.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failed.append(say_error(error))
    if failed:
        text = f"closing environment {env_id} failed in {len(failed)} of {len(envs)} {each} with {failed[0]}"
        try:
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        except RuntimeWarning:  # warnings are errors to this user; what was played is worth more than the rule
            print(text, file=sys.stderr)
