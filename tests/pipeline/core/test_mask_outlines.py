"""Outlines of masks: filling one gives the mask again, whatever it looks like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.pipeline.core import mask_outlines as outlines
from synthaug.pipeline.core import masks

ANY = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)


def area(ring: np.ndarray) -> float:
    """Twice-signed area by the shoelace rule."""
    x, y = ring[:, 0].astype(float), ring[:, 1].astype(float)
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def even_odd(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre a ray to the left leaves through an odd number of edges.

    Plain, in float64.
    """
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    inside = np.zeros(size, bool)
    for (x1, y1), (x2, y2) in zip(
        ring.astype(float), np.roll(ring, -1, 0).astype(float), strict=True
    ):
        if y1 != y2:
            crosses = (np.minimum(y1, y2) <= ys) & (ys < np.maximum(y1, y2))
            inside ^= crosses & (x1 + (ys - y1) * (x2 - x1) / (y2 - y1) < xs)
    return inside


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_filling_the_polygon_gives_the_mask(mask: np.ndarray) -> None:
    ring = outlines.polygon(mask)
    size = (mask.shape[0], mask.shape[1])
    assert np.array_equal(even_odd(ring, size), mask)
    filled = masks.from_polygons([ring.ravel().tolist()], size)  # as pycocotools fills it
    assert np.array_equal(masks.decode(filled, size), mask)


@settings(max_examples=60, deadline=None)
@given(ANY)
def test_rings_enclose_as_many_pixels_as_there_are(mask: np.ndarray) -> None:
    assert (
        sum(area(ring) for ring in outlines.rings(mask)) == mask.sum()
    )  # holes count the other way
    for ring in outlines.rings(mask):
        steps = np.abs(np.roll(ring, -1, 0) - ring)
        assert (np.count_nonzero(steps, axis=1) == 1).all(), (
            "an edge is neither horizontal nor vertical"
        )


def test_one_pixel_is_a_square_and_its_box_is_tight() -> None:
    mask = np.zeros((4, 5), bool)
    mask[2, 3] = True
    assert sorted(map(tuple, outlines.polygon(mask).tolist())) == [(3, 2), (3, 3), (4, 2), (4, 3)]


def test_an_empty_mask_has_no_polygon() -> None:
    assert outlines.rings(np.zeros((3, 3), bool)) == []
    with pytest.raises(ValueError, match="empty"):
        outlines.polygon(np.zeros((3, 3), bool))
