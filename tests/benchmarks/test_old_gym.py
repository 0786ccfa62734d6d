"""The stand-in for the old gym does what TorchBeast's wrappers ask of it, on the emulator's own frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

OLD_GYM = Path(__file__).resolve().parents[2] / "benchmarks" / "old_gym"
# a process of its own, so that nothing else in the tests meets a module named gym
PLAY = """
import json, gym, numpy as np
def play(seed):
    env = gym.RewardWrapper(gym.make("PongNoFrameskip-v4"))
    env.reward = lambda reward: 10 * reward
    env.seed(seed)
    noops = int(env.unwrapped.np_random.randint(1, 31))
    first = env.reset()
    total, steps, done, frames = 0.0, 0, False, [first]
    while not done and steps < 800:
        obs, reward, done, info = env.step(steps // 7 % 6)
        assert type(reward) is float and type(done) is bool
        frames.append(obs)
        total, steps = total + reward, steps + 1
    moved = sum(bool((a != b).any()) for a, b in zip(frames, frames[1:]))
    return [noops, total, steps, moved, int(np.sum(frames[-1], dtype=np.int64)), list(first.shape), str(first.dtype),
            env.spec.id, env.unwrapped.ale.lives(), env.action_space.n.item(), env.get_action_meanings()[:2]]
print(json.dumps([play(3), play(3), play(4)]))
"""


def test_the_old_interface_over_the_emulator() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAY],
        env=os.environ | {"PYTHONPATH": str(OLD_GYM)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, again, other = json.loads(done.stdout.splitlines()[-1])
    assert first == again, "the seed decides"
    assert other[0] != first[0]
    _, total, steps, moved, _, *rest = first
    assert rest == [[210, 160, 3], "uint8", "PongNoFrameskip-v4", 0, 6, ["NOOP", "FIRE"]]
    assert steps == 800, "no frame is skipped and no short time limit was added"
    assert moved > 700
    assert total < 0, "somebody scored against it, ten times"
    assert total % 10 == 0
