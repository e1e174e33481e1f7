"""Cityscapes files.

The drawn sample with the converter's own panoptic files, round trips, and mistakes.
"""

from __future__ import annotations

import io
import json
import shutil
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
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import cityscapes
from synthaug.pipeline.formats.cityscapes import CATEGORIES, LABELS, Config, read, write
from synthaug.pipeline.formats.toy import dataset as toy
from tests import paths
from tests.hard_scenes import edges

NUMBERED = [k for k, label in enumerate(LABELS) if label.instances]


def sample() -> Path:
    return paths.sample_data("cityscapes_format_mini")


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def ids_on_disk(folder: Path, name: str, kind: str = "instanceIds") -> np.ndarray:
    path = next((folder / "gtFine").glob(f"*/*/{name}_gtFine_{kind}.png"))
    return np.asarray(Image.open(path)).astype(np.int32)


def put(folder: Path, ids: np.ndarray, name: str = "a_0_1", city: str = "a") -> None:
    """One frame with these instance ids."""
    for kind, end, pixels in [
        ("leftImg8bit", "_leftImg8bit.png", np.zeros((*ids.shape[:2], 3), np.uint8)),
        ("gtFine", "_gtFine_instanceIds.png", ids),
    ]:
        path = folder / kind / "train" / city / (name + end)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))


def test_the_label_table_is_the_published_one():
    rows = [row for row in json.loads((sample() / "labels.json").read_text()) if row["id"] >= 0]
    published = [(r["name"], r["category"], r["hasInstances"], r["ignoreInEval"]) for r in rows]
    assert published == [
        (label.name, label.group, label.instances, label.ignored) for label in LABELS
    ]
    assert list(range(34)) == [r["id"] for r in rows] == [category.id for category in CATEGORIES]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_segments_are_those_of_the_published_converter(split):
    """Crowds, areas, boxes and classes against the panoptic files of the sample (19 classes)."""
    truth = json.loads((sample() / f"gtFine/cityscapes_panoptic_{split}.json").read_text())
    dataset = read(Config("", split, classes="evaluated"), sample())
    assert 19 == len(dataset.categories)
    assert sorted(a["image_id"] for a in truth["annotations"]) == [
        s.image_id for s in map(dataset.__getitem__, range(len(dataset)))
    ]
    for index in range(len(dataset)):
        scene = dataset[index]
        listed = next(a for a in truth["annotations"] if a["image_id"] == scene.image_id)[
            "segments_info"
        ]
        found = [
            {
                "id": int(panoptic.segment_ids(scene.objects)[k]),
                "category_id": dataset.categories[scene.objects.category[k]].id,
                "area": int(scene.objects.area[k]),
                "bbox": [int(x1), int(y1), int(x2 - x1), int(y2 - y1)],
                "iscrowd": int(scene.objects.iscrowd[k]),
            }
            for k, (x1, y1, x2, y2) in enumerate(scene.objects.boxes.tolist())
        ]
        assert sorted(listed, key=lambda s: s["id"]) == found


def test_labels_are_the_ids_of_the_label_maps_and_crowds_are_their_class():
    """With all classes an index is the official id and 34 is what has none.

    The 35 channels of SPADE.
    """
    dataset = read(Config("", "train"), sample())
    for index in range(len(dataset)):
        maps = panoptic.maps_of(dataset[index], 34)
        stored = ids_on_disk(sample(), dataset[index].image_id, "labelIds")
        assert np.array_equal(np.where(stored == 255, 34, stored), maps.labels)
        instances = ids_on_disk(sample(), dataset[index].image_id)
        assert np.array_equal(instances >= 1000, maps.instances > 34)
        assert np.array_equal(edges(instances), edges(maps.instances))


def test_writing_gives_the_files_back(tmp_path):
    dataset = read(Config("", "val"), sample())
    write(dataset, Folder.at(tmp_path), "val")
    again = read(Config("", "val"), tmp_path)
    assert len(dataset) == len(again) == 4
    for index in range(4):
        name = dataset[index].image_id
        stored = ids_on_disk(sample(), name)  # has 255 for a number plate, whose id is -1
        assert np.array_equal(np.where(stored == 255, 65535, stored), ids_on_disk(tmp_path, name))
        assert np.array_equal(
            ids_on_disk(sample(), name, "labelIds"), ids_on_disk(tmp_path, name, "labelIds")
        )
        assert np.array_equal(panoptic.map_of(dataset[index]), panoptic.map_of(again[index]))
        assert dataset[index].objects.rle == again[index].objects.rle


VALUES = st.sampled_from([0, 1, 7, 23, 24, 33, 255, 65535, 24000, 24999, 26003, 33999])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=VALUES))
def test_reading_gives_back_what_was_written(tmp_path, ids):
    put(tmp_path / "in", ids)
    first = read(Config("in"), tmp_path)[0]
    write(SceneList(CATEGORIES, [first]), Folder.at(tmp_path / "out"))
    again = read(Config("out"), tmp_path)[0]
    assert first.panoptic == again.panoptic and first.image_id == again.image_id
    assert first.objects.id.tolist() == again.objects.id.tolist()
    assert first.objects.category.tolist() == again.objects.category.tolist()
    assert first.objects.iscrowd.tolist() == again.objects.iscrowd.tolist()
    assert (tmp_path / "out/leftImg8bit/train/a/a_0_1_leftImg8bit.png").read_bytes() == Path(
        first.image.path
    ).read_bytes()
    labels = ids_on_disk(tmp_path / "out", "a_0_1", "labelIds")
    expected = np.where(np.isin(ids, (255, 65535)), 255, np.where(ids < 1000, ids, ids // 1000))
    assert np.array_equal(expected, labels)
    shutil.rmtree(tmp_path / "in")


def test_ids_over_32767_do_not_wrap_and_maps_of_8_bits_are_read(tmp_path):
    put(tmp_path, np.array([[33001, 33999], [7, 7]], np.uint16))
    put(tmp_path, np.array([[26, 255], [7, 0]], np.uint8), "a_0_2")
    dataset = read(Config(""), tmp_path)
    first, second = dataset[0].objects, dataset[1].objects
    assert [7, 33, 33] == first.category.tolist() and [7, 33001, 33999] == panoptic.segment_ids(
        first
    ).tolist()
    assert [7, 26, 0] == second.category.tolist() and [
        False,
        True,
        False,
    ] == second.iscrowd.tolist()
    assert not set(first.id.tolist()) & set(second.id.tolist())
    assert [[26, 34], [7, 0]] == panoptic.maps_of(dataset[1], 34).labels.tolist()


def test_things_from_elsewhere_are_numbered_per_class(tmp_path):
    ids = np.array([[5, 6, 9], [9, 70, 70]])
    classes = (CATEGORIES[26], CATEGORIES[7], CATEGORIES[24])
    objects = panoptic.objects_of(
        panoptic.segments_of(ids), 0, [0, 2, 0, 1], isthing=[True, True, True, False]
    )
    ref = ImageRef(png(np.zeros((2, 3, 3), np.uint8)))
    scene = Scene("x-1", 2, 3, ref, objects, ImageRef(masks.panoptic_png(ids)))
    write(SceneList(classes, [scene]), Folder.at(tmp_path))
    assert [[26000, 24000, 26001], [26001, 7, 7]] == ids_on_disk(tmp_path, "x-1").tolist()


@pytest.mark.parametrize("value", [34, 254, 256, 999, 7000, 23005, 34000, 65534])
def test_an_id_that_is_none_is_named(tmp_path, value):
    put(tmp_path, np.array([[7, value]], np.uint16))
    with pytest.raises(
        DatasetError, match=rf"a_0_1_gtFine_instanceIds\.png: pixels of id {value}, which is no"
    ):
        read(Config(""), tmp_path)[0]


def test_mistakes_are_named_or_counted(tmp_path):
    with pytest.raises(DatasetError, match="leftImg8bit/train: no such folder"):
        read(Config(""), tmp_path)
    put(tmp_path, np.array([[7, 8]], np.uint8))
    put(tmp_path, np.array([[7, 8]], np.uint8), "b_0_1", "b")
    (tmp_path / "gtFine/train/b/b_0_1_gtFine_instanceIds.png").unlink()
    with pytest.raises(DatasetError, match=r"b/b_0_1_leftImg8bit\.png'?: its file .* is not in"):
        read(Config(""), tmp_path)
    kept = read(Config("", on_bad="skip"), tmp_path)
    assert 1 == len(kept) and {"missing map": 1} == dict(kept.skipped)
    put(tmp_path, np.array([[7, 8]], np.uint8), "a_0_1", "b")
    assert 1 == read(Config("", on_bad="skip"), tmp_path).skipped["duplicate image id"]
    with pytest.raises(DatasetError, match="2x1 is empty or over max_pixels=1"):
        read(Config("", max_pixels=1), tmp_path)
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(np.array([[7, 8]], np.uint8)))
    (tmp_path / "gtFine/train/b/b_0_1_gtFine_instanceIds.png").symlink_to(outside)
    skipped = read(Config("", on_bad="skip"), tmp_path).skipped
    assert {"unsafe file name": 1, "duplicate image id": 1} == dict(skipped)


def test_what_has_no_place_in_the_format_is_said(tmp_path):
    ref = ImageRef(png(np.zeros((1, 1, 3), np.uint8)))
    bare = Scene(
        "../x",
        1,
        1,
        ref,
        Objects.build([], []),
        ImageRef(masks.panoptic_png(np.zeros((1, 1), np.int64))),
    )
    with pytest.raises(DatasetError, match="is no file name"):
        write(SceneList(CATEGORIES, [bare]), Folder.at(tmp_path))
    with pytest.raises(DatasetError, match=r"class 'tree' .* none of Cityscapes'"):
        write(SceneList(toy.CATEGORIES, []), Folder.at(tmp_path))
    with pytest.raises(DatasetError, match=r"class 'car' .id 7. is none"):
        write(SceneList((Category(7, "car"),), []), Folder.at(tmp_path))
    for wrong in ({"classes": "some"}, {"split": "../x"}, {"on_bad": "no"}, {"max_pixels": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            cityscapes.Config("", **wrong)
