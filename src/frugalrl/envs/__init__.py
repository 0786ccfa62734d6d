"""Environments: one adapter from any Gymnasium environment to ``Step``, protocols, toys with known answers."""

from frugalrl.envs.check import Item, Report, check_env
from frugalrl.envs.lookup import registered_ids
from frugalrl.envs.make import make_env
from frugalrl.envs.protocols import PROTOCOLS, Protocol, default_protocol, named_protocol
from frugalrl.envs.rows import Restored, RowEnv, episode_seed
from frugalrl.envs.toys import register_toys

register_toys()

__all__ = [
    "PROTOCOLS",
    "Item",
    "Protocol",
    "Report",
    "Restored",
    "RowEnv",
    "check_env",
    "default_protocol",
    "episode_seed",
    "make_env",
    "named_protocol",
    "register_toys",
    "registered_ids",
]
