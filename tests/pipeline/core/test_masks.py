"""Masks survive both encodings, and no text from a file is believed unchecked."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Objects

Masks = arrays(np.bool_, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12))


@settings(max_examples=60, deadline=None)
@given(Masks)
def test_boxes_from_counts_are_the_tight_boxes(shown: np.ndarray) -> None:
    counts, boxes = masks.encode_with_boxes(shown)
    assert boxes.tolist() == masks.tight_boxes(shown).tolist()
    assert counts == masks.encode(shown)


@settings(max_examples=60, deadline=None)
@given(Masks)
def test_decode_undoes_encode_and_agrees_with_pycocotools(stack):
    from pycocotools import mask as coco_mask

    size = stack.shape[1:]
    for mask, rle in zip(stack, masks.encode(stack), strict=True):
        assert np.array_equal(mask, masks.decode(rle, size))
        assert np.array_equal(
            mask, coco_mask.decode({"size": list(size), "counts": rle}).astype(bool)
        )
        assert mask.sum() == masks.area(rle)


@settings(max_examples=60, deadline=None)
@given(Masks)
def test_tight_boxes_cut_out_exactly_the_mask(stack):
    boxes = masks.tight_boxes(stack)
    assert boxes.tolist() == [
        masks.tight_box(rle, stack.shape[1:]).tolist() for rle in masks.encode(stack)
    ]
    for mask, box in zip(stack, boxes, strict=True):
        x1, y1, x2, y2 = box.astype(int)
        assert mask.sum() == mask[y1:y2, x1:x2].sum()
        if mask.any():
            assert mask[y1:y2, x1].any()
            assert mask[y1:y2, x2 - 1].any()
            assert mask[y1, x1:x2].any()
            assert mask[y2 - 1, x1:x2].any()


@settings(max_examples=60, deadline=None)
@given(Masks)
def test_box_and_area_of_one_mask_come_straight_from_its_runs(stack):
    size = stack.shape[1:]
    expected = masks.tight_boxes(stack)
    for mask, rle, box in zip(stack, masks.encode(stack), expected, strict=True):
        assert box.tolist() == masks.tight_box(rle, size).tolist()
        assert mask.sum() == masks.area(rle)


@settings(max_examples=60, deadline=None)
@given(Masks)
def test_plain_run_lengths_give_the_compressed_counts_of_pycocotools(stack):
    size = stack.shape[1:]
    for rle in masks.encode(stack):
        lengths = masks.runs(rle).tolist()
        assert size[0] * size[1] == sum(lengths)
        assert masks.from_uncompressed(lengths, size) == rle


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 40), min_size=6, max_size=12), st.integers(1, 20), st.integers(1, 20)
)
def test_polygons_are_filled_as_pycocotools_fills_them(values, height, width):
    from pycocotools import mask as coco_mask

    polygon = values[: len(values) // 2 * 2]
    (expected,) = coco_mask.frPyObjects([polygon], height, width)
    rle = masks.from_polygons([polygon], (height, width))
    assert expected["counts"].decode() == rle


def test_a_polygon_that_crosses_the_image_from_far_outside_keeps_its_pixels():
    from pycocotools import mask as coco_mask

    polygon = [-500, -420, 600, 460, 560, 500, -540, -380]
    rle = masks.from_polygons([polygon], (80, 100))
    assert masks.area(rle) == int(coco_mask.area(coco_mask.frPyObjects([polygon], 80, 100))[0])
    assert masks.area(rle) == 5260


@pytest.mark.parametrize("far", [1e5, 1e7, 1e12])
def test_a_polygon_too_far_away_to_walk_is_cut_and_not_moved(far):
    """The lower right half of the image: its diagonal runs from far outside to far outside."""
    rle = masks.from_polygons([[-far, -far, far, far, far, -far]], (80, 80))
    mask = masks.decode(rle, (80, 80))
    rows, columns = np.indices(mask.shape)
    off_diagonal = np.abs(rows - columns) > 1
    assert np.array_equal(mask[off_diagonal], (columns > rows)[off_diagonal])
    beside = masks.from_polygons([[far, far, 2 * far, far, 2 * far, 2 * far]], (80, 80))
    assert masks.area(beside) == 0


@pytest.mark.parametrize(
    ("polygon", "thin"),
    [
        ([10, 10, 10, 10, 10, 10], True),
        ([10, 10, 40, 10, 10, 10], True),
        ([0, 0, 50, 0.3, 100, 0], True),
        ([0, 0, 20, 0, 20, 20, 0, 20], False),
    ],
)
def test_polygons_that_may_hold_no_pixel_are_thin(polygon, thin):
    assert masks.is_thin(np.array(polygon, float)) == thin


def test_a_single_pixel_has_a_box_of_one_pixel():
    mask = np.zeros((1, 5, 7), bool)
    mask[0, 3, 4] = True
    assert masks.tight_boxes(mask).tolist() == [[4, 3, 5, 4]]
    assert masks.tight_boxes(np.zeros((1, 5, 7), bool)).tolist() == [[0, 0, 0, 0]]
    assert masks.tight_boxes(np.zeros((0, 5, 7), bool)).shape == (0, 4)


def test_no_masks_encode_to_nothing():
    assert masks.encode(np.zeros((0, 4, 4), bool)) == []


def test_long_runs_are_read():
    stack = np.zeros((1, 2000, 3000), bool)
    stack[0, :, 2999] = True
    rle = masks.encode(stack)[0]
    assert masks.runs(rle).tolist() == [2000 * 2999, 2000]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12) | st.text(alphabet=[chr(c) for c in range(48, 112)], max_size=12))
def test_any_text_is_a_mask_of_the_right_size_or_a_value_error(text):
    try:
        mask = masks.decode(text, (3, 4))
    except ValueError:
        return
    assert mask.shape == (3, 4)


def test_counts_of_another_size_are_refused():
    rle = masks.encode(np.ones((1, 4, 4), bool))[0]
    with pytest.raises(ValueError, match="cover 16 pixels, not 4x5"):
        masks.decode(rle, (4, 5))


def test_decode_all_leaves_objects_without_mask_empty():
    full = np.ones((1, 2, 3), bool)
    objects = Objects.build([0, 0], [[0, 0, 3, 2]] * 2, rle=[None, masks.encode(full)[0]])
    assert masks.decode_all(objects, (2, 3)).sum((1, 2)).tolist() == [0, 6]
    assert masks.decode_all(Objects.build([], []), (2, 3)).shape == (0, 2, 3)


def test_polygons_are_rasterised_like_a_rectangle():
    rle = masks.from_polygons([[1, 1, 4, 1, 4, 3, 1, 3], [6, 0, 8, 0, 8, 1, 6, 1]], (5, 9))
    expected = np.zeros((5, 9), bool)
    expected[1:3, 1:4] = True
    expected[0, 6:8] = True
    assert np.array_equal(expected, masks.decode(rle, (5, 9)))


@pytest.mark.parametrize(
    "polygons",
    [
        [],
        "abc",
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, None]],
        [[1, 2, 3, 4, 5, [6]]],
        [[1, 2, 3, 4, 5, 10**400]],
        [7],
    ],
)
def test_malformed_polygons_are_refused(polygons):
    with pytest.raises(ValueError, match="polygon"):
        masks.from_polygons(polygons, (10, 10))


def test_polygons_far_outside_cost_no_memory():
    rle = masks.from_polygons(
        [[-1e300, -1e300, 1e300, -1e300, 1e300, 1e300, -1e300, 1e300]], (10, 10)
    )
    assert masks.area(rle) > 0


def test_uncompressed_counts():
    assert masks.decode(masks.from_uncompressed([1, 4, 1], (3, 2)), (3, 2)).tolist() == [
        [False, True],
        [True, True],
        [True, False],
    ]
    for counts in ([1, 4], [1, 4, 2], [-1, 7], [1.0, 5.0], ["6"], [True, 5]):
        with pytest.raises(ValueError, match="counts"):
            masks.from_uncompressed(counts, (3, 2))


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        np.int64,
        array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, (1 << 24) - 1),
    )
)
def test_panoptic_png_keeps_every_id(ids):
    rgb = np.asarray(Image.open(io.BytesIO(masks.panoptic_png(ids)))).astype(np.int64)
    assert np.array_equal(ids, rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2])


def test_panoptic_png_is_red_first():
    png = masks.panoptic_png(np.array([[1, 256, 65536]]))
    assert np.asarray(Image.open(io.BytesIO(png))).tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.integers(1, 5).map(lambda m: (1, m, m)),
        elements=st.sampled_from([0.0, 0.25, 0.75, 1.0]),
    ),
    st.tuples(*[st.integers(-8, 24)] * 2, *[st.integers(1, 25)] * 2),
    st.tuples(st.integers(1, 18), st.integers(1, 18)),
)
def test_pasted_masks_have_the_bilinear_value_of_each_pixels_centre(soft, box, size):
    """Against the definition, one pixel at a time: cells outside the mask count as 0."""
    x, y, w, h = box
    low, cells = np.array([y, x], float), soft.shape[1]
    step = np.array([h, w]) / cells
    (counts,) = masks.paste(soft, np.array([[x, y, x + w, y + h]], np.float32), size)
    pasted = masks.decode(counts, size)
    padded = np.pad(soft[0].astype(float), 1)
    for pixel in np.ndindex(size):
        at = (np.array(pixel) + 0.5 - low) / step + 0.5  # in cells of the padded mask
        if (at < 0).any() or (at > cells + 1).any():
            assert not pasted[pixel]
            continue
        i, j = np.minimum(at.astype(int), cells)
        u, v = at - (i, j)
        value = (1 - u) * ((1 - v) * padded[i, j] + v * padded[i, j + 1])
        value += u * ((1 - v) * padded[i + 1, j] + v * padded[i + 1, j + 1])
        assert pasted[pixel] == (value >= 0.5) or abs(value - 0.5) < 1e-6


def test_no_soft_mask_is_no_mask_and_one_outside_the_image_is_empty():
    assert (
        masks.paste(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), (5, 7)) == []
    )
    (counts,) = masks.paste(
        np.ones((1, 4, 4), np.float32), np.array([[50, 50, 60, 60]], np.float32), (5, 7)
    )
    assert masks.area(counts) == 0


def test_a_box_grows_to_all_pixels_that_it_touches() -> None:
    boxes = np.array([[1.6, 0.7, 3.4, 2.2], [-2.0, 1.0, 2.0, 9.0]], np.float32)
    codes, tight, areas = masks.fill_boxes(boxes, (4, 6))
    assert tight.tolist() == [[1, 0, 4, 3], [0, 1, 2, 4]]
    assert areas.tolist() == [9, 6]
    assert masks.decode(codes[0], (4, 6))[0:3, 1:4].all()


def test_a_box_without_an_extent_is_a_pixel_of_the_image() -> None:
    boxes = np.array([[2, 1, 2, 1], [6, 4, 6, 4], [7, 5, 9, 9], [-3, -3, -1, -1]], np.float32)
    _, tight, areas = masks.fill_boxes(boxes, (4, 6))
    assert areas.tolist() == [1, 1, 1, 1]
    assert tight.tolist() == [[2, 1, 3, 2], [5, 3, 6, 4], [5, 3, 6, 4], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        ([5, 5, 25, 5, 25, 25, 5, 25] * 2, True),  # around twice
        ([-60, 30, -50, 30, -50, 90, 60, 90, 60, 99, -60, 99], True),  # around a corner, outside
        ([5, 5, 25, 5, 25, 25, 5, 25, 5, 5], False),  # closed by its first point
        ([0, 0, 80, 0, 80, 80, 0, 80], False),
    ],
)
def test_polygons_that_may_hold_no_pixel_of_the_image(polygon, expected):
    size = (80, 80)
    assert masks.may_be_empty(np.array(polygon, float), size) == expected
    assert (masks.area(masks.from_polygons([polygon], size)) == 0) == expected


def test_the_part_in_the_image_is_cut_at_the_border_and_not_moved():
    strip = np.array([[-100, 0], [-90, 0], [20, 50], [10, 50]], float)
    inner = masks.cut_to_image(strip, (60, 90))
    assert inner.min(0).tolist() == pytest.approx([0, 40 + 10 / 11])
    assert inner.max(0).tolist() == [20, 50]
    assert len(masks.cut_to_image(strip - 200, (60, 90))) == 0
