"""Visual Genome.

The published vocabulary, filters and choice of objects, deterministic, and every bad record named.
"""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.visual_genome import read as visual_genome
from tests import paths

SMALL = {"min_count": 2, "min_predicate": 1}  # so that a few records suffice


def item(key: int, name: str = "tree", **change) -> dict:
    return {"object_id": key, "names": [name], "x": 10, "y": 20, "w": 40, "h": 50} | change


def relation(subject: int, other: int, predicate: str = "on") -> dict:
    return {
        "subject": {"object_id": subject},
        "object": {"object_id": other},
        "predicate": predicate,
    }


def picture(key: int, **change) -> dict:
    return {
        "image_id": key,
        "width": 300,
        "height": 200,
        "url": f"https://example.invalid/a/VG_100K/{key}.jpg",
    } | change


def write(folder: Path, name: str, content) -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def jpeg(width: int = 300, height: int = 200) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "JPEG")
    return out.getvalue()


def make(
    folder: Path, objects: dict[int, list], relations: dict[int, list] | None = None, **files
) -> Path:
    """Write a folder whose images all train.

    `files` replace or add files, their names with _ for the dot.
    """
    (folder / "VG_100K").mkdir(exist_ok=True)
    for key in objects:
        (folder / "VG_100K" / f"{key}.jpg").write_bytes(jpeg())
    parts = {
        "image_data_json": [picture(key) for key in objects],
        "objects_json": [{"image_id": key, "objects": of} for key, of in objects.items()],
        "vg_splits_json": {"train": list(objects), "val": [], "test": []},
    }
    if relations is not None:
        parts["relationships_json"] = [
            {"image_id": key, "relationships": of} for key, of in relations.items()
        ]
    for name, content in (parts | files).items():
        write(folder, ".".join(name.rsplit("_", 1)), content)
    return folder


def opened(folder: Path, **options) -> visual_genome.VisualGenome:
    return visual_genome.read(visual_genome.Config(folder.name, **(SMALL | options)), folder.parent)


def ids(dataset) -> dict[str, list[int]]:
    return {dataset[i].image_id: dataset[i].objects.id.tolist() for i in range(len(dataset))}


def three(first: int, name: str = "tree") -> list[dict]:
    return [item(first + n, name) for n in range(3)]


# --- vocabulary --


def test_classes_are_frequent_names_after_aliases_by_count_then_alphabet(tmp_path):
    names = ["sky", "sky", "trees", "tree", "oak", "car", "car", "man", "bus", "bus"]
    objects = {
        1: [item(n, name, w=5) for n, name in enumerate(names, 1)]
    }  # small objects count too
    make(tmp_path, objects, object_alias_txt="tree, trees,oak\n\nbus,coach\n")
    dataset = opened(tmp_path)
    found = [(category.id, category.name, category.isthing) for category in dataset.categories]
    assert [(1, "tree", True), (2, "bus", True), (3, "car", True), (4, "sky", True)] == found
    assert ["tree", "bus", "car", "sky", "man"] == [
        c.name for c in opened(tmp_path, min_count=1).categories
    ]


def test_only_large_training_images_make_the_vocabulary(tmp_path):
    objects = {1: three(1), 2: three(11, "car"), 3: three(21, "bus")}
    make(
        tmp_path,
        objects,
        vg_splits_json={"train": [1, 2], "val": [3]},
        image_data_json=[picture(1), picture(2, height=199), picture(3)],
    )
    assert ["tree"] == [category.name for category in opened(tmp_path).categories]
    held_out = opened(tmp_path, split="val")
    assert ["tree"] == [category.name for category in held_out.categories]
    assert {"object of no class": 3, "image with fewer than 3 objects": 1} == held_out.skipped
    assert {"image with a side under 200 px": 1} == opened(tmp_path).skipped
    assert ["bus", "tree"] == [
        category.name for category in opened(tmp_path, split="all").categories
    ]


def test_an_object_takes_the_first_of_its_names_that_is_a_class(tmp_path):
    objects = {
        1: [
            *three(1),
            *three(11, "car"),
            item(21, names=["thing", "autos", "tree"]),
            item(22, names=[]),
        ]
    }
    dataset = opened(make(tmp_path, objects, object_alias_txt="car,autos"))
    assert {"1": [1, 2, 3, 11, 12, 13, 21]} == ids(dataset)
    assert "car" == dataset.categories[dataset[0].objects.category[6]].name
    assert {"object without a name": 1} == dataset.skipped


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["sky", "tree"], [(1, "sky"), (2, "tree")]),
        (["__image__", "sky", "tree"], [(1, "sky"), (2, "tree")]),
        (
            {
                "object_idx_to_name": ["__image__", "tree"],
                "pred_idx_to_name": ["__in_image__", "on"],
            },
            [(1, "tree")],
        ),
    ],
)
def test_a_given_vocabulary_sets_the_order_and_needs_no_training_images(
    tmp_path, content, expected
):
    make(
        tmp_path,
        {1: three(1)},
        {1: [relation(1, 2)]},
        vg_splits_json={"val": [1], "train": [1]},
        v_json=content,
    )
    dataset = opened(tmp_path, vocabulary=f"{tmp_path.name}/v.json", split="val", min_count=99)
    assert expected == [(category.id, category.name) for category in dataset.categories]
    assert {"1": [1, 2, 3]} == ids(dataset)


@pytest.mark.parametrize(
    "content",
    [["a", "a"], [], ["__image__"], {"names": ["a"]}, [1], {"object_idx_to_name": "ab"}, "{"],
)
def test_a_bad_vocabulary_is_named(tmp_path, content):
    make(tmp_path, {1: three(1)}, v_json=content)
    with pytest.raises(
        DatasetError, match=r"v\.json: (must be a list|names no class|not valid JSON)"
    ):
        opened(tmp_path, vocabulary=f"{tmp_path.name}/v.json")


def test_a_count_no_name_reaches_says_what_the_most_is(tmp_path):
    make(tmp_path, {1: three(1)})
    with pytest.raises(
        DatasetError, match=r"no name has min_count=2000 .*\(the most has 'tree' with 3\); lower it"
    ):
        opened(tmp_path, min_count=2000)


# --- objects and boxes --


def test_objects_need_32_pixels_both_ways(tmp_path):
    sizes = [(32, 32), (31, 50), (50, 31), (31.9, 90), (32, 90), (99, 32), (-40, 40)]
    objects = {1: [item(n, w=w, h=h) for n, (w, h) in enumerate(sizes, 1)]}
    dataset = opened(make(tmp_path, objects))
    assert ({"1": [1, 5, 6]}, {"object under 32 px": 4}) == (ids(dataset), dataset.skipped)


def test_boxes_are_clipped_by_any_amount_and_counted(tmp_path):
    outside = [
        item(4, x=-20, y=-3, w=60),
        item(5, x=250, w=90),
        item(6, x=300),
        item(7, y=-50),
        item(2, y=30),
    ]
    dataset = opened(make(tmp_path, {1: three(1) + outside}))
    assert {"1": [1, 2, 3, 4, 5]} == ids(dataset)
    assert [[0, 0, 40, 47], [250, 20, 300, 70]] == dataset[0].objects.boxes[3:].tolist()
    assert {
        "clipped to image": 2,
        "object outside its image": 2,
        "object listed twice": 1,
    } == dataset.skipped


def test_ids_that_are_not_unique_are_given_anew(tmp_path):
    dataset = opened(make(tmp_path, {1: three(1), 2: three(1)}))
    assert ({"1": [1, 2, 3], "2": [4, 5, 6]}, {"renumbered ids": 6}) == (
        ids(dataset),
        dataset.skipped,
    )


def test_images_with_too_few_or_too_many_objects_are_left_out(tmp_path):
    objects = {
        key: [item(100 * key + n) for n in range(number)]
        for key, number in ((1, 2), (2, 3), (3, 5), (4, 6))
    }
    dataset = opened(make(tmp_path, objects), max_objects=5)
    assert {"2": 3, "3": 5} == {key: len(of) for key, of in ids(dataset).items()}
    assert dataset.skipped == {
        "image with fewer than 3 objects": 1,
        "image with more than 5 objects": 1,
        "object of an image left out": 8,
    }


# --- relationships --


def test_images_need_a_usable_relationship_where_there_are_relationships(tmp_path):
    objects = {key: [*three(10 * key), item(10 * key + 3, w=9)] for key in (1, 2, 3, 4)}
    relations = {
        1: [relation(10, 11), relation(11, 12)],
        2: [relation(20, 23)],  # with an object that is too small
        3: [relation(30, 31, "below")],  # a rare predicate
        4: [relation(40, 41)] * 3,
    }
    make(tmp_path, objects, relations)
    dataset = opened(tmp_path, min_predicate=2, max_relationships=2)
    assert {"1": [10, 11, 12]} == ids(dataset)
    assert dataset.skipped == {
        "image with fewer than 1 usable relationships": 2,
        "image with more than 2 usable relationships": 1,
        "object of an image left out": 9,
        "object under 32 px": 4,
    }
    assert 4 == len(opened(tmp_path, relationships="ignored"))
    (tmp_path / "relationships.json").unlink()
    assert 4 == len(opened(tmp_path))
    with pytest.raises(
        DatasetError,
        match=r"relationships\.json: no such file; put it there, or give relationships=ignored",
    ):
        opened(tmp_path, relationships="required")


def test_predicates_are_brought_to_their_main_name_in_training_images_only(tmp_path):
    """As in the published preparation; the papers' numbers of validation images depend on it."""
    objects = {key: three(10 * key) for key in (1, 2, 3)}
    relations = {
        1: [relation(10, 11, " ON ")],
        2: [relation(20, 21, "upon")],
        3: [relation(30, 31, "upon")],
    }
    splits = {"train": [1, 2], "val": [3]}
    make(tmp_path, objects, relations, relationship_alias_txt="on,upon", vg_splits_json=splits)
    assert ["1", "2"] == list(ids(opened(tmp_path, min_predicate=2)))
    assert [] == list(ids(opened(tmp_path, min_predicate=2, split="val")))


# --- the choice of objects --


def test_one_place_is_left_for_the_image_unless_relationships_fill_all(tmp_path):
    objects = {
        1: [item(n) for n in range(1, 31)],
        2: [item(n) for n in range(31, 61)],
        3: [item(n) for n in range(61, 90)],
    }
    relations = {
        1: [relation(5, 2), relation(9, 9)],
        2: [relation(n, n + 1) for n in range(31, 60)],
        3: [relation(61, 62)],
    }
    dataset = opened(make(tmp_path, objects, relations))
    found = ids(dataset)
    assert {"1": 29, "2": 30, "3": 29} == {key: len(of) for key, of in found.items()}
    assert [2, 5, 9] == found["1"][:3]
    assert sorted(found["1"][3:]) == found["1"][3:]
    assert {"object beyond the 30 places": 1} == dataset.skipped


def test_relationships_may_fill_every_place(tmp_path):
    objects = {1: [item(n) for n in range(1, 7)]}
    make(tmp_path, objects, {1: [relation(6, 4), relation(2, 4)]})
    taken = {places: ids(opened(tmp_path, places=places))["1"] for places in (1, 2, 3, 4, 5, 7, 8)}
    assert ([2, 4, 6], [2, 4, 6]) == (taken[3], taken[4])
    assert {1: 1, 2: 2, 5: 4, 7: 6, 8: 6} == {
        places: len(taken[places]) for places in (1, 2, 5, 7, 8)
    }
    assert set(taken[1] + taken[2]) <= {2, 4, 6}


def test_the_choice_depends_on_the_image_alone(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    objects = {key: [item(100 * key + n) for n in range(12)] for key in (1, 2, 3)}
    for folder, of in ((first, objects), (second, {key: objects[key] for key in (3, 1)})):
        folder.mkdir()
        make(folder, of)
    one, other = (ids(opened(folder, places=5)) for folder in (first, second))
    assert {key: one[key] for key in ("1", "3")} == other
    assert {4} == {len(of) for of in one.values()}
    assert 1 < len(
        {tuple(n % 100 for n in of) for of in one.values()}
    )  # not the same places in every image


def genome(seed: int) -> tuple[dict, dict, int]:
    """Objects and relationships of four images, two of which train; and the number of places.

    Drawn evenly: hypothesis prefers short lists, of which the filters leave nothing.
    """
    rng = random.Random(seed)
    objects, relations = {}, {}
    for key in (1, 2, 3, 4):
        number = rng.randint(3, 9)
        sides = [
            (rng.choice([31, *range(32, 39)]), rng.choice([20, *range(32, 39)]))
            for _ in range(number)
        ]
        objects[key] = [
            item(
                10 * key + n,
                names=rng.choices(["a", "A", "b", "c"], k=rng.choice([0, 1, 2, 2])),
                w=w,
                h=h,
            )
            for n, (w, h) in enumerate(sides)
        ]
        relations[key] = [
            relation(
                *rng.choices(range(10 * key, 10 * key + number + 1), k=2),
                rng.choice(["on", "on", "on", "ON", "by", "at"]),
            )
            for _ in range(rng.randint(2, 14))
        ]
    return objects, relations, rng.randint(1, 6)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("seed", range(60))
def test_the_filters_are_those_of_the_specification(tmp_path, seed, split):
    """The rules once more, written over whole tables.

    What may be drawn at random is compared as a set of candidates.
    """
    objects, relations, places = genome(seed)
    rules = {
        "min_count": 3,
        "min_predicate": 2,
        "max_objects": 6,
        "max_relationships": 5,
        "places": places,
    }
    splits = {"train": [2, 1], "val": [4, 3]}
    make(
        tmp_path,
        objects,
        relations,
        object_alias_txt="a,A",
        relationship_alias_txt="by,at",
        vg_splits_json=splits,
    )
    counts = Counter(
        n for key in (1, 2) for o in objects[key] for n in {name.lower() for name in o["names"]}
    )
    classes = sorted(
        (name for name in counts if counts[name] >= 3), key=lambda name: (-counts[name], name)
    )
    if not classes:
        with pytest.raises(DatasetError, match="no name has min_count=3"):
            opened(tmp_path, split=split, **rules)
        return
    named = {
        o["object_id"]: next(name.lower() for name in o["names"] if name.lower() in classes)
        for of in objects.values()
        for o in of
        if o["w"] >= 32 and o["h"] >= 32 and {name.lower() for name in o["names"]} & set(classes)
    }
    main = {"on": "on", "ON": "on", "by": "by", "at": "by"}
    said = [
        (
            key,
            r["subject"]["object_id"],
            r["object"]["object_id"],
            main[r["predicate"]] if key < 3 else r["predicate"],
        )
        for key, of in relations.items()
        for r in of
    ]
    said = [row for row in said if row[1] in named and row[2] in named]
    frequent = {
        p for p, number in Counter(row[3] for row in said if row[0] < 3).items() if number >= 2
    }
    said = [row for row in said if row[3] in frequent]
    dataset = opened(tmp_path, split=split, **rules)
    assert classes == [category.name for category in dataset.categories]
    found = ids(dataset)
    expected = []
    for key in splits[split]:
        here = [o["object_id"] for o in objects[key] if o["object_id"] in named]
        usable = [row for row in said if row[0] == key]
        if not (3 <= len(here) <= 6 and 1 <= len(usable) <= 5):
            continue
        expected.append(str(key))
        related = [i for i in here if any(i in row[1:3] for row in usable)]
        others = [i for i in here if i not in related]
        got = found[str(key)]
        if len(related) > places - 1:
            assert len(got) == places and set(got) <= set(related)
        else:
            assert related == got[: len(related)]
            assert set(got[len(related) :]) <= set(others)
            assert min(len(others), places - 1 - len(related)) == len(got) - len(related)
    assert expected == list(found)
    for scene in (dataset[i] for i in range(len(dataset))):
        assert [
            classes.index(named[i]) for i in scene.objects.id.tolist()
        ] == scene.objects.category.tolist()
    images = sum(number for reason, number in dataset.skipped.items() if reason.startswith("image"))
    lost = sum(number for reason, number in dataset.skipped.items() if reason.startswith("object"))
    total = sum(len(objects[key]) for key in splits[split])
    assert (2, total) == (len(dataset) + images, sum(map(len, found.values())) + lost)


# --- bad input --

OBJECTS = {
    "bad value": (item(9, w="40"), "image 1: object 9: w is '40', not a finite number"),
    "bad value ": (
        item(9, names="tree"),
        "image 1: object 9: names 'tree' must be a list of texts",
    ),
    "bad value  ": (item(9, names=[3]), "image 1: object 9: names [3] must be a list of texts"),
    "bad value   ": (
        item(9, object_id="9"),
        "image 1: object '9': object_id is '9', not a whole number",
    ),
    "bad value    ": (item(9, x=float("nan")), "image 1: object 9: x is nan"),
    "missing key": ({"object_id": 9, "names": []}, "image 1: object 9: key 'x' is missing"),
    "missing key ": (None, "image 1: object at position 3: is no JSON object"),
}


@pytest.mark.parametrize("reason", list(OBJECTS))
def test_a_bad_object_stops_with_its_id_or_is_counted(tmp_path, reason):
    record, message = OBJECTS[reason]
    make(tmp_path, {1: [*three(1), record]})
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path)
    assert f"{tmp_path}/objects.json: {message}" in str(caught.value)
    assert str(caught.value).endswith("on_bad=skip")
    assert "\n" not in str(caught.value)
    dataset = opened(tmp_path, on_bad="skip")
    assert ({"1": [1, 2, 3]}, {reason.strip(): 1}) == (ids(dataset), dataset.skipped)


RELATIONS = {
    "missing key": (
        {"subject": {"object_id": 1}, "predicate": "on"},
        "relationship at position 1: key 'object' is missing",
    ),
    "missing key ": ({"relationship_id": 8, "subject": 3}, "relationship 8: is no JSON object"),
    "bad value": (
        relation(1, "2") | {"relationship_id": 8},
        "relationship 8: object_id is '2', not a whole number",
    ),
    "bad value ": (relation(1, 2, None), "relationship at position 1: predicate None is no text"),
}


@pytest.mark.parametrize("reason", list(RELATIONS))
def test_a_bad_relationship_stops_or_is_counted(tmp_path, reason):
    record, message = RELATIONS[reason]
    make(tmp_path, {1: three(1)}, {1: [relation(1, 2), record]})
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path)
    assert f"{tmp_path}/relationships.json: image 1: {message}" in str(caught.value)
    dataset = opened(tmp_path, on_bad="skip")
    assert ({"1": [1, 2, 3]}, {reason.strip(): 1}) == (ids(dataset), dataset.skipped)


IMAGES = {
    "duplicate image id": (picture(1), "image 1: another image has the same id"),
    "bad image size": (picture(2, width=0), "image 2: width 0 and height 200 must be above 0"),
    "bad value": (picture(2, width="300"), "image 2: width is '300', not a whole number"),
    "bad value ": (picture("2"), "image '2': image_id is '2', not a whole number"),
    "missing image file": (
        picture(2, url="https://x/VG_100K/none.jpg"),
        "image 2: its image file 'VG_100K/none.jpg' is not in",
    ),
    "missing image file ": (picture(2, url=7), "image 2: its url is no text"),
    "missing image file  ": (
        picture(2, url="https://x/VG_100K/"),
        "image 2: its image file 'VG_100K/' is no ordinary file",
    ),
    "missing key": ({"image_id": 2, "width": 300, "height": 200}, "image 2: key 'url' is missing"),
    "image too large": (picture(2, width=10**6, height=10**6), "is over max_pixels=100000000"),
    "unsafe file name": (
        picture(2, url="a/../secret.jpg"),
        "image 2: its image file '../secret.jpg' is absolute or leaves",
    ),
    "unsafe file name ": (picture(2, url="https://x/VG_100K/link.jpg"), "through a link"),
    "unsafe file name  ": (
        picture(2, url="//secret.jpg"),
        "image 2: its image file '/secret.jpg' is absolute or leaves",
    ),
}


@pytest.mark.parametrize("reason", list(IMAGES))
def test_a_bad_image_stops_with_its_id_or_is_counted(tmp_path, reason):
    record, message = IMAGES[reason]
    (tmp_path / "secret.jpg").write_bytes(b"")
    folder = tmp_path / "vg"
    folder.mkdir()
    (folder / "VG_100K").mkdir()
    (folder / "VG_100K" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    make(folder, {1: three(1)}, image_data_json=[picture(1), record])
    listed = [1] if record["image_id"] in (1, "2") else [1, 2]
    write(folder, "vg_splits.json", {"train": listed})
    with pytest.raises(DatasetError) as caught:
        opened(folder)
    assert f"{folder}/image_data.json: " in str(caught.value)
    assert message in str(caught.value)
    dataset = opened(folder, on_bad="skip")
    expected = Counter({reason.strip(): 1})
    if reason.strip() in ("bad image size", "bad value") and listed == [1, 2]:
        expected["unknown image"] = 1  # its split names it
    assert (["1"], expected) == (list(ids(dataset)), dataset.skipped)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"objects_json": '[{"image_id": 1, "objects": ['},
            "objects.json: not valid JSON at line 1, column 30",
        ),
        ({"objects_json": {"image_id": 1}}, "objects.json: the top level must be a list"),
        (
            {"objects_json": [{"image_id": 5, "objects": []}]},
            "objects.json: image 5: its image_id is not in image_data.json",
        ),
        (
            {"objects_json": [{"image_id": 1, "objects": []}] * 2},
            "objects.json: image 1: another record has the same image_id",
        ),
        (
            {"objects_json": [{"image_id": 1, "objects": {}}]},
            "objects.json: image 1: its objects must be a list",
        ),
        ({"objects_json": [{"image_id": 1}]}, "objects.json: image 1: key 'objects' is missing"),
        ({"objects_json": [[]]}, "objects.json: image at position 0: is no JSON object"),
        (
            {"image_data_json": "[]"},
            "vg_splits.json: train image at position 0: image 1 has no record in image_data.json",
        ),
        (
            {"vg_splits_json": {"val": [1]}},
            "vg_splits.json: has no list of image ids 'train'; known: val",
        ),
        ({"vg_splits_json": [1]}, "vg_splits.json: has no list of image ids 'train'"),
        (
            {"vg_splits_json": {"train": [1, 1]}},
            "vg_splits.json: train image at position 1: 1 is no whole number, or is listed",
        ),
        (
            {"vg_splits_json": {"train": ["1"]}},
            "vg_splits.json: train image at position 0: '1' is no whole number",
        ),
        (
            {"vg_splits_json": {"train": [2]}},
            "vg_splits.json: train image at position 0: image 2 has no record",
        ),
        (
            {"relationships_json": [{"image_id": 7, "relationships": []}]},
            "relationships.json: image 7: its image_id is not",
        ),
        ({"relationships_json": "[1, 2"}, "relationships.json: "),
    ],
)
def test_a_broken_file_is_named(tmp_path, files, message):
    make(tmp_path, {1: three(1)}, **files)
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path)
    assert f"{tmp_path}/{message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["objects.json", "image_data.json", "vg_splits.json"])
def test_a_missing_file_or_folder_is_named(tmp_path, name):
    make(tmp_path, {1: three(1)})
    (tmp_path / name).unlink()
    with pytest.raises(
        DatasetError, match=rf"{name}: (cannot be read \(No such file|no such file; put it there)"
    ):
        opened(tmp_path)
    with pytest.raises(DatasetError, match="nowhere: no such folder; give the one that holds"):
        visual_genome.read(visual_genome.Config("nowhere"), tmp_path)
    with pytest.raises(DatasetError, match="elsewhere: no such folder; correct the option images="):
        opened(make(tmp_path, {1: three(1)}), images="elsewhere")


def test_an_alias_file_that_is_no_text_is_named(tmp_path):
    make(tmp_path, {1: three(1)})
    (tmp_path / "object_alias.txt").write_bytes(b"a,\xff\xfe\n")
    with pytest.raises(DatasetError, match=r"object_alias\.txt: is no UTF-8 text"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        "min_objects=31",
        "min_relationships=31",
        "places=0",
        "min_size=-1",
        "relationships=maybe",
        "on_bad=x",
        "min_side=-1",
    ],
)
def test_bad_settings_name_the_key(tmp_path, options):
    with pytest.raises(JobError, match=f"data: .*{options.partition('=')[0]}"):
        open_dataset(f"visual_genome:vg?{options}", tmp_path)


def test_the_fingerprint_sees_files_and_filters_but_not_where_they_are(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        make(folder, {1: three(1)})
    first = opened(one).fingerprint()
    assert first == opened(two).fingerprint()
    marks = {first, opened(one, places=2).fingerprint()}
    write(two, "object_alias.txt", "x,y")
    marks.add(opened(two).fingerprint())
    (one / "VG_100K" / "1.jpg").write_bytes(jpeg() + b"more")
    marks.add(opened(one).fingerprint())
    assert 4 == len(marks)


# --- real files --


def test_two_real_images_keep_their_large_objects():
    folder = paths.sample_data("vg_mini")
    config = visual_genome.Config("vg_mini", split="all", min_count=1)
    dataset = visual_genome.read(config, folder.parent)
    records = {
        entry["image_id"]: entry["objects"]
        for entry in json.loads((folder / "objects.json").read_text())
    }
    large = {
        str(key): {o["object_id"] for o in of if min(o["w"], o["h"]) >= 32}
        for key, of in records.items()
    }
    assert large == {key: set(of) for key, of in ids(dataset).items()}
    assert {"object under 32 px": 31 + 25 - sum(map(len, large.values()))} == dataset.skipped
    named = {o["object_id"]: o["names"][0] for of in records.values() for o in of}
    for scene in (dataset[i] for i in range(2)):
        names = [dataset.categories[c].name for c in scene.objects.category]
        assert [named[i] for i in scene.objects.id.tolist()] == names
        with Image.open(scene.image.path) as image:
            assert (scene.width, scene.height) == image.size


def test_the_made_pack_with_every_file_is_read():
    folder = paths.sample_data("vg_format_mini")
    options = {"min_count": 2, "min_predicate": 3, "min_objects": 1}
    splits = {
        name: visual_genome.Config("vg_format_mini", split=name, **options)
        for name in ("train", "val", "test")
    }
    sets = {name: visual_genome.read(config, folder.parent) for name, config in splits.items()}
    assert 1 == len({dataset.categories for dataset in sets.values()})
    names = [category.name for category in sets["train"].categories]
    assert "person" == names[0]
    assert not {"human", "television", "automobile", "ocean"} & set(names)  # aliases
    folders = {Path(d[i].image.path).parent.name for d in sets.values() for i in range(len(d))}
    assert {"VG_100K", "VG_100K_2"} == folders
    given = json.loads((folder / "vg_splits.json").read_text())
    for name, dataset in sets.items():
        dropped = sum(
            number for reason, number in dataset.skipped.items() if reason.startswith("image")
        )
        assert len(given[name]) == len(dataset) + dropped
        assert [int(key) for key in ids(dataset)] == [
            key for key in given[name] if str(key) in ids(dataset)
        ]


def test_relations_of_frequent_predicates_are_those_between_objects_that_stay(tmp_path):
    objects = {1: three(1), 2: three(11)}
    relations = {
        1: [relation(1, 2), relation(2, 3, "under"), relation(3, 1, " ON ")],
        2: [relation(11, 13), relation(12, 13, "seen once")],
    }
    make(tmp_path, objects, relations)
    dataset = opened(tmp_path, min_predicate=2)
    assert dataset.has_relations
    first, second = dataset
    assert first.relations == ((1, "on", 2), (3, "on", 1))
    assert second.relations == ((11, "on", 13),)
    few = opened(tmp_path, min_predicate=2, places=2)
    for scene in few:
        kept = set(scene.objects.id.tolist())
        assert all({one.subject, one.object} <= kept for one in scene.relations)
    ignored = opened(tmp_path, relationships="ignored")
    assert not ignored.has_relations
    assert ignored[0].relations == ()
    assert ignored.fingerprint() != dataset.fingerprint()


def test_relations_keep_to_their_objects_where_ids_are_numbered_anew(tmp_path):
    make(tmp_path, {1: three(1), 2: three(1)}, {1: [relation(1, 3)], 2: [relation(3, 1)]})
    first, second = opened(tmp_path)  # objects in relations come first, the others after them
    assert first.relations == ((1, "on", 2),)
    assert second.objects.id.tolist() == [4, 5, 6]
    assert second.relations == ((5, "on", 4),)
