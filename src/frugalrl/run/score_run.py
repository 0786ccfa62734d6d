"""Score the last checkpoint of a run on new episodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from frugalrl.algos.agents import ALWAYS_SAMPLED, TokenConfig
from frugalrl.math.explore import Actions
from frugalrl.run.assemble import pick_device
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import checked
from frugalrl.run.evaluate import Score
from frugalrl.run.kinds import builder, make_evaluator
from frugalrl.run.last_policy import last_policy
from frugalrl.run.torch_state import own_torch_state
from frugalrl.types import RunFailed, UserError


@own_torch_state()
def evaluate_run(
    folder: Path | str, *, episodes: int | None = None, seed: int | None = None, actions: Actions | None = None
) -> Score:
    """Play full episodes under the run's protocol; by default as many as the protocol wants after training.

    ``seed`` and ``actions`` default to those of the run's evaluation. Raises UserError for a folder that is no run, for
    ``sampled`` actions of an agent without a policy and for any of a language model, RunFailed when no checkpoint can
    be used.
    """
    if episodes is not None and (episodes < 1 or episodes % 1):
        raise UserError(
            f"episodes={episodes}: play at least 1 and a whole number, or None for as many as the protocol wants"
        )
    episodes = None if episodes is None else int(episodes)
    last = last_policy(Path(folder))
    config = last.config
    if actions is not None:
        if isinstance(config.agent, TokenConfig):
            raise UserError(f"actions={actions} with agent.kind={config.agent.kind}: {ALWAYS_SAMPLED}; leave it out")
        try:
            config = checked(RunConfig, replace(config, evaluation=replace(config.evaluation, actions=actions)))
        except ValueError as error:
            raise UserError(str(error)) from error
    spec = last.spec()
    torch.set_num_threads(config.threads)
    evaluator = make_evaluator(config, spec, builder(config, spec), pick_device(config.device))
    try:
        score, _ = evaluator.run(last.snapshot, 0, episodes=episodes or last.protocol.final_eval_episodes, seed=seed)
    except (ValueError, FloatingPointError) as error:
        raise RunFailed(f"the policy of step {last.step:,} in {folder} cannot be played: {error}") from error
    assert score is not None
    return score
