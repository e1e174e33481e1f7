"""What a detector is given: boxes without crowds, and masks where every object has one."""

from __future__ import annotations

import cv2
import numpy as np

from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.core import masks
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
