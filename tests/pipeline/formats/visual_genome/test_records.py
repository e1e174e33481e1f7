"""Objects and relationships of Visual Genome, image by image.

Sizes, names, clipping and predicates.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.formats.visual_genome.files import Files
from synthaug.pipeline.formats.visual_genome.records import (
    ObjectReader,
    image_part,
    read_relations,
)

IMAGES = {key: {"height": 200, "width": 300} for key in (1, 2, 3)}


def item(key: int, *names: str, **change: Any) -> dict[str, Any]:
    return {
        "object_id": key,
        "names": list(names or ("tree",)),
        "x": 10,
        "y": 20,
        "w": 40,
        "h": 50,
    } | change


def relation(subject: int, predicate: Any, other: int) -> dict[str, Any]:
    ends = {"subject": {"object_id": subject}, "object": {"object_id": other}}
    return ends | {"predicate": predicate, "relationship_id": 9}


def read_objects(
    folder: Path,
    records: list[Any],
    image_ids: tuple[int, ...] = (1,),
    training: tuple[int, ...] = (),
    on_bad: str = "stop",
) -> tuple[ObjectReader, Counter[str]]:
    (folder / "objects.json").write_text(json.dumps(records))
    files = Files(folder, on_bad, Skipped())
    reader = ObjectReader(files, IMAGES, image_ids, training, min_size=32.0)
    reader.read()
    return reader, files.skipped


def test_boxes_are_corners_and_names_are_brought_to_their_main_name(tmp_path: Path) -> None:
    (tmp_path / "object_alias.txt").write_text("tree,oak,trees\n")
    objects = [item(7, "oak", "plant", "trees")]
    reader, skipped = read_objects(tmp_path, [{"image_id": 1, "objects": objects}])
    (read,) = reader.objects[1]
    assert (read.object_id, read.box, read.clipped) == (7, (10, 20, 50, 70), False)
    assert read.names == ("tree", "plant")  # each once, in their order
    assert not skipped


def test_boxes_are_clipped_by_any_amount(tmp_path: Path) -> None:
    objects = [item(1, x=-100, w=140), item(2, y=190, h=500), item(3, x=300, w=40)]
    reader, skipped = read_objects(tmp_path, [{"image_id": 1, "objects": objects}])
    assert [(read.box, read.clipped) for read in reader.objects[1]] == [
        ((0, 20, 40, 70), True),
        ((10, 190, 50, 200), True),
    ]
    assert skipped == {"object outside its image": 1}


def test_small_and_repeated_objects_are_counted(tmp_path: Path) -> None:
    objects = [item(1, w=31.9), item(2, h=31), item(3, w=32, h=32), item(3)]
    reader, skipped = read_objects(tmp_path, [{"image_id": 1, "objects": objects}])
    assert [read.object_id for read in reader.objects[1]] == [3]
    assert skipped == {"object under 32 px": 2, "object listed twice": 1}


def test_names_are_counted_in_training_images_whatever_the_size(tmp_path: Path) -> None:
    records = [
        {"image_id": 1, "objects": [item(1, "sky", w=5), item(2, "sky", "tree")]},
        {"image_id": 2, "objects": [item(3, "car")]},
        {"image_id": 3, "objects": [item(4, "bus", w=1)]},
    ]
    reader, skipped = read_objects(tmp_path, records, image_ids=(2,), training=(1,))
    assert reader.names == {"sky": 2, "tree": 1}
    assert sorted(reader.objects) == [1, 2]  # nobody wants 3
    assert not skipped  # what is small in images of training alone is nobody's loss


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (item(5, names="tree"), "image 1: object 5: names 'tree' must be a list of texts"),
        (item(5, names=[1]), "image 1: object 5: names [1] must be a list of texts"),
        (item(5, w=None), "image 1: object 5: w is None, not a finite number"),
        ({"names": []}, "image 1: object at position 0: key 'object_id' is missing"),
        (5, "image 1: object at position 0: is no JSON object"),
    ],
)
def test_a_bad_object_stops_or_is_counted(tmp_path: Path, bad: Any, message: str) -> None:
    records = [{"image_id": 1, "objects": [bad, item(6)]}]
    with pytest.raises(DatasetError) as caught:
        read_objects(tmp_path, records)
    assert f"objects.json: {message}; correct it" in str(caught.value)
    reader, skipped = read_objects(tmp_path, records, on_bad="skip")
    assert [read.object_id for read in reader.objects[1]] == [6]
    assert skipped.total() == 1


def test_an_image_is_known_and_comes_once() -> None:
    seen: set[int] = set()
    assert image_part({"image_id": 1, "objects": []}, "objects", IMAGES, seen) == (1, [])
    for bad, message in (
        ({"image_id": 1, "objects": []}, "another record has the same image_id"),
        ({"image_id": 9, "objects": []}, "its image_id is not in image_data.json"),
        ({"image_id": 2, "objects": {}}, "its objects must be a list"),
        ({"image_id": 2}, "key 'objects' is missing"),
    ):
        with pytest.raises(RecordError) as caught:
            image_part(bad, "objects", IMAGES, seen)
        assert caught.value.detail == message
    assert seen == {1}


def relations(folder: Path, records: list[Any], on_bad: str = "stop", **options: Any) -> Any:
    (folder / "relationships.json").write_text(json.dumps(records))
    files = Files(folder, on_bad, Skipped())
    kept = options.get("kept", {1: {5, 6}, 2: {7, 8}})
    return read_relations(files, IMAGES, kept, options.get("training", (1,)))


def test_predicates_are_brought_to_their_main_name_in_training_images_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "relationship_alias.txt").write_text("on,on top of\n")
    records = [
        {"image_id": 1, "relationships": [relation(5, " On Top Of ", 6), relation(6, "HAS", 5)]},
        {"image_id": 2, "relationships": [relation(7, " On Top Of ", 8)]},
    ]
    assert relations(tmp_path, records) == {
        1: [(5, "on", 6), (6, "has", 5)],
        2: [(7, " On Top Of ", 8)],
    }


def test_both_ends_must_be_kept(tmp_path: Path) -> None:
    records = [
        {"image_id": 1, "relationships": [relation(5, "on", 9), relation(9, "on", 5)]},
        {"image_id": 3, "relationships": [relation(5, "on", 6)]},
    ]
    assert relations(tmp_path, records) == {1: []}
    assert relations(tmp_path, records, kept={}) == {}


def test_a_predicate_that_is_no_text_stops_or_is_left_out(tmp_path: Path) -> None:
    records = [{"image_id": 1, "relationships": [relation(5, 3, 6), relation(5, "on", 6)]}]
    with pytest.raises(DatasetError, match="image 1: relationship 9: predicate 3 is no text"):
        relations(tmp_path, records)
    assert relations(tmp_path, records, "skip") == {1: [(5, "on", 6)]}
