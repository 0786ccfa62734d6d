"""Mean return of uniform actions under the protocol of each environment: the zero of a normalised score.

    python benchmarks/random_scores.py --episodes 1000 CartPole-v1 MinAtar/Breakout-v1 ...
    python benchmarks/random_scores.py --episodes 10 --action 1 ALE/Freeway-v5     # the same action always

One JSON line per environment. Seeds are fixed, so the figures can be made again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np

from frugalrl.envs import default_protocol, make_env, named_protocol
from frugalrl.run.evaluate import evaluate


def random_score(env_id: str, episodes: int, rows: int, seed: int, action: int | None) -> dict[str, object]:
    """Every action is exploratory, so the Q-values are never looked at; with ``action`` none is, and they name it."""
    protocol = replace(named_protocol(default_protocol(env_id)), eval_epsilon=1.0 if action is None else 0.0)
    q = np.zeros(_actions(env_id), np.float32)
    if action is not None:
        q[action] = 1.0
    score, cost = evaluate(
        lambda obs: np.tile(q, (len(obs), 1)), env_id, protocol, episodes=episodes, rows=rows, seed=seed
    )
    assert score is not None
    returns = np.array(score.returns)
    return {
        "env": env_id,
        "protocol": protocol.name,
        "action": "uniform" if action is None else action,
        "episodes": episodes,
        "mean_return": score.mean_return,
        "standard_error": float(returns.std(ddof=1) / len(returns) ** 0.5),
        "env_steps": cost.env_steps,
    }


def _actions(env_id: str) -> int:
    env = make_env(env_id, protocol=named_protocol(default_protocol(env_id)), num_rows=1, seed=0, training=False)
    try:
        return env.spec.num_actions
    finally:
        env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envs", nargs="+")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--action", type=int, help="take this action always instead of uniform ones")
    args = parser.parse_args()
    for env_id in args.envs:
        print(json.dumps(random_score(env_id, args.episodes, args.rows, args.seed, args.action)), flush=True)


if __name__ == "__main__":
    main()
