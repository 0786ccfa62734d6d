from __future__ import annotations

import pytest

from frugalrl.algos.agents import explorers_of
from frugalrl.envs import PROTOCOLS
from frugalrl.recipes import RECIPES, build_config, default_recipe
from frugalrl.types import UserError


@pytest.mark.parametrize(
    ("env_id", "recipe"),
    [
        ("ALE/Pong-v5", "atari100k-ddqn"),
        ("ale_py:ALE/Pong-v5", "atari100k-ddqn"),
        ("MinAtar/Breakout-v1", "minatar-dqn"),
        ("CartPole-v1", "classic-dqn"),
        ("my.module:Thing-v0", "classic-dqn"),
    ],
)
def test_the_default_recipe_follows_from_the_environment(env_id: str, recipe: str) -> None:
    assert default_recipe(env_id) == recipe
    config = build_config(env_id)
    assert (config.recipe, config.env.id) == (recipe, env_id)
    assert config == build_config(env_id, recipe)


def test_an_unknown_recipe_is_refused_with_a_hint() -> None:
    with pytest.raises(UserError, match="unknown recipe 'atari100k-dqn'; did you mean 'atari100k-ddqn'"):
        build_config("ALE/Pong-v5", "atari100k-dqn")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_exists_and_can_learn(name: str) -> None:
    recipe = RECIPES[name]
    config = recipe.build("Some-v0")
    assert (recipe.name, config.recipe, config.env.id) == (name, name, "Some-v0")
    assert recipe.doc
    assert config.env.protocol in PROTOCOLS
    assert config.explore.name in explorers_of(config.agent)
    steps = config.budget.env_steps
    assert steps is not None
    assert config.schedule.warmup_env_steps < steps
    assert config.evaluation.every_env_steps <= steps


def test_the_paper_s_base_agent() -> None:
    config = build_config("ALE/Pong-v5", "atari100k-ddqn")
    assert config.agent.double
    assert not config.net.dueling
    assert config.replay.kind == "prioritized"
    assert config.replay.n_step == 1
    assert config.budget.env_steps == 100_000
    assert config.env.protocol == "atari100k"
    assert config.explore.name == "epsilon-greedy"
