"""The state of a run, as lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from synthaug.pipeline.commands.status import lines
from synthaug.pipeline.core.errors import JobError
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
    for line in lines(str(run)):
        name, text = line.split(maxsplit=1)
        told[name] = text
    return told


def test_a_folder_without_a_job_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="not a run folder"):
        list(lines(str(tmp_path)))


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
    new = step(tmp_path, "plan-2", a_json="{}")
    os.utime(old / "manifest.json", (1, 1))
    os.utime(new / "a.json", (2, 2))
    assert state(tmp_path)["plan"] == "unfinished: 1 shards finished"
    os.utime(old / "manifest.json", (3, 3))
    assert state(tmp_path)["plan"] == "done in 1 s"
