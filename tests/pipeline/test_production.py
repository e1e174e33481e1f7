"""From soft masks to finished scenes."""

from __future__ import annotations

import numpy as np

from pipeline import masks
from pipeline.production import finish, resolve
from pipeline.scene import Category, ImageRef, Objects, Provenance, Scene

CLASSES = (Category(7, "car"), Category(9, "bus"))


def planned(boxes: list[list[float]]) -> Scene:
    objects = Objects.build([0] * len(boxes), boxes, id=np.arange(len(boxes)) + 40)
    return Scene("x-00000004", 8, 8, ImageRef(), objects, None, Provenance(5, "lostgan", "", "real-1", "natural"))


def test_pixels_go_to_the_strongest_mask_and_masks_do_not_overlap() -> None:
    soft = np.zeros((2, 8, 8), np.float32)
    soft[0, :, :5], soft[1, :, 3:] = 0.6, 0.9
    boxes = np.array([[0, 0, 5, 8], [3, 0, 8, 8]], np.float32)
    found = resolve(soft, None, boxes)
    assert found.sum(0).max() == 1
    assert found[0].sum() == 3 * 8
    assert found[1].sum() == 5 * 8


def test_a_mask_stays_inside_its_box_and_yields_to_the_background() -> None:
    soft = np.ones((1, 8, 8), np.float32) * 0.5
    background = np.zeros((8, 8), np.float32)
    background[:4] = 0.8
    found = resolve(soft, background, np.array([[2, 2, 6, 6]], np.float32))
    expected = np.zeros((8, 8), bool)
    expected[4:6, 2:6] = True
    np.testing.assert_array_equal(found[0], expected)


def test_no_objects_give_no_masks() -> None:
    assert resolve(np.zeros((0, 8, 8), np.float32), None, np.zeros((0, 4), np.float32)).shape == (0, 8, 8)


def test_finished_objects_are_tight_and_hidden_ones_are_counted() -> None:
    visible = np.zeros((2, 8, 8), bool)
    visible[0, 2:5, 1:7] = True
    scene, dropped = finish(
        planned([[0, 0, 8, 8], [1, 1, 2, 2]]), np.zeros((8, 8, 3), np.uint8), visible, CLASSES, "png", 4, "abc"
    )
    assert dict(dropped) == {"car": 1}
    assert scene.objects.boxes.tolist() == [[1, 2, 7, 5]]
    assert scene.objects.layout_boxes.tolist() == [[0, 0, 8, 8]]
    assert scene.objects.area.tolist() == [18]
    assert scene.objects.id.tolist() == [40]
    np.testing.assert_array_equal(masks.decode_all(scene.objects, (8, 8))[0], visible[0])
    assert scene.provenance is not None
    assert scene.provenance.checkpoint == "abc"
