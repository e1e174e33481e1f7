"""Which objects are measured, which are drawn, and how two sets are matched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.scores.base import Extractor, MetricInputs, Record
from synthaug.pipeline.scores.objects.extractor import (
    FEW,
    ObjectExtractor,
    few_objects,
    inside_of,
    matched,
    measured_objects,
    object_set,
)
from tests.object_sets import object_set as objects_of
from tests.score_inputs import score_inputs

HEIGHT, WIDTH = 40, 60
EXTRACTOR = ObjectExtractor(side=8)


def scene(boxes: list[tuple[float, ...]], **columns: Any) -> Scene:
    objects = Objects.build([0] * len(boxes), boxes, **columns)
    return Scene("a", HEIGHT, WIDTH, ImageRef(None, None), objects)


# --- measured ---


def test_objects_are_measured_by_what_of_them_lies_in_the_image() -> None:
    boxes = [
        (0, 0, 4, 4),
        (0, 0, 3.9, 20),
        (-10, 5, 3, 20),  # 3 pixels are left
        (-10, 5, 4, 20),
        (57, 5, 70, 20),  # x goes to WIDTH, not to HEIGHT
        (50, 30, 56, 44),
        (50, 37, 56, 44),
    ]
    kept = measured_objects(scene(boxes), only_made=False)
    assert [1, 4, 6] == kept.id.tolist()


def test_stuff_and_crowds_are_not_measured() -> None:
    flags = scene([(0, 0, 9, 9)] * 3, isthing=[True, False, True], iscrowd=[False, False, True])
    assert [1] == measured_objects(flags, only_made=False).id.tolist()


def test_of_edited_images_only_what_was_made_is_measured_where_asked() -> None:
    sources = ["synthetic", "human", "pseudo"]
    edited = scene([(0, 0, 9, 9)] * 3, source=sources)
    assert [1] == measured_objects(edited, only_made=True).id.tolist()
    assert 3 == len(measured_objects(edited, only_made=False))


@pytest.mark.parametrize("box", [(-9, -9, -1, -1), (61, 41, 70, 50), (3.4, 3.4, 3.45, 3.45)])
def test_a_box_of_no_pixel_gives_the_nearest_one(box: tuple[float, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = inside_of(image, np.array(box, np.float32), 8)
    assert (8, 8, 3) == picture.shape


def test_shrinking_averages_and_enlarging_interpolates() -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 200
    small = inside_of(stripes, np.array([0, 0, 16, 16], np.float32), 8)
    assert {100} == set(small.ravel().tolist())
    large = inside_of(stripes, np.array([0, 0, 2, 2], np.float32), 8)
    assert len(set(large[0, :, 0].tolist())) > 2


# --- few objects ---


def table(count: int, **columns: Any) -> SceneList:
    scenes = [scene([(0, 0, 9, 9)], **columns) for _ in range(count)]
    return SceneList((Category(1, "x"),), scenes)


def test_few_objects_are_told_of_the_first_table_that_lacks_them() -> None:
    enough, few = table(FEW), table(FEW - 1)
    inputs = score_inputs({"train": enough, "real": enough, "synthetic": enough})
    assert few_objects(inputs) is None
    inputs = score_inputs({"train": enough, "real": few, "synthetic": table(1)})
    assert f"the real images show {FEW - 1} objects; {FEW} are needed" == few_objects(inputs)
    crowds = table(2 * FEW, iscrowd=[True])
    inputs = score_inputs({"train": crowds, "real": enough, "synthetic": enough})
    assert "the train images show 0 objects" in (few_objects(inputs) or "")


def test_a_table_that_is_not_there_is_told() -> None:
    inputs = score_inputs({"real": table(FEW), "synthetic": table(FEW)})
    assert "train" in (few_objects(inputs) or "")


# --- drawn and matched ---


@dataclass
class Stored:
    """Inputs whose records are given."""

    records: list[Record]

    def extracted(self, extractor: Extractor, name: str) -> Iterator[Record]:
        return (record for record in self.records if record.table == name)


def stored(*labels: list[int], name: str = "real") -> MetricInputs:
    """Return inputs with an image for each list; an object's power is 10 * image + number."""
    records = []
    for index, own in enumerate(labels):
        count = len(own)
        pictures = np.full((count, 8, 8, 3), index, np.uint8)
        arrays = {
            "inside": pictures,
            "seam": pictures + np.uint8(100),
            "power": 10.0 * index + np.arange(count),
            "labels": np.array(own, np.int64),
        }
        records.append(Record(name, index, index, 0, arrays))
    return cast(MetricInputs, Stored(records))


def test_arrays_of_an_object_stay_together() -> None:
    found = object_set(stored([0, 1], [], [1, 0, 0]), EXTRACTOR, "real", 99)
    assert [0, 0, 0, 1, 1] == found.labels.tolist()
    assert (found.power // 10).tolist() == found.image.tolist()
    assert found.inside[:, 0, 0, 0].tolist() == found.image.tolist()
    assert found.seam[:, 0, 0, 0].tolist() == (found.image + 100).tolist()
    assert {0, 1, 20, 21, 22} == set(found.power.tolist())


def test_so_many_of_a_class_are_drawn_whatever_else_there_is() -> None:
    images = [[0, 1]] * 30
    drawn = object_set(stored(*images), EXTRACTOR, "real", 5)
    assert [0] * 5 + [1] * 5 == drawn.labels.tolist()
    rows = drawn.power[:5]
    assert [0, 10, 20, 30, 40] != sorted(rows.tolist()), "not the first ones"
    without = object_set(stored(*[[0, 7]] * 30), EXTRACTOR, "real", 5)
    assert without.power[:5].tolist() == rows.tolist(), "other classes do not matter"
    elsewhere = stored(*images, name="train")
    assert object_set(elsewhere, EXTRACTOR, "train", 5).power[:5].tolist() != rows.tolist()


def test_no_object_is_a_set_too() -> None:
    none = object_set(stored([]), EXTRACTOR, "real", 5)
    assert 0 == len(none)
    assert (0, 8, 8, 3) == none.inside.shape


def test_matched_sets_have_as_many_of_each_class() -> None:
    first, second = objects_of([0, 0, 0, 1, 2]), objects_of([1, 0, 1, 0], seed=1)
    one, other = matched(first, second)
    assert [0, 0, 1] == one.labels.tolist() == other.labels.tolist()
    assert [0, 1, 3] == one.image.tolist(), "in the order of their draw"
    assert [1, 3, 0] == other.image.tolist()
    assert (0, 0) == tuple(len(own) for own in matched(first, objects_of([5])))
