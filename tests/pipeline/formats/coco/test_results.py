"""COCO results.

What pycocotools loads, under the ids of the user's file, and lists joined from parts.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest

from synthaug.detectors.base import Prediction
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.coco import results as coco_results

CATEGORIES = (Category(3, "a"), Category(90, "b"))
SIZE = (24, 40)


def scene(image_id: str = "139") -> Scene:
    return Scene(image_id, *SIZE, ImageRef(), Objects.build([], []))


def prediction(with_masks: bool = False) -> Prediction:
    boxes = np.array([[4, 3, 20, 9], [0.1, 0.2, 39.9, 23.9]], np.float32)
    soft = np.ones((2, 28, 28), np.float32) if with_masks else None
    return Prediction(boxes, np.array([1, 0]), np.array([0.9, 0.1], np.float32), soft)


@pytest.mark.parametrize(
    ("text", "image_id"),
    [
        ("0", 0),
        ("139", 139),
        ("-5", -5),
        ("007", "007"),
        ("cat-7", "cat-7"),
        ("1.0", "1.0"),
        ("", ""),
    ],
)
def test_only_whole_numbers_as_python_writes_them_become_numbers(
    text: str, image_id: int | str
) -> None:
    assert coco_results.original_id(text) == image_id


def test_a_detection_is_a_record_of_xywh_under_the_original_ids() -> None:
    records = coco_results.results(scene(), prediction(), CATEGORIES)
    assert records == [
        {"image_id": 139, "category_id": 90, "bbox": [4, 3, 16, 6], "score": 0.9},
        {"image_id": 139, "category_id": 3, "bbox": [0.1, 0.2, 39.8, 23.7], "score": 0.1},
    ]


def test_masks_are_pasted_into_the_image() -> None:
    record = coco_results.results(scene(), prediction(with_masks=True), CATEGORIES)[0]
    mask = masks.decode(record["segmentation"]["counts"], SIZE)
    assert record["segmentation"]["size"] == [24, 40]
    assert masks.tight_boxes(mask[None])[0].tolist() == [4, 3, 20, 9]


def test_an_image_without_detections_has_no_records() -> None:
    none = Prediction(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, np.float32), None)
    assert coco_results.results(scene(), none, CATEGORIES) == []


def spools(folder: Path, *parts: list[dict]) -> list[str]:
    names = [f"part-{number}.gz" for number in range(len(parts))]
    for name, records in zip(names, parts, strict=True):
        with coco_results.spool(Folder.at(folder), name) as spooled:
            coco_results.add(spooled, records)
    return names


def test_parts_are_joined_in_order_and_counted(tmp_path: Path) -> None:
    parts = [[{"a": 1}, {"a": "é"}], [], [{"a": 3}]]
    names = spools(tmp_path / "parts", *parts)
    out = Folder.at(tmp_path)
    assert coco_results.join(Folder.at(tmp_path / "parts"), names, out, "all.json") == 3
    assert json.loads((tmp_path / "all.json").read_text()) == [{"a": 1}, {"a": "é"}, {"a": 3}]


def test_no_parts_and_empty_parts_are_an_empty_list(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert coco_results.join(folder, [], folder, "none.json") == 0
    assert coco_results.join(folder, spools(tmp_path, [], []), folder, "empty.json") == 0
    assert json.loads((tmp_path / "none.json").read_text()) == []
    assert json.loads((tmp_path / "empty.json").read_text()) == []


def test_the_same_records_are_the_same_bytes(tmp_path: Path) -> None:
    (first,) = spools(tmp_path / "a", [{"a": 1}])
    (second,) = spools(tmp_path / "b", [{"a": 1}])
    data = (tmp_path / "a" / first).read_bytes()
    assert data == (tmp_path / "b" / second).read_bytes()
    assert gzip.decompress(data) == b'{"a": 1}\n'


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        spools(tmp_path, [{"score": float("nan")}])


def test_pycocotools_loads_what_was_joined(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    records = coco_results.results(scene(), prediction(with_masks=True), CATEGORIES)
    names = spools(tmp_path, records[:1], records[1:])
    coco_results.join(Folder.at(tmp_path), names, Folder.at(tmp_path), "all.json")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 139, "height": 24, "width": 40}],
            "categories": [{"id": 3}, {"id": 90}],
            "annotations": [],
        }
        truth.createIndex()
        loaded = truth.loadRes(str(tmp_path / "all.json"))
    assert [loaded.anns[k]["category_id"] for k in (1, 2)] == [90, 3]
    assert np.array_equal(
        loaded.annToMask(loaded.anns[1]),
        masks.decode(records[0]["segmentation"]["counts"], SIZE),
    )
