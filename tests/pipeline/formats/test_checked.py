"""Readers of checked records: the rule for bad ones, the options and the data set they share."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.formats.checked import CheckedConfig, CheckedDataset, Checker, first_ids
from synthaug.pipeline.formats.validation import RecordError


@dataclass(frozen=True)
class Config(CheckedConfig):
    """A format with an option of its own."""

    split: str = "train"


class Names(CheckedDataset[str]):
    """Scenes of nothing but a name."""

    def scene(self, index: int, row: str) -> Scene:
        return Scene(f"{index}-{row}", 1, 1, ImageRef(), Objects.build([], []))

    def content(self) -> str:
        return " ".join(self.rows)


def refuse_even(record: Any) -> None:
    if record["n"] % 2 == 0:
        raise RecordError("even", f"{record['n']} is even")


RECORDS = [{"n": n, "key": n + 10} for n in range(5)]


def test_a_bad_record_stops_the_reading_and_is_named_by_its_key(tmp_path: Path) -> None:
    check = Checker(tmp_path / "x.json", "stop")
    with pytest.raises(DatasetError) as caught:
        check.each(RECORDS, "thing", refuse_even, "key")
    assert str(caught.value) == (
        f"{tmp_path}/x.json: thing 10: 0 is even; correct it, or leave such records out with "
        "on_bad=skip"
    )


def test_a_record_without_its_key_is_named_by_its_position(tmp_path: Path) -> None:
    check = Checker(tmp_path / "x.json", "stop")
    with pytest.raises(DatasetError, match=r"x\.json: thing at position 0: 0 is even"):
        check.each(RECORDS, "thing", refuse_even)

    def refuse(record: Any) -> None:
        raise RecordError("bad", "is a text")

    with pytest.raises(DatasetError, match=r"x\.json: thing at position 0: is a text"):
        check.each(["no object"], "thing", refuse)


def test_skipped_records_are_counted_by_reason_and_the_others_taken(tmp_path: Path) -> None:
    taken = []

    def take(record: Any) -> None:
        refuse_even(record)
        taken.append(record["n"])

    check = Checker(tmp_path / "x.json", "skip")
    check.each(RECORDS, "thing", take)
    assert check.skipped == {"even": 3}
    assert taken == [1, 3]


def test_an_endless_detail_is_cut(tmp_path: Path) -> None:
    def refuse(record: Any) -> None:
        raise RecordError("long", "x" * 10_000)

    with pytest.raises(DatasetError) as caught:
        Checker(tmp_path, "stop").each([{}], "thing", refuse)
    assert str(caught.value).count("x") == 400 + str(tmp_path).count("x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad": "no"}, "on_bad is 'no'; use stop or skip"),
        ({"max_pixels": 0}, "max_pixels is 0; use a positive number of pixels"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config("x", **options)


def test_own_options_come_before_the_shared_ones_that_have_names_only() -> None:
    assert Config("x", "val").split == "val"
    assert (Config("x").on_bad, Config("x").max_pixels) == ("stop", 100_000_000)


def test_a_data_set_is_read_by_index_and_in_order() -> None:
    dataset = Names((Category(1, "a"),), ["b", "c"], Counter())
    assert [scene.image_id for scene in dataset] == ["0-b", "1-c"]
    assert dataset[1].image_id == "1-c"
    for index in (-1, 2):
        with pytest.raises(IndexError, match=str(index)):
            dataset[index]


def test_counts_of_zero_are_left_out_of_what_was_skipped() -> None:
    counts = Counter({"clipped": 0, "crowd": 2})
    dataset = Names((), [], counts)
    assert dict(dataset.skipped) == {"crowd": 2}
    counts["crowd"] += 1
    assert dict(dataset.skipped) == {"crowd": 2}


def test_the_fingerprint_is_the_sha256_of_the_content() -> None:
    assert Names((), ["b", "c"], Counter()).fingerprint() == hashlib.sha256(b"b c").hexdigest()


@pytest.mark.parametrize(
    ("counts", "ids"), [([], []), ([2], [1]), ([2, 0, 3, 1], [1, 3, 3, 6]), ([0, 0], [1, 1])]
)
def test_object_ids_run_from_one_through_all_images(counts: list[int], ids: list[int]) -> None:
    assert first_ids(counts) == ids
