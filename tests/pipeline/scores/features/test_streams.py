"""Streams of features: re-cut, on disk, chosen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synthaug.pipeline.scores.features.streams import (
    blocks,
    on_disk,
    spaced,
    squared_distances,
    thinned,
)


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 7))
def test_blocks_keep_all_rows_in_order(parts: list[int], size: int) -> None:
    """Whatever the cut: the same blocks, all full but the last."""
    whole = rows(sum(parts))
    edges = np.cumsum([0, *parts])
    found = list(blocks((whole[a:b] for a, b in pairwise(edges)), size))
    assert [len(block) for block in found[:-1]] == [size] * max(0, len(found) - 1)
    assert np.array_equal(np.concatenate([whole[:0], *found]), whole)


def test_on_disk_reads_like_the_rows_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices and places, in any order and twice; the file goes with the block."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole = np.concatenate([rows(3), rows(2, 1)])
    with on_disk([rows(3), rows(0), rows(2, 1)]) as found:
        assert (len(found), found.shape) == (5, (5, 4))
        assert len(list(tmp_path.iterdir())) == 1
        for wanted in (
            slice(None),
            slice(1, 4),
            slice(9, 9),
            np.array([4, 0, 1, 1, 2]),
            np.zeros(0, np.int64),
        ):
            assert np.array_equal(found[wanted], whole[wanted])
    assert not list(tmp_path.iterdir())
    with on_disk([]) as nothing:
        assert nothing.shape == (0, 0)
        assert len(nothing[np.zeros(0, np.int64)]) == 0


@given(st.integers(0, 60), st.integers(0, 70))
def test_spaced_rows_are_rising_and_as_many_as_asked_for(count: int, most: int) -> None:
    """All where there are few enough, or none is named; each once."""
    found = spaced(count, most).tolist()
    assert found == sorted(set(found))
    assert len(found) == (min(count, most) if most else count)
    assert all(0 <= place < count for place in found)
    passed = list(thinned((np.full((1, 2), i, np.float32) for i in range(count)), count, most))
    assert [int(row[0, 0]) for row in passed] == found


def test_distances_of_near_points_far_from_the_origin() -> None:
    """No negative ones, and the error stays small against the points' own size."""
    x = (rows(5) + np.float32(1000)).astype(np.float32)
    direct = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(-1)
    assert squared_distances(x, x) == pytest.approx(direct, abs=1e-8)


def test_spaced_rows_reach_from_the_first_to_the_end() -> None:
    assert spaced(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spaced(7, 3).tolist() == [0, 2, 4]
    assert spaced(3, 0).tolist() == [0, 1, 2]
