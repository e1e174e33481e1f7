"""The state of a run and the content of a data set, as lines."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from synthaug.pipeline.commands.status import inspect, lines
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import ImageRef, SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps import STEPS


def step(run: Path, name: str, **files: str) -> Path:
    """Make a step's folder; a file `a_json` is called a.json."""
    folder = run / "steps" / name
    folder.mkdir(parents=True)
    (run / "job.yaml").touch()
    for file, text in files.items():
        (folder / ".".join(file.rsplit("_", 1))).write_text(text)
    return folder


def state(run: Path) -> dict[str, str]:
    """Return what is said of each step."""
    told = {}
    for line in lines(run):
        name, text = line.split(maxsplit=1)
        told[name] = text
    return told


def test_a_folder_without_a_job_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="not a run folder"):
        list(lines(tmp_path))


def test_every_step_is_told_in_the_order_of_a_run(tmp_path: Path) -> None:
    step(tmp_path, "ingest-1", manifest_json=json.dumps({"seconds": 12.4}))
    told = state(tmp_path)
    assert list(told) == list(STEPS)
    assert told["ingest"] == "done in 12 s"
    assert told["leaks"] == "not started"


def test_a_training_is_told_by_its_log_and_a_pool_by_its_shards(tmp_path: Path) -> None:
    rows = '{"step": 10, "steps": 90}\n{"step": 20, "steps": 90}\n'
    step(tmp_path, "train_detector-1", log_jsonl=rows)
    step(tmp_path, "synthesize-1", a_json="{}", b_json="{}", b_parquet="")
    told = state(tmp_path)
    assert told["train_detector"] == "unfinished: step 20 of 90"
    assert told["synthesize"] == "unfinished: 2 shards finished"


def test_of_two_outputs_of_a_step_the_newer_one_is_told(tmp_path: Path) -> None:
    old = step(tmp_path, "plan-1", manifest_json=json.dumps({"seconds": 1.0}))
    new = step(tmp_path, "plan-2")

    os.utime(old, (1, 1))
    os.utime(new, (2, 2))
    assert state(tmp_path)["plan"] == "unfinished: 0 shards finished"


# ---- A data set ----


def test_a_data_set_is_counted_by_class_most_frequent_first() -> None:
    table = toy.read(toy.Config("train", 6), Path())
    reports: list[tuple[int, int, str]] = []
    first, *classes = inspect(table, lambda *report: reports.append(report))
    counts = [int(line.split()[0]) for line in classes]
    assert first == f"6 images, {sum(counts)} objects, {len(table.categories)} classes: in order"
    assert sum(counts) == sum(len(table[i].objects) for i in range(6))
    assert counts == sorted(counts, reverse=True)
    assert any(line.endswith("sky (stuff)") for line in classes)
    assert reports == [(done, 6, "images") for done in range(1, 7)]


def test_an_image_that_cannot_be_decoded_is_an_error() -> None:

    scene = toy.read(toy.Config("train", 1), Path())[0]
    bad = replace(scene, image=ImageRef(b"nothing", "bad.png"))
    with pytest.raises(DatasetError, match=r"bad\.png"):
        list(inspect(SceneList(toy.CATEGORIES, [bad]), lambda *_: None))
