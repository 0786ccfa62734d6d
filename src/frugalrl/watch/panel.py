"""A frame of the video: the game on the left, what the policy thinks of it on the right."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from frugalrl.watch.moments import Moment
from frugalrl.watch.readings import Scale

_GAME, _PANEL, _MARGIN, _NAMES = 420, 446, 16, 116
_HEAD, _CURVE = 116, 118
_MOST_BARS = 24
_BACK, _BAND = (18, 20, 26), (38, 48, 58)
_TEXT, _DIM = (232, 234, 238), (146, 152, 164)
_BAR, _BEST, _WORST, _RANDOM = (86, 122, 178), (92, 200, 130), (226, 92, 84), (240, 176, 64)


class Panel:
    """Draws moments; remembers the curve and the largest gap between two actions of an episode."""

    def __init__(self, title: str, lines: Sequence[str], meanings: Sequence[str], scale: Scale) -> None:
        """``title`` and ``lines`` stand on every frame; ``meanings`` [A] names the actions; ``scale``: of the bars."""
        self._title, self._lines, self._meanings = title, tuple(lines), tuple(meanings)
        self._scale = scale
        self._font, self._bold = ImageFont.load_default(13), ImageFont.load_default(17)
        self._size: tuple[int, int] | None = None
        self._begin()

    def _begin(self) -> None:
        self._curve: deque[float] = deque(maxlen=_PANEL - 2 * _MARGIN)
        self._gap = 0.0

    def draw(self, moment: Moment) -> Image.Image:
        """An RGB image, of the same even size for every moment."""
        game = self._game(moment.picture)
        shown = min(len(self._meanings), _MOST_BARS)
        self._bar = max(13, min(30, (_GAME - _HEAD - _CURVE) // shown))
        height = max(_GAME, game.height, _HEAD + shown * self._bar + _CURVE)
        image = Image.new("RGB", (game.width + _PANEL, height + height % 2), _BACK)
        image.paste(game, (0, (height - game.height) // 2))
        pen = ImageDraw.Draw(image)
        left = game.width + _MARGIN
        self._head(pen, left, moment)
        if moment.point is not None:
            self._curve.append(moment.point)
        if moment.bars is not None:
            self._gap = max(self._gap, float(moment.bars.max() - moment.bars.min()))
            self._bars(pen, left, moment.bars, moment)
        self._draw_curve(pen, left, image.height - _CURVE + 22)
        if moment.ended is not None:
            self._begin()
        return image

    def _game(self, picture: NDArray[np.uint8]) -> Image.Image:
        """The picture as large as fits, by a whole factor where it is small; later ones get the first one's size."""
        if self._size is None:
            height, width = picture.shape[:2]
            factor = min(_GAME / height, 1.5 * _GAME / width)
            factor = int(factor) if factor >= 1 else factor
            self._size = max(2, round(width * factor) // 2 * 2), max(2, round(height * factor))
        small = picture.shape[0] <= self._size[1]
        return Image.fromarray(picture).resize(
            self._size, Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        )

    def _head(self, pen: ImageDraw.ImageDraw, left: int, moment: Moment) -> None:
        pen.text((left, 12), self._title, _TEXT, self._bold)
        for at, line in enumerate(self._lines):
            pen.text((left, 34 + 16 * at), line, _DIM, self._font)
        text = f"episode {moment.episode + 1}   step {moment.step:,}   return {moment.return_so_far:g}"
        pen.text((left, _HEAD - 28), text, _TEXT, self._bold)
        if moment.ended is not None:
            words = {"cut": "the video ends here"}
            pen.text((left, _HEAD + 4), words.get(moment.ended, moment.ended), _RANDOM, self._bold)

    def _bars(self, pen: ImageDraw.ImageDraw, left: int, values: NDArray[Any], moment: Moment) -> None:
        """One bar per action, as the scale has it."""
        low, high = float(values.min()), float(values.max())
        start, full = (low, self._gap) if self._scale.full is None else (0.0, self._scale.full)
        names = left + _NAMES
        width = _PANEL - 2 * _MARGIN - _NAMES - 130
        for at, action in enumerate(_shown(values, moment.action)):
            value, top = float(values[action]), _HEAD + at * self._bar
            middle = top + self._bar // 2
            chosen = action == moment.action
            mark, colour = _mark(value, low, high, chosen=chosen, explored=moment.explored)
            if chosen:
                pen.rectangle((left - 10, top, left + _PANEL - 2 * _MARGIN, top + self._bar - 2), _BAND)
                pen.polygon([(left - 6, middle - 5), (left - 6, middle + 4), (left, middle - 1)], colour)
            ink = _TEXT if chosen else _DIM
            pen.text((names - 6, middle - 1), self._meanings[action][:14], ink, self._font, anchor="rm")
            reach = round(width * (value - start) / full) if full > 0 else 0
            pen.rectangle((names, top + 2, names + max(2, reach), top + self._bar - 4), colour)
            pen.text((names + width + 66, middle - 1), f"{value:{self._scale.number}}", ink, self._font, anchor="rm")
            pen.text((names + width + 74, middle - 1), mark, colour, self._font, anchor="lm")

    def _draw_curve(self, pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
        width, height = _PANEL - 2 * _MARGIN, _CURVE - 22 - _MARGIN
        pen.rectangle((left, top, left + width, top + height), outline=_BAND)
        if not self._curve:
            return
        low, high = min(self._curve), max(self._curve)
        pen.text((left, top - 18), f"{self._scale.curve}, last {len(self._curve)} steps", _DIM, self._font)
        pen.text((left + width, top - 18), f"{low:.4g} to {high:.4g}", _DIM, self._font, anchor="ra")
        scale = (height - 6) / (high - low) if high > low else 0.0
        points = [(left + 1 + at, top + height - 3 - (value - low) * scale) for at, value in enumerate(self._curve)]
        if len(points) > 1:
            pen.line(points, _BEST, 2)
        x, y = points[-1]
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), _BEST)


def _shown(values: NDArray[Any], chosen: int | None) -> list[int]:
    """Actions to draw, in their own order: all of them, or the highest, the lowest and the chosen one."""
    if len(values) <= _MOST_BARS:
        return list(range(len(values)))
    order = np.argsort(-values, kind="stable").tolist()
    half = _MOST_BARS // 2
    kept = {*order[:half], *order[-half:]}
    if chosen is not None and chosen not in kept:
        kept = (kept - {order[half - 1]}) | {chosen}
    return sorted(kept)


def _mark(value: float, low: float, high: float, *, chosen: bool, explored: bool) -> tuple[str, tuple[int, int, int]]:
    """A word and a colour for an action: chosen, argmax, argmin."""
    if chosen:
        return ("random", _RANDOM) if explored else ("chosen", _BEST)
    if value == low:
        return "argmin", _WORST
    return ("argmax", _BAR) if value == high else ("", _BAR)
