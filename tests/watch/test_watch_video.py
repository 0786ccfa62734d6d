"""Frames that become a file, whole or not at all."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugalrl.types import RunFailed, UserError
from frugalrl.watch import video
from frugalrl.watch.video import find_ffmpeg, plan_video, write_video

NEEDS_FFMPEG = pytest.mark.skipif(find_ffmpeg() is None, reason="needs ffmpeg or imageio-ffmpeg")


def frames(count: int, size: tuple[int, int] = (64, 48)) -> Iterator[Image.Image]:
    """A white square that moves over blue; frame 3 is frame 2 again."""
    for at in range(count):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[..., 2] = 200
        place = 2 if at == 3 else at
        image[8:24, 4 * place : 4 * place + 12] = 255
        yield Image.fromarray(image)


@pytest.fixture
def _no_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(video, "find_spec", lambda name: None)


def test_a_gif_holds_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    written = write_video(frames(7), path, 10)
    assert (written.frames, written.format, written.path) == (7, "gif", path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    with Image.open(path) as gif:
        assert gif.n_frames == 7
        for at, expected in enumerate(frames(7)):
            gif.seek(at)
            assert gif.info["duration"] == 100
            assert np.array_equal(np.asarray(gif.convert("RGB")), np.asarray(expected)), at


@NEEDS_FFMPEG
def test_an_mp4_holds_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    assert write_video(frames(7), path, 12.5).frames == 7
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    program = find_ffmpeg()
    assert program is not None
    command = [program, "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    decoded = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    assert re.search(r"Video: .* 64x48.* 12\.50? fps", decoded.stderr.decode())
    shown = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 48, 64, 3).astype(int)
    assert len(shown) == 7
    for picture, expected in zip(shown, frames(7), strict=True):
        assert np.abs(picture - np.asarray(expected)).mean() < 12


@pytest.mark.parametrize("name", ["a.avi", "a", "a.MP3"])
def test_another_suffix_is_wrong_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"use \.mp4 or \.gif"):
        plan_video(tmp_path / name)


def test_a_place_that_cannot_hold_a_video_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        plan_video(tmp_path / "not here" / "a.mp4")
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        plan_video(tmp_path / "dir.mp4")


@pytest.mark.usefixtures("_no_ffmpeg")
def test_without_ffmpeg_a_gif_is_written_and_said(tmp_path: Path) -> None:
    path, said = plan_video(tmp_path / "a.mp4")
    assert path == tmp_path / "a.gif"
    assert said is not None
    assert "pip install 'frugalrl[video]'" in said
    assert plan_video(tmp_path / "a.gif") == (path, None)


@NEEDS_FFMPEG
def test_with_ffmpeg_an_mp4_stays_one(tmp_path: Path) -> None:
    assert plan_video(tmp_path / "a.mp4") == (tmp_path / "a.mp4", None)


FULL = "echo '[out] Could not write header: No space left on device' >&2; echo 'Nothing was written' >&2; exit 228"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "failed with code 3"),
        ("echo 'no such codec' >&2; exit 3", "no such codec"),
        ("head -c 9 > /dev/null; exit 3", "failed with code 3"),
        (FULL, "a.mp4 cannot be written: No space left on device$"),
    ],
)
def test_an_ffmpeg_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    path = tmp_path / "out" / "a.mp4"
    path.parent.mkdir()
    path.write_text("an older video")
    with pytest.raises(RunFailed, match=said):
        write_video(frames(40, (640, 480)), path, 10)
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]
    assert path.read_text() == "an older video"


@pytest.mark.parametrize("name", ["a.gif", pytest.param("a.mp4", marks=NEEDS_FFMPEG)])
def test_a_game_that_fails_leaves_nothing(tmp_path: Path, name: str) -> None:
    def broken() -> Iterator[Image.Image]:
        yield from frames(3)
        raise RunFailed("the game fell over")

    with pytest.raises(RunFailed, match="fell over"):
        write_video(broken(), tmp_path / name, 10)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="cannot be written"):
        write_video(frames(3), tmp_path / "gone" / "a.gif", 10)
