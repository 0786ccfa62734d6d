"""Experience replay: one ring of single frames, sampled uniformly or by priority; and one of whole sequences."""

from frugalrl.replay.config import ReplayConfig
from frugalrl.replay.replay import Replay
from frugalrl.replay.sequences import SequenceReplay, SequenceReplayConfig

__all__ = ["Replay", "ReplayConfig", "SequenceReplay", "SequenceReplayConfig"]
