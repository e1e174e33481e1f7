"""Search for hashes that differ in a few bits, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet 2012): if two of 64 bits differ in at most 10, one
of four parts differs in at most 2, so the hashes are indexed by each part, and each part is looked
up with up to 2 of its bits flipped.

Legend: Q queries, N indexed hashes, P lookups (a part of a query with some bits flipped).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.leaks.hashing import Hashes

RADIUS = 10  # bits of 64
PARTS = 4  # of a hash
PART_BITS = 16
MAX_LOOKUPS = 200_000  # at a time
MAX_CANDIDATES = 4_000_000  # compared at a time

Indices = NDArray[np.int64]


def pairs_within(
    queries: Hashes,
    index: Hashes,
    query_group: Indices,
    index_group: Indices,
    radius: int = RADIUS,
) -> tuple[Indices, Indices]:
    """Return all pairs of different groups within `radius` bits.

    Positions in queries [Q] and in index [N].
    """
    pair_numbers = [np.zeros(0, np.int64)]  # query * N + position
    flips = _flips(radius // PARTS)
    for part in range(PARTS):
        keys = _part(index, part)
        order = np.argsort(keys, kind="stable")
        all_keys = np.arange((1 << PART_BITS) + 1)
        starts = np.searchsorted(keys[order], all_keys)
        query_keys = _part(queries, part)
        for query_of, first, counts in _lookups(query_keys, flips, starts):
            query = np.repeat(query_of, counts)
            position = order[_ranges(first, counts)]
            different_bits = np.bitwise_count(queries[query] ^ index[position])
            close = different_bits <= radius
            close &= query_group[query] != index_group[position]
            pair_numbers.append(query[close] * len(index) + position[close])
    # A pair is found once for every part that agrees.
    pairs = np.unique(np.concatenate(pair_numbers))
    size = max(1, len(index))
    return pairs // size, pairs % size


def _part(hashes: Hashes, part: int) -> Indices:
    """Return one part of each hash as a number."""
    shifted = hashes >> np.uint64(PART_BITS * part)
    mask = np.uint64((1 << PART_BITS) - 1)
    return (shifted & mask).astype(np.int64)


def _flips(most: int) -> Indices:
    """Return all numbers of PART_BITS bits with at most `most` of them set."""
    flips = []
    for count in range(most + 1):
        for bits in combinations(range(PART_BITS), count):
            flips.append(sum(1 << bit for bit in bits))
    return np.array(flips, np.int64)


def _ranges(first: Indices, counts: Indices) -> Indices:
    """Return first[k], first[k] + 1, ... (counts[k] numbers) for each k, end to end."""
    ends = np.cumsum(counts)
    offsets = np.repeat(first - ends + counts, counts)
    return offsets + np.arange(counts.sum())


def _lookups(
    keys: Indices, flips: Indices, starts: Indices
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Yield the lookups in blocks of limited size.

    Each as (query, first position in its bucket, size of the bucket) [P].
    """
    step = max(1, MAX_LOOKUPS // len(flips))
    for start in range(0, len(keys), step):
        flipped = keys[start : start + step, None] ^ flips[None]  # [queries, flips]
        numbers = np.arange(start, start + len(flipped))
        query = np.repeat(numbers, len(flips))
        first = starts[flipped].ravel()
        ends_of = starts[flipped + 1]
        counts = (ends_of - starts[flipped]).ravel()
        full = counts > 0
        query = query[full]
        first = first[full]
        counts = counts[full]
        block = np.cumsum(counts) // MAX_CANDIDATES
        ends = np.flatnonzero(np.diff(block)) + 1
        parts = np.split(np.arange(len(query)), ends)
        for chosen in parts:
            if len(chosen):
                yield query[chosen], first[chosen], counts[chosen]
