"""From what the user typed to something that can be made: Gymnasium ids, ``module:id`` and ``module:Class``.

ale-py and MinAtar are optional and imported only when an id asks for them, or to give a better hint.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as GymSpec

from frugalrl.envs.lm import TASKS
from frugalrl.envs.rows import say_error
from frugalrl.types import UserError

Family = Literal["ale", "minatar", "other"]


@dataclass(frozen=True, slots=True)
class Found:
    """An environment that can be made: registered (``spec``) or a callable of a module (``factory``)."""

    id: str
    family: Family
    spec: GymSpec | None
    factory: Callable[..., Any] | None


@contextmanager
def quiet() -> Iterator[None]:
    """Gymnasium and the packages behind it warn about everything while environments are made; not for our user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def family_of(env_id: str) -> Family:
    """Which optional package an id belongs to."""
    bare = env_id.rsplit(":", 1)[-1]
    return "ale" if bare.startswith("ALE/") else "minatar" if bare.startswith("MinAtar/") else "other"


def find_env(env_id: str) -> Found:
    """Imports what the id needs and finds it.

    Raises:
        UserError: unknown id (with the nearest ones), a module that cannot be imported, or a missing extra.
    """
    module_name, _, name = env_id.rpartition(":")
    family = family_of(env_id)
    with quiet():
        if family != "other":
            _import_family(family, env_id)
        module = _import_module(module_name, env_id) if module_name else None
    spec = gym.registry.get(name)
    if spec is None and module is None:
        with quiet():
            _import_installed_families()
        spec = gym.registry.get(name)
    if spec is not None:
        return Found(env_id, family, spec, None)
    factory = getattr(module, name, None) if module is not None and name.isidentifier() else None
    if callable(factory):
        return Found(env_id, family, None, factory)
    raise UserError(_unknown(env_id, name, module))


def registered_ids() -> list[str]:
    """Ids that can be made here, those of installed extras included, sorted; legacy Atari ids are left out."""
    with quiet():
        _import_installed_families()
    legacy = ("ale_py.env:AtariEnv",)
    return sorted(
        name
        for name, spec in gym.registry.items()
        if (family_of(name) == "ale" or spec.entry_point not in legacy)
        and name.rsplit("/", 1)[-1] != "GymV26Environment-v0"
    )


def _import_family(family: Family, env_id: str) -> None:
    package, extra = {"ale": ("ale_py", "atari"), "minatar": ("minatar", "minatar")}[family]
    try:
        _import_ale() if family == "ale" else _import_minatar()
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(f"{env_id} needs the package {package}; run: pip install 'frugalrl[{extra}]'") from error


def _import_installed_families() -> None:
    if find_spec("ale_py") is not None:
        _import_ale()
    if find_spec("minatar") is not None:
        _import_minatar()


def _import_ale() -> None:
    ale_py = importlib.import_module("ale_py")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    if "ALE/Pong-v5" not in gym.registry:
        gym.register_envs(ale_py)
        importlib.import_module("ale_py.registration").register_v5_envs()


def _import_minatar() -> None:
    # Without seaborn the package logs a warning while it is imported, which also gives the root logger a handler.
    root = logging.getLogger()
    before = list(root.handlers)
    root.addHandler(logging.NullHandler())
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        minatar_gym = importlib.import_module("minatar.gym")
    finally:
        logging.disable(disabled)
        root.handlers[:] = before
    if "MinAtar/Breakout-v1" not in gym.registry:
        minatar_gym.register_envs()


def _import_module(name: str, env_id: str) -> ModuleType:
    try:
        return _import_here_too(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"Cannot find the module {name!r} of {env_id!r}; install it or run from the folder that holds it."
            ) from error
        raise UserError(f"Importing {name!r} for {env_id!r} failed: {error}.") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() of somebody's script must not end ours without a word
        raise UserError(f"Importing {name!r} for {env_id!r} failed with {say_error(error)}.") from error


def _import_here_too(name: str) -> ModuleType:
    # A console script does not have the current folder on its path, a user's own environment is usually there.
    here = os.getcwd()
    top = name.partition(".")[0]
    local = os.path.exists(os.path.join(here, f"{top}.py")) or os.path.isdir(os.path.join(here, top))
    if local and top not in sys.modules and here not in sys.path and find_spec(top) is None:
        sys.path.append(here)
    return importlib.import_module(name)


def _unknown(env_id: str, name: str, module: ModuleType | None) -> str:
    known = [*registered_ids(), *TASKS]
    if module is not None:
        for attribute, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, gym.Env | gym.vector.VectorEnv):
                known.append(attribute)
    near = _nearest(name, known)
    if near:
        prefix = f"{module.__name__}:" if module is not None else ""
        return f"Unknown environment {env_id!r}; did you mean {' or '.join(prefix + n for n in near)}?"
    where = f" and {module.__name__} has no such class or function" if module is not None else ""
    return (
        f"Unknown environment {env_id!r}: it is not registered with Gymnasium{where}; "
        f"see 'frugal list envs', or name the module that registers it as module:id."
    )


def _nearest(name: str, known: list[str]) -> list[str]:
    """The one or two known names most like ``name``, with and without what stands before the slash."""

    def alike(a: str, b: str) -> float:
        return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()

    def bare(text: str) -> str:
        return text.rsplit("/", 1)[-1]

    scored = [(max(alike(name, k), alike(bare(name), bare(k))), alike(name, k), k) for k in known]
    best = sorted(scored, reverse=True)[:2]
    return [k for score, _, k in best if score >= max(0.65, best[0][0] - 0.1)]
