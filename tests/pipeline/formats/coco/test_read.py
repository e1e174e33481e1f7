"""COCO files.

What is written is read here and by the tools people use, and every bad record is named or counted.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from synthaug.pipeline.core import images, masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.coco.records import WRITER
from tests import paths

CATEGORIES = (
    Category(3, "<script>alert(1)</script>", "bad"),
    Category(7, "🐮", "", isthing=False),
    Category(90, 'quote " and \\ and é', "twin"),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def png(height: int, width: int, value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def differences(a: Scene, b: Scene) -> list[str]:
    """Names of the fields in which two scenes differ.

    Images are compared by content, NaN equals NaN.
    """

    def content(ref: ImageRef) -> bytes:
        return ref.data if ref.data is not None else Path(ref.path or "").read_bytes()

    found = [
        n
        for n in ("image_id", "height", "width", "panoptic", "provenance")
        if getattr(a, n) != getattr(b, n)
    ]
    found += [] if content(a.image) == content(b.image) else ["image"]
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
    """A scene of 0 to 3 objects.

    Boxes are any float32, may touch the border, and are tight where there is a mask.
    """
    H, W = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    n = draw(st.integers(0, 3))

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    def side(length):
        ends = st.floats(0, length, width=32).map(lambda v: v if v == 0 or v > 1e-3 else 0.0)
        low, high = sorted(draw(st.tuples(ends, ends)))
        return (low, high) if high - low > 1e-3 else (0.0, float(length))

    def box():
        (x1, x2), (y1, y2) = side(W), side(H)
        return x1, y1, x2, y2

    boxes = np.array([box() for _ in range(n)], np.float32).reshape(n, 4)
    area, rle = np.array(column(st.floats(0, 1e6, width=32)), np.float32), [None] * n
    for i in range(n):
        if draw(st.booleans()):
            x, y = draw(st.integers(0, W - 1)), draw(st.integers(0, H - 1))
            mask = np.zeros((1, H, W), bool)
            mask[0, y : draw(st.integers(y + 1, H)), x : draw(st.integers(x + 1, W))] = True
            rle[i], boxes[i], area[i] = (
                masks.encode(mask)[0],
                masks.tight_boxes(mask)[0],
                mask.sum(),
            )
    objects = Objects.build(
        column(st.integers(0, len(CATEGORIES) - 1)),
        boxes,
        id=draw(st.permutations(range(number * 10 + 1, number * 10 + 1 + n))),
        rle=rle,
        area=area,
        iscrowd=column(st.booleans()),
        isthing=column(st.booleans()),
        score=column(st.floats(0, 1, width=32)),
        source=column(st.sampled_from(["human", "pseudo", "synthetic"])),
        layout_boxes=[box() for _ in range(n)],
        verdict=column(st.sampled_from([None, "kept", "missing"])),
        verdict_score=column(st.just(float("nan")) | st.floats(0, 1, width=32)),
        verdict_iou=column(st.just(float("nan")) | st.floats(0, 1, width=32)),
    )
    origin = st.builds(Provenance, st.integers(0, 2**63 - 1), TEXT, TEXT, TEXT, TEXT)
    name = f"{number}{draw(TEXT)}"
    return Scene(name, H, W, ImageRef(png(H, W, number)), objects, None, draw(st.none() | origin))


SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(st.integers(0, 4).flatmap(lambda n: st.tuples(*(scenes(i) for i in range(n)))))
def test_reading_gives_back_what_was_written(tmp_path, rows):
    coco.write(SceneList(CATEGORIES, list(rows)), Folder.at(tmp_path))
    dataset = coco.read(coco.Config("instances.json"), tmp_path)
    assert (len(rows), CATEGORIES, Counter()) == (len(dataset), dataset.categories, dataset.skipped)
    assert [[]] * len(rows) == [differences(a, b) for a, b in zip(rows, dataset, strict=True)]


# --- bad input --


def document() -> dict:
    image = {"id": 1, "file_name": "a.png", "height": 10, "width": 20}
    annotation = {
        "id": 5,
        "image_id": 1,
        "category_id": 2,
        "bbox": [1, 2, 3, 4],
        "area": 12,
        "iscrowd": 0,
    }
    return {"images": [image], "annotations": [annotation], "categories": [{"id": 2, "name": "x"}]}


def opened(folder: Path, content, **options):
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / "images" / name).write_bytes(png(10, 20))
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "c.json").write_text(text)
    return coco.read(coco.Config("c.json", **options), folder)


FULL = masks.encode(np.ones((1, 10, 20), bool))[0]
ANNOTATIONS = {
    "unknown image": ({"image_id": 9}, "image_id 9 is not among the images"),
    "unknown category": ({"category_id": 9}, "category_id 9 is not among the categories"),
    "box outside the image": (
        {"bbox": [15, 2, 10, 4]},
        "bbox lies 5 pixels outside the image of 20x10",
    ),
    "empty box": ({"bbox": [1, 2, 0, 4]}, "has no extent"),
    "empty box ": ({"bbox": [1, 2, 3, -4]}, "has no extent"),
    "empty box  ": ({"bbox": [20.0, 2, 0.5, 4]}, "no extent inside the image"),
    "bad value": ({"bbox": [1, 2, float("nan"), 4]}, "bbox is nan, not a finite number"),
    "bad value ": ({"bbox": [1, 2, "3", 4]}, "bbox is '3', not a finite number"),
    "bad value  ": ({"area": -1}, "area is -1, not a finite number >= 0"),
    "bad value   ": ({"iscrowd": 2}, "iscrowd is 2, not 0 or 1"),
    "bad value    ": ({"source": "martian"}, "source 'martian' must be one of"),
    "bad value     ": ({"score": float("inf")}, "score is inf"),
    "bad value      ": ({"image_id": [1]}, "image_id must be a whole number or a text"),
    "bad box": ({"bbox": [1, 2, 3]}, "must be a list [x, y, width, height]"),
    "missing key": ({"bbox": None, "delete": "bbox"}, "key 'bbox' is missing"),
    "missing key ": ({"delete": "category_id"}, "key 'category_id' is missing"),
    "bad mask": ({"segmentation": [[1, 2, 3]]}, "segmentation: a polygon needs"),
    "bad mask ": (
        {"segmentation": {"size": [20, 10], "counts": FULL}},
        "its size [20, 10] is not that of the image",
    ),
    "bad mask  ": (
        {"segmentation": {"size": [10, 20], "counts": "~~~~"}},
        "are not COCO compressed run lengths",
    ),
    "bad mask   ": (
        {"segmentation": {"size": [10, 20], "counts": [7, 7]}},
        "the counts cover 14 pixels",
    ),
    "bad mask    ": ({"segmentation": "everything"}, "must be a list of polygons"),
    "bad mask     ": ({"segmentation": {"size": [10, 20]}}, "neither a list nor a text"),
}


@pytest.mark.parametrize("reason", list(ANNOTATIONS))
def test_a_bad_annotation_stops_with_its_id_or_is_counted(tmp_path, reason):
    change, message = ANNOTATIONS[reason]
    content = document() | {"info": {"description": WRITER}}
    bad = content["annotations"][0] | change
    bad.pop(bad.pop("delete", ""), None)
    content["annotations"] = [bad, {**content["annotations"][0], "id": 6}]
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, content)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/c.json: annotation 5: ")
    assert message in text
    assert text.endswith("on_bad=skip")
    assert "\n" not in text
    dataset = opened(tmp_path, content, on_bad="skip")
    part_alone = reason.startswith("bad mask") or "area" in change  # the box stays
    kept = [5, 6] if part_alone else [6]
    assert (Counter({reason.strip(): 1}), kept) == (dataset.skipped, dataset[0].objects.id.tolist())
    assert dataset[0].objects.rle == (None,) * len(kept)
    assert dataset.skipped.names[reason.strip()][0].startswith("c.json: annotation 5: ")


@pytest.mark.parametrize("polygon", [None, [[0.1, 0.1, 0.6, 0.1, 0.6, 0.9]]])
def test_boxes_that_are_parts_of_the_image_are_told_before_their_masks(tmp_path, polygon):
    content = document()
    part = content["annotations"][0] | {"bbox": [0.25, 0.5, 0.5, 0.25], "segmentation": polygon}
    content["annotations"] += [part | {"id": 6}, part | {"id": 7}]
    for on_bad in ("stop", "skip"):
        with pytest.raises(DatasetError, match=r"c\.json: 2 of 3 bboxes .* \(0 to 1\); multiply"):
            opened(tmp_path, content, on_bad=on_bad)
    content["annotations"].pop()
    content["annotations"][1].pop("segmentation")
    assert 2 == len(opened(tmp_path, content)[0].objects)
    content["annotations"].pop(0)
    content["info"] = {"description": WRITER}  # what we write is in pixels
    assert 1 == len(opened(tmp_path, content)[0].objects)


@pytest.mark.parametrize(("own", "other"), [("1", 1), (1, "1")])
def test_an_image_id_of_another_type_is_taken_and_told(tmp_path, own, other):
    content = document()
    content["images"][0]["id"] = own
    content["annotations"][0]["image_id"] = own
    assert Counter() == opened(tmp_path, content).skipped
    content["annotations"][0]["image_id"] = other
    dataset = opened(tmp_path, content)
    assert [5] == dataset[0].objects.id.tolist()
    (reason,) = dataset.skipped
    assert reason.startswith("image_id that is a text where ids are numbers, or the reverse")
    assert ["annotation 5: image_id '1'"] == dataset.skipped.names[reason]


IMAGES = {
    "missing image file": ({"file_name": "none.png"}, "'none.png' is not in"),
    "missing image file ": ({"file_name": ""}, "no name of a file"),
    "unsafe file name": ({"file_name": "/etc/passwd"}, "'/etc/passwd' is absolute or leaves"),
    "unsafe file name ": ({"file_name": "../c.json"}, "is absolute or leaves"),
    "unsafe file name  ": ({"file_name": "link.png"}, "through a link"),
    "bad image size": ({"height": 0}, "height 0 must be whole numbers above 0"),
    "bad image size ": ({"width": "20"}, "must be whole numbers above 0"),
    "image too large": (
        {"width": 20_000, "height": 20_000},
        "20000x20000 is over max_pixels=100000000",
    ),
    "missing key": ({"delete": "file_name"}, "key 'file_name' is missing"),
    "bad value": ({"scene_id": "\ud800"}, "is not Unicode text"),
    "bad value ": ({"provenance": {"seed": 1}}, "provenance needs texts"),
}


@pytest.mark.parametrize("reason", list(IMAGES))
def test_a_bad_image_stops_with_its_id_or_is_counted_with_its_annotations(tmp_path, reason):
    change, message = IMAGES[reason]
    content = document() | {"info": {"description": WRITER}}
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "link.png").symlink_to("/etc/passwd")
    bad = {"id": 2, "file_name": "b.png", "height": 10, "width": 20} | change
    bad.pop(bad.pop("delete", ""), None)
    content["images"].append(bad)
    content["annotations"].append({**content["annotations"][0], "id": 6, "image_id": bad["id"]})
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, content)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/c.json: image {bad['id']}")
    assert message in text
    assert "\n" not in text
    dataset = opened(tmp_path, content, on_bad="skip")
    lost = Counter({"annotation of a skipped image": 1})
    assert (1, Counter({reason.strip(): 1}) + lost) == (len(dataset), dataset.skipped)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [],\n "annotations": [}', "not valid JSON at line 2, column 18"),
        ("", "not valid JSON (it is empty)"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[]", "the top level must be an object"),
        ({"images": [], "annotations": []}, "key 'categories' is missing"),
        ({"images": [], "categories": []}, "'annotations' is missing or null"),
        ({"images": {}, "annotations": [], "categories": []}, "'images' must be a list"),
        (
            {"images": [7], "annotations": [], "categories": []},
            "image at position 0: is no JSON object",
        ),
        (
            {"images": [], "annotations": [], "categories": [{"id": 1}]},
            "category 1: key 'name' is missing",
        ),
        (
            {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}] * 2},
            "category 1: another category",
        ),
        (
            {"images": [], "annotations": [], "categories": [{"id": "1", "name": "a"}]},
            "its id '1' must be a whole number",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path}/c.json: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json: cannot be read \(No such file"):
        coco.read(coco.Config("none.json"), tmp_path)
    with pytest.raises(DatasetError, match="elsewhere: no such folder; correct the option images="):
        opened(tmp_path, document(), images="elsewhere")


@pytest.mark.parametrize(("option", "value"), [("on_bad", "ignore"), ("max_pixels", 0)])
def test_bad_settings_are_value_errors(option, value):
    with pytest.raises(ValueError, match=option):
        coco.Config("x", **{option: value})


def test_a_box_out_by_rounding_is_clipped_and_counted(tmp_path):
    content = document()
    content["annotations"][0]["bbox"] = [-0.5, 2, 21.5, 8.25]
    dataset = opened(tmp_path, content)
    assert dataset[0].objects.boxes.tolist() == [[0, 2, 20, 10]]
    assert Counter({"clipped to image": 1}) == dataset.skipped
    content["annotations"][0]["bbox"] = [0.1, 0, 19.9, 10]
    assert Counter() == opened(tmp_path, content).skipped


@pytest.mark.parametrize(
    "ids", [[0, 1], [4, 4], [None, 2], ["a", "b"], [-1, 3], [1.0, 2.0], [True, 2]]
)
def test_unusable_annotation_ids_are_renumbered_and_counted(tmp_path, ids):
    content = document()
    content["annotations"] = [content["annotations"][0] | {"id": i} for i in ids]
    dataset = opened(tmp_path, content)
    assert ([1, 2], Counter({"renumbered ids": 2})) == (
        dataset[0].objects.id.tolist(),
        dataset.skipped,
    )


def test_every_kind_of_mask_and_an_image_without_annotations(tmp_path):
    content = document()
    mask = np.zeros((1, 10, 20), bool)
    mask[0, 2:6, 1:4] = True
    kinds = [
        {"size": [10, 20], "counts": masks.encode(mask)[0]},
        {"size": [10, 20], "counts": [12, 4, 6, 4, 6, 4, 164]},
        [[1, 2, 4, 2, 4, 6, 1, 6]],
        [],
    ]
    content["annotations"] = [
        content["annotations"][0] | {"id": i, "segmentation": kind, "iscrowd": i % 2}
        for i, kind in enumerate(kinds, 1)
    ]
    content["images"].append({"id": "b", "file_name": "b.png", "height": 10, "width": 20})
    content["categories"].insert(0, {"id": 30, "name": "sky", "isthing": 0, "supercategory": "up"})
    dataset = opened(tmp_path, content)
    objects = dataset[0].objects
    assert [masks.encode(mask)[0]] * 3 + [None] == list(objects.rle)
    assert (objects.iscrowd.tolist(), objects.category.tolist()) == (
        [True, False, True, False],
        [0] * 4,
    )
    assert (dataset[1].image_id, len(dataset[1].objects)) == ("b", 0)
    assert (Category(2, "x"), Category(30, "sky", "up", isthing=False)) == dataset.categories
    with pytest.raises(IndexError):
        dataset[2]


def test_the_fingerprint_sees_annotations_and_files(tmp_path):
    first = opened(tmp_path, document()).fingerprint()
    assert first == opened(tmp_path, document()).fingerprint()
    changed = document()
    changed["annotations"][0]["bbox"][0] = 2
    assert first != opened(tmp_path, changed).fingerprint()
    opened(tmp_path, document())
    (tmp_path / "images" / "a.png").write_bytes(png(10, 20) + b"more")
    assert first != coco.read(coco.Config("c.json"), tmp_path).fingerprint()


# --- real files --


def test_bccd_is_read_whole():
    dataset = coco.read(coco.Config("annotations/train_labelled.json"), paths.sample_data("bccd"))
    assert (103, Counter()) == (len(dataset), dataset.skipped)
    assert [category.name for category in dataset.categories] == ["RBC", "WBC", "Platelets"]
    counts = sum(np.bincount(scene.objects.category, minlength=3) for scene in dataset)
    assert counts.tolist() == [1199, 107, 99]
    assert images.decode(dataset[0]).shape == (240, 320, 3)
    unlabelled = coco.read(
        coco.Config("annotations/train_unlabelled.json"), paths.sample_data("bccd")
    )
    assert (len(unlabelled), len(unlabelled[5].objects)) == (102, 0)


def test_polygons_and_run_lengths_of_the_same_masks_agree():
    root = paths.sample_data("coco_stuff_mini")
    runs, polygons = (
        coco.read(coco.Config(f"annotations/instances_train{end}.json"), root)
        for end in ("", "_polygons")
    )
    worst = 1.0
    for a, b in zip(runs, polygons, strict=True):
        assert [name for name in differences(a, b) if name != "rle"] == []
        size = (a.height, a.width)
        one, two = masks.decode_all(a.objects, size), masks.decode_all(b.objects, size)
        worst = min([worst, *((one & two).sum((1, 2)) / (one | two).sum((1, 2)))])
        assert a.objects.area.tolist() == one.sum((1, 2)).tolist()
        assert np.array_equal(masks.tight_boxes(one), a.objects.boxes)
    assert worst > 0.97
    assert sum(len(scene.objects) for scene in runs) == 73


def test_real_scenes_survive_a_round_trip(tmp_path):
    original = coco.read(
        coco.Config("annotations/stuff_train.json"), paths.sample_data("coco_stuff_mini")
    )
    coco.write(original, Folder.at(tmp_path))
    again = coco.read(coco.Config("instances.json"), tmp_path)
    assert (original.categories, len(original)) == (again.categories, len(again))
    assert [[]] * len(again) == [differences(a, b) for a, b in zip(original, again, strict=True)]
    renamed = replace(original[0], image_id="x")
    assert differences(renamed, again[0]) == ["image_id"]


def test_boxes_written_as_corners_are_told_by_their_areas(tmp_path):
    content = document()
    for record in content["annotations"]:
        record["bbox"] = [2, 1, 6, 5]
        record["area"] = 16
        record.pop("segmentation", None)
    with pytest.raises(DatasetError, match="of two corners x1 y1 x2 y2"):
        opened(tmp_path, content)
