"""COCO-Stuff.

Two files read as one, and exactly the objects and images of the published filters.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.coco import stuff as coco_stuff
from synthaug.pipeline.formats.reference import open_dataset
from tests import paths

THINGS = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
STUFF = [{"id": 183, "name": "other"}, {"id": 92, "name": "banner"}, {"id": 182, "name": "wood"}]
KEPT = (
    Category(1, "person"),
    Category(90, "toothbrush"),
    Category(92, "banner", isthing=False),
    Category(182, "wood", isthing=False),
)


def image(key: int = 1) -> dict:
    return {
        "id": key,
        "file_name": f"{key}.png",
        "height": 10,
        "width": 20,
    }  # 200 pixels: 2 % are 4


def thing(key: int = 1, **change) -> dict:
    return {
        "id": key,
        "image_id": 1,
        "category_id": 1,
        "bbox": [0, 0, 10, 5],
        "iscrowd": 0,
    } | change


def stuff(key: int = 101, **change) -> dict:
    return thing(key, **({"category_id": 92} | change))


def opened(folder: Path, things: list, regions: list, images: tuple = (1,), **options):
    """Write a pair of files and read it; the third object of an image is enough for it to stay."""
    (folder / "images").mkdir(exist_ok=True)
    out = io.BytesIO()
    Image.new("RGB", (20, 10)).save(out, "PNG")
    for key in images:
        (folder / "images" / f"{key}.png").write_bytes(out.getvalue())
    listed = [image(key) for key in images]
    for name, categories, records in (("instances_x", THINGS, things), ("stuff_x", STUFF, regions)):
        document = {"images": listed, "categories": categories, "annotations": records}
        (folder / f"{name}.json").write_text(json.dumps(document))
    return coco_stuff.read(coco_stuff.Config("instances_x.json", **options), folder)


def ids(dataset) -> list[list[int]]:
    return [dataset[i].objects.id.tolist() for i in range(len(dataset))]


def test_things_come_first_and_every_class_keeps_its_id(tmp_path):
    dataset = opened(
        tmp_path, [thing(7), thing(3, category_id=90)], [stuff(200, category_id=182), stuff(150)]
    )
    objects = dataset[0].objects
    assert (KEPT, Counter()) == (dataset.categories, dataset.skipped)
    assert ([7, 3, 200, 150], [0, 1, 3, 2]) == (objects.id.tolist(), objects.category.tolist())
    assert [True, True, False, False] == objects.isthing.tolist()


def test_masks_of_both_files_are_kept(tmp_path):
    mask = np.zeros((1, 10, 20), bool)
    mask[0, 2:7, 3:9] = True
    rle = {"size": [10, 20], "counts": masks.encode(mask)[0]}
    polygon = [[3, 2, 9, 2, 9, 7, 3, 7]]
    dataset = opened(tmp_path, [thing(segmentation=polygon), thing(2)], [stuff(segmentation=rle)])
    assert (rle["counts"], None, rle["counts"]) == dataset[0].objects.rle


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bbox": [0, 0, 2, 2]}, "object under 2 % of the image"),  # exactly 2 %
        (
            {"bbox": [0, 0, 0, 10]},
            "object under 2 % of the image",
        ),  # official files hold a few of these
        ({"category_id": 183, "iscrowd": 1}, "object of the class 'other'"),
        ({"category_id": 183}, "object of the class 'other'"),
    ],
)
@pytest.mark.parametrize("where", ["things", "stuff"])
def test_an_object_left_out_is_counted_by_reason(tmp_path, change, reason, where):
    things, regions = [thing(1), thing(2)], [stuff(101)]
    (things if where == "things" else regions).append(thing(50, **change))
    dataset = opened(tmp_path, things, regions)
    assert ([[1, 2, 101]], Counter({reason: 1})) == (ids(dataset), dataset.skipped)


@pytest.mark.parametrize("where", ["things", "stuff"])
def test_a_crowd_is_an_ignore_region_and_no_object(tmp_path, where):
    """However small; three objects beside it are enough, eight are not too many."""
    crowd = thing(50, iscrowd=1, bbox=[0, 0, 2, 2])
    for number in (2, 7):
        things, regions = [thing(1 + n) for n in range(number)], [stuff(101)]
        (things if where == "things" else regions).append(crowd)
        dataset = opened(tmp_path, things, regions)
        objects = dataset[0].objects
        assert (Counter(), number + 2) == (dataset.skipped, len(objects))
        assert [50] == objects.id[objects.iscrowd].tolist()
    few = opened(tmp_path, [thing(1), crowd], [stuff(101)])
    assert 0 == len(few) and 3 == few.skipped["object of an image left out"]


def test_an_object_a_little_over_two_percent_stays(tmp_path):
    dataset = opened(tmp_path, [thing(1), thing(2, bbox=[0, 0, 2.001, 2])], [stuff()])
    assert [[1, 2, 101]] == ids(dataset)


def test_an_image_with_only_stuff_that_is_left_out_has_stuff_all_the_same(tmp_path):
    dataset = opened(tmp_path, [thing(1), thing(2), thing(3)], [stuff(bbox=[0, 0, 1, 1])])
    assert [[1, 2, 3]] == ids(dataset)


def test_images_out_of_range_are_dropped_whole(tmp_path):
    things = [
        thing(10 * key + n, image_id=key)
        for key, number in ((1, 3), (2, 1), (3, 8), (4, 7))
        for n in range(number)
    ]
    regions = [stuff(100 + key, image_id=key) for key in (2, 3, 4)]
    dataset = opened(tmp_path, things, regions, (1, 2, 3, 4, 5))
    assert ["4"] == [dataset[i].image_id for i in range(len(dataset))]
    assert 8 == len(dataset[0].objects)
    assert dataset.skipped == {
        "image without stuff annotation": 2,
        "image with fewer than 3 objects": 1,
        "image with more than 8 objects": 1,
        "object of an image left out": 3 + 2 + 9,
    }


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.builds(
            lambda key, category, w, h, crowd: {
                "image_id": key,
                "category_id": category,
                "bbox": [0, 0, w, h],
                "iscrowd": crowd,
            },
            st.integers(1, 3),
            st.sampled_from([1, 90, 92, 182, 183]),
            st.floats(1.125, 8, width=16),  # boxes of one pixel read as parts of the image
            st.floats(0.5, 3, width=16),
            st.booleans().map(int),
        ),
        max_size=24,
    ),
    st.sampled_from([(0.02, 3, 8), (0.0, 1, 2), (0.05, 0, 4)]),
)
def test_the_filters_are_those_of_the_specification(tmp_path, records, limits):
    """The same rules, written as sentences over all records.

    And each record is either there or counted.
    """
    min_area, low, high = limits
    records = [record | {"id": number} for number, record in enumerate(records, 1)]
    things = [record for record in records if record["category_id"] <= 90]
    regions = [record for record in records if record["category_id"] > 90]

    def stays(record: dict) -> bool:
        large = record["bbox"][2] * record["bbox"][3] / 200 > min_area
        return (large or record["iscrowd"]) and record["category_id"] != 183

    expected = {}
    for key in (1, 2, 3):
        kept = [r for r in things + regions if r["image_id"] == key and stays(r)]
        num_objects = sum(not r["iscrowd"] for r in kept)
        if any(r["image_id"] == key for r in regions) and low <= num_objects <= high:
            expected[str(key)] = [r["id"] for r in kept]
    options = {"min_area": min_area, "min_objects": low, "max_objects": high}
    dataset = opened(tmp_path, things, regions, (1, 2, 3), **options)
    assert expected == {
        dataset[i].image_id: dataset[i].objects.id.tolist() for i in range(len(dataset))
    }
    images = sum(count for reason, count in dataset.skipped.items() if reason.startswith("image"))
    objects = sum(
        count for reason, count in dataset.skipped.items() if not reason.startswith("image")
    )
    assert (3, len(records)) == (len(dataset) + images, sum(map(len, expected.values())) + objects)


# --- bad input --


@pytest.mark.parametrize(
    ("things", "regions", "message"),
    [
        ([], [stuff(category_id=7)], "stuff_x.json: annotation 101: category_id 7 is not among"),
        (
            [],
            [stuff(image_id=9)],
            "stuff_x.json: annotation 101: image_id 9 is not among the images",
        ),
        (
            [thing(bbox=[0, 0, -5, 5])],
            [],
            "instances_x.json: annotation 1: bbox [0, 0, -5, 5] has no extent",
        ),
        (
            [thing(bbox=[0, 0, 9])],
            [],
            "instances_x.json: annotation 1: bbox [0, 0, 9] must be a list",
        ),
        ([thing(bbox=[15, 0, 10, 5])], [], "bbox lies 5 pixels outside the image"),
        ([thing(bbox=[0, 0, "9", 5])], [], "bbox is '9', not a finite number"),
        (
            [{"id": 4, "image_id": 1, "category_id": 1}],
            [],
            "instances_x.json: annotation 4: key 'bbox' is missing",
        ),
        ([7], [], "instances_x.json: annotation at position 0: is no JSON object"),
        ([], [stuff(segmentation={"size": [20, 10], "counts": "x"})], "is not that of the image"),
        ([], [stuff(iscrowd="no")], "stuff_x.json: annotation 101: iscrowd is 'no'"),
    ],
)
def test_a_bad_record_names_its_file_or_is_counted(tmp_path, things, regions, message):
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, things, regions)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    good = [thing(21), thing(22)], [stuff(121)]
    dataset = opened(tmp_path, [*good[0], *things], [*good[1], *regions], on_bad="skip")
    kept = [21, 22, 121]
    if "is not that of the image" in message:  # the mask goes, the box stays
        kept = [21, 22, 121, 101]
    assert ([kept], 1) == (ids(dataset), dataset.skipped.total())


def test_a_class_in_both_files_is_named(tmp_path):
    opened(tmp_path, [], [])
    document = json.loads((tmp_path / "stuff_x.json").read_text())
    document["categories"].append({"id": 90, "name": "brush"})
    (tmp_path / "stuff_x.json").write_text(json.dumps(document))
    with pytest.raises(
        DatasetError, match=r"stuff_x\.json: category 90: another category has the same id"
    ):
        coco_stuff.read(coco_stuff.Config("instances_x.json"), tmp_path)


def test_a_missing_stuff_file_says_what_to_give(tmp_path):
    opened(tmp_path, [], [])
    (tmp_path / "stuff_x.json").rename(tmp_path / "regions.json")
    with pytest.raises(DatasetError, match=r"stuff_x\.json: no such file; give .* with stuff=FILE"):
        coco_stuff.read(coco_stuff.Config("instances_x.json"), tmp_path)
    assert 0 == len(
        coco_stuff.read(coco_stuff.Config("instances_x.json", stuff="regions.json"), tmp_path)
    )
    (tmp_path / "instances_x.json").rename(tmp_path / "things.json")
    with pytest.raises(
        DatasetError, match=r"things\.json: no stuff file is given and the name has no 'instances_'"
    ):
        coco_stuff.read(coco_stuff.Config("things.json"), tmp_path)
    with pytest.raises(DatasetError, match=r"instances_x\.json: cannot be read \(No such file"):
        coco_stuff.read(coco_stuff.Config("instances_x.json"), tmp_path)


@pytest.mark.parametrize("name", ["instances_x", "stuff_x"])
def test_a_truncated_file_is_named(tmp_path, name):
    opened(tmp_path, [thing()], [stuff()])
    file = tmp_path / f"{name}.json"
    file.write_text(file.read_text()[:-40])
    with pytest.raises(DatasetError, match=f"{name}.json: not valid JSON at line 1"):
        coco_stuff.read(coco_stuff.Config("instances_x.json"), tmp_path)


def test_no_image_is_read_from_outside_the_folder(tmp_path):
    opened(tmp_path, [], [])
    document = json.loads((tmp_path / "instances_x.json").read_text())
    document["images"][0]["file_name"] = "../stuff_x.json"
    (tmp_path / "instances_x.json").write_text(json.dumps(document))
    with pytest.raises(
        DatasetError,
        match=r"instances_x\.json: image 1 .*: its file_name '\.\./stuff_x\.json' is absolute or",
    ):
        coco_stuff.read(coco_stuff.Config("instances_x.json"), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        "min_area=1",
        "min_area=-0.1",
        "min_objects=9",
        "min_objects=-1",
        "on_bad=maybe",
        "max_pixels=0",
    ],
)
def test_bad_settings_name_the_key(tmp_path, options):
    with pytest.raises(JobError, match=f"data: .*{options.partition('=')[0]}"):
        open_dataset(f"coco_stuff:instances_x.json?{options}", tmp_path)


def test_the_fingerprint_sees_both_files_and_the_filters(tmp_path):
    things, regions = [thing(1), thing(2), thing(3)], [stuff()]
    first = opened(tmp_path, things, regions).fingerprint()
    assert first == opened(tmp_path, things, regions).fingerprint()
    others = [
        opened(tmp_path, things, [stuff(bbox=[0, 0, 9, 9])]).fingerprint(),
        opened(tmp_path, [thing(1), thing(2)], regions).fingerprint(),
        opened(tmp_path, things, regions, min_area=0.03).fingerprint(),
    ]
    assert 4 == len({first, *others})


# --- real files --


def test_real_coco_stuff_is_filtered_as_in_the_papers():
    root = paths.sample_data("coco_stuff_mini") / "annotations"
    dataset = coco_stuff.read(
        coco_stuff.Config("annotations/instances_train.json"), paths.sample_data("coco_stuff_mini")
    )
    assert (171, 80) == (
        len(dataset.categories),
        sum(category.isthing for category in dataset.categories),
    )
    numbers = [category.id for category in dataset.categories]
    assert sorted(set(numbers)) == numbers
    assert (1, 182) == (numbers[0], numbers[-1])
    things, regions = (
        json.loads((root / f"{name}_train.json").read_text()) for name in ("instances", "stuff")
    )
    sizes = {record["id"]: record["width"] * record["height"] for record in things["images"]}
    large = Counter(
        record["image_id"]
        for record in things["annotations"] + regions["annotations"]
        if record["bbox"][2] * record["bbox"][3] > 0.02 * sizes[record["image_id"]]
    )
    with_stuff = {record["image_id"] for record in regions["annotations"]}
    expected = {str(key): large[key] for key in sizes if key in with_stuff and 3 <= large[key] <= 8}
    assert expected == {dataset[i].image_id: len(dataset[i].objects) for i in range(len(dataset))}
    assert 73 + 62 == sum(expected.values()) + sum(
        count for reason, count in dataset.skipped.items() if reason.startswith("object")
    )


def test_masks_of_real_objects_lie_in_their_boxes():
    dataset = coco_stuff.read(
        coco_stuff.Config("annotations/instances_train.json", max_objects=20),
        paths.sample_data("coco_stuff_mini"),
    )
    for scene in (dataset[i] for i in range(len(dataset))):
        stack = masks.decode_all(scene.objects, (scene.height, scene.width))
        assert np.abs(masks.tight_boxes(stack) - scene.objects.boxes).max() <= 1
        assert stack.sum((1, 2)).tolist() == scene.objects.area.tolist()


def test_a_file_without_its_own_stuff_file_takes_the_given_one():
    options = {"stuff": "annotations/stuff_train.json", "images": "images"}
    polygons = coco_stuff.read(
        coco_stuff.Config("annotations/instances_train_polygons.json", **options),
        paths.sample_data("coco_stuff_mini"),
    )
    runs = coco_stuff.read(
        coco_stuff.Config("annotations/instances_train.json"), paths.sample_data("coco_stuff_mini")
    )
    assert ids(runs) == ids(polygons)
    assert runs.fingerprint() != polygons.fingerprint()
