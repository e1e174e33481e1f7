"""Equal pictures in one data set, or in two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.survey.tally import Marks, Tally


@dataclass(frozen=True)
class Twins:
    """Images of one set with equal pixels."""

    places: tuple[int, ...]  # among the readable images, in order
    same_file: bool
    same_labels: bool


def twins(tally: Tally) -> Iterator[Twins]:
    """Yield the groups of images with equal pixels, in the order of their first ones."""
    pixels, files, labels = (tally.mark(name) for name in ("pixels", "file", "labels"))
    groups = sorted(_groups(pixels))
    for places in groups:
        chosen = list(places)
        yield Twins(places, _all_equal(files[chosen]), _all_equal(labels[chosen]))


def _groups(marks: Marks) -> Iterator[tuple[int, ...]]:
    """Yield the places of marks that occur more than once."""
    order = np.argsort(marks, kind="stable")
    ordered = marks[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(marks))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start > 1:
            yield tuple(order[start:end].tolist())


def _all_equal(marks: Marks) -> bool:
    return bool((marks == marks[0]).all())


def shared(first: Tally, second: Tally) -> list[tuple[int, int]]:
    """Return the places of pictures that two sets share, one pair per picture."""
    _, in_first, in_second = np.intersect1d(
        first.mark("pixels"), second.mark("pixels"), return_indices=True
    )
    pairs = zip(in_first.tolist(), in_second.tolist(), strict=True)
    return sorted(pairs)
