"""Augmentation moves pixels and boxes together and forgets what it cut away."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.detectors.augmentations import augment
from synthaug.detectors.base import Sample
from tests.detectors.painted import painted


def marked(box: tuple[int, int, int, int], size: tuple[int, int] = (40, 60)) -> Sample:
    """A white box on black."""
    image = np.zeros((*size, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return Sample(image, np.array([box], np.float32), np.array([3], np.int64))


def extent(image: np.ndarray) -> list[int]:
    """Box xyxy of the white pixels."""
    rows, columns = np.nonzero(image[:, :, 0] == 255)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", range(20))
def test_the_box_follows_its_pixels(seed):
    changed = augment(
        marked((22, 10, 41, 30)), np.random.default_rng(seed), flip=True, scale=0.6, color=0
    )
    if len(changed.boxes):
        assert extent(changed.image) == changed.boxes[0].tolist()
        assert changed.labels.tolist() == [3]


def test_both_zooms_and_both_sides_occur():
    sample = marked((0, 0, 10, 10))
    sizes = {
        augment(sample, np.random.default_rng(s), True, 0.5, 0).image.shape[0] for s in range(30)
    }
    assert min(sizes) < 40 < max(sizes)
    lefts = {
        float(augment(sample, np.random.default_rng(s), True, 0, 0).boxes[0, 0]) for s in range(10)
    }
    assert {0.0, 50.0} == lefts


def test_a_box_mostly_cut_away_is_dropped_with_its_label():
    kept = [
        len(augment(marked((0, 0, 6, 6)), np.random.default_rng(s), False, 2.0, 0).labels)
        for s in range(40)
    ]
    assert {0, 1} == set(kept)


def test_the_same_draws_give_the_same_image_and_the_input_stays():
    sample = marked((5, 5, 20, 20))
    before = sample.image.copy()
    first, second = (augment(sample, np.random.default_rng(1), True, 0.5, 0.4) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(before, sample.image)


def test_colours_change_and_stay_bytes():
    changed = augment(marked((5, 5, 20, 20)), np.random.default_rng(0), False, 0, 0.5).image
    assert np.uint8 == changed.dtype
    assert not np.array_equal(changed, marked((5, 5, 20, 20)).image)


def test_no_boxes_is_fine():
    bare = Sample(
        np.zeros((9, 7, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    )
    for seed in range(10):
        assert augment(bare, np.random.default_rng(seed), True, 1.0, 0.3).boxes.shape == (0, 4)


@pytest.mark.parametrize("seed", range(12))
def test_masks_follow_their_pixels_and_go_with_their_boxes(seed):
    sample = painted(seed, (48, 60), masks=True)
    changed = augment(sample, np.random.default_rng(seed), flip=True, scale=1.0, color=0)
    assert changed.masks is not None
    assert changed.masks.shape == (len(changed.labels), *changed.image.shape[:2])
    assert changed.masks.flags.c_contiguous
    for label, mask, box in zip(changed.labels, changed.masks, changed.boxes, strict=True):
        colour = ((230, 40, 40), (40, 60, 230))[label]
        np.testing.assert_array_equal((changed.image == colour).all(-1), mask)
        rows, columns = np.nonzero(mask)
        np.testing.assert_allclose(
            box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=4
        )


def test_an_image_without_masks_stays_without():
    assert augment(marked((5, 5, 20, 20)), np.random.default_rng(0), True, 1.0, 0.3).masks is None
