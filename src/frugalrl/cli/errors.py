"""Every way a command can end badly: one sentence, an exit code, and a traceback where it helps."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from frugalrl.types import RunFailed, UserError

OK, FAILED, USAGE = 0, 1, 2


@dataclass
class Context:
    """What a command knows about the process it runs in."""

    whole_process: bool = False
    """The process does nothing but this command, so its start-up goes on the bill."""
    folder: Path | None = None
    """The run's folder, once it is known: an unexpected error is written down there."""


def guarded(command: Callable[[], int], context: Context) -> int:
    """Run a command and turn whatever it raises into a sentence on stderr and an exit code."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except UserError as error:
        return _say(str(error), USAGE)
    except RunFailed as error:
        return _say(str(error), FAILED)
    except BrokenPipeError:
        forget_stdout()
        return FAILED
    except KeyboardInterrupt:
        known = context.folder is not None and (context.folder / "config.json").exists()
        return _say(f"interrupted; go on with: frugal resume {context.folder}" if known else "interrupted", 130)
    except MemoryError as error:
        return _say(f"out of memory{_details(error)}; a smaller replay.capacity_transitions needs less", FAILED)
    except Exception as error:
        where = write_traceback(context.folder)
        rest = f"; the traceback is in {where}" if where else ""
        return _say(f"unexpected {type(error).__name__}{_details(error)}{rest}", FAILED)


def forget_stdout() -> None:
    """The reader of our output went away: nothing more is written to it, not even by the interpreter's last flush."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open until the process ends


def _details(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f": {text[:300].rstrip('.')}" if text else ""


def _say(text: str, code: int) -> int:
    sentence = " ".join(text.split())
    with suppress(OSError, ValueError):
        print(f"frugal: error: {sentence}", file=sys.stderr, flush=True)
    return code


def write_traceback(folder: Path | None) -> Path | None:
    """Append the current exception to ``error.txt`` in the run's folder, else here; None if that fails."""
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(sys.argv)}\n{traceback.format_exc()}\n"
    known = [folder] if folder is not None and folder.is_dir() else []
    for place in (*known, Path.cwd(), Path(tempfile.gettempdir())):
        path = place / "error.txt"
        try:
            with path.open("a") as file:
                file.write(text)
        except OSError:
            continue
        return path
    return None
