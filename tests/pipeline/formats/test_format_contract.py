"""What every format that is written promises, over the dict of formats; and what a perfect detector scores on each."""

from __future__ import annotations

import contextlib
import importlib
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
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Dataset, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.voc.write import whole_boxes
from tests.hard_scenes import (
    CATEGORIES,
    boxed,
    coco_record,
    content,
    differences,
    masked,
    perfect,
    random_sets,
)

MODULES = {name: importlib.import_module(path) for name, path in FORMATS.items()}
WRITTEN = sorted(name for name, module in MODULES.items() if hasattr(module, "write"))
OWN_MAPS = ("cityscapes", "coco_panoptic")  # need a panoptic map per image: tested with theirs
PLAIN = [name for name in WRITTEN if name not in OWN_MAPS]
REFERENCE = {
    "coco": "coco:instances.json",
    "hf": "hf:",
    "lvis": "lvis:lvis_train.json",
    "parquet": "parquet:.",
    "voc": "voc:.",
    "yolo": "yolo:.",
}
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def written(name: str, table: Dataset, out: Path) -> Dataset:
    """Write a table and read it again through its reference."""
    MODULES[name].write(table, Folder.at(out))
    return open_dataset(REFERENCE[name].replace("hf:", f"hf:{out}").replace(":.", f":{out}"), out)


def held(name: str, table: SceneList) -> list[Scene]:
    """The scenes as far as a format can hold them: the contract, format by format."""
    if name in ("coco", "hf", "parquet"):
        return table.scenes
    polygons = all(None not in s.objects.select(~s.objects.iscrowd).rle for s in table.scenes)
    rows, first = [], 1
    for scene in table.scenes:
        found = scene.objects
        if name == "lvis":  # ignore regions come last
            rows.append(
                scene.with_objects(
                    found.select([*np.flatnonzero(~found.iscrowd), *np.flatnonzero(found.iscrowd)])
                )
            )
            continue
        if name == "yolo":  # no ignore regions; a mask's box is its own
            found = found.select(~found.iscrowd)
        boxes = (
            found.boxes if name == "yolo" else whole_boxes(found.boxes, (scene.height, scene.width))
        )
        rle = found.rle if name == "yolo" and polygons else (None,) * len(found)
        size = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        plain = Objects.build(
            found.category,
            boxes,
            id=np.arange(len(found)) + first,
            iscrowd=found.iscrowd,
            rle=rle,
            area=[a if r is None else masks.area(r) for a, r in zip(size, rle, strict=True)],
            isthing=[table.categories[k].isthing for k in found.category],
        )
        first += len(found)
        rows.append(replace(scene, objects=plain, provenance=None))
    return rows


def check(name: str, table: SceneList, out: Path) -> None:
    back = written(name, table, out)
    assert (table.categories, len(table), Counter()) == (back.categories, len(back), back.skipped)
    expected = {scene.image_id: scene for scene in held(name, table)}
    for index in range(len(back)):
        scene = back[index]
        wanted = expected.pop(scene.image_id)
        if name == "voc":  # JPEG
            assert np.abs(images.decode(scene).astype(int) - images.decode(wanted)).max() <= 3
            wanted = replace(wanted, image=scene.image)
        if name in (
            "yolo",
            "hf",
            "parquet",
        ):  # to 1e-10 of the image; xywh in float32, off the grid of 1/64 pixel
            np.testing.assert_allclose(scene.objects.boxes, wanted.objects.boxes, atol=1e-4)
            wanted = wanted.with_objects(
                _with(wanted.objects, scene.objects, "boxes", "layout_boxes")
            )
            if None in scene.objects.rle:
                wanted = wanted.with_objects(_with(wanted.objects, scene.objects, "area"))
        assert not differences(wanted, scene), name
    assert not expected


def _with(objects: Objects, other: Objects, *names: str) -> Objects:
    return replace(objects, **{name: getattr(other, name) for name in names})


def test_every_written_format_is_tested() -> None:
    assert set(REFERENCE) | set(OWN_MAPS) == set(WRITTEN)


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
        MODULES[name].write(masked(), Folder.at(tmp_path / out))
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


@pytest.mark.parametrize("name", PLAIN)
def test_a_missing_folder_is_one_line(name: str, tmp_path: Path) -> None:
    reference = REFERENCE[name].replace(":.", ":gone").replace("hf:", "hf:gone")
    with pytest.raises(DatasetError) as caught:
        open_dataset(reference, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


# --- a perfect detector -----------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("name", [n for n in PLAIN if n != "lvis"])
def test_a_perfect_detector_scores_one(name: str, library: str, tmp_path: Path) -> None:
    """Boxes and masks of the scenes as they were, judged by the export; a detection in an ignore region costs nothing."""
    table = masked()
    document = document_of(name, table, tmp_path)
    found = perfect(table, in_crowds=name != "yolo")  # which has no ignore regions
    assert average_precision(library, document, found, "bbox") == 1.0
    if name != "voc":  # which has no masks
        assert average_precision(library, document, found, "segm") == 1.0
    assert average_precision(library, document, found[1:], "bbox") < 1.0  # it could be otherwise


@pytest.mark.parametrize("name", [n for n in PLAIN if n != "lvis"])
def test_a_perfect_detector_scores_one_on_boxes_off_the_grid(name: str, tmp_path: Path) -> None:
    """VOC rounds each edge by half a pixel at most: AP50 stays 1 for boxes of 3 pixels and more."""
    table = SceneList(CATEGORIES, boxed().scenes[:3])
    found = perfect(table)
    document = document_of(name, table, tmp_path)
    assert average_precision("pycocotools", document, found, "bbox", stat=1) == 1.0
    assert (average_precision("pycocotools", document, found, "bbox") == 1.0) == (name != "voc")


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("make", [masked, boxed])
def test_a_perfect_detector_scores_one_in_lvis_ap(make: Any, kind: str, tmp_path: Path) -> None:
    """By faster-coco-eval's LVIS mode: federated negatives, 300 detections; rare classes among them."""
    from faster_coco_eval import COCO, COCOeval_faster

    table = make()
    MODULES["lvis"].write(table, Folder.at(tmp_path))
    found = lvis_detections(table, tmp_path, kind)
    if (
        kind == "segm"
    ):  # its version 1.8 knows the size of an image by its objects only, and stops where there are none
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
    """Perfect detections under the class ids of the LVIS file, which run from 1; boxes stand in for masks that are none."""
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
    MODULES["lvis"].write(masked(), Folder.at(tmp_path))
    (tmp_path / "found.json").write_text(json.dumps(lvis_detections(masked(), tmp_path, kind)))
    code = (
        "from lvis import LVIS, LVISEval, LVISResults; gt = LVIS('lvis_train.json');"
        f"e = LVISEval(gt, LVISResults(gt, 'found.json'), '{kind}'); e.run(); print(e.results['AP'], e.results['APr'])"
    )
    told = subprocess.run(
        [os.environ["LVIS_PYTHON"], "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["1.0", "1.0"]


def test_ids_of_lvis_run_from_one_and_nothing_has_a_crowd_flag(tmp_path: Path) -> None:
    MODULES["lvis"].write(masked(), Folder.at(tmp_path))
    document = json.loads((tmp_path / "lvis_train.json").read_text())
    assert [a["id"] for a in document["annotations"]] == list(
        range(1, len(document["annotations"]) + 1)
    )
    assert not any("iscrowd" in a for a in document["annotations"])
    assert all(
        isinstance(a["segmentation"], list) and a["segmentation"] for a in document["annotations"]
    )
    crowd = document["images"][4]
    assert (crowd["not_exhaustive_category_ids"], crowd["neg_category_ids"]) == ([1], [2, 3, 4])
    assert crowd["coco_url"].split("/")[-2:] == ["train", "image-4.png"]
    for i, image in enumerate(document["images"]):
        assert content(masked()[i].image) == (tmp_path / "images" / image["file_name"]).read_bytes()
