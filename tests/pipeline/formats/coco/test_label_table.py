"""Packed labels of a COCO file: ids, masks and order are those of the file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.coco import label_table
from synthaug.pipeline.formats.coco.label_table import LabelsByImage, LabelTable
from synthaug.pipeline.formats.coco.labels import Label

SIZE = (10, 20)
PLAIN = Label(
    id=1,
    object_id=1,
    category=1,
    box=(1, 2, 4, 6),
    layout_box=(0, 0, 20, 10),
    area=12.5,
    iscrowd=False,
    isthing=True,
    segmentation=None,
    score=1.0,
    source="human",
    verdict=None,
    verdict_score=math.nan,
    verdict_iou=math.nan,
)


def packed(labels: list[tuple[str, Label]], keys: str = "ab") -> LabelTable:
    table = LabelTable(keys)
    for key, label in labels:
        table.add(key, label)
    return table


@pytest.mark.parametrize(
    ("own", "in_file", "ids", "renumbered"),
    [
        ([30, 20], [1, 2], [30, 20], 0),
        ([30, 30], [5, 4], [5, 4], 0),  # ours are not unique
        ([0, 1], [5, 4], [5, 4], 0),  # nor at least 1
        ([None, 1], [5, "4"], [1, 2], 2),
        ([1 << 63, 1], [True, 4], [1, 2], 2),
        ([], [], [], 0),
    ],
)
def test_ids_are_our_own_or_the_files_or_new(
    own: list[Any], in_file: list[Any], ids: list[int], renumbered: int
) -> None:
    labels = []
    for object_id, file_id in zip(own, in_file, strict=True):
        labels.append(("a", replace(PLAIN, id=file_id, object_id=object_id)))
    skipped = Skipped()
    by_image = LabelsByImage(packed(labels), 2, skipped)
    assert by_image.objects(0, SIZE).id.tolist() == ids
    assert skipped["renumbered ids"] == renumbered


def test_ids_that_are_there_twice_are_named() -> None:
    labels = [("a", replace(PLAIN, id=key, object_id=key)) for key in (7, "x", 7, "x", None, None)]
    skipped = Skipped()
    LabelsByImage(packed(labels), 2, skipped)
    assert skipped.names["renumbered ids"] == ["id 7 is there twice", "id 'x' is there twice"]


def test_labels_go_to_their_images_in_the_order_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_table, "_CHUNK", 3)  # packed in the midst
    labels = [("ab"[key % 2], replace(PLAIN, id=key, object_id=key)) for key in range(9, 0, -1)]
    table = packed(labels)
    assert len(table) == 9
    by_image = LabelsByImage(table, 2, Skipped())
    assert by_image.objects(0, SIZE).id.tolist() == [8, 6, 4, 2]
    assert by_image.objects(1, SIZE).id.tolist() == [9, 7, 5, 3, 1]


def test_every_value_comes_back() -> None:
    told = replace(
        PLAIN,
        iscrowd=True,
        isthing=False,
        score=0.25,
        source="pseudo",
        verdict="kept",
        verdict_score=0.5,
        verdict_iou=0.75,
    )
    objects = LabelsByImage(packed([("a", told), ("b", PLAIN)]), 2, Skipped()).objects(0, SIZE)
    assert objects.category.tolist() == [1]
    assert objects.boxes.tolist() == [[1, 2, 4, 6]]
    assert objects.layout_boxes.tolist() == [[0, 0, 20, 10]]
    assert (objects.area[0], objects.iscrowd[0], objects.isthing[0]) == (12.5, True, False)
    assert (objects.score[0], objects.source, objects.verdict) == (0.25, ("pseudo",), ("kept",))
    assert (objects.verdict_score[0], objects.verdict_iou[0]) == (0.5, 0.75)
    plain = LabelsByImage(packed([("b", PLAIN)]), 2, Skipped()).objects(1, SIZE)
    assert (plain.source, plain.verdict) == (("human",), (None,))
    assert np.isnan(plain.verdict_score).all()


def test_masks_of_every_kind_come_back() -> None:
    square = np.array([1.0, 2, 4, 2, 4, 6, 1, 6])
    triangle = np.array([10.0, 1, 15, 1, 15, 8])
    counts = masks.from_polygons([square], SIZE)
    kinds = (None, counts, [square, triangle], [triangle])
    labels = [("a", replace(PLAIN, segmentation=mask)) for mask in kinds]
    objects = LabelsByImage(packed(labels), 2, Skipped()).objects(0, SIZE)
    both = masks.from_polygons([square, triangle], SIZE)
    assert objects.rle == (None, counts, both, masks.from_polygons([triangle], SIZE))


def test_a_part_of_the_images_keeps_its_labels() -> None:
    square = np.array([1.0, 2, 4, 2, 4, 6, 1, 6])
    rows = [("a", 1), ("b", 2), ("c", 3), ("b", 4)]
    labels = [
        (key, replace(PLAIN, id=number, object_id=number, iscrowd=number == 4))
        for key, number in rows
    ]
    labels[1] = ("b", replace(labels[1][1], segmentation=[square]))
    table = packed(labels, "abc")
    assert table.num_objects().tolist() == [1, 1, 1]
    chosen = table.of("cb")
    assert len(chosen) == 3
    by_image = LabelsByImage(chosen, 2, Skipped())
    assert by_image.objects(0, SIZE).id.tolist() == [3]
    assert by_image.objects(1, SIZE).id.tolist() == [2, 4]
    assert by_image.objects(1, SIZE).rle == (masks.from_polygons([square], SIZE), None)
