"""Frames to a file: H.264 through ffmpeg where there is one, else a GIF; whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from PIL import GifImagePlugin, Image, ImageChops

from frugalrl.types import RunFailed, UserError

Sink = Callable[[Image.Image], None]
FORMATS = (".mp4", ".gif")


@dataclass(frozen=True, slots=True)
class Written:
    """A finished video."""

    path: Path
    format: str
    """``mp4`` or ``gif``."""
    frames: int
    fps: float
    """As the file has it: a GIF counts in hundredths of a second."""


def find_ffmpeg() -> str | None:
    """An ffmpeg: the system's, else the one in the package imageio-ffmpeg, else None."""
    found = shutil.which("ffmpeg")
    if found is not None or find_spec("imageio_ffmpeg") is None:
        return found
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:  # the package came without a binary for this machine
        return None


def plan_video(path: Path) -> tuple[Path, str | None]:
    """Where a video will be written, and a sentence when that is not where it was asked for.

    Raises UserError for a suffix that is no format, and for a folder that is not there.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--video {path}: the suffix {path.suffix!r} is no format for a video; use .mp4 or .gif")
    if not path.parent.is_dir():
        raise UserError(f"--video {path}: there is no folder {path.parent}; make it, or choose another place")
    if path.is_dir():
        raise UserError(f"--video {path} is a folder; name a file in it")
    if path.suffix.lower() == ".mp4" and find_ffmpeg() is None:
        gif = path.with_suffix(".gif")
        return gif, f"there is no ffmpeg here, so {gif} is written instead; for .mp4 run: pip install 'frugalrl[video]'"
    return path, None


def write_video(frames: Iterable[Image.Image], path: Path, fps: float) -> Written:
    """Write RGB images of one even size to ``path`` (.mp4 or .gif), one by one, so that few are in memory.

    What was at ``path`` before is replaced at the end, in one step. Raises RunFailed when ffmpeg or the disk refuses,
    and whatever ``frames`` raises; then nothing is left behind.
    """
    kind = path.suffix.lower().lstrip(".")
    part = path.with_name(f".part-{path.name}")
    count = 0
    images = iter(frames)
    try:
        first = next(images, None)
        if first is None:
            raise RunFailed(f"{path}: there is nothing to show")
        with (_ffmpeg if kind == "mp4" else _gif)(part, first.size, fps) as sink:
            for image in _chain(first, images):
                sink(image)
                count += 1
        os.replace(part, path)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return Written(path, kind, count, fps if kind == "mp4" else 1000 / _gif_ms(fps))


def _chain(first: Image.Image, rest: Iterator[Image.Image]) -> Iterator[Image.Image]:
    yield first
    yield from rest


@contextmanager
def _ffmpeg(part: Path, size: tuple[int, int], fps: float) -> Iterator[Sink]:
    program = find_ffmpeg()
    if program is None:
        raise RunFailed("ffmpeg is gone; ask for a .gif")
    # no codec is named: ffmpeg takes H.264 where it was built with it, else the best that an .mp4 can hold
    command = [
        program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{fps:g}", "-i", "pipe:0",
        "-an", "-threads", "1", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(part),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as complaint:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaint)
        pipe = process.stdin
        assert pipe is not None
        try:
            try:
                yield lambda image: _write(pipe, image.tobytes())
                pipe.close()
            except BrokenPipeError:
                pass  # it has stopped reading: what it says is more use than that
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            with suppress(OSError):
                pipe.close()
        if code != 0:
            complaint.seek(0)
            said = complaint.read().decode(errors="replace").strip().splitlines()
            full = os.strerror(errno.ENOSPC)
            if any(full in line for line in said):  # in its first lines; the last one tells of what came of it
                raise OSError(errno.ENOSPC, full)
            raise RunFailed(f"ffmpeg ({program}) failed with code {code}: {said[-1] if said else 'it said nothing'}")


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(data)


def _gif_ms(fps: float) -> int:
    """Milliseconds of a frame; the format counts in hundredths of a second, and players want at least two."""
    return min(max(2, round(100 / fps)), 65_535) * 10


@contextmanager
def _gif(part: Path, size: tuple[int, int], fps: float) -> Iterator[Sink]:
    """A GIF that is written frame by frame; of each frame after the first only the box that has changed."""
    duration = _gif_ms(fps)
    before: list[Image.Image] = []
    with part.open("wb") as file:

        def sink(image: Image.Image) -> None:
            box = (0, 0, *size)
            if before:
                # one pixel where nothing has changed, so that the frame still takes its time
                box = ImageChops.difference(image, before.pop()).getbbox() or (0, 0, 1, 1)
            else:
                for piece in GifImagePlugin.getheader(_indexed(image), info={"loop": 0, "duration": duration})[0]:
                    file.write(piece)
            before.append(image)
            small = _indexed(image.crop(box))
            for piece in GifImagePlugin.getdata(small, box[:2], duration=duration, include_color_table=True):
                file.write(piece)

        yield sink
        file.write(b";")
        file.flush()
        os.fsync(file.fileno())


def _indexed(image: Image.Image) -> Image.Image:
    return image.convert("P", palette=Image.Palette.ADAPTIVE)
