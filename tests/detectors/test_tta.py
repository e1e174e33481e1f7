"""Test-time views: nothing is invented, nothing kept apart is merged, and no order matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.detectors import tta
from synthaug.detectors.base import Prediction
from synthaug.detectors.tta import merge, mirror

WIDTH, HEIGHT = 64, 48


class Oracle:
    """Says what `answer(image)` says, whatever the scale; notes the scales it was asked for."""

    num_classes = 3

    def __init__(self, answer):
        self.answer, self.scales = answer, []

    def predict(self, images, scale=1.0):
        self.scales.append(scale)
        return [self.answer(image) for image in images]


def prediction(boxes, labels, scores, masks=None):
    order = np.argsort(-np.asarray(scores), kind="stable")
    array = (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
    )
    return Prediction(*(column[order] for column in array), None if masks is None else masks[order])


@st.composite
def predictions(draw, most=6, size=4):
    """A few boxes of whole pixels with distinct scores, with masks."""
    n = draw(st.integers(0, most))
    whole = st.integers(0, 20)
    corners = np.array(
        [[draw(whole), draw(whole), draw(whole), draw(whole)] for _ in range(n)], float
    ).reshape(n, 4)
    corners[:, 2:] += corners[:, :2] + 1
    scores = draw(st.lists(st.integers(1, 999), min_size=n, max_size=n, unique=True))
    masks = np.random.default_rng(draw(st.integers(0, 99))).random((n, size, size), np.float32)
    return prediction(
        corners, [draw(st.integers(0, 2)) for _ in range(n)], np.array(scores) / 1000, masks
    )


def content(found):
    """Rows that compare without their order."""
    rows = np.concatenate(
        [found.labels[:, None], found.scores[:, None], found.boxes], axis=1
    ).round(4)
    return sorted(map(tuple, rows.tolist()))


@given(predictions())
def test_one_view_is_left_as_it_is(found):
    merged = merge([found])
    assert content(found) == content(merged)
    assert np.all(np.diff(merged.scores) <= 0)
    np.testing.assert_allclose(
        sorted(found.masks.sum((1, 2))), sorted(merged.masks.sum((1, 2))), rtol=1e-5
    )


@given(predictions(), st.integers(2, 4))
def test_views_that_agree_change_nothing(found, views):
    """Also where neighbours of one class overlap more than the limit.

    Each view keeps them apart, so they stay apart.
    """
    merged = merge([found] * views)
    assert content(found) == content(merged)


@given(st.lists(predictions(), min_size=2, max_size=4), st.randoms())
def test_neither_the_order_of_views_nor_that_of_detections_matters(views, rng):
    shuffled = []
    for view in rng.sample(views, len(views)):
        order = rng.sample(range(len(view.labels)), len(view.labels))
        shuffled.append(
            Prediction(
                view.boxes[order], view.labels[order], view.scores[order], view.masks[order]
            ),
        )
    one, other = merge(views), merge(shuffled)
    assert content(one) == content(other)


@given(st.lists(predictions(), min_size=1, max_size=4))
def test_every_box_stays_within_its_members_and_scores_add_up(views):
    merged = merge(views)
    assert len(merged.labels) <= sum(len(view.labels) for view in views)
    total = sum(float(view.scores.sum()) for view in views) / len(views)
    assert float(merged.scores.sum()) == pytest.approx(total, abs=1e-4)
    for label in set(merged.labels.tolist()):
        members = np.concatenate([view.boxes[view.labels == label] for view in views])
        fused = merged.boxes[merged.labels == label]
        assert np.all(fused >= members.min(0) - 1e-3)
        assert np.all(fused <= members.max(0) + 1e-3)


@given(predictions())
def test_mirroring_twice_is_nothing(found):
    twice = mirror(mirror(found, WIDTH), WIDTH)
    np.testing.assert_array_equal(found.boxes, twice.boxes)
    np.testing.assert_array_equal(found.masks, twice.masks)


def test_fused_box_and_score_by_hand():
    """Two views of one object, the third misses it.

    Weights 0.6 and 0.3, score (0.6 + 0.3 + 0) / 3.
    """
    views = [
        prediction([[0, 0, 10, 10]], [1], [0.6]),
        prediction([[0, 0, 10, 13]], [1], [0.3]),
        prediction([], [], []),
    ]
    merged = merge(views)
    np.testing.assert_allclose([[0, 0, 10, 11]], merged.boxes, rtol=1e-6)
    np.testing.assert_allclose([0.3], merged.scores, rtol=1e-6)
    assert merged.masks is None


def test_classes_are_never_merged():
    views = [prediction([[0, 0, 10, 10]], [0], [0.6]), prediction([[0, 0, 10, 10]], [1], [0.6])]
    assert 2 == len(merge(views).labels)


def marks(image):
    """One box per bright column pair, at its place: finds the same object in the mirror image."""
    found = [[c, 10, c + 8, 30] for c in range(WIDTH - 8) if image[0, c, 0] and image[0, c + 7, 0]]
    return prediction(found, [0] * len(found), [image[1, int(b[0]), 0] / 255 for b in found])


def scene(*places):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for c, score in places:
        image[0, [c, c + 7]] = 255
        image[1, [c, c + 7]] = score
    return image


def test_a_perfect_detector_stays_perfect_and_looks_where_it_is_told():
    oracle = Oracle(marks)
    views = tta.TestTimeAugmented(oracle, flip=True, scales=(2.0, 0.5, 1.0))
    image = scene((3, 250), (30, 128), (50, 90))
    expected = marks(image)
    found = views.predict([image, np.ascontiguousarray(image[:, ::-1])])
    assert 6 == len(views)
    assert [1.0, 1.0, 0.5, 0.5, 2.0, 2.0] == oracle.scales
    assert content(expected) == content(found[0])
    assert content(mirror(expected, WIDTH)) == content(found[1])


@pytest.mark.parametrize("flip", [False, True])
def test_mirrored_images_give_mirrored_answers_once_both_are_seen(flip):
    """A detector that sees better on the left is not equivariant; its two views together are."""

    def leaning(image):
        found = marks(image)
        left = 1 - found.boxes[:, 0] / (2 * WIDTH)
        return prediction(found.boxes + left[:, None], found.labels, found.scores * left)

    views = tta.TestTimeAugmented(Oracle(leaning), flip=flip, scales=())
    image = scene((3, 250), (30, 128), (50, 90))
    one = views.predict([image])[0]
    other = views.predict([np.ascontiguousarray(image[:, ::-1])])[0]
    assert flip == (content(one) == content(mirror(other, WIDTH)))


def test_a_single_view_is_the_detectors_own_answer():
    answer = prediction([[0, 0, 1, 1]], [2], [0.5])
    assert (
        tta.TestTimeAugmented(Oracle(lambda _: answer), flip=False, scales=(1.0,)).predict(
            [scene()]
        )[0]
        is answer
    )


def test_a_mirrored_view_maps_columns_of_boxes_and_masks_and_leaves_rows():
    masks = np.arange(8, dtype=np.float32).reshape(1, 2, 4) / 8
    mirrored = mirror(prediction([[4, 10, 14, 30]], [2], [0.5], masks), WIDTH)
    assert mirrored.boxes.tolist() == [[50, 10, 60, 30]]
    assert mirrored.labels.tolist() == [2]
    assert mirrored.masks is not None
    np.testing.assert_array_equal(mirrored.masks[0, 0] * 8, [3, 2, 1, 0])
    np.testing.assert_array_equal(mirrored.masks[0, 1] * 8, [7, 6, 5, 4])


def test_masks_are_fused_by_the_weights_of_their_boxes():
    ones, zeros = np.ones((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    box = [[0, 0, 10, 10]]
    merged = merge([prediction(box, [1], [0.6], ones), prediction(box, [1], [0.2], zeros)])
    assert merged.masks is not None
    np.testing.assert_allclose(merged.masks, np.full((1, 2, 2), 0.75), rtol=1e-6)


def test_one_view_without_masks_leaves_all_without():
    ones = np.ones((1, 2, 2), np.float32)
    box = [[0, 0, 10, 10]]
    assert merge([prediction(box, [1], [0.6], ones), prediction(box, [1], [0.2])]).masks is None


@pytest.mark.parametrize(("right", "count"), [(18.1, 1), (18.3, 2)])
def test_boxes_are_joined_from_the_papers_overlap_on(right, count):
    """Boxes of one corner and widths 10 and w overlap by 10 / w: 0.552 is enough, 0.546 is not."""
    views = [prediction([[0, 0, 10, 10]], [0], [0.5]), prediction([[0, 0, right, 10]], [0], [0.5])]
    assert len(merge(views).labels) == count


def test_the_best_comes_first():
    views = [prediction([[0, 0, 5, 5], [20, 20, 30, 30]], [0, 1], [0.9, 0.6])]
    views.append(prediction([[20, 20, 30, 30]], [1], [0.8]))
    merged = merge(views)
    assert merged.labels.tolist() == [1, 0]
    assert merged.scores.tolist() == pytest.approx([0.7, 0.45])


def test_boxes_of_one_view_are_never_joined():
    same = prediction([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 0], [0.9, 0.8])
    assert len(merge([same, prediction([], [], [])]).labels) == 2


def test_a_score_of_zero_has_a_box_all_the_same():
    merged = merge([prediction([[0, 0, 10, 10]], [0], [0.0])] * 2)
    assert merged.boxes.tolist() == [[0, 0, 10, 10]]
    assert merged.scores.tolist() == [0.0]


def test_views_multiply_the_scale_they_are_asked_for():
    oracle = Oracle(marks)
    tta.TestTimeAugmented(oracle, flip=False, scales=(2.0,)).predict([scene((3, 250))], 1.5)
    assert oracle.scales == [1.5, 3.0]


def test_every_pair_of_a_group_overlaps():
    """Of three views in a chain the outer two are too far apart to be one object."""
    views = [prediction([[left, 0, left + 10, 10]], [0], [0.5]) for left in (0, 2, 4.5)]
    merged = merge(views)
    assert len(merged.labels) == 2
    assert merged.boxes[0].tolist() == [1, 0, 11, 10]  # of the two that overlap most
