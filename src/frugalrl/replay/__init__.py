"""Experience replay: one ring of single frames, sampled uniformly or by priority."""

from frugalrl.replay.config import ReplayConfig
from frugalrl.replay.replay import Replay

__all__ = ["Replay", "ReplayConfig"]
