"""The command line: the only part that reads argv and environment variables.

Importing this loads neither torch nor numpy nor Gymnasium; each command imports what it needs.
"""

from frugalrl.cli.app import main

__all__ = ["main"]
