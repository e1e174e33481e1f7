"""Augmentations move pixels, boxes and masks together, hide no targets, change what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.detectors import augmentations
from synthaug.detectors.augmentations import (
    LUMA,
    MIN_VISIBLE,
    Strong,
    augment,
    blur,
    erase,
    strong,
    to_grey,
    weak,
)
from synthaug.detectors.base import Sample
from tests.detectors.painted import painted

SIZE = (40, 60)
PLAIN = Strong(scale=0, color=0, gray=0, blur=0, erase=0)
GEOMETRY = Strong(scale=0.6, color=0, gray=0, blur=0, erase=0)
boxes = st.tuples(
    st.integers(0, 50), st.integers(0, 30), st.integers(4, 10), st.integers(4, 10)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def noise(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    low = rng.integers(0, 30, (6, 2))
    corners = np.concatenate([low, low + rng.integers(3, 11, (6, 2))], 1).astype(np.float32)
    return Sample(image, corners, np.arange(6), np.zeros((6, *SIZE), np.bool_))


def marked(box: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> Sample:
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


@settings(max_examples=60, deadline=None)
@given(boxes, st.integers(0, 10_000), st.booleans())
def test_in_a_strong_view_the_box_follows_its_pixels(box, seed, flip):
    seen = strong(marked(box), np.random.default_rng(seed), GEOMETRY, flip)
    if len(seen.boxes):
        rows, columns = np.nonzero(seen.image[:, :, 0] == 255)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert extent == seen.boxes[0].tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_boxes_stay_inside_with_their_labels_whatever_happens(seed, chance):
    views = Strong(
        scale=1.0, color=0.5, gray=chance, blur=chance, sigma=0.05, erase=chance, hole=0.5
    )
    sample = noise(seed)
    seen = strong(sample, np.random.default_rng(seed), views, flip=True)
    height, width = seen.image.shape[:2]
    assert (seen.image.dtype, seen.image.flags.c_contiguous) == (np.uint8, True)
    assert len(seen.boxes) == len(seen.labels) <= 6
    assert set(seen.labels.tolist()) <= set(range(6))
    assert (seen.boxes >= 0).all()
    assert (seen.boxes <= [width, height, width, height]).all()
    assert (seen.boxes[:, 2:] - seen.boxes[:, :2] >= 1).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(boxes, min_size=1, max_size=4))
def test_what_a_hole_hides_is_no_target_and_the_rest_of_the_image_stays(seed, holes):
    sample = noise(seed)
    seen = erase(sample, np.array(holes), np.random.default_rng(0))
    gone = np.zeros(SIZE, bool)
    for x1, y1, x2, y2 in holes:
        for y in range(y1, min(y2, SIZE[0])):
            gone[y, x1 : min(x2, SIZE[1])] = True
    np.testing.assert_array_equal(seen.image[~gone], sample.image[~gone])
    left = []
    for label, (x1, y1, x2, y2) in enumerate(sample.boxes.astype(int).tolist()):
        hidden = sum(bool(gone[y, x]) for y in range(y1, y2) for x in range(x1, x2))
        left += [label] if 1 - hidden / ((y2 - y1) * (x2 - x1)) >= MIN_VISIBLE else []
    assert left == seen.labels.tolist()
    assert seen.masks is not None
    assert len(seen.masks) == len(left)


def test_weak_views_are_the_image_and_its_mirror_and_without_flip_the_image():
    image = noise(0).image
    seen = [weak(image, np.random.default_rng(s), True) for s in range(20)]
    same = [np.array_equal(view, image) for view in seen]
    mirrored = [np.array_equal(view[:, ::-1], image) for view in seen]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 0 < sum(same) < 20
    assert all(
        np.array_equal(weak(image, np.random.default_rng(s), False), image) for s in range(20)
    )


@pytest.mark.parametrize("sigma", [0.2, 1.3, 8.0])
def test_blur_is_the_gaussian_summed_pixel_by_pixel(sigma):
    image = noise(3).image[:9, :12]
    reach = int(np.ceil(3 * sigma))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    expected = np.zeros(image.shape)
    for y in range(9):
        for x in range(12):
            rows, columns = np.clip(y + offsets, 0, 8), np.clip(x + offsets, 0, 11)
            expected[y, x] = np.einsum(
                "i,j,ijc->c", kernel, kernel, image[np.ix_(rows, columns)].astype(np.float64)
            )
    assert np.abs(blur(image, sigma).astype(np.float64) - expected).max() <= 0.51


def test_no_blur_changes_nothing_and_grey_is_the_weighted_sum():
    image = noise(4).image
    np.testing.assert_array_equal(blur(image, 0.0), image)
    grey = to_grey(image).astype(np.float64)
    assert np.ptp(grey, axis=2).max() == 0
    assert np.abs(grey[:, :, 0] - image.astype(np.float64) @ LUMA.astype(np.float64)).max() <= 0.501


def test_the_same_draws_give_the_same_view_and_the_input_stays():
    sample = noise(5)
    before = sample.image.copy()
    views = Strong(gray=0.5, blur=1.0, erase=1.0, hole=0.3)
    first, second = (strong(sample, np.random.default_rng(1), views, True) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(before, sample.image)


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", -0.1), ("color", 1.0), ("gray", 1.1), ("hole", 1.0), ("sigma", float("nan"))],
)
def test_a_bad_setting_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        Strong(**{name: value})


def with_region() -> Sample:
    """A white box on black, a region to ignore of the same place, and a mask of it."""
    sample = marked((10, 5, 30, 25))
    mask = (sample.image[:, :, 0] == 255)[None]
    return replace(sample, masks=mask, ignore=sample.boxes.copy())


@pytest.mark.parametrize("seed", range(12))
def test_regions_to_ignore_go_where_the_pixels_go(seed):
    changed = augment(with_region(), np.random.default_rng(seed), flip=True, scale=0.5, color=0)
    assert changed.ignore is not None
    assert changed.masks is not None
    if len(changed.boxes):
        np.testing.assert_array_equal(changed.ignore, changed.boxes)
        assert extent(changed.image) == changed.ignore[0].tolist()
        np.testing.assert_array_equal(changed.masks[0], changed.image[:, :, 0] == 255)


def test_a_mirror_image_exchanges_left_and_right_of_everything():
    for seed in range(20):
        changed = augment(with_region(), np.random.default_rng(seed), flip=True, scale=0, color=0)
        mirrored = changed.boxes[0].tolist() == [30, 5, 50, 25]
        assert mirrored or changed.boxes[0].tolist() == [10, 5, 30, 25]
        assert changed.ignore is not None
        assert changed.ignore.tolist() == changed.boxes.tolist()
        assert extent(changed.image) == changed.boxes[0].tolist()


def test_without_flip_nothing_is_mirrored():
    for seed in range(20):
        changed = augment(with_region(), np.random.default_rng(seed), flip=False, scale=0, color=0)
        np.testing.assert_array_equal(changed.image, with_region().image)


def test_half_of_the_images_are_mirrored():
    sample = marked((0, 0, 10, 10))
    mirrored = 0
    for seed in range(200):
        changed = augment(sample, np.random.default_rng(seed), flip=True, scale=0, color=0)
        mirrored += int(changed.boxes[0, 0] == 50)
    assert 75 < mirrored < 125


def test_zoom_factors_are_log_uniform_between_a_factor_and_its_inverse():
    sample = marked((0, 0, 10, 10), (100, 100))
    rng = np.random.default_rng(0)
    logs = []
    for _ in range(300):
        changed = augment(sample, rng, flip=False, scale=1.0, color=0)
        logs.append(np.log2(100 / changed.image.shape[0]))
    assert -1.01 <= min(logs) < -0.9
    assert 0.9 < max(logs) <= 1.01
    assert abs(np.mean(logs)) < 0.1
    assert np.std(logs) == pytest.approx(1 / 3**0.5, rel=0.1)


def test_a_zoomed_out_image_lies_whole_on_its_mean_color():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20] = (200, 100, 40)
    sample = Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    canvas = augmentations._pad(sample, 0.5, np.random.default_rng(0)).image
    assert canvas.shape == (80, 120, 3)
    assert (canvas == (100, 50, 20)).all(2).sum() == 80 * 120 - 40 * 60
    assert (canvas == (200, 100, 40)).all(2).sum() == 20 * 60


def test_colors_are_an_affine_map_of_each_channel_about_the_mean():
    """One slope and shift per channel, clipped to bytes, as if computed in float64."""
    image = np.random.default_rng(0).integers(60, 190, (20, 20, 3)).astype(np.uint8)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        contrast = 1 + 0.3 * rng.uniform(-1, 1)
        brightness = 1 + 0.3 * rng.uniform(-1, 1)
        tint = 1 + 0.15 * rng.uniform(-1, 1, 3)
        mean = image.mean()
        expected = (mean + contrast * (image - mean)) * brightness * tint
        expected = np.clip(expected, 0, 255)
        shifted = augmentations._shift_colors(image, np.random.default_rng(seed), 0.3)
        assert np.abs(shifted - expected).max() <= 1.01


def test_each_hole_has_one_color_and_covers_its_rows_and_columns():
    sample = noise(0)
    holes = np.array([[5, 10, 25, 18]])
    seen = erase(sample, holes, np.random.default_rng(3))
    color = np.random.default_rng(3).integers(0, 256, 3)
    assert (seen.image[10:18, 5:25] == color).all()
    np.testing.assert_array_equal(seen.image[18:], sample.image[18:])
    np.testing.assert_array_equal(seen.image[:, 25:], sample.image[:, 25:])


def test_holes_are_no_larger_than_their_share_and_as_often_wide_as_high():
    wide = 0
    for seed in range(200):
        x1, y1, x2, y2 = augmentations._draw_hole((100, 200), np.random.default_rng(seed), 0.1)
        assert 0 <= x1 <= x2 <= 200
        assert 0 <= y1 <= y2 <= 100
        assert (x2 - x1) * (y2 - y1) <= 0.1 * 100 * 200 + 50
        wide += int(x2 - x1 > y2 - y1)
    assert 70 < wide < 130


def test_boxes_of_which_three_tenths_are_left_stay_and_others_go():
    sample = marked((0, 0, 10, 10))
    rng = np.random.default_rng(0)
    assert len(erase(sample, np.array([[0, 0, 7, 10]]), rng).labels) == 1
    assert len(erase(sample, np.array([[0, 0, 8, 10]]), rng).labels) == 0


def test_without_holes_a_sample_is_left_as_it_is():
    sample = noise(0)
    assert erase(sample, np.zeros((0, 4), np.int64), np.random.default_rng(0)) is sample


@pytest.mark.parametrize(("name", "chance"), [("gray", 1.0), ("gray", 0.0)])
def test_colors_are_lost_as_often_as_asked(name, chance):
    views = Strong(**{**vars(PLAIN), name: chance})
    seen = strong(noise(0), np.random.default_rng(0), views, False)
    assert (np.ptp(seen.image, axis=2).max() == 0) == bool(chance)


def test_a_blurred_image_is_smoother_and_an_unblurred_one_is_the_same():
    sample = noise(0)
    views = replace(PLAIN, blur=1.0, sigma=0.05)
    for seed in range(5):
        blurred = strong(sample, np.random.default_rng(seed), views, False)
        assert blurred.image.std() < 0.9 * sample.image.std()
    same = strong(sample, np.random.default_rng(0), PLAIN, False)
    np.testing.assert_array_equal(same.image, sample.image)
