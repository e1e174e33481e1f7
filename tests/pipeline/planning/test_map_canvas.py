"""Composing maps.

Holes are closed by the nearest stuff, the lower foot is in front, the border keeps what it cuts.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.scene import ImageRef, Scene
from synthaug.pipeline.planning.map_canvas import Canvas, Cutout, complete, cutout, real_map


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.int64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 4)
    )
)
def test_holes_take_the_nearest_stuff(ids):
    """3 and 4 are stuff, 1 and 2 are holes; OpenCV's distances are exact to a tenth here."""
    holes, stuff = (ids == 1) | (ids == 2), ids >= 3
    done = complete(ids, holes, stuff)
    assert np.array_equal(ids[~holes], done[~holes])
    places = np.argwhere(stuff)
    for y, x in np.argwhere(holes):
        if not len(places):
            assert 0 == done[y, x]
            continue
        distance = np.hypot(*(places - (y, x)).T)
        same = distance[[ids[tuple(p)] == done[y, x] for p in places]]
        assert len(same) and same.min() <= distance.min() * 1.1


def street() -> Scene:
    """Sky over sea.

    A dog (id 1) with an unlabelled plate stands in the sea, a cat (id 2) behind it touches the
    border.
    """
    ids = np.full((12, 12), 3)
    ids[5:] = 4
    ids[4:9, 0:5] = 2
    ids[5:11, 3:8] = 1
    ids[8, 5] = 0
    ids[0, 11] = 0
    found = panoptic.segments_of(ids)
    objects = panoptic.objects_of(found, 0, [1, 0, 2, 3], isthing=[True, True, False, False])
    return Scene("a", 12, 12, ImageRef(), objects, ImageRef(masks.panoptic_png(ids)))


def test_a_thing_given_up_takes_its_unlabelled_patches_along():
    base = real_map(street(), 4, None, 1)
    canvas = Canvas(base, np.array([False, True, False, False, False]), 4)
    assert not (canvas.ids == 1).any() and 0 == canvas.ids[0, 11] and 4 == canvas.ids[8, 5]
    assert (canvas.ids[4:9, 0:3] == 2).all()


def test_what_is_taken_out_is_closed_by_stuff_and_the_map_before_stays():
    base = real_map(street(), 4, None, 1)
    canvas = Canvas(base, np.zeros(5, bool), 4)
    ids = canvas.ids.copy()
    free = canvas.without(1)
    assert np.array_equal(ids, canvas.ids) and canvas.things[1] and not free.things[1]
    assert (
        set(free.ids[5:11, 3:8].ravel()) <= {3, 4}
        and free.ids[8, 5] == 4
        and (free.ids[ids == 2] == 2).all()
    )
    front = Cutout(np.ones((3, 3), bool), 9, 9, np.zeros(5), 1.0)
    free.place(front, np.ones((3, 3), bool), 1)
    assert (free.ids == 5).sum() == 9 and free.num_things == 2 and canvas.num_things == 2
    assert free.without(5).ids[9:, 9:].tolist() == ids[9:, 9:].tolist()


def test_the_lower_foot_is_in_front_and_nothing_is_hidden_by_more_than_half():
    base = real_map(street(), 4, None, 1)
    item = cutout(base, 2, (12, 12), 4)
    assert item is not None and (4, 0) == (item.top, item.left) and item.unoccluded < 1
    dog = cutout(base, 1, (12, 12), 4)
    assert dog is not None and dog.unoccluded == 1
    assert [
        0,
        0,
        0.7,
        0.3,
        0,
    ] == item.around.tolist()  # ten pixels beside it are stuff, three of them sea
    canvas = Canvas(base, np.zeros(5, bool), 4)
    behind = Cutout(
        np.ones((5, 4), bool), 3, 5, item.around, 1.0
    )  # its foot is row 8, the dog's 11
    fit = canvas.try_place(behind, 1)
    assert fit is not None and 0 <= fit.score <= 1
    seen = fit.visible
    assert not seen[2:, :3].any() and seen[:2].all()
    canvas.place(behind, seen, 0)
    assert (canvas.ids[5:8, 5:8] == 1).all() and (canvas.ids[3:5, 5:9] == 5).all()
    front = Cutout(
        np.ones((6, 5), bool), 6, 3, item.around, 1.0
    )  # would hide nearly all of the dog
    assert canvas.try_place(front, 1) is None


@pytest.mark.parametrize(
    ("left", "mirrored", "expected"), [(0, False, 0), (0, True, 8), (8, False, 8), (8, True, 0)]
)
def test_what_the_border_cuts_stays_at_the_border(left, mirrored, expected):
    mask = np.array([[True, True, False, True]])
    item = Cutout(mask, 2, left, np.zeros(5), 1.0).moved(mirrored, 0.5, 12)
    assert expected == item.left and np.array_equal(mask[:, ::-1] if mirrored else mask, item.mask)
    assert 4 == Cutout(mask, 2, 3, np.zeros(5), 1.0).moved(False, 0.5, 12).left


def test_a_map_is_brought_to_the_planned_size_and_specks_give_way():
    scene = street()
    base = real_map(scene, 4, (6, 6), 1)
    assert (6, 6) == base.ids.shape and base.things[1] and base.things[2]
    coarse = real_map(scene, 4, None, min_area=22)  # the cat has 19 visible pixels, the dog 29
    assert [False, True, False, False, False] == coarse.things.tolist()
    assert not (coarse.ids == 2).any() and set(coarse.ids[4:9, 0:3].ravel()) <= {3, 4}
    assert 0 == coarse.foot[2] and 11 == coarse.foot[1]


def test_a_thing_that_vanishes_at_a_smaller_size_is_no_cutout():
    base = real_map(street(), 4, None, 1)
    assert cutout(base, 1, (12, 12), 4) is not None
    assert cutout(base, 2, (1, 1), 4) is None or cutout(base, 1, (1, 1), 4) is None
