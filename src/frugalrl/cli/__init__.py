"""The command line: the only part that reads argv and environment variables.

Importing this loads neither torch nor numpy nor Gymnasium; each command imports what it needs.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when done, 1 when the run failed, 2 for wrong usage, 130 when it was interrupted."""
    if argv is None:  # the process does nothing else
        _end_with_a_word()
    try:
        from frugalrl.cli import app  # takes long enough for a Ctrl-C
    except KeyboardInterrupt:
        print("frugal: error: interrupted", file=sys.stderr)
        return 130
    return app.main(argv)


def _end_with_a_word() -> None:
    """SIGTERM and a terminal that is closed end a command with a sentence and code 1, until a run is under way.

    At once, as without a handler: an exception would be swallowed where it comes while a module is imported.
    """

    def handle(number: int, frame: object) -> None:
        with suppress(OSError):
            os.write(2, f"frugal: error: ended by {signal.Signals(number).name}\n".encode())
        os._exit(1)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # SIGHUP is not on Windows
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            with suppress(ValueError):  # called in a thread
                signal.signal(number, handle)
