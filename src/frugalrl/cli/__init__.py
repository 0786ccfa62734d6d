"""The command line: the only part that reads argv and environment variables.

Importing this loads neither torch nor numpy nor Gymnasium; each command imports what it needs.
"""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when done, 1 when the run failed, 2 for wrong usage, 130 when it was interrupted."""
    try:
        from frugalrl.cli import app  # takes long enough for a Ctrl-C
    except KeyboardInterrupt:
        print("frugal: error: interrupted", file=sys.stderr)
        return 130
    return app.main(argv)
