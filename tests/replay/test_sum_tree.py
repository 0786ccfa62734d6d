"""The sum tree against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.replay.sum_tree import FANOUT, SumTree

SIZES = [1, 2, FANOUT - 1, FANOUT, FANOUT + 1, 500, FANOUT**2, FANOUT**2 + 1, 10_000]


def brute_force_find(masses: list[float], point: float) -> int:
    total = 0.0
    for leaf, mass in enumerate(masses):
        total += mass
        if point < total:
            return leaf
    raise AssertionError("the point lies outside")


def check_nodes(tree: SumTree, masses: np.ndarray) -> None:
    """Every node is exactly what a tree built at once from the same leaves has, whatever path led there."""
    fresh = SumTree(len(masses))
    fresh.set_all(masses)
    np.testing.assert_array_equal(tree.leaves, masses)
    for mine, theirs in zip(tree._levels, fresh._levels, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert tree.total == pytest.approx(masses.sum(), rel=1e-12)


@given(data=st.data(), size=st.sampled_from(SIZES), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_follows_a_list(data: st.DataObject, size: int, seed: int) -> None:
    """Random changes, repeated leaves among them (the last one counts); whole numbers make every comparison exact."""
    rng = np.random.default_rng(seed)
    tree, masses = SumTree(size), [0.0] * size
    for _ in range(data.draw(st.integers(1, 6))):
        count = data.draw(st.integers(1, 40))
        new = rng.integers(0, 4, count).astype(np.float64)
        if data.draw(st.booleans()):
            start = int(rng.integers(size))
            new = new[: size - start]
            tree.set_span(start, new)
            masses[start : start + len(new)] = new.tolist()
        else:
            leaf = rng.integers(size, size=count)
            tree.set(leaf, new)
            for i, mass in zip(leaf.tolist(), new.tolist(), strict=True):
                masses[i] = mass
        check_nodes(tree, np.asarray(masses))
    assert tree.total == sum(masses)
    if tree.total:
        points = rng.random(20) * tree.total
        points[:2] = 0.0, np.floor(points[1])
        expected = [brute_force_find(masses, p) for p in points.tolist()]
        assert tree.find(points).tolist() == expected


@pytest.mark.parametrize("size", SIZES)
def test_never_finds_an_empty_leaf(size: int) -> None:
    """Rounding may move a point over a border, but not into a leaf without mass."""
    rng = np.random.default_rng(size)
    masses = rng.random(size) ** 20 * (rng.random(size) < 0.3)
    masses[rng.integers(size)] = 1e-3
    tree = SumTree(size)
    tree.set_all(masses)
    borders = np.cumsum(masses)
    points = np.concatenate([borders, np.nextafter(borders, 0.0), np.nextafter(borders, 2.0 * borders[-1])])
    points = np.append(points, [0.0, tree.total, np.nextafter(tree.total, 0.0)])
    found = tree.find(points)
    assert (masses[found] > 0).all()
    assert found.min() >= 0
    assert found.max() < size


def test_finds_the_only_leaf() -> None:
    for size in SIZES:
        for leaf in {0, size // 2, size - 1}:
            tree = SumTree(size)
            tree.set(np.asarray([leaf]), np.asarray([5e-324]))
            assert tree.find(np.asarray([0.0, 5e-324])).tolist() == [leaf, leaf]


def test_last_mass_of_a_repeated_leaf_counts() -> None:
    tree = SumTree(100)
    tree.set(np.asarray([7, 9, 7, 7]), np.asarray([1.0, 2.0, 3.0, 4.0]))
    assert tree.leaves[7] == 4.0
    assert tree.total == 6.0


def test_needs_a_leaf() -> None:
    with pytest.raises(ValueError, match="at least 1 leaf"):
        SumTree(0)
