"""Bounds of a share are Wilson's, and cover what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from synthaug.pipeline.detection.proportions import ONE_SIDED_95, wilson


def test_nothing_is_known_without_a_case() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("part", "total"), [(0, 4), (3, 3), (7, 12), (400, 1000)])
def test_at_its_bounds_the_share_is_that_many_standard_deviations_away(
    part: int, total: int
) -> None:
    """Wilson's bounds solve |share - p| = z sqrt(p (1 - p) / total) for p."""
    for bound in wilson(part, total):
        if 0 < bound < 1:
            spread = np.sqrt(bound * (1 - bound) / total)
            assert abs(part / total - bound) == pytest.approx(ONE_SIDED_95 * spread)


def test_three_of_three_are_mostly_right_and_two_of_two_may_be_chance() -> None:
    assert wilson(3, 3)[0] > 0.5 > wilson(2, 2)[0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_lower_bound_is_above_the_truth_in_about_one_case_of_twenty(share: float) -> None:
    counts = np.arange(41)
    above = np.array([wilson(int(part), 40)[0] > share for part in counts])
    assert binom.pmf(counts, 40, share)[above].sum() < 0.09
