"""Pixels: observations as pictures, bars and marks of the panel."""

from __future__ import annotations

import numpy as np
import pytest

from frugalrl.watch.drawings import EMPTY, draw_observation, plane_colours
from frugalrl.watch.moments import Moment
from frugalrl.watch.panel import Panel, _mark, _shown
from frugalrl.watch.readings import Q_SCALE


def test_feature_planes_have_a_colour_each() -> None:
    obs = np.zeros((3, 4, 5), np.uint8)
    obs[0, 1, 2] = obs[2, 3, 4] = 1
    image = draw_observation(obs)
    colours = plane_colours(3)
    assert image.shape == (4, 5, 3)
    assert len({EMPTY, *colours}) == 4
    assert [tuple(image[at]) for at in ((0, 0), (1, 2), (3, 4))] == [EMPTY, colours[0], colours[2]]


def test_frames_and_colours_are_shown_as_they_are() -> None:
    frames = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
    assert (draw_observation(frames) == frames[3][..., None]).all()
    assert (draw_observation(frames[:3]) == np.moveaxis(frames[:3], 0, -1)).all()


@pytest.mark.parametrize(("index", "lit"), [(0, (0, 0)), (5, (1, 2)), (9, None)])
def test_an_index_is_a_cell_of_its_board(index: int, lit: tuple[int, int] | None) -> None:
    image = draw_observation(np.int64(index), board=(2, 3), num_indices=10)[4::8, 4::8]  # type: ignore[arg-type]
    bright = {(int(r), int(c)) for r, c in np.argwhere((image != EMPTY).any(-1))}
    assert image.shape == (2, 3, 3)
    assert bright == ({lit} if lit else set())


def test_a_vector_is_bars_around_a_middle_line() -> None:
    image = draw_observation(np.array([1.0, -0.5, np.nan, 0.0] + [0.0] * 36, np.float32))
    heights = [(image[:, 5 * at + 2] != EMPTY).any(-1).sum() for at in range(4)]
    assert heights == [49, 25, 1, 1]
    assert tuple(image[2, 2]) != tuple(image[60, 7])


def moment(q: list[float] | None, action: int | None = None, **known: object) -> Moment:
    picture = np.full((210, 160, 3), 90, np.uint8)
    values = None if q is None else np.array(q, np.float32)
    return Moment(picture, 0, 3, 1.5, values, None if q is None else max(q), action, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize("actions", [2, 6, 18, 40])
def test_frames_have_one_even_size(actions: int) -> None:
    panel = Panel("a game", ("one", "two"), [f"ACTION{a}" for a in range(actions)], Q_SCALE)
    frames = [panel.draw(m) for m in (moment([float(a) for a in range(actions)], 1), moment(None, ended="game over"))]
    assert len({f.size for f in frames}) == 1
    assert all(n % 2 == 0 for n in frames[0].size)
    other = panel.draw(Moment(np.zeros((50, 300, 3), np.uint8), 0, 0, 0.0))
    assert other.size == frames[0].size


def test_bars_are_as_long_as_q_lies_above_the_lowest() -> None:
    """The widths of the bars, read from the pixels, against the Q-values."""
    panel = Panel("a game", (), ["A", "B", "C", "D"], Q_SCALE)
    q = [0.0, 1.0, 4.0, 2.0]
    image = np.asarray(panel.draw(moment(q, 2)))
    lengths = {}
    for name, colour in (("argmin", (226, 92, 84)), ("chosen", (92, 200, 130)), ("other", (86, 122, 178))):
        rows = (image[116:236] == colour).all(-1).sum(1)
        lengths[name] = sorted({int(n) for n in rows if n > 1})
    assert max(lengths["argmin"]) <= 40
    widest = max(lengths["chosen"])
    assert widest >= 170
    assert max(lengths["other"]) == pytest.approx(widest / 2, abs=8)  # the mark of the chosen one has its colour, too
    assert min(n for n in lengths["other"] if n > 20) == pytest.approx(widest / 4, abs=8)
    narrow = np.asarray(panel.draw(moment([0.0, 0.1, 0.4, 0.2], 2)))
    now = (narrow[116:236] == (92, 200, 130)).all(-1).sum(1)
    assert max(now[now < 100]) < widest / 5, "a small gap must look small beside the episode's largest"


def test_marks_say_what_an_action_is() -> None:
    assert [_mark(v, 0.0, 2.0, chosen=False, explored=True)[0] for v in (0.0, 1.0, 2.0)] == ["argmin", "", "argmax"]
    assert _mark(2.0, 0.0, 2.0, chosen=True, explored=False)[0] == "chosen"
    assert _mark(0.0, 0.0, 2.0, chosen=True, explored=True)[0] == "random"


def test_of_many_actions_the_highest_the_lowest_and_the_chosen_are_drawn() -> None:
    q = np.arange(100.0)
    assert _shown(q[:24], 3) == list(range(24))
    assert _shown(q, 99) == [*range(12), *range(88, 100)]
    assert _shown(q, 50) == [*range(12), 50, *range(89, 100)]
