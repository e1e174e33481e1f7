"""Crops of objects: what is cut, what is counted, and a draw that is blind to order."""

from dataclasses import replace

import numpy as np

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.scores.base import Record
from synthaug.pipeline.scores.classification import classifier, crops
from tests.score_inputs import records_of, score_inputs

SMALL = classifier.Config(width=8, steps=30, batch=16, size=8, shift=1)


def test_crops_at_the_border_are_clipped_and_boxes_without_pixels_counted():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    boxes = [
        (-10, -10, 20, 20),
        (30, 0, 90, 90),
        (70, 0, 90, 40),
        (10, 10, 10, 30),
        (5, 5, 5.5, 30),
        (0, 0, 60, 40),
    ]
    found, kept = crops.crops(image, np.asarray(boxes, np.float32), 32)
    assert kept.tolist() == [True, True, False, False, False, True]
    assert (found.shape, found.dtype) == ((3, 32, 32, 3), np.uint8)
    assert (found[0].max(), found[1].min()) == (
        0,
        200,
    )  # the left part is black, the right part only light
    assert (found[2][:, :15].max(), found[2][:, 17:].min()) == (0, 200)


def test_no_boxes_give_no_crops():
    found, kept = crops.crops(np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4), np.float32), 16)
    assert (found.shape, kept.shape) == ((0, 16, 16, 3), (0,))


def test_shrinking_averages_pixels():
    """A fine checkerboard becomes grey, not black or white as with point sampling."""
    board = (
        (np.indices((64, 64)).sum(axis=0) % 2 * 254).astype(np.uint8)[..., None].repeat(3, axis=2)
    )
    found, _ = crops.crops(board, np.asarray([(0, 0, 64, 64)], np.float32), 32)
    assert set(found.ravel().tolist()) == {127}


def test_the_table_is_capped_per_class_and_blind_to_order():
    rng = np.random.default_rng(0)
    rows = [
        crops.CropRow(
            i, s, rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8), np.array([0, 1, 2]), skipped=1
        )
        for i in range(10)
        for s in range(2)
    ]
    tables = [crops.CropTable(replace(SMALL, crops_per_class_max=7), [0, 2]) for _ in range(2)]
    for row, reverse in zip(rows, rows[::-1], strict=True):
        tables[0].add(row)
        tables[1].add(reverse)
    one, other = (table.result() for table in tables)
    np.testing.assert_array_equal(one.crops, other.crops)
    assert np.bincount(one.labels).tolist() == [7, 7]  # class 2 has become label 1
    assert (one.num_seen.tolist(), one.skipped) == ([20, 20], 20)
    everything = crops.CropTable(SMALL, [0, 2], cap=0)
    for row in rows:
        everything.add(row)
    assert len(everything.result().labels) == 40


def test_crops_are_cut_where_the_layout_asked_and_crowds_are_left_out():
    """The image is dark on the left and light on the right.

    Tight boxes and layout boxes lie on different sides.
    """
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 200
    left, right = [0, 0, 16, 16], [16, 0, 32, 16]
    objects = Objects.build(
        [1, 0, 1], [left, left, left], layout_boxes=[right, left, left], iscrowd=[0, 0, 1]
    )
    scene = Scene("a", 16, 32, ImageRef(encode(pixels, "png")), objects)
    table = SceneList((Category(1, "dark"), Category(2, "light")), [scene])
    extractor = crops.CropExtractor(size=8)
    inputs = score_inputs({"real": table, "synthetic": table})
    (record,) = records_of(inputs, extractor, "synthetic")
    row = crops.crop_row(record)
    assert row.labels.tolist() == [1, 0]
    assert [int(crop.mean()) for crop in row.crops] == [200, 0]
    assert row.skipped == 0


def test_labels_are_those_of_the_crops_that_are_left():
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 200
    outside, left, right = [40, 0, 50, 9], [0, 0, 16, 16], [16, 0, 32, 16]
    objects = Objects.build([2, 0, 1], [outside, left, right])
    scene = Scene("a", 16, 32, ImageRef(encode(pixels, "png")), objects)
    classes = tuple(Category(k + 1, str(k)) for k in range(3))
    table = SceneList(classes, [scene])
    inputs = score_inputs({"real": table, "synthetic": table})
    (record,) = records_of(inputs, crops.CropExtractor(size=8), "synthetic")
    row = crops.crop_row(record)
    assert row.labels.tolist() == [0, 1]
    assert [int(crop.mean()) for crop in row.crops] == [0, 200]
    assert row.skipped == 1


def test_every_pixel_that_a_box_touches_is_in_its_crop():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1).repeat(3, 2)
    boxes = np.array([(1.5, 2.5, 4.5, 5.5), (1.5, 2.5, 4.5, 6.0)], np.float32)
    found, _ = crops.crops(image, boxes, 4)
    np.testing.assert_array_equal(found[0], image[2:6, 1:5])
    np.testing.assert_array_equal(found[1], image[2:6, 1:5])


def test_a_crop_is_named_by_layout_and_sample_and_without_a_layout_by_its_image():
    arrays = {
        "crops": np.zeros((1, 8, 8, 3), np.uint8),
        "labels": np.array([0]),
        "skipped": np.array(3),
    }
    paired = crops.crop_row(Record("synthetic", 9, 4, 1, arrays))
    alone = crops.crop_row(Record("synthetic", 9, -1, 0, arrays))
    assert (paired.index, paired.sample, paired.skipped) == (4, 1, 3)
    assert (alone.index, alone.sample) == (9, -1)


def test_the_draw_of_a_class_follows_the_seed():
    rows = [
        crops.CropRow(i, 0, np.full((1, 8, 8, 3), i, np.uint8), np.array([0]), 0) for i in range(40)
    ]
    drawn = []
    for seed in (0, 0, 1):
        table = crops.CropTable(replace(SMALL, crops_per_class_max=10, seed=seed), [0])
        for row in rows:
            table.add(row)
        drawn.append(table.result().crops[:, 0, 0, 0].tolist())
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != list(range(10)), "a draw, not the first ones"


def test_samples_of_a_layout_are_drawn_independently():
    """Else one object would be drawn in all its samples, or in none."""
    table = crops.CropTable(replace(SMALL, crops_per_class_max=20), [0])
    for i in range(40):
        for sample in range(2):
            pixels = np.full((1, 8, 8, 3), i, np.uint8)
            table.add(crops.CropRow(i, sample, pixels, np.array([0]), 0))
    drawn = table.result().crops[:, 0, 0, 0].tolist()
    assert len(drawn) == 20 and len(set(drawn)) > 12


def test_an_empty_table_has_crops_of_the_right_shape():
    empty = crops.CropTable(SMALL, [0, 2]).result()
    assert (empty.crops.shape, empty.labels.shape) == ((0, 8, 8, 3), (0,))
    assert empty.num_seen.tolist() == [0, 0]
