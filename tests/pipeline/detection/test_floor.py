"""The floor of AP50.

What the same boxes for every image reach, and what another image's detections do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.detection.floor import (
    MARGIN,
    ConstantList,
    compare_with_floor,
    constant_list,
    shuffled,
)
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from tests.imperfect_detector import detect, image

CAR, BUS = range(2)
CLASSES = (Category(1, "car"), Category(2, "bus"))
LEFT, RIGHT = [0, 0, 20, 40], [60, 0, 100, 40]


def labelled(*boxes_of_images: list[list[int]]) -> SceneList:
    """Images of 100 x 50 pixels with cars at these boxes."""
    scenes = []
    for number, boxes in enumerate(boxes_of_images):
        objects = Objects.build([CAR] * len(boxes), np.reshape(boxes, (-1, 4)))
        scenes.append(Scene(str(number), 50, 100, ImageRef(), objects))
    return SceneList(CLASSES, scenes)


def noise(index: int) -> DetectionRow:
    """A toy image with as many random detections as a real one would have."""
    row = detect(index)
    rng = np.random.default_rng(index)
    corner = rng.uniform(0, 50, (len(row.pred_labels), 2)).astype(np.float32)
    return replace(row, pred_boxes=np.concatenate([corner, corner + 12], axis=1))


# ---- the list that is the same for every image ----


def test_the_box_that_most_images_have_comes_first_with_their_share() -> None:
    constant = constant_list(labelled([LEFT, RIGHT], [LEFT], [RIGHT], [LEFT], []), [CAR, BUS])
    assert constant.labels.tolist() == [CAR, CAR]
    assert constant.scores.tolist() == pytest.approx([0.6, 0.4])
    np.testing.assert_allclose(constant.boxes[0], [0, 0, 0.2, 0.8])


def test_two_objects_at_one_place_need_two_boxes() -> None:
    constant = constant_list(labelled([LEFT, LEFT], [LEFT]), [CAR])
    assert constant.scores.tolist() == pytest.approx([1.0, 0.5])


def test_crowds_and_classes_without_labels_are_not_in_the_list() -> None:
    table = labelled([LEFT])
    crowd = replace(table[0].objects, iscrowd=np.array([True]))
    empty = constant_list(SceneList(CLASSES, [table[0].with_objects(crowd)]), [CAR, BUS])
    assert len(empty.labels) == 0
    assert empty.boxes.shape == (0, 4)


def test_shares_become_pixels_of_the_image() -> None:
    constant = ConstantList(
        np.array([[0, 0.5, 0.5, 1]], np.float32), np.array([BUS]), np.ones(1, np.float32)
    )
    row = constant.on(replace(image([], []), height=40, width=200))
    assert row.pred_boxes.tolist() == [[0, 20, 100, 40]]
    assert row.pred_labels.tolist() == [BUS]


# ---- another image's detections ----


def test_detections_go_to_the_image_half_the_list_away_and_are_stretched() -> None:
    rows = [
        image([], [(CAR, [10, 10, 20, 20], 0.5)], size=100),
        image([], [], size=100),
        image([], [(BUS, [10, 10, 20, 20], 0.7)], size=200),
        image([], [], size=100),
    ]
    swapped = shuffled(rows)
    assert [row.pred_labels.tolist() for row in swapped] == [[BUS], [], [CAR], []]
    assert swapped[0].pred_boxes.tolist() == [[5, 5, 10, 10]]
    assert swapped[2].pred_boxes.tolist() == [[20, 20, 40, 40]]


# ---- the comparison ----


@pytest.fixture(scope="module")
def training() -> SceneList:
    return SceneList(toy.CATEGORIES, list(toy.read(toy.Config("train", 60), Path())))


def test_a_detector_that_sees_is_far_above_the_floor(training: SceneList) -> None:
    rows = [detect(index) for index in range(40)]
    measured = compare_with_floor(rows, training, toy.CATEGORIES, seed=0)
    assert measured["AP50"] > 0.8
    assert measured["low"] > 0.6
    assert measured["low"] < measured["gain"] < measured["high"]
    assert max(measured["constant"], measured["shuffled"]) == measured[measured["floor"]]
    assert measured == compare_with_floor(rows, training, toy.CATEGORIES, seed=0)


def test_it_tells_the_ap_of_each_class_and_how_many_objects_that_stands_on(
    training: SceneList,
) -> None:
    rows = [detect(index) for index in range(40)]
    measured = compare_with_floor(rows, training, toy.CATEGORIES, seed=0)
    classes = measured["classes"]
    assert set(classes) == {category.name for category in toy.CATEGORIES if category.isthing}
    things = {c for c, category in enumerate(toy.CATEGORIES) if category.isthing}
    labels = np.concatenate([row.labels[~row.crowd] for row in rows])
    assert sum(row["gt"] for row in classes.values()) == np.isin(labels, list(things)).sum()
    known = [row["AP50"] for row in classes.values() if row["AP50"] is not None]
    assert measured["AP50"] == pytest.approx(np.mean(known))
    assert all((row["AP"] is None) == (row["gt"] == 0) for row in classes.values())


def test_noise_does_not_clear_it(training: SceneList) -> None:
    rows = [noise(index) for index in range(40)]
    measured = compare_with_floor(rows, training, toy.CATEGORIES, seed=0)
    assert measured["low"] < MARGIN


def test_a_detector_that_learnt_the_usual_places_only_does_not_clear_it() -> None:
    """Objects stand at two places.

    The same list for all images is the best anyone has, and is no knowledge.
    """
    table = labelled(*([LEFT, RIGHT], [LEFT], [RIGHT]) * 10)
    constant = constant_list(table, [CAR])
    empty = np.zeros((0, 4), np.float32)
    nobody = np.zeros(0, np.int64)
    rows = []
    for index, scene in enumerate(table):
        objects = scene.objects
        bare = DetectionRow(
            index,
            50,
            100,
            objects.boxes,
            objects.category.astype(np.int64),
            objects.iscrowd,
            empty,
            nobody,
            nobody.astype(np.float32),
        )
        rows.append(constant.on(bare))
    measured = compare_with_floor(rows, table, CLASSES, seed=0)
    assert measured["AP50"] > 0.5
    # in every resample both are measured on the same images
    assert measured["low"] == measured["gain"] == measured["high"] == 0


def test_without_an_object_nothing_is_known(training: SceneList) -> None:
    rows = [image([], [(CAR, [0, 0, 9, 9], 0.5)])]
    measured = compare_with_floor(rows, training, toy.CATEGORIES, seed=0)
    assert [measured[key] for key in ("AP50", "gain", "low", "shuffled")] == [None] * 4
