"""What somebody must know to feed an exported policy: the JSON file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from frugalrl.envs import Protocol, RowEnv
from frugalrl.envs.meanings import action_meanings
from frugalrl.envs.spaces import action_range
from frugalrl.export.check import Checked
from frugalrl.export.formats import Format
from frugalrl.export.program import Names, StateDescription
from frugalrl.math.explore import Actions
from frugalrl.nets.sequence import next_name
from frugalrl.policies.acting import Player
from frugalrl.run.last_policy import LastPolicy
from frugalrl.types import EnvSpec

SCHEMA = "frugalrl.export/1"
_RESET = "at the first observation of an episode each state of that row of the batch is filled with its initial value"
_EVALUATIONS: Mapping[Actions, str] = {
    "greedy": "; the run's evaluations play it, but for the share eval_epsilon of random actions",
    "sampled": "; the run's evaluations draw an action by softmax of the logits instead",
}


def describe(
    last: LastPolicy,
    env: RowEnv,
    form: Format,
    checked: Checked,
    names: Names,
    state: StateDescription,
    *,
    file: str,
    sha256: str,
) -> dict[str, Any]:
    """The document, in JSON types. ``state``: from `describe_state`."""
    spec, config = env.spec, last.config
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "file": file,
        "sha256": sha256,
        "format": form.name,
        "env": {"id": spec.id, "kwargs": dict(config.env.kwargs)},
        "protocol": asdict(last.protocol),
        "checkpoint": {"env_steps": last.step, "updates": last.snapshot.version, "seed": config.seed},
        "input": {
            "name": "obs",
            "shape": ["batch", *spec.obs_shape],
            "dtype": spec.obs_dtype,
            "kind": spec.obs_kind,
            "num_indices": spec.num_indices,
            "meaning": observation_meaning(spec, last.protocol),
        },
        "outputs": _outputs(names, state, spec.num_actions, config.evaluation.actions),
        "actions": {
            "meanings": list(action_meanings(env)),
            "first": first_action(env),
            "note": "action a of the policy is the environment's action a + first",
        },
        "precision": {"file": "fp32", "run": config.agent.precision},
        "checked": {**asdict(checked), "note": "against the run's policy, on observations of the environment"},
        "made_with": {"torch": torch.__version__},
    }
    if state:
        document |= {"inputs": list(names.inputs), "state": state, "reset": _RESET}
    return document


def _outputs(names: Names, state: StateDescription, num_actions: int, actions: Actions) -> dict[str, Any]:
    preferences: dict[str, Any] = {"shape": ["batch", num_actions], "dtype": "float32"}
    meaning = f"argmax of {names.preferences}, the first of equal ones"
    if names.preferences == "logits":
        preferences["meaning"] = "softmax of them is the probability of each action: what training drew from"
        meaning += _EVALUATIONS[actions]
    after = {
        next_name(name): {"shape": state[name]["shape"], "dtype": state[name]["dtype"], "meaning": f"the next {name}"}
        for name in names.changed
    }
    action = {"shape": ["batch"], "dtype": "int64", "meaning": meaning}
    return {names.preferences: preferences, "action": action, **after}


def describe_state(policy: Player, names: Names, protocol: Protocol) -> StateDescription:
    """By name: shape, dtype, the value of all its numbers before an episode, and what it is later."""
    clipped = ", clipped to [-1, 1]" if protocol.clip_reward else ""
    meanings = {
        "action_tm1": "the action that was taken at the observation before, counted as in the output action",
        "reward_tm1": f"the reward that came after it, as the environment gives it{clipped}",
    }
    return {
        name: {
            "shape": ["batch", *x.shape[1:]],
            "dtype": str(x.dtype),
            "initial": x.flat[0].item(),
            "meaning": meanings.get(name) or f"the output {next_name(name)} of the step before",
        }
        for name, x in policy.initial_state(1).items()
    }


def first_action(env: RowEnv) -> int:
    """The environment's own number of our action 0."""
    space = getattr(env.inner, "single_action_space", None) or env.inner.action_space
    return action_range(space, env.spec.id)[1]


def observation_meaning(spec: EnvSpec, protocol: Protocol) -> str:
    """An observation in words."""
    if spec.obs_kind == "index":
        return f"number of the state, 0 to {(spec.num_indices or 1) - 1}"
    if spec.obs_kind == "vector":
        return "the environment's own vector"
    if protocol.suite != "ale":
        return "the environment's own image, channels first [channels, height, width]"
    pooled = "the maximum of the last two emulator frames" if protocol.max_pool else "the last emulator frame"
    return (
        f"the last {spec.frame_stack} frames, oldest first [frames, height, width]; a frame is {pooled} of an agent "
        f"step of {spec.frames_per_step}, in gray, 0 to 255, scaled to {spec.obs_shape[-2]}x{spec.obs_shape[-1]} as "
        f"ale-py does it; zeros before the first frame of an episode"
    )
