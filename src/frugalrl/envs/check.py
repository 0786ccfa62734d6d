"""``check_env``: does an environment keep the promises that training, evaluation and exact resume rely on?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from frugalrl.envs.lookup import Found
from frugalrl.envs.make import make_env, rows_of
from frugalrl.envs.protocols import Protocol, default_protocol, named_protocol
from frugalrl.envs.rows import RowEnv, obs_hash, say_error
from frugalrl.types import RunFailed, Step, UserError


@dataclass(frozen=True, slots=True)
class Item:
    """One promise."""

    name: str
    passed: bool | None
    """None: could not be checked."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    """What ``check_env`` found."""

    env_id: str
    protocol: str
    items: tuple[Item, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(item.passed is not False for item in self.items)

    def __str__(self) -> str:
        mark = {True: "pass", False: "FAIL", None: "?   "}
        lines = [f"{mark[item.passed]}  {item.name}: {item.sentence}" for item in self.items]
        return "\n".join([f"{self.env_id} under protocol {self.protocol}", *lines])


Open = Callable[[int], RowEnv]
"""Number of rows -> new rows."""
Actions = NDArray[np.int64]

_NAMES = (
    "spaces", "reset and step", "dtype and shape", "finite", "observations kept", "ends", "same seed",
    "rows seeded alone", "replay",
)  # fmt: skip
"""Of the items, in their order: the one that is missing is the one that could not be finished."""


def check_env(
    env: str | gym.Env[Any, Any] | Callable[..., gym.Env[Any, Any]],
    *,
    protocol: Protocol | str | None = None,
    steps: int = 300,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Report:
    """Plays ``steps`` random actions several times and compares.

    Args:
        env: an id as ``make_env`` takes it, a callable that makes one environment, or an environment (which is
            reset and stepped, and not closed; what needs a second one is then not checked).
        protocol: a protocol or its name; by default the one of the id.
        steps: agent steps per pass. Ends and resets are only checked if an episode ends within them.
        seed: of episodes and actions.
        env_kwargs: constructor arguments.

    Never raises for a broken environment: the report says what is wrong.
    """
    name = env if isinstance(env, str) else _name(env)
    chosen = protocol if isinstance(protocol, Protocol) else named_protocol(protocol or default_protocol(name))
    open_rows = _opener(env, name, chosen, seed, dict(env_kwargs or {}))
    rows = 1 if isinstance(env, gym.Env) else 2
    try:
        opened = open_rows(rows)
    except UserError as error:
        return Report(name, chosen.name, (Item("spaces", False, str(error)),))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of a class or function of the caller's
        return Report(name, chosen.name, (Item("spaces", False, f"Cannot make {name}: {say_error(error)}."),))
    spec = opened.spec
    said = f"observations are {spec.obs_kind} {spec.obs_shape} {spec.obs_dtype}, {spec.num_actions} actions"
    items = [Item("spaces", True, said)]
    rng = np.random.default_rng(seed)
    actions = rng.integers(spec.num_actions, size=(steps, rows))
    try:
        for item in _checks(opened, open_rows, actions):
            items.append(item)
    except (RunFailed, UserError) as error:
        items.append(Item(_NAMES[len(items)], False, str(error)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what was found before it stands
        items.append(Item(_NAMES[len(items)], False, f"failed with {say_error(error)}"))
    finally:
        if not isinstance(env, gym.Env):  # that one belongs to the caller
            opened.close()
    return Report(name, chosen.name, tuple(items))


class _Looking:
    """Stands in for the codec of rows, and looks at each raw observation before it is translated."""

    def __init__(self, env: RowEnv) -> None:
        inner = env.inner
        self.space = inner.single_observation_space if isinstance(inner, VectorEnv) else inner.observation_space
        self.codec = env._codec
        self.fault = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def one(self, raw: Any) -> Any:
        self.fault = self.fault or self._fault(raw)
        return self.codec.one(raw)

    def batch(self, raw: Any, num_rows: int, *, copy: bool) -> Any:
        for each in raw:
            self.fault = self.fault or self._fault(each)
        return self.codec.batch(raw, num_rows, copy=copy)

    def _fault(self, raw: Any) -> str:
        space, array = self.space, np.asarray(raw)
        # a list has no type of its own, and that of a tensor is none of numpy's
        if hasattr(raw, "dtype") and not np.can_cast(array.dtype, np.dtype(space.dtype)):
            return f"an observation is {array.dtype} but the space says {space.dtype}"
        if isinstance(space, spaces.Box) and array.shape == space.shape:
            outside = (array < space.low) | (array > space.high)
            if outside.any():
                place = tuple(int(i) for i in np.argwhere(outside)[0])
                bounds = f"[{space.low[place]}, {space.high[place]}]"
                return f"an observation holds {array[place]} at {place}, outside the space's {bounds}"
        return ""


def _checks(env: RowEnv, open_rows: Open, actions: Actions) -> Iterator[Item]:
    looking: Any = _Looking(env)
    env._codec = looking
    path = [env.reset()]
    hashes = [_hashes(path[0])]
    for action in actions:
        path.append(env.step(action))
        hashes.append(_hashes(path[-1]))
    yield Item("reset and step", True, f"{len(actions)} random steps of {env.num_rows} rows raised nothing")
    env._codec = looking.codec
    yield Item("dtype and shape", False, looking.fault) if looking.fault else _arrays(env, path)
    yield Item("finite", True, "no NaN or infinite number in observations and rewards")
    yield _kept(path, hashes)
    yield _ends(path)
    yield _same_seed(env, path, actions)
    yield _rows_alone(env, open_rows, path, actions)
    yield _comes_back(env, open_rows, path, actions)


def _hashes(step: Step) -> list[str]:
    return [obs_hash(obs) for obs in step.obs]


def _arrays(env: RowEnv, path: list[Step]) -> Item:
    spec, rows = env.spec, env.num_rows
    want = ((rows, *spec.obs_shape), spec.obs_dtype)
    for time, step in enumerate(path):
        if (step.obs.shape, step.obs.dtype.name) != want:
            return Item("dtype and shape", False, f"step {time} has {step.obs.shape} {step.obs.dtype}, not {want}")
        for name, kind in (("reward", "f4"), ("discount", "f4"), ("last", "?"), ("valid", "?")):
            array = getattr(step, name)
            if array.shape != (rows,) or array.dtype != np.dtype(kind):
                return Item("dtype and shape", False, f"{name} of step {time} is {array.shape} {array.dtype}")
    return Item("dtype and shape", True, f"every observation is {want[0]} {want[1]}")


def _kept(path: list[Step], hashes: list[list[str]]) -> Item:
    for time, step in enumerate(path):
        if _hashes(step) != hashes[time]:
            return Item("observations kept", False, f"the observation of step {time} was overwritten later")
    return Item("observations kept", True, "no observation was overwritten by a later step")


def _ends(path: list[Step]) -> Item:
    name, ends, length = "ends", 0, np.zeros(len(path[0].last), np.int64)
    if path[0].valid.any() or path[0].last.any():
        return Item(name, False, "reset() gave a row that is valid or last")
    for time in range(1, len(path)):
        before, step = path[time - 1], path[time]
        if (step.valid == before.last).any():
            return Item(name, False, f"step {time}: a row must be invalid exactly after last")
        dead = ~step.valid
        if step.reward[dead].any() or (step.discount[dead] != 1.0).any() or step.last[dead].any():
            return Item(name, False, f"step {time}: an invalid row has a reward, an end or a discount")
        if not np.isin(step.discount, (0.0, 1.0)).all():
            return Item(name, False, f"step {time}: a discount is neither 0 nor 1")
        length = np.where(dead, 0, length + 1)
        if {e.row for e in step.episodes} != set(np.flatnonzero(step.last).tolist()):
            return Item(name, False, f"step {time}: episodes and last disagree")
        for episode in step.episodes:
            ends += 1
            if episode.length != length[episode.row]:
                return Item(
                    name, False, f"step {time}: an episode of {length[episode.row]} steps says {episode.length}"
                )
            if not episode.truncated and step.discount[episode.row] != 0.0:
                return Item(name, False, f"step {time}: a terminated row has discount 1")
    if ends == 0:
        return Item(name, None, f"no episode ended within {len(path) - 1} steps; give more steps")
    return Item(name, True, f"{ends} episodes ended; last, discount and valid agree")


def _differs(a: Step, b: Step, rows: int) -> bool:
    return any(
        not np.array_equal(getattr(a, name)[:rows], getattr(b, name)[:rows])
        for name in ("obs", "reward", "discount", "last", "valid")
    )


def _same_seed(env: RowEnv, path: list[Step], actions: Actions) -> Item:
    step = env.reset()
    for time in range(len(path)):
        if time > 0:
            step = env.step(actions[time - 1])
        if _differs(step, path[time], env.num_rows) or step.episodes != path[time].episodes:
            return Item("same seed", False, f"the same seed and actions gave something else at step {time}")
    return Item("same seed", True, "the same seed and actions gave the same steps twice")


def _rows_alone(env: RowEnv, open_rows: Open, path: list[Step], actions: Actions) -> Item:
    name = "rows seeded alone"
    if env.num_rows == 1:
        return Item(name, None, "needs a second environment; give an id or a callable")
    alone = open_rows(1)
    try:
        step = alone.reset()
        for time in range(len(path)):
            if time > 0:
                step = alone.step(actions[time - 1, :1])
            if _differs(step, path[time], 1):
                return Item(name, False, f"row 0 alone differs at step {time} from row 0 beside another row")
    finally:
        alone.close()
    return Item(name, True, "row 0 does the same alone and beside another row")


def _comes_back(env: RowEnv, open_rows: Open, path: list[Step], actions: Actions) -> Item:
    half = len(actions) // 2
    env.reset()
    for action in actions[:half]:
        env.step(action)
    state = env.state_dict()
    other = env if env.num_rows == 1 else open_rows(env.num_rows)
    try:
        restored = other.load_state_dict(state)
        if restored.not_restored:
            return Item(
                "replay", False, f"rows {list(restored.not_restored)} could not be brought back after {half} steps"
            )
        for time in range(half, len(path)):
            step = restored.step if time == half else other.step(actions[time - 1])
            if _differs(step, path[time], env.num_rows):
                return Item("replay", False, f"brought back at step {half}, it went another way at step {time}")
    finally:
        if other is not env:
            other.close()
    return Item("replay", True, f"brought back from seeds and actions at step {half}, it went on bit for bit")


def _name(env: Any) -> str:
    if isinstance(env, gym.Env):
        return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    return getattr(env, "__name__", type(env).__name__)


def _opener(
    env: str | gym.Env[Any, Any] | Callable[..., gym.Env[Any, Any]],
    name: str,
    protocol: Protocol,
    seed: int,
    env_kwargs: dict[str, Any],
) -> Open:
    def open_rows(num_rows: int) -> RowEnv:
        if isinstance(env, str):
            return make_env(env, protocol=protocol, num_rows=num_rows, seed=seed, training=True, env_kwargs=env_kwargs)
        envs = [env] if isinstance(env, gym.Env) else [env(**env_kwargs) for _ in range(num_rows)]
        return rows_of(envs, Found(name, "other", None, None), protocol, seed=seed, training=True, before=frozenset())

    return open_rows
