from __future__ import annotations

import numpy as np

from synthaug.generators.sims.segments import large_segments, segments_of


def test_a_pole_does_not_cut_what_is_behind_it() -> None:
    labels = np.zeros((6, 9), np.int64)
    labels[:, 4] = 1
    wall, pole = segments_of(labels, 2, thin=(1,))
    assert wall.area == 48 and wall.whole.all()
    assert not wall.mask[:, 4].any()
    assert (pole.category, pole.area, pole.box) == (1, 6, (0, 4, 6, 5))
    left, right, _ = segments_of(labels, 2)
    assert (left.area, right.area) == (24, 24)


def test_segments_are_numbered_column_by_column_and_touch_by_corners() -> None:
    labels = np.full((4, 6), 1)
    labels[3, 0] = labels[0, 2] = labels[1, 3] = 0
    first, second = segments_of(labels, 2, only=0)
    assert first.box == (3, 0, 4, 1) and first.number == 0
    assert second.box == (0, 2, 2, 4) and second.area == 2
    frame = second.in_frame((4, 6))
    assert frame[0, 2] and frame[1, 3] and frame.sum() == 2


def test_a_part_that_is_mostly_bridge_is_none() -> None:
    labels = np.full((3, 8), 1)
    labels[1, 0] = 0
    categories = [segment.category for segment in segments_of(labels, 2, thin=(1,))]
    assert categories == [1]


def test_pixels_of_no_class_are_in_no_segment_and_small_ones_are_not_large() -> None:
    labels = np.full((4, 4), 2)
    assert segments_of(labels, 2) == []
    labels[0] = 0
    labels[2, :3] = 1
    segments = segments_of(labels, 2)
    assert [segment.area for segment in segments] == [4, 3]
    assert large_segments(segments, 3 / 16, (4, 4)) == segments[:1]
