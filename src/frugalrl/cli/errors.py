"""Every way a command can end badly: one sentence, an exit code, and a traceback where it helps."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from frugalrl.types import RunFailed, UserError

OK, FAILED, USAGE = 0, 1, 2
_NO_MEMORY = ("can't allocate memory", "CUDA out of memory")
"""How torch says it: with a RuntimeError."""


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
        known = context.folder is not None and os.path.exists(context.folder / "config.json")
        return _say(
            f"interrupted; go on with: frugal resume {quote(str(context.folder))}" if known else "interrupted", 130
        )
    except MemoryError as error:
        return _say(f"out of memory{_details(error)}; a smaller replay.capacity_transitions needs less", FAILED)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and _stdout_is_full():
            forget_stdout()
            return _say(f"standard output cannot be written: {error.strerror or error}", FAILED)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            name = max(str(error.filename).split(os.sep), key=len)
            return _say(f"the name {name[:40]}... is too long for this file system; shorten it", USAGE)
        if isinstance(error, RuntimeError) and any(said in str(error) for said in _NO_MEMORY):
            return _say(f"out of memory{_details(error)}; a smaller network, observation or batch needs less", FAILED)
        where = write_traceback(context.folder)
        rest = "".join(f"; {note}" for note in getattr(error, "__notes__", ()) if note)
        rest += f"; the traceback is in {where}" if where else ""
        return _say(f"unexpected {type(error).__name__}{_details(error)}{rest}", FAILED)


def _stdout_is_full() -> bool:
    """Whether what is printed cannot be written: a full disk, a terminal that is gone."""
    try:
        print(flush=True)  # what failed before may not be in the buffer any more
    except (OSError, ValueError):
        return True
    return False


def forget_stdout() -> None:
    """Nobody can read our output any more: nothing is written to it, not even by the interpreter's last flush."""
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
    places: list[Callable[[], Path]] = [Path.cwd, lambda: Path(tempfile.gettempdir())]
    if folder is not None and os.path.isdir(folder):  # False, not an error, for a name that no file system takes
        places.insert(0, lambda: folder)
    for place in places:
        # a working directory may be deleted, and a message may hold signs that no encoding knows
        with suppress(OSError):
            path = place() / "error.txt"
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return path
    return None
