"""What Stable-Baselines3's DQN scores on an Atari game with the settings of `atari100k-ddqn`, as far as it has them.

    benchmarks/.venvs/sb3/bin/python benchmarks/peer_sb3_score.py RoadRunner --steps 100000 --seed 0 --out FILE.json

A check of our own learning curves, not a race: Stable-Baselines3 has uniform replay and no double Q-learning, so the
run of ours to compare with is

    frugal train ALE/RoadRunner-v5 --set replay.kind=uniform agent.double=false --seed 0

Same: network, Adam, Huber loss, gradient clip, batch, one update per 4 steps, target copied each 2,000 steps, epsilon
1 -> 0.05 by step 20,000 (there from step 0, here from 1,600), lost lives end the return, rewards clipped, no sticky
actions, up to 30 no-ops; evaluation with raw rewards, full games, epsilon 0.001, 10 episodes. Their wrapper presses
FIRE after a reset. The file is rewritten after each evaluation.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

from peer_sb3_dqn import LIBRARIES, cpu_seconds, set_threads

EMULATOR = {"frameskip": 1, "repeat_action_probability": 0.0, "full_action_space": False}
EVAL_EPSILON, EVAL_EPISODES, EVAL_MAX_STEPS = 0.001, 10, 27_000


def make_env(game: str, seed: int, **wrapper: bool) -> Any:
    import ale_py
    import gymnasium
    from stable_baselines3.common.atari_wrappers import AtariWrapper
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    env = make_vec_env(
        f"ALE/{game}-v5",
        n_envs=1,
        seed=seed,
        env_kwargs=EMULATOR,
        wrapper_class=lambda env: AtariWrapper(env, **wrapper),
    )
    return VecFrameStack(env, n_stack=4)


def evaluate(model: Any, game: str) -> list[float]:
    import numpy as np

    env = make_env(game, 1_000_003, terminal_on_life_loss=False, clip_reward=False)
    rng = np.random.default_rng(1_000_003)
    returns = []
    for _ in range(EVAL_EPISODES):
        obs, total, done, steps = env.reset(), 0.0, False, 0
        while not done and steps < EVAL_MAX_STEPS:
            action = model.predict(obs, deterministic=True)[0]
            if rng.random() < EVAL_EPSILON:
                action = np.array([env.action_space.sample()])
            obs, reward, dones, _ = env.step(action)
            total, done, steps = total + float(reward[0]), bool(dones[0]), steps + 1
        returns.append(total)
    env.close()
    return returns


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("game")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=25_000, help="agent steps between evaluations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    set_threads(1)
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback

    model = DQN(
        "CnnPolicy",
        make_env(args.game, args.seed),
        learning_rate=1e-4,
        buffer_size=100_000,
        learning_starts=1_600,
        batch_size=32,
        gamma=0.99,
        train_freq=4,
        gradient_steps=1,
        target_update_interval=2_000,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.05,
        exploration_fraction=20_000 / args.steps,
        max_grad_norm=10.0,
        policy_kwargs={"optimizer_kwargs": {"eps": 1.5e-4}},
        seed=args.seed,
        device="cpu",
    )
    curve: list[dict[str, Any]] = []

    def score(model: Any) -> None:
        returns = evaluate(model, args.game)
        curve.append(
            {
                "env_steps": model.num_timesteps,
                "mean_return": sum(returns) / len(returns),
                "returns": returns,
                "epsilon": model.exploration_rate,
                "updates": model._n_updates,
                "cpu_s": round(cpu_seconds(), 1),
            }
        )
        result = {
            "peer": "stable-baselines3",
            "game": args.game,
            "seed": args.seed,
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "date": time.strftime("%Y-%m-%d"),
            "curve": curve,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(curve[-1]), flush=True)

    class Scores(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps % args.every == 0:
                score(self.model)
            return True

    model.learn(total_timesteps=args.steps, callback=Scores())


if __name__ == "__main__":
    main()
