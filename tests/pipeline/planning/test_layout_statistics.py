"""Statistics of layouts: known boxes in known bins; divergences against an independent formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.layout_statistics import (
    GRID,
    SIZE_BINS,
    Statistics,
    deviation,
    divergence,
    with_margins,
)


def layout(*objects: tuple[int, float, float, float]) -> Layout:
    """Objects as (class, centre x, centre y, side)."""
    boxes = [(x - s / 2, y - s / 2, x + s / 2, y + s / 2) for _, x, y, s in objects]
    return Layout(
        np.array([c for c, *_ in objects], np.int32), np.array(boxes, np.float32).reshape(-1, 4)
    )


def test_known_boxes_fall_into_their_bins() -> None:
    found = Statistics.of(
        [layout((0, 0.5, 0.5, 1.0), (2, 0.9, 0.1, 0.1)), layout(), layout((2, 0.9, 0.1, 0.2))], 3
    )
    np.testing.assert_array_equal(found.counts, [[1, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert found.positions[2, 0, GRID - 1] == 2
    assert found.positions.sum() == 3
    assert found.sizes[0, SIZE_BINS - 1] == 1
    assert found.median_area[2] == pytest.approx(0.025, rel=1e-5)
    assert np.isnan(found.median_area[1])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20))
def test_divergence_is_scipys_and_symmetric(pairs: list[tuple[int, int]]) -> None:
    p, q = np.array(pairs).T
    if p.sum() and q.sum():
        assert divergence(p, q) == pytest.approx(float(jensenshannon(p, q, base=2)) ** 2, abs=1e-9)
    assert divergence(p, q) == pytest.approx(divergence(q, p), abs=1e-12)


def test_scaling_meets_the_margins_and_keeps_odds_ratios() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.random((4, 4)) + 0.1
    pairs = pairs + pairs.T
    margins = np.array([1.0, 4, 2, 3])
    scaled = with_margins(pairs, margins)
    np.testing.assert_allclose(scaled.sum(1), margins, rtol=1e-6)
    np.testing.assert_allclose(scaled, scaled.T)
    odds = [m[0, 1] * m[2, 3] / (m[0, 3] * m[2, 1]) for m in (pairs, scaled)]
    assert odds[0] == pytest.approx(odds[1])


def test_no_deviation_from_itself_and_full_deviation_from_the_disjoint() -> None:
    here = Statistics.of([layout((0, 0.2, 0.2, 0.1), (1, 0.5, 0.5, 0.2))] * 3, 4)
    assert max(deviation(here, here).values()) == pytest.approx(0, abs=1e-9)
    other = Statistics.of([layout((2, 0.2, 0.2, 0.1), (3, 0.5, 0.5, 0.2), (3, 0.1, 0.5, 0.2))], 4)
    assert deviation(here, other)["pairs"] == pytest.approx(1)
    assert deviation(here, other)["objects_per_image"] == pytest.approx(1)
