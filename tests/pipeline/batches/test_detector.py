"""What a detector is given: boxes without crowds, and masks where every object has one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from synthaug.pipeline.batches.detector import crowds, detector_batches, sample_of
from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.core import images, masks
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList


def scene(name: str, rle: tuple[str | None, ...], iscrowd: tuple[bool, ...]) -> Scene:
    done, data = cv2.imencode(".png", np.zeros((6, 9, 3), np.uint8))
    assert done
    boxes = np.array([[1, 1, 4, 5]] * len(rle), np.float32).reshape(-1, 4)
    return Scene(
        name,
        6,
        9,
        ImageRef(data.tobytes()),
        Objects.build([0] * len(rle), boxes, rle=rle, iscrowd=iscrowd),
    )


def test_masks_come_along_when_asked_for_and_every_object_that_counts_has_one():
    mask = np.zeros((6, 9), bool)
    mask[1:5, 1:4] = True
    (rle,) = masks.encode(mask[None])
    table = SceneList(
        (Category(1, "cell"),),
        [
            scene("whole", (rle, rle), (False, False)),
            scene("half", (rle, None), (False, False)),
            scene("crowd without", (rle, None), (False, True)),
            scene("empty", (), ()),
        ],
    )
    ordered = Draw(4, 4, 0)
    names = [table[i].image_id for i in ordered(0)]
    found = dict(zip(names, detector_batches(table, ordered, masks=True)(0), strict=True))
    assert found["half"].masks is None
    assert found["empty"].masks is not None
    assert found["empty"].masks.shape == (0, 6, 9)
    for name, count in (("whole", 2), ("crowd without", 1)):
        assert found[name].masks is not None
        np.testing.assert_array_equal(np.stack([mask] * count), found[name].masks)
    assert all(sample.masks is None for sample in detector_batches(table, ordered)(0))


def test_crowds_are_regions_to_ignore():
    table = SceneList(
        (Category(1, "cell"),), [scene("a", (None, None), (False, True)), scene("b", (), ())]
    )
    order = Draw(2, 2, 0)
    samples = dict(zip(order(0), detector_batches(table, order)(0), strict=True))
    assert len(samples[0].boxes) == 1 and [[1, 1, 4, 5]] == samples[0].ignore.tolist()
    assert (0, 4) == samples[1].boxes.shape and samples[1].ignore is None


def test_processes_share_a_batch():
    table = SceneList(
        (Category(1, "cell"),), [scene(str(k), (None,) * k, (False,) * k) for k in range(5)]
    )
    order = Draw(5, 4, 3)
    whole = detector_batches(table, order)
    parts = [detector_batches(table, order, rank, 3) for rank in range(3)]
    for step in (2, 0):
        counts = [len(sample.boxes) for sample in whole(step)]
        for rank, part in enumerate(parts):
            assert counts[rank::3] == [len(sample.boxes) for sample in part(step)]


def marked(name: str, height: int, width: int) -> Scene:
    """An image whose two objects are painted: class 1 in red at the left, class 0 in green."""
    pixels = np.zeros((height, width, 3), np.uint8)
    stack = np.zeros((2, height, width), bool)
    stack[0, 1:3, 0:4] = True
    stack[1, 2:5, 5:7] = True
    pixels[stack[0], 0] = 255
    pixels[stack[1], 1] = 255
    counts, boxes = masks.encode_with_boxes(stack)
    objects = Objects.build([1, 0], boxes, rle=counts)
    return Scene(name, height, width, ImageRef(images.encode(pixels, "png")), objects)


def test_boxes_labels_and_masks_of_a_sample_lie_on_one_object() -> None:
    table = SceneList(
        (Category(1, "cell"), Category(2, "dish")), [marked("a", 6, 9), marked("b", 9, 7)]
    )
    order = Draw(2, 2, 1)
    for index, sample in zip(order(0), detector_batches(table, order, masks=True)(0), strict=True):
        assert table[index].size == sample.image.shape[:2]
        assert [1, 0] == sample.labels.tolist()
        assert np.int64 == sample.labels.dtype
        assert sample.masks is not None
        for number, (x0, y0, x1, y1) in enumerate(sample.boxes.astype(int).tolist()):
            shown = sample.image[:, :, number] == 255
            np.testing.assert_array_equal(shown, sample.masks[number])
            assert shown[y0:y1, x0:x1].all()
            assert shown.sum() == (y1 - y0) * (x1 - x0)


def test_an_object_after_a_crowd_keeps_its_own_mask_and_label() -> None:
    scene = marked("a", 6, 9)
    flags = np.array([True, False])
    crowded = scene.with_objects(replace(scene.objects, iscrowd=flags))
    sample = sample_of(crowded, images.decode(crowded), masks=True)
    assert [0] == sample.labels.tolist()
    assert [[5, 2, 7, 5]] == sample.boxes.tolist()
    assert sample.masks is not None
    assert 6 == sample.masks.sum()
    assert [[0, 1, 4, 3]] == sample.ignore.tolist()


def test_without_crowds_nothing_is_ignored() -> None:
    objects = marked("a", 6, 9).objects
    assert crowds(objects) is None
    assert crowds(objects.select([])) is None
