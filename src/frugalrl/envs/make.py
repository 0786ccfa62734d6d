"""``make_env``: the one door from an environment id to rows of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import VectorEnv

from frugalrl.envs.atari import frames_of, make_atari
from frugalrl.envs.lookup import Found, find_env, quiet
from frugalrl.envs.minatar import ForgetLastAction, minatar_kwargs
from frugalrl.envs.protocols import Protocol, default_protocol, named_protocol
from frugalrl.envs.python_rows import PythonRows
from frugalrl.envs.rows import RowEnv, native_threads, say_error
from frugalrl.envs.spaces import ObsCodec, action_range, obs_codec
from frugalrl.envs.vector_rows import VectorRows
from frugalrl.types import EnvSpec, UserError

_SUITES = {"ale": "ALE/ games", "minatar": "MinAtar/ games", "lm": "lm: tasks"}


def make_env(
    env_id: str,
    *,
    protocol: Protocol | str,
    num_rows: int,
    seed: int,
    training: bool,
    threads: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
    first_row: int = 0,
    first_episode: int = 0,
) -> RowEnv:
    """Rows of an environment under a protocol.

    Args:
        env_id: a Gymnasium id, ``module:id`` (the module is imported first), or ``module:Class`` (any callable that
            returns an environment).
        protocol: a protocol or its name; see ``named_protocol`` and ``default_protocol``.
        num_rows: environments side by side.
        seed: row b starts its episode k from ``episode_seed(seed, first_row + b, first_episode + k)``.
        training: rewards are clipped and life losses end the return only then, where the protocol says so;
            otherwise its evaluation time limit holds.
        threads: native threads of an environment that has them.
        env_kwargs: constructor arguments; what the protocol sets cannot be given.
        first_row: number of the first of these rows among all rows of the run.
        first_episode: number of the first episode of each row; more than 0 where rows are made again.

    Raises:
        UserError: unknown id, protocol of another suite, unsupported space, missing extra, bad arguments.
    """
    for name, value, least in (
        ("num_rows", num_rows, 1),
        ("seed", seed, 0),
        ("threads", threads, 1),
        ("first_row", first_row, 0),
        ("first_episode", first_episode, 0),
    ):
        if value < least:
            raise UserError(f"{name}={value} must be at least {least}.")
    chosen = protocol if isinstance(protocol, Protocol) else named_protocol(protocol)
    env = _make_rows(env_id, chosen, num_rows, seed, training, threads, env_kwargs)
    env.first_row, env.first_episode = first_row, first_episode
    return env


def _make_rows(
    env_id: str,
    protocol: Protocol,
    num_rows: int,
    seed: int,
    training: bool,
    threads: int,
    env_kwargs: Mapping[str, Any] | None,
) -> RowEnv:
    before = native_threads()
    kwargs = dict(env_kwargs or {})
    found = find_env(env_id)
    if protocol.suite not in ("any", found.family):
        raise UserError(
            f"Protocol {protocol.name!r} is for {_SUITES[protocol.suite]}, not for {env_id}; "
            f"use --protocol {default_protocol(env_id)}."
        )
    if protocol.suite == "ale":
        if kwargs:
            raise UserError(
                f"env_kwargs {sorted(kwargs)} cannot be used with {env_id}: protocol {protocol.name!r} sets every "
                f"argument; choose another protocol, or plain."
            )
        with quiet():
            native = make_atari(found, protocol, num_rows=num_rows, threads=threads, training=training)
        return _vector_rows(native, found, protocol, seed, training, before, frames=protocol.frame_skip or 1)
    vector = _vector_creator(found, kwargs)
    if vector is not None:
        with quiet():
            native = _construct(lambda: vector(num_rows), found, kwargs)
        return _vector_rows(native, found, protocol, seed, training, before, frames=1)
    return _python_rows(found, protocol, kwargs, num_rows, seed, training, before)


def single_creator(found: Found, protocol: Protocol, kwargs: Mapping[str, Any]) -> Callable[[], gym.Env[Any, Any]]:
    """A function that makes one environment, with the arguments that the protocol sets."""
    spec, factory, arguments = found.spec, found.factory, dict(kwargs)
    if found.family == "minatar":
        ours = minatar_kwargs(protocol)
        both = sorted(ours.keys() & arguments.keys())
        if both:
            raise UserError(f"env_kwargs {both} are set by protocol {protocol.name!r}; choose another protocol.")
        arguments |= ours

    def create() -> gym.Env[Any, Any]:
        if spec is None:
            assert factory is not None
            env: gym.Env[Any, Any] = factory(**arguments)
        else:
            env = gym.make(spec, disable_env_checker=True, **arguments)
        return ForgetLastAction(env) if found.family == "minatar" else env

    return create


def _python_rows(
    found: Found,
    protocol: Protocol,
    kwargs: dict[str, Any],
    num_rows: int,
    seed: int,
    training: bool,
    before: frozenset[int],
) -> PythonRows:
    create = single_creator(found, protocol, kwargs)
    with quiet():
        envs = [_construct(create, found, kwargs) for _ in range(num_rows)]
    if not isinstance(envs[0], gym.Env):
        raise UserError(f"{found.id} gives a {type(envs[0]).__name__}, which is not a gymnasium.Env.")
    return rows_of(envs, found, protocol, seed=seed, training=training, before=before)


def rows_of(
    envs: list[gym.Env[Any, Any]],
    found: Found,
    protocol: Protocol,
    *,
    seed: int,
    training: bool,
    before: frozenset[int],
) -> PythonRows:
    """Rows of environments that exist already."""
    codec = obs_codec(envs[0].observation_space, found.id, channels_last=True if found.family == "minatar" else None)
    num_actions, first_action = action_range(envs[0].action_space, found.id)
    return PythonRows(
        envs,
        spec=_spec(found, protocol, codec, num_actions, frames=frames_of(envs[0], found.id), stack=1),
        codec=codec,
        first_action=first_action,
        protocol=protocol,
        seed=seed,
        training=training,
        threads_before=before,
    )


def _vector_rows(
    env: VectorEnv[Any, Any, Any],
    found: Found,
    protocol: Protocol,
    seed: int,
    training: bool,
    before: frozenset[int],
    *,
    frames: int,
) -> VectorRows:
    stack = protocol.frame_stack or 1
    if protocol.suite == "ale" and not protocol.grayscale:
        env.close()
        raise UserError(
            f"Protocol {protocol.name!r} asks for colour, but frame stacks are single-channel; use grayscale."
        )
    # [stack, height, width] is channels first already, whatever the lengths are.
    codec = obs_codec(env.single_observation_space, found.id, channels_last=False if protocol.suite == "ale" else None)
    num_actions, first_action = action_range(env.single_action_space, found.id)
    return VectorRows(
        env,
        spec=_spec(found, protocol, codec, num_actions, frames=frames, stack=stack),
        codec=codec,
        first_action=first_action,
        protocol=protocol,
        seed=seed,
        training=training,
        threads_before=before,
        fresh_obs=protocol.suite == "ale" or bool(env.metadata.get("fresh_obs")),
    )


def _spec(found: Found, protocol: Protocol, codec: ObsCodec, num_actions: int, *, frames: int, stack: int) -> EnvSpec:
    return EnvSpec(
        id=found.id,
        protocol=protocol.name,
        obs_kind=codec.kind,
        obs_shape=codec.shape,
        obs_dtype=codec.dtype.name,
        num_actions=num_actions,
        frame_stack=stack,
        num_indices=codec.num_indices,
        frames_per_step=frames,
        binary=codec.binary,
    )


def _vector_creator(found: Found, kwargs: dict[str, Any]) -> Callable[[int], VectorEnv[Any, Any, Any]] | None:
    """A maker of native rows, only where each row can be seeded alone."""
    spec, factory = found.spec, found.factory
    if spec is None:
        if not (isinstance(factory, type) and issubclass(factory, VectorEnv)):
            return None
        if not _seeds_rows(factory):
            raise UserError(_no_row_seeding(found.id))
        creator: Any = factory
        return lambda num_rows: creator(num_envs=num_rows, **kwargs)
    if spec.vector_entry_point is None:
        return None
    entry = spec.vector_entry_point
    with quiet():
        creator = _construct(lambda: load_env_creator(entry), found, {}) if isinstance(entry, str) else entry
    if _seeds_rows(creator):
        return lambda num_rows: gym.make_vec(spec, num_envs=num_rows, vectorization_mode="vector_entry_point", **kwargs)
    if spec.entry_point is None:
        raise UserError(_no_row_seeding(found.id))
    return None


def _seeds_rows(creator: Any) -> bool:
    metadata = getattr(creator, "metadata", None)
    return isinstance(metadata, dict) and metadata.get("row_seeding") is True


def _no_row_seeding(env_id: str) -> str:
    return (
        f"{env_id} is a vector environment whose rows cannot be seeded alone, as its metadata has no "
        f"'row_seeding': True; this is not supported, give its single environment."
    )


def _construct(create: Callable[[], Any], found: Found, kwargs: Mapping[str, Any]) -> Any:
    try:
        return create()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        given = f" with env_kwargs {dict(kwargs)}" if kwargs else ""
        raise UserError(f"Cannot make {found.id}{given}: {say_error(error)}.") from error
