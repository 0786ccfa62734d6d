"""Where text goes: a console that knows a terminal from a pipe."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console

PIPE_WIDTH = 120


def console_for(stream: TextIO) -> Console:
    """A rich console; in a pipe it writes no control codes, whatever the environment says, and does not cut at 80."""
    if stream.isatty():
        return Console(file=stream)
    return Console(file=stream, force_terminal=False, color_system=None, width=PIPE_WIDTH)
