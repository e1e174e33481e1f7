"""What every format that is written promises, over the dict of formats.

And what a perfect detector scores on each.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from synthaug.pipeline.core import images, masks
from synthaug.pipeline.core.scene import Category, Dataset, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS, can_write, load_format
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.voc.write import whole_boxes
from tests.hard_scenes import (
    CATEGORIES,
    boxed,
    coco_record,
    differences,
    masked,
    perfect,
    random_sets,
)
from tests.pipeline.formats.samples import advice, holds_of

WRITTEN = [name for name in sorted(FORMATS) if can_write(name)]
# those that need a panoptic map per image are tested with their own
PLAIN = [name for name in WRITTEN if not holds_of(name).panoptic]
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def write(name: str, table: Dataset, out: Path) -> None:
    vars(load_format(name))["write"](table, Folder.at(out))


def reference(name: str) -> str:
    return f"{name}:{holds_of(name).path}"


def written(name: str, table: Dataset, out: Path) -> Dataset:
    """Write a table and read it again through its reference."""
    write(name, table, out)
    return open_dataset(reference(name), out)


def held(name: str, table: SceneList) -> list[Scene]:
    """The scenes as far as a format can hold them."""
    holds = holds_of(name)
    learnt = [scene.objects.select(~scene.objects.iscrowd) for scene in table]
    all_masked = all(None not in objects.rle for objects in learnt)
    scenes = []
    first_id = 1
    for scene in table:
        objects = scene.objects
        if holds.crowds == "no":
            objects = objects.select(~objects.iscrowd)
        if holds.crowds == "last":
            objects = objects.select(np.argsort(objects.iscrowd, kind="stable").tolist())
        if holds.whole_pixels:
            boxes = whole_boxes(objects.boxes, scene.size)
            objects = replace(objects, boxes=boxes.astype(np.float32))
        if holds.masks == "none" or (holds.masks != "all" and not all_masked):
            objects = replace(objects, rle=(None,) * len(objects))
        if not holds.records:
            objects = _bare(objects, first_id, table.categories)
            scene = replace(scene, provenance=None)
            first_id += len(objects)
        scenes.append(scene.with_objects(objects))
    return scenes


def _bare(objects: Objects, first_id: int, categories: tuple[Category, ...]) -> Objects:
    """Return objects as labels of nothing but class, shape and crowd flag, numbered from
    `first_id`.
    """
    area = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1)
    for k, rle in enumerate(objects.rle):
        if rle is not None:
            area[k] = masks.area(rle)
    return Objects.build(
        objects.category,
        objects.boxes,
        id=np.arange(len(objects)) + first_id,
        iscrowd=objects.iscrowd,
        rle=objects.rle,
        area=area,
        isthing=[categories[k].isthing for k in objects.category],
    )


def check(name: str, table: SceneList, out: Path) -> None:
    """Write a table and compare what is read back with what the format can hold."""
    compare(name, table, written(name, table, out))


def compare(name: str, table: SceneList, back: Dataset) -> None:
    """Compare what is read back with what the format can hold."""
    holds = holds_of(name)
    assert (table.categories, len(table), Counter()) == (back.categories, len(back), back.skipped)
    expected = {scene.image_id: scene for scene in held(name, table)}
    for scene in back:
        wanted = expected.pop(scene.image_id)
        if holds.lossy_images:
            assert np.abs(images.decode(scene).astype(int) - images.decode(wanted)).max() <= 3
            wanted = replace(wanted, image=scene.image)
        if holds.box_error:
            wanted = wanted.with_objects(_close(wanted.objects, scene.objects, holds.box_error))
        found = differences(wanted, scene)
        assert not found, f"{name}: {found}; {advice(name)}"
    assert not expected


def _close(wanted: Objects, objects: Objects, error: float) -> Objects:
    """Return the wanted objects with the boxes that were read, which lie within `error` pixels."""
    np.testing.assert_allclose(objects.boxes, wanted.boxes, atol=error)
    area = wanted.area.copy()
    for k, rle in enumerate(objects.rle):
        if rle is None:
            np.testing.assert_allclose(objects.area[k], area[k], atol=100 * error)
            area[k] = objects.area[k]
    return replace(wanted, boxes=objects.boxes, layout_boxes=objects.layout_boxes, area=area)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    "table", [masked(), boxed(), SceneList(CATEGORIES, [])], ids=["masked", "boxed", "empty"]
)
def test_what_was_written_is_read_back(name: str, table: SceneList, tmp_path: Path) -> None:
    check(name, table, tmp_path / "out")


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=12, deadline=None, suppress_health_check=SLOW)
@given(table=random_sets())
def test_random_scenes_are_read_back(name: str, table: SceneList, tmp_path_factory: Any) -> None:
    check(name, table, tmp_path_factory.mktemp(name))


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_scenes_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    for out in ("a", "b"):
        write(name, masked(), tmp_path / out)
    found = [
        {
            p.relative_to(tmp_path / o): p.read_bytes()
            for p in (tmp_path / o).rglob("*")
            if p.is_file()
        }
        for o in "ab"
    ]
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize("name", PLAIN)
def test_a_fingerprint_follows_the_labels(name: str, tmp_path: Path) -> None:
    table = masked()
    marks = [
        written(name, table, tmp_path / "a").fingerprint(),
        written(name, table, tmp_path / "b").fingerprint(),
    ]
    scene = table.scenes[3]
    table.scenes[3] = scene.with_objects(
        replace(scene.objects, category=scene.objects.category * 0)
    )
    marks.append(written(name, table, tmp_path / "c").fingerprint())
    assert marks[0] == marks[1] != marks[2]


# --- a perfect detector
# -----------------------------------------------------------------------------------------------


def average_precision(
    library: str, document: dict[str, Any], found: list[dict[str, Any]], kind: str, stat: int = 0
) -> float:
    """AP (or another of COCO's twelve numbers) of detections by pycocotools or faster-coco-eval."""
    with contextlib.redirect_stdout(io.StringIO()):
        if library == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval
        truth = COCO()
        truth.dataset = document
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[stat])


def document_of(name: str, table: Dataset, out: Path) -> dict[str, Any]:
    """The export as an evaluator sees it: the JSON itself, or what our reader makes of folders."""
    back = written(name, table, out)
    if name == "coco":
        return dict(json.loads((out / "instances.json").read_text()))
    order = {back[i].image_id: i for i in range(len(back))}
    return coco_record(
        SceneList(back.categories, [back[order[table[i].image_id]] for i in range(len(table))])
    )


@pytest.mark.parametrize("library", ["pycocotools", "faster-coco-eval"])
@pytest.mark.parametrize("name", [n for n in PLAIN if n != "lvis"])  # which has an AP of its own
def test_a_perfect_detector_scores_one(name: str, library: str, tmp_path: Path) -> None:
    """Boxes and masks of the scenes as they were, judged by the export.

    A detection in an ignore region costs nothing.
    """
    table = masked()
    document = document_of(name, table, tmp_path)
    found = perfect(table, in_crowds=holds_of(name).crowds != "no")
    assert average_precision(library, document, found, "bbox") == 1.0
    if holds_of(name).masks != "none":
        assert average_precision(library, document, found, "segm") == 1.0
    assert average_precision(library, document, found[1:], "bbox") < 1.0  # it could be otherwise


@pytest.mark.parametrize("name", [n for n in PLAIN if n != "lvis"])
def test_a_perfect_detector_scores_one_on_boxes_off_the_grid(name: str, tmp_path: Path) -> None:
    """VOC rounds each edge by half a pixel at most: AP50 stays 1 for boxes of 3 pixels and more."""
    table = SceneList(CATEGORIES, boxed().scenes[:3])
    found = perfect(table)
    document = document_of(name, table, tmp_path)
    assert average_precision("pycocotools", document, found, "bbox", stat=1) == 1.0
    exact = average_precision("pycocotools", document, found, "bbox") == 1.0
    assert exact == (not holds_of(name).whole_pixels)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("make", [masked, boxed])
def test_a_perfect_detector_scores_one_in_lvis_ap(make: Any, kind: str, tmp_path: Path) -> None:
    """By faster-coco-eval's LVIS mode: federated negatives, 300 detections.

    Rare classes among them.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    table = make()
    write("lvis", table, tmp_path)
    found = lvis_detections(table, tmp_path, kind)
    if (
        kind == "segm"
        # its version 1.8 knows the size of an image by its objects only: stops without any
    ):
        shown = {
            a["image_id"]
            for a in json.loads((tmp_path / "lvis_train.json").read_text())["annotations"]
        }
        found = [d for d in found if d["image_id"] in shown]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "lvis_train.json"))
        evaluation = COCOeval_faster(truth, truth.loadRes(found), kind, lvis_style=True)
        evaluation.params.maxDets = [300]
        evaluation.run()
    assert evaluation.stats_as_dict["AP_all"] == 1.0
    assert evaluation.stats_as_dict["APr"] == 1.0


def lvis_detections(table: SceneList, folder: Path, kind: str) -> list[dict[str, Any]]:
    """Perfect detections under the class ids of the LVIS file, which run from 1.

    Boxes stand in for masks that are none.
    """
    ids = {
        c["original_id"]: c["id"]
        for c in json.loads((folder / "lvis_train.json").read_text())["categories"]
    }
    assert sorted(ids.values()) == [1, 2, 3, 4]
    found = [d | {"category_id": ids[d["category_id"]]} for d in perfect(table)]
    for record in found:
        if kind == "segm" and "segmentation" not in record:
            scene = table[record["image_id"] - 1]
            x, y, w, h = record["bbox"]
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            counts = masks.from_polygons([outline], (scene.height, scene.width))
            record["segmentation"] = {"size": [scene.height, scene.width], "counts": counts}
    return found


@pytest.mark.skipif(
    "LVIS_PYTHON" not in os.environ, reason="LVIS_PYTHON names no Python with lvis (numpy < 1.24)"
)
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_perfect_detector_scores_one_in_the_lvis_api(kind: str, tmp_path: Path) -> None:
    write("lvis", masked(), tmp_path)
    (tmp_path / "found.json").write_text(json.dumps(lvis_detections(masked(), tmp_path, kind)))
    code = (
        "from lvis import LVIS, LVISEval, LVISResults; gt = LVIS('lvis_train.json');"
        f"e = LVISEval(gt, LVISResults(gt, 'found.json'), '{kind}'); e.run(); "
        "print(e.results['AP'], e.results['APr'])"
    )
    told = subprocess.run(
        [os.environ["LVIS_PYTHON"], "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["1.0", "1.0"]
