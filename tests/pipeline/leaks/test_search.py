"""The search misses no pair within the radius and finds no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.leaks import search
from synthaug.pipeline.leaks.search import pairs_within

hashes = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8)
changes = st.lists(
    st.tuples(st.integers(0, 7), st.sets(st.integers(0, 63), max_size=14)), max_size=8
)


@given(hashes, changes, st.integers(0, 15))
def test_the_search_finds_exactly_the_pairs_within_the_radius(base, edits, radius):
    """Against all pairs.

    Half of the hashes are others with some bits flipped, so that there is something to find.
    """
    index = np.array(base, np.uint64)
    near_ones = [base[k % len(base)] ^ sum(1 << bit for bit in bits) for k, bits in edits]
    queries = np.array([*near_ones, *base], np.uint64)
    groups = np.arange(len(queries)) % 2, np.arange(len(index)) % 2
    found = set(
        zip(*(side.tolist() for side in pairs_within(queries, index, *groups, radius)), strict=True)
    )
    expected = {
        (q, k)
        for q in range(len(queries))
        for k in range(len(index))
        if int(queries[q] ^ index[k]).bit_count() <= radius and groups[0][q] != groups[1][k]
    }
    assert found == expected


@pytest.mark.parametrize(("queries", "index"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_found_among_nothing(queries, index):
    own, other = np.zeros(queries, np.uint64), np.zeros(index, np.uint64)
    ones, zeros = np.ones(queries, np.int64), np.zeros(index, np.int64)
    assert [0, 0] == [len(side) for side in pairs_within(own, other, ones, zeros)]


def test_many_equal_hashes_are_compared_in_blocks_and_all_found(monkeypatch):
    monkeypatch.setattr(search, "MAX_CANDIDATES", 50)
    monkeypatch.setattr(search, "MAX_LOOKUPS", 300)
    hashes = np.full(40, 7, np.uint64)
    rows = np.arange(40)
    first, second = pairs_within(hashes, hashes, rows, rows)
    assert len(first) == 40 * 39
    assert (first != second).all()


def test_images_of_one_group_are_no_pair():
    hashes = np.array([1, 1, 3], np.uint64)
    first, second = pairs_within(hashes, hashes, np.array([0, 0, 1]), np.array([0, 0, 1]))
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [
        (0, 2),
        (1, 2),
        (2, 0),
        (2, 1),
    ]
