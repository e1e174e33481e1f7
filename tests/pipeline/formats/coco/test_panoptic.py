"""COCO panoptic files.

The official sample, what is written is read back, and every mistake is named or counted.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.coco import panoptic as coco_panoptic
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from tests import paths

CATEGORIES = (Category(3, "kite", "sport"), Category(7, "sky", "", isthing=False))
IDS = st.sampled_from([0, 1, 2, 257, 65536, 2**24 - 1])


def png(height: int, width: int, value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def content(ref: ImageRef | None) -> bytes:
    assert ref is not None
    return ref.data if ref.data is not None else Path(ref.path or "").read_bytes()


def differences(a: Scene, b: Scene) -> list[str]:
    found = [
        n for n in ("image_id", "height", "width", "provenance") if getattr(a, n) != getattr(b, n)
    ]
    found += [n for n in ("image", "panoptic") if content(getattr(a, n)) != content(getattr(b, n))]
    for field in fields(Objects):
        x, y = getattr(a.objects, field.name), getattr(b.objects, field.name)
        if isinstance(x, np.ndarray):
            same = (
                x.dtype == y.dtype
                and x.shape == y.shape
                and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
            )
        else:
            same = x == y
        found += [] if same else [field.name]
    return found


@st.composite
def scenes(draw, number):
    """A scene whose objects are the segments of a small random map, in any order."""
    ids = draw(hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=IDS))
    found = panoptic.segments_of(ids)
    n = len(found.ids)

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    objects = panoptic.objects_of(
        found,
        draw(st.sampled_from([number, number + 1000])),
        column(st.integers(0, 1)),
        iscrowd=column(st.booleans()),
        isthing=column(st.booleans()),
        score=column(st.floats(0, 1, width=32)),
        source=column(st.sampled_from(["human", "pseudo", "synthetic"])),
        layout_boxes=[(0.25, 0.5, 3, 4.125)] * n if draw(st.booleans()) else found.boxes,
        verdict=column(st.sampled_from([None, "kept"])),
        verdict_score=column(st.just(float("nan")) | st.floats(0, 1, width=32)),
        verdict_iou=column(st.just(float("nan")) | st.floats(0, 1, width=32)),
    ).select(draw(st.permutations(range(n))))
    origin = draw(st.none() | st.just(Provenance(5, "spade", "ab", "7", "natural")))
    ref = ImageRef(masks.panoptic_png(ids))
    return Scene(f"{number}x", *ids.shape, ImageRef(png(*ids.shape, number)), objects, ref, origin)


SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.integers(0, 3).flatmap(lambda n: st.tuples(*(scenes(i) for i in range(n)))))
def test_reading_gives_back_what_was_written(tmp_path, rows):
    coco_panoptic.write(SceneList(CATEGORIES, list(rows)), Folder.at(tmp_path))
    dataset = coco_panoptic.read(coco_panoptic.Config("panoptic.json"), tmp_path)
    assert (len(rows), CATEGORIES, Counter()) == (len(dataset), dataset.categories, dataset.skipped)
    again = [dataset[i] for i in range(len(dataset))]
    assert [[]] * len(rows) == [differences(a, b) for a, b in zip(rows, again, strict=True)]


def test_the_toy_survives_the_journey_and_a_table_takes_its_maps_in(tmp_path):
    table = toy.ToyDataset(toy.Config("val", count=3))
    coco_panoptic.write(table, Folder.at(tmp_path))
    again = coco_panoptic.read(coco_panoptic.Config("panoptic.json"), tmp_path)
    assert [[]] * 3 == [differences(table[i], again[i]) for i in range(3)]
    parquet.write(again, Folder.at(tmp_path / "table"))
    stored = parquet.open_table(tmp_path / "table")
    assert [[]] * 3 == [differences(table[i], stored[i]) for i in range(3)]
    assert stored[0].panoptic is not None and os.sep not in (stored[0].panoptic.path or "")


def test_the_official_sample():
    folder = paths.sample_data("coco_panoptic_official_mini")
    config = coco_panoptic.Config("annotations/panoptic_val.json", maps="panoptic_val")
    dataset = coco_panoptic.read(config, folder)
    truth = json.loads((folder / "annotations/panoptic_val.json").read_text())
    assert (2, 133, Counter()) == (len(dataset), len(dataset.categories), dataset.skipped)
    crowds = 0
    for index, annotation in enumerate(truth["annotations"]):
        objects = dataset[index].objects
        for k, segment in enumerate(annotation["segments_info"]):
            x1, y1, x2, y2 = objects.boxes[k].tolist()
            assert segment["bbox"] == [x1, y1, x2 - x1, y2 - y1]
            assert segment["area"] == objects.area[k] == masks.area(objects.rle[k] or "")
            assert segment["category_id"] == dataset.categories[objects.category[k]].id
            assert segment["id"] == panoptic.segment_ids(objects)[k]
        crowds += int(objects.iscrowd.sum())
    assert 3 == crowds


@pytest.fixture
def written(tmp_path):
    """Two scenes on disk, and how to open them after the JSON was changed."""
    rows = []
    for number in range(2):
        ids = np.array([[1, 1, 2], [0, 2, 2]])
        objects = panoptic.objects_of(panoptic.segments_of(ids), number, [0, 1])
        rows.append(
            Scene(
                str(number + 1),
                2,
                3,
                ImageRef(png(2, 3)),
                objects,
                ImageRef(masks.panoptic_png(ids)),
            )
        )
    coco_panoptic.write(SceneList(CATEGORIES, rows), Folder.at(tmp_path))
    document = json.loads((tmp_path / "panoptic.json").read_text())

    def reopen(on_bad: str = "stop"):
        (tmp_path / "panoptic.json").write_text(json.dumps(document))
        return coco_panoptic.read(coco_panoptic.Config("panoptic.json", on_bad=on_bad), tmp_path)

    return document, reopen, tmp_path


def change(record, key, value):
    record[key] = value


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda a: change(a["segments_info"][0], "id", 0),
            "segment id 0 is no whole number from 1",
        ),
        (
            lambda a: change(a["segments_info"][0], "id", 2**24),
            "segment id 16777216 is no whole number",
        ),
        (
            lambda a: (
                change(a["segments_info"][0], "id", 2) or a["segments_info"][0].pop("object_id")
            ),
            "same id",
        ),
        (lambda a: change(a["segments_info"][0], "category_id", 4), "category_id 4 of segment 1"),
        (lambda a: change(a["segments_info"][0], "object_id", 2), "object_id 2 does not end in"),
        (lambda a: change(a["segments_info"][0], "iscrowd", 2), "iscrowd is 2"),
        (lambda a: change(a, "file_name", "../panoptic.json"), "leaves"),
        (lambda a: change(a, "file_name", "nothing.png"), "'nothing.png' is not in"),
        (lambda a: change(a, "segments_info", None), "segments_info a list"),
        (lambda a: change(a, "image_id", 2), "the image has another annotation"),
        (lambda a: change(a, "image_id", 9), "image_id 9 is not among the images"),
    ],
)
def test_a_bad_record_is_named_or_counted(written, spoil, words):
    document, reopen, _ = written
    spoil(document["annotations"][0])
    with pytest.raises(DatasetError, match=words) as error:
        reopen()
    assert "\n" not in str(error.value) and "panoptic.json: annotation of image" in str(error.value)
    kept = reopen("skip")
    assert (
        1 == len(kept)
        and 1 == kept.skipped["image without a panoptic map"]
        and 2 == kept.skipped.total()
    )


def test_categories_must_tell_things_from_stuff(written):
    document, reopen, _ = written
    document["categories"][1].pop("isthing")
    for on_bad in ("stop", "skip"):
        with pytest.raises(DatasetError, match="category 7: isthing is missing: 1 for things"):
            reopen(on_bad)


def test_map_and_json_must_name_the_same_segments(written):
    document, reopen, folder = written
    document["annotations"][0]["segments_info"].pop()
    document["annotations"][1]["segments_info"].append({"id": 9, "category_id": 3})
    dataset = reopen()
    with pytest.raises(
        DatasetError, match=r"1\.png: pixels of id 2 are no segment in .*panoptic\.json"
    ):
        dataset[0]
    with pytest.raises(DatasetError, match=r"2\.png: segment 9 of .*panoptic\.json has no pixel"):
        dataset[1]
    (folder / "panoptic" / "1.png").write_bytes(png(3, 3))
    with pytest.raises(DatasetError, match=r"1\.png: the map is 3x3 pixels, its image 3x2"):
        dataset[0]


def test_the_digest_sees_a_changed_map_and_a_scene_without_map_cannot_be_written(written):
    _, reopen, folder = written
    before = reopen().fingerprint()
    (folder / "panoptic" / "1.png").write_bytes(png(2, 3) + b" ")
    assert before != reopen().fingerprint()
    bare = Scene("a", 2, 3, ImageRef(png(2, 3)), Objects.build([], []))
    with pytest.raises(DatasetError, match="has no panoptic map"):
        coco_panoptic.write(SceneList(CATEGORIES, [bare]), Folder.at(folder / "new"))
    with pytest.raises(DatasetError, match="name the one of the PNG maps with maps=FOLDER"):
        coco_panoptic.read(coco_panoptic.Config("panoptic.json", maps="none"), folder)


def test_a_bad_map_stops_the_reading_of_a_job_or_is_counted(written):
    """Maps are checked when they are read, so the step that reads them follows `on_bad`."""
    from synthaug.pipeline.config.load import load_job
    from synthaug.pipeline.steps.ingest import SplitReader

    _, _, folder = written
    (folder / "panoptic" / "1.png").write_bytes(b"broken")
    base = paths.JOBS / "base.yaml"
    names = ("labelled", "unlabelled", "validation")
    common = [
        f"data.root={folder}",
        *(f"data.{name}=coco_panoptic:panoptic.json" for name in names),
    ]
    with pytest.raises(DatasetError, match=r"1\.png: the map cannot be decoded"):
        SplitReader(load_job(base, common), "labelled", str(folder / "a"))("s", range(2))
    skipping = load_job(base, [*common, "data.on_bad=skip"])
    row = SplitReader(skipping, "labelled", str(folder / "b"))("s", range(2))
    assert {"unreadable image or map": 1} == row["skipped"] and 1 == row["rows"]
    kept = parquet.open_table(folder / "b")[0]
    assert "2" == kept.image_id and [[1, 1, 2], [0, 2, 2]] == panoptic.map_of(kept).tolist()
