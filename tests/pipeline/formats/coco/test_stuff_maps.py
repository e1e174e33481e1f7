"""COCO-Stuff pixel maps with instances: the real sample, the rule of each pixel, and mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.coco import panoptic as coco_panoptic
from synthaug.pipeline.formats.coco import stuff_maps as coco_stuff_maps
from synthaug.pipeline.formats.coco.stuff_names import NAMES
from tests import paths
from tests.hard_scenes import edges


def sample() -> Path:
    return paths.sample_data("coco_stuff_mini")


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_the_names_are_those_of_the_data():
    published = json.loads((sample() / "annotations/categories_171.json").read_text())
    assert {c["id"]: c["name"] for c in published} == {
        c["id"]: NAMES[c["id"] - 1] for c in published
    }
    assert 182 == len(NAMES) == len(set(NAMES))
    assert all(c["isthing"] == (c["id"] <= 91) for c in published)


@pytest.mark.parametrize("file", ["instances_train.json", "instances_train_polygons.json"])
def test_the_sample_is_its_own_panoptic_file(file):
    """Composed from labels and instances, the 13 real images are segment for segment the panoptic
    file beside them.
    """
    config = coco_stuff_maps.Config(f"annotations/{file}", maps="semantic_train")
    composed = coco_stuff_maps.read(config, sample())
    config = coco_panoptic.Config("annotations/panoptic_train.json", maps="panoptic_train")
    truth = coco_panoptic.read(config, sample())
    assert 13 == len(composed) == len(truth)
    same = pixels = 0
    for index in range(13):
        a, b = composed[index], truth[index]
        labels = np.asarray(
            Image.open(sample() / f"semantic_train/{int(a.image_id):012d}.png")
        ).astype(int)
        maps = panoptic.maps_of(a, 182)
        assert np.array_equal(np.where(labels == 255, 182, labels), maps.labels)
        if file == "instances_train.json":
            assert sorted(a.objects.rle) == sorted(b.objects.rle) and not a.objects.iscrowd.any()
        instances = panoptic.maps_of(b, 171).instances
        same += int((edges(instances) == edges(maps.instances)).sum())
        pixels += labels.size
    assert same / pixels > (0.9999 if file == "instances_train.json" else 0.99)


@pytest.fixture
def folder(tmp_path):
    """A 2 x 5 map.

    Sky, then persons of whom two are told apart, one pixel is nobody's and one is unlabelled.
    """
    for name in ("images", "maps"):
        (tmp_path / name).mkdir()
    (tmp_path / "images/7.jpg").write_bytes(png(np.zeros((2, 5, 3))))
    (tmp_path / "maps/7.png").write_bytes(
        png(np.array([[156, 156, 156, 156, 156], [0, 0, 0, 0, 255]]))
    )

    def record(number, columns, **more):
        mask = np.zeros((1, 2, 5), bool)
        mask[0, :, columns] = True
        counts = masks.encode(mask)[0]
        return {
            "id": number,
            "image_id": 7,
            "category_id": 1,
            "bbox": [0, 0, 5, 2],
            "segmentation": {"size": [2, 5], "counts": counts},
        } | more

    document = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 2, "width": 5}],
        "categories": [{"id": 1, "name": "person", "supercategory": "human"}],
        "annotations": [
            record(4, [0, 1]),
            record(9, [1, 2]),
            record(5, [0, 1, 2, 3], iscrowd=1),
            record(6, [4]),
        ],
    }

    def reopen(**options):
        (tmp_path / "i.json").write_text(json.dumps(document))
        return coco_stuff_maps.read(
            coco_stuff_maps.Config("i.json", **{"maps": "maps", "images": "images"} | options),
            tmp_path,
        )

    return document, reopen, tmp_path


def test_later_instances_are_in_front_and_leftovers_are_a_crowd(folder):
    _, reopen, _ = folder
    dataset = reopen()
    scene = dataset[0]
    maps = panoptic.maps_of(scene, 182)
    assert [[156] * 5, [0, 0, 0, 0, 182]] == maps.labels.tolist()
    first, second, third, rest, nothing = maps.instances[1].tolist()
    assert second == third != first and min(first, second) > 182 and (0, 182) == (rest, nothing)
    assert {"crowd (a crowd of the map in its place)": 1} == dict(dataset.skipped)
    found = [
        (NAMES[c], int(a), bool(w))
        for c, a, w in zip(
            scene.objects.category, scene.objects.area, scene.objects.iscrowd, strict=True
        )
    ]
    assert [
        ("person", 1, True),
        ("person", 1, False),
        ("person", 2, False),
        ("sky-other", 5, False),
    ] == found
    assert "human" == dataset.categories[0].supercategory and not dataset.categories[156].isthing


def test_mistakes_are_one_line(folder):
    document, reopen, path = folder
    for spoil, words in [
        (lambda d: d["annotations"][0].pop("segmentation"), "annotation 4: it has no segmentation"),
        (lambda d: d["annotations"][0].update(category_id=200), "category_id 200 is not among"),
        (lambda d: d["categories"].append({"id": 92, "name": "x"}), "things have the ids 1 to 91"),
        (lambda d: d["images"][0].update(file_name="../7.jpg"), "leaves"),
    ]:
        before = json.dumps(document)
        spoil(document)
        with pytest.raises(DatasetError, match=words) as error:
            reopen()
        assert "\n" not in str(error.value)
        document.clear()
        document.update(json.loads(before))
    mark = reopen().fingerprint()
    (path / "maps/7.png").write_bytes(png(np.array([[200] * 5] * 2)))
    with pytest.raises(DatasetError, match=r"7\.png: pixels of value 200, which is no class"):
        reopen()[0]
    assert mark != reopen().fingerprint()
    (path / "maps/7.png").unlink()
    with pytest.raises(DatasetError, match=r"image '7': its map '7\.png' is not in"):
        reopen()
    with pytest.raises(DatasetError, match="nothing else is there: correct it"):
        reopen(on_bad="skip")
    with pytest.raises(ValueError, match="option maps is missing"):
        reopen(maps="")
    with pytest.raises(DatasetError, match="no such folder"):
        reopen(maps="nowhere")
