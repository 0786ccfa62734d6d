"""Drive worker processes in tests, and look at what they leave behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from frugalrl.envs import named_protocol
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.processes import ProcessTransport
from frugalrl.sampling.transport import Message
from frugalrl.sampling.worker_job import EnvPlan

PLAIN = named_protocol("plain")
LONG_S = 20.0
"""More than anything takes on a busy machine."""


def plan(env_id: str = "process_envs:Faulty", seed: int = 5, **env_kwargs: Any) -> EnvPlan:
    return EnvPlan(env_id=env_id, protocol=PLAIN, seed=seed, env_kwargs=env_kwargs)


@contextmanager
def workers(
    of: EnvPlan, *, rows: int = 2, count: int = 1, groups: int = 1, hang_s: float = 30.0, restarts: int = 3, **more: Any
) -> Iterator[ProcessTransport]:
    """Closed at the end, whatever happens."""
    config = SamplerConfig(kind="central", workers=count, groups=groups, hang_s=hang_s, restarts=restarts)
    transport = ProcessTransport(of, config, num_rows=rows, **more)
    try:
        yield transport
    finally:
        transport.close()


def act(message: Message) -> np.ndarray[Any, Any]:
    """Actions that depend on row and step."""
    rows = np.arange(message.first_row, message.first_row + len(message.step.last))
    return (rows + message.seq) % 2


def drive(
    transport: ProcessTransport, until: Callable[[list[Message]], bool], within_s: float = LONG_S
) -> list[Message]:
    """Answer all messages until this holds of those that came; ``obs`` are copied."""
    seen: list[Message] = []
    end = time.monotonic() + within_s
    while not until(seen):
        assert time.monotonic() < end, f"nothing came of it; {len(seen)} messages, {transport.take_faults()}"
        for message in transport.poll(0.2):
            seen.append(replace(message, step=replace(message.step, obs=message.step.obs.copy())))
            transport.reply(message, act(message))
    return seen


def wait_for(what: Callable[[], bool], within_s: float = LONG_S) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + within_s
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def open_fds() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one of listdir itself
    return found


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))
