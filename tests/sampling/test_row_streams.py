from __future__ import annotations

import json

import numpy as np
import pytest

from frugalrl.sampling.streams import RowStreams


def draws(streams: RowStreams, steps: int) -> np.ndarray:
    return np.array([streams.next().copy() for _ in range(steps)])


def test_each_row_draws_from_its_own_generator_in_order() -> None:
    got = draws(RowStreams(7, 3), 600)
    assert got.shape == (600, 3, 3)
    assert (got >= 0).all()
    assert (got < 1).all()
    for row in range(3):
        own = np.random.default_rng(np.random.SeedSequence([7, row])).random((600, 3))
        np.testing.assert_array_equal(got[:, row], own)


def test_a_row_does_not_depend_on_how_many_rows_there_are() -> None:
    many, few = draws(RowStreams(7, 5), 300), draws(RowStreams(7, 2), 300)
    np.testing.assert_array_equal(many[:, :2], few)


def test_rows_and_seeds_do_not_share_draws() -> None:
    got = draws(RowStreams(7, 4), 2_000)
    flat = np.concatenate([got.reshape(-1), draws(RowStreams(8, 1), 2_000).reshape(-1)])
    assert len(np.unique(flat)) == len(flat)
    correlation = np.corrcoef(got.reshape(2_000, -1).T)
    assert np.abs(correlation - np.eye(12)).max() < 0.1


@pytest.mark.parametrize("before", [0, 1, 100, 255, 256, 257, 700])
def test_restored_in_the_middle_of_a_block_the_draws_go_on(before: int) -> None:
    streams = RowStreams(3, 2)
    draws(streams, before)
    state = json.loads(json.dumps(streams.state_dict()))
    expected = draws(streams, 600)
    other = RowStreams(99, 2)
    draws(other, 30)
    other.load_state_dict(state)
    np.testing.assert_array_equal(draws(other, 600), expected)


@pytest.mark.parametrize("before", [0, 5, 256])
def test_saving_changes_nothing(before: int) -> None:
    streams, alone = RowStreams(3, 2), RowStreams(3, 2)
    for _ in range(before):
        streams.state_dict()
        streams.next()
        alone.next()
    streams.state_dict()
    np.testing.assert_array_equal(draws(streams, 300), draws(alone, 300))


def test_a_state_is_not_changed_by_later_draws() -> None:
    streams = RowStreams(3, 2)
    draws(streams, 10)
    state = streams.state_dict()
    text = json.dumps(state)
    draws(streams, 1_000)
    assert json.dumps(state) == text
