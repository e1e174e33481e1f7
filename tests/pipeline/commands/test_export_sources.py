"""The parts of a run and other data sets, by split."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from synthaug.pipeline.commands.export_sources import (
    Request,
    open_splits,
    read_object,
    step_folder,
)
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy


def write(folder: Path, count: int) -> Path:
    """Write `count` toy scenes and return the folder."""
    table = toy.read(toy.Config("train", count), Path())
    scenes = [table[i] for i in range(count)]
    parquet.write(SceneList(toy.CATEGORIES, scenes), Folder.at(folder))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with parts of 1 to 4 scenes."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "job.yaml").touch()
    (folder / "metrics.json").write_text('{"job": "cells"}')
    ingest, pseudo = folder / "steps" / "ingest-1", folder / "steps" / "pseudo_label-1"
    for count, part in enumerate((ingest / "labelled", ingest / "validation", pseudo), start=1):
        write(part, count)
    write(folder / "data", 4)
    for step in (ingest, pseudo):
        (step / "manifest.json").write_text("{}")
    return folder


def sizes(request: Request) -> dict[str, dict[str, int]]:
    splits = open_splits(request)
    return {
        split: {name: len(table) for name, table in tables.items()}
        for split, tables in splits.items()
    }


def test_a_run_is_labelled_and_synthetic_images_and_its_validation_images(run: Path) -> None:
    expected = {"train": {"real": 1, "synthetic": 4}, "val": {"validation": 2}}
    assert sizes(Request(str(run), "coco", "out")) == expected


def test_parts_are_chosen_and_named_once(run: Path) -> None:
    request = Request(str(run), "coco", "out", parts="pseudo, synthetic,pseudo")
    assert sizes(request) == {"train": {"pseudo": 3, "synthetic": 4}}


def test_other_data_sets_join_their_split(run: Path) -> None:
    request = Request(
        str(run), "coco", "out", "labelled", ("toy:train?count=5",), "toy:val?count=6"
    )
    assert sizes(request) == {"train": {"real": 1, "set2": 5}, "val": {"val1": 6}}


def test_any_data_set_is_a_source() -> None:
    assert sizes(Request("toy:train?count=2", "coco", "out")) == {"train": {"set1": 2}}


@pytest.mark.parametrize(
    ("source", "parts", "message"),
    [
        ("RUN", "synthetics", "--parts: a run has no 'synthetics'; did you mean 'synthetic'?"),
        ("toy:train?count=2", "labelled", "--parts: only a run has parts, and 'toy:train?count=2'"),
        ("nowhere", "", "nowhere: neither a run folder (it has no job.yaml) nor a data set"),
    ],
)
def test_mistakes_are_one_line(run: Path, source: str, parts: str, message: str) -> None:
    with pytest.raises(JobError) as error:
        open_splits(Request(source.replace("RUN", str(run)), "coco", "out", parts))
    assert str(error.value).startswith(message)


def test_a_part_that_was_never_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").touch()
    with pytest.raises(JobError, match=r"has no labelled images .* leave 'labelled' out"):
        open_splits(Request(str(tmp_path), "coco", "out"))


def test_an_export_is_called_like_the_job_or_the_data_set(run: Path) -> None:
    assert Request(str(run), "coco", "out").title == "cells"
    assert Request("coco:data/birds.json?images=x + toy:train", "coco", "out").title == "birds.json"


def test_the_step_that_metrics_name_is_taken_before_a_newer_one(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        folder = tmp_path / "steps" / f"ingest-{number}"
        folder.mkdir(parents=True)
        if number < 3:
            (folder / "manifest.json").write_text("{}")
            os.utime(folder / "manifest.json", (number, number))
    newest = step_folder(tmp_path, "ingest")
    assert newest is not None and newest.name == "ingest-2", "the third one is not finished"
    (tmp_path / "metrics.json").write_text(json.dumps({"steps": {"ingest": "ingest-1"}}))
    named = step_folder(tmp_path, "ingest")
    assert named is not None and named.name == "ingest-1"
    assert step_folder(tmp_path, "plan") is None


def test_a_file_that_holds_no_object_is_an_empty_one(tmp_path: Path) -> None:
    assert read_object(tmp_path / "absent.json") == {}
    (tmp_path / "list.json").write_text("[1]")
    assert read_object(tmp_path / "list.json") == {}
