"""The COCO export: with image files, or without them where the job says so.

The records are the same.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.steps import export
from synthaug.pipeline.verification.verdicts import EXTRA
from tests.paths import JOBS


@pytest.mark.parametrize("images", [True, False])
def test_image_files_are_written_when_asked_for_and_only_then(tmp_path: Path, images: bool) -> None:
    parquet.write(open_dataset("toy:train?count=3", Path()), Folder.at(tmp_path / "table"))
    told = export.write(export.Spec(str(tmp_path / "table"), str(tmp_path / "coco"), images))
    record = json.loads((tmp_path / "coco" / "instances.json").read_text())
    assert told["images"] == len(record["images"]) == 3
    found = {path.name for path in (tmp_path / "coco" / "images").glob("*")}
    assert found == ({image["file_name"] for image in record["images"]} if images else set())


# ---- What the records say ----

CLASSES = (Category(7, "kite"), Category(3, "house"))
HEIGHT, WIDTH = 10, 16


def scene_of(name: str, first: int, extra: bool = False) -> Scene:
    """An image of 16 x 10 with an L of class 0 and a bar of class 1, and their panoptic map.

    With `extra` the bar was added by verification and is no segment.
    """
    shapes = np.zeros((2, HEIGHT, WIDTH), bool)
    shapes[0, 1:7, 2:4] = True
    shapes[0, 5:7, 2:9] = True
    shapes[1, 8:9, 0:12] = True
    ids = shapes[0] * first
    if not extra:
        ids = ids + shapes[1] * (first + 1)
    counts, boxes = masks.encode_with_boxes(shapes)
    verdict = [None, EXTRA if extra else None]
    objects = Objects.build(
        [0, 1],
        boxes,
        rle=counts,
        area=shapes.sum((1, 2)),
        id=[first, first + 1],
        verdict=verdict,
    )
    image = ImageRef(encode(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "png"))
    return Scene(name, HEIGHT, WIDTH, image, objects, ImageRef(masks.panoptic_png(ids)))


def exported(root: Path, scenes: list[Scene]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the manifest and the content of instances.json."""
    parquet.write(SceneList(CLASSES, scenes), Folder.at(root / "table"))
    manifest = export.write(export.Spec(str(root / "table"), str(root / "coco"), True))
    return manifest, json.loads((root / "coco" / "instances.json").read_text())


def test_boxes_areas_and_masks_are_those_of_the_shapes(tmp_path: Path) -> None:
    manifest, record = exported(tmp_path, [scene_of("a", 1), scene_of("b", 11)])
    assert {"images": 2, "annotations": 4} == manifest
    corner, bar = record["annotations"][:2]
    assert [2, 1, 7, 6] == corner["bbox"]
    assert 2 * 6 + 2 * 5 == corner["area"]
    assert [0, 8, 12, 1] == bar["bbox"]
    assert 12 == bar["area"]
    assert [7, 3] == [corner["category_id"], bar["category_id"]]
    for annotation in record["annotations"]:
        shape = annotation["segmentation"]
        assert [HEIGHT, WIDTH] == shape["size"]
        packed = {"size": shape["size"], "counts": shape["counts"].encode()}
        assert annotation["area"] == coco_mask.area(packed)
        assert annotation["bbox"] == coco_mask.toBbox(packed).tolist()


def test_images_are_as_wide_and_high_as_their_files(tmp_path: Path) -> None:
    _, record = exported(tmp_path, [scene_of("a", 1)])
    (image,) = record["images"]
    assert (WIDTH, HEIGHT) == (image["width"], image["height"])


def test_objects_belong_to_the_image_that_shows_them(tmp_path: Path) -> None:
    empty = scene_of("e", 5)
    empty = replace(empty, objects=empty.objects.select([]), panoptic=ImageRef(blank()))
    _, record = exported(tmp_path, [scene_of("a", 1), empty, scene_of("b", 11)])
    first, _, last = [image["id"] for image in record["images"]]
    assert [first, first, last, last] == [a["image_id"] for a in record["annotations"]]


def blank() -> bytes:
    return masks.panoptic_png(np.zeros((HEIGHT, WIDTH), np.int64))


def test_panoptic_records_name_the_images_of_the_instances(tmp_path: Path) -> None:
    _, record = exported(tmp_path, [scene_of("a", 1), scene_of("b", 11)])
    panoptic = json.loads((tmp_path / "coco" / "panoptic.json").read_text())
    ids = [image["id"] for image in record["images"]]
    assert ids == [entry["image_id"] for entry in panoptic["annotations"]]
    segments: list[int] = []
    for entry in panoptic["annotations"]:
        segments += [segment["id"] for segment in entry["segments_info"]]
    assert [1, 2, 11, 12] == segments


def test_what_verification_added_is_an_instance_but_no_segment(tmp_path: Path) -> None:
    manifest, record = exported(tmp_path, [scene_of("a", 1, extra=True)])
    assert 2 == manifest["annotations"] == len(record["annotations"])
    panoptic = json.loads((tmp_path / "coco" / "panoptic.json").read_text())
    (entry,) = panoptic["annotations"]
    assert [1] == [segment["id"] for segment in entry["segments_info"]]


def test_scenes_without_maps_have_no_panoptic_file(tmp_path: Path) -> None:
    exported(tmp_path, [replace(scene_of("a", 1), panoptic=None)])
    assert not (tmp_path / "coco" / "panoptic.json").exists()


def test_an_empty_table_is_an_empty_record(tmp_path: Path) -> None:
    manifest, record = exported(tmp_path, [])
    assert {"images": 0, "annotations": 0} == manifest
    assert [] == record["images"] == record["annotations"]
    assert [7, 3] == [category["id"] for category in record["categories"]]


@pytest.mark.parametrize("images", [True, False])
def test_the_step_exports_the_verified_scenes_as_the_job_says(tmp_path: Path, images: bool) -> None:
    parquet.write(SceneList(CLASSES, [scene_of("a", 1)]), Folder.at(tmp_path / "verify"))
    job = load_job(JOBS / "smoke.yaml", [f"export.images={str(images).lower()}"])
    lines: list[str] = []
    inputs = {"verify": Output(Folder.at(tmp_path / "verify"), {})}
    folder = Folder.at(tmp_path / "export")
    context = Context(job, folder, inputs, SerialExecutor(), lines.append, lambda *_: None)
    assert {"images": 1, "annotations": 2} == export.run(context)
    assert ["  1 images, 2 annotations"] == lines
    assert images == bool(folder.sub("images").names())
    assert images == export.settings(job)["export"]["images"]
