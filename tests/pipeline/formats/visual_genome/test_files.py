"""Files of Visual Genome: splits, aliases, vocabularies and images, each checked by itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.formats.visual_genome.files import (
    Files,
    locate,
    read_aliases,
    read_images,
    read_split,
    read_vocabulary,
    whole,
)


def files(folder: Path, on_bad: str = "stop", **contents: Any) -> Files:
    """Write JSON files, named with _ for the dot, and open the folder."""
    for name, content in contents.items():
        (folder / ".".join(name.rsplit("_", 1))).write_text(json.dumps(content))
    return Files(folder, on_bad, Skipped())


def picture(key: int, **change: Any) -> dict[str, Any]:
    url = f"https://example.invalid/a/VG_100K/{key}.jpg"
    return {"image_id": key, "width": 300, "height": 200, "url": url} | change


def test_whole_numbers_are_whole() -> None:
    assert whole({"image_id": 7}, "image_id") == 7
    for value in (7.0, "7", True, None):
        with pytest.raises(RecordError) as caught:
            whole({"image_id": value}, "image_id")
        assert caught.value.detail == f"image_id is {value!r}, not a whole number"


# --- splits ---


def test_a_split_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    opened = files(tmp_path, vg_splits_json={"train": [3, 1, 2], "val": []})
    assert read_split(opened, "train") == [3, 1, 2]
    assert read_split(opened, "val") == []
    digest = hashlib.sha256((tmp_path / "vg_splits.json").read_bytes()).hexdigest()
    assert opened.digests == [digest, digest]


def test_a_bad_entry_of_a_split_stops_or_is_counted(tmp_path: Path) -> None:
    splits = {"train": [1, 1, "2", 3]}
    with pytest.raises(
        DatasetError, match="train image at position 1: 1 is no whole number, or is"
    ):
        read_split(files(tmp_path, vg_splits_json=splits), "train")
    opened = files(tmp_path, "skip", vg_splits_json=splits)
    assert read_split(opened, "train") == [1, 3]
    assert opened.skipped == {"bad split entry": 2}


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"vg_splits\.json: no such file; .* with split=all"):
        read_split(files(tmp_path), "train")
    with pytest.raises(DatasetError, match="no list of image ids 'trian'; did you mean 'train'"):
        read_split(files(tmp_path, vg_splits_json={"train": []}), "trian")
    with pytest.raises(DatasetError, match=r"has no list of image ids 'train'$"):
        read_split(files(tmp_path, vg_splits_json=[1]), "train")


# --- aliases ---


def test_every_name_of_a_line_is_brought_to_the_first(tmp_path: Path) -> None:
    (tmp_path / "object_alias.txt").write_text("\ufefftree, trees ,oak\n\n,lost\nbus,coach,\n")
    aliases = read_aliases(files(tmp_path), "object_alias.txt")
    assert aliases == {"tree": "tree", "trees": "tree", "oak": "tree", "bus": "bus", "coach": "bus"}


def test_without_an_alias_file_there_are_no_aliases_and_no_digest(tmp_path: Path) -> None:
    opened = files(tmp_path)
    assert read_aliases(opened, "object_alias.txt") == {}
    assert opened.digests == []


# --- vocabularies ---


@pytest.mark.parametrize(
    ("content", "classes", "predicates"),
    [
        (["sky", "tree"], {1: "sky", 2: "tree"}, None),
        (["__image__", "sky"], {1: "sky"}, None),
        (
            {"object_idx_to_name": ["__image__", "sky"], "pred_idx_to_name": ["__in__", "on"]},
            {1: "sky"},
            frozenset({"__in__", "on"}),
        ),
        ({"object_idx_to_name": ["sky"], "pred_idx_to_name": []}, {1: "sky"}, frozenset()),
    ],
)
def test_a_vocabulary_numbers_its_names(
    tmp_path: Path, content: Any, classes: dict[int, str], predicates: frozenset[str] | None
) -> None:
    opened = files(tmp_path, names_json=content)
    vocabulary = read_vocabulary(tmp_path / "names.json", opened)
    assert (vocabulary.classes, vocabulary.predicates) == (classes, predicates)
    assert len(opened.digests) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must be a list of names, or an object with such a list as object_idx_to_name"),
        ([1], "must be a list of names"),
        ({"object_idx_to_name": ["a"], "pred_idx_to_name": "on"}, "must be a list of names"),
        ([], "names no class, or one class twice"),
        (["__image__"], "names no class, or one class twice"),
        (["a", "b", "a"], "names no class, or one class twice"),
    ],
)
def test_a_vocabulary_that_is_none_is_one_line(tmp_path: Path, content: Any, message: str) -> None:
    opened = files(tmp_path, names_json=content)
    with pytest.raises(DatasetError, match=rf"names\.json: {message}"):
        read_vocabulary(tmp_path / "names.json", opened)


# --- images ---


def test_images_are_kept_by_id(tmp_path: Path) -> None:
    opened = files(tmp_path, image_data_json=[picture(5), picture(2)])
    assert read_images(opened) == {5: picture(5), 2: picture(2)}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (picture(1), "image 1: another image has the same id"),
        (picture(2, height=0), "image 2: width 300 and height 0 must be above 0"),
        (picture(2, width="9"), "image 2: width is '9', not a whole number"),
        ({"image_id": 2, "height": 5}, "image 2: key 'width' is missing"),
    ],
)
def test_a_bad_image_stops_or_is_counted(tmp_path: Path, bad: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_images(files(tmp_path, image_data_json=[picture(1), bad]))
    opened = files(tmp_path, "skip", image_data_json=[picture(1), bad])
    assert list(read_images(opened)) == [1]
    assert opened.skipped.total() == 1


def test_an_image_lies_where_its_address_ends(tmp_path: Path) -> None:
    (tmp_path / "VG_100K").mkdir()
    (tmp_path / "VG_100K" / "5.jpg").write_bytes(b"1234")
    located = locate(files(tmp_path), [picture(5)], tmp_path, max_pixels=60_000)
    assert located[5].path == tmp_path / "VG_100K" / "5.jpg"
    assert (located[5].name, located[5].num_bytes) == ("VG_100K/5.jpg", 4)
    assert (located[5].height, located[5].width) == (200, 300)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "missing image file"),
        ({"url": 5}, "missing image file"),
        ({"url": "https://x/../5.jpg"}, "unsafe file name"),
        ({"width": 301}, "image too large"),
    ],
)
def test_an_image_that_cannot_be_used_is_counted(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    opened = files(tmp_path, "skip")
    (tmp_path / "VG_100K").mkdir()
    (tmp_path / "VG_100K" / "6.jpg").write_bytes(b"1")
    pictures = [picture(5, **change), picture(6)]
    assert list(locate(opened, pictures, tmp_path, max_pixels=60_000)) == [6]
    assert opened.skipped == {reason: 1}
