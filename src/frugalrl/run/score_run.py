"""Score the last checkpoint of a run on new episodes."""

from __future__ import annotations

from pathlib import Path

import torch

from frugalrl.envs import make_env, named_protocol
from frugalrl.run.assemble import network_builder, pick_device
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.evaluate import Score
from frugalrl.run.evaluator import Evaluator
from frugalrl.run.record import RunFolder
from frugalrl.types import PolicySnapshot, RunFailed


def evaluate_run(folder: Path, *, episodes: int | None = None, seed: int | None = None) -> Score:
    """Play full episodes under the run's protocol; by default as many as the protocol wants after training.

    ``seed`` defaults to the run's evaluation seed. Raises UserError for a folder that is no run and RunFailed when no
    checkpoint can be used. The run's folder is only read.
    """
    record = RunFolder.open(folder)
    config = record.config()
    protocol = named_protocol(config.env.protocol)
    env = make_env(config.env.id, protocol=protocol, num_rows=1, seed=0, env_kwargs=config.env.kwargs, training=False)
    spec = env.spec
    env.close()
    torch.set_num_threads(config.threads)
    state = Checkpoints(record.checkpoints).load(None).state["learner"]
    parameters = {name: torch.as_tensor(value) for name, value in state["online"].items()}
    evaluator = Evaluator(config, spec, network_builder(config, spec), pick_device(config.device))
    snapshot = PolicySnapshot(version=state["version"], parameters=parameters)
    try:
        score, _ = evaluator.run(snapshot, 0, episodes=episodes or protocol.final_eval_episodes, seed=seed)
    except (ValueError, FloatingPointError) as error:
        raise RunFailed(f"the policy in {record.checkpoints} cannot be played: {error}") from error
    assert score is not None
    return score
