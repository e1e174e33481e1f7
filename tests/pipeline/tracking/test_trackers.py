"""Trackers: what each library is told, by fakes, and event files that read back as numbers."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.tracking.trackers import LIBRARIES, TRACKERS, check

SETTINGS = {"job": "reef", "seed": 3}


class Calls:
    """Stands for a library: keeps every call by its name."""

    def __init__(self, kept: list[Any], name: str = "") -> None:
        self._kept = kept
        self._name = name

    def __getattr__(self, name: str) -> Calls:
        return Calls(self._kept, f"{self._name}.{name}".lstrip("."))

    def __call__(self, *given: Any, **named: Any) -> Calls:
        self._kept.append((self._name, *given, named))
        return Calls(self._kept, "run")


def told(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> list[Any]:
    kept: list[Any] = []
    monkeypatch.setitem(sys.modules, name, Calls(kept))
    tracker = TRACKERS[name]("reef", SETTINGS, Folder.at(folder))
    tracker.scalars("train_detector", {"total": 2.5}, 1)
    tracker.scalars("train_detector", {"total": 1.5}, 2)
    tracker.scalars("verify/judge", {"AP": 0.5}, 1)
    tracker.close()
    return kept


def test_mlflow_is_told_metrics_by_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert [
        ("set_experiment", "synthaug", {}),
        ("start_run", {"run_name": "reef"}),
        ("log_params", SETTINGS, {}),
        ("log_metrics", {"train_detector/total": 2.5}, {"step": 1}),
        ("log_metrics", {"train_detector/total": 1.5}, {"step": 2}),
        ("log_metrics", {"verify/judge/AP": 0.5}, {"step": 1}),
        ("end_run", {}),
    ] == told(monkeypatch, tmp_path, "mlflow")


def test_wandb_has_a_step_for_each_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begin, *rest = told(monkeypatch, tmp_path, "wandb")
    expected = {"project": "synthaug", "name": "reef", "config": SETTINGS, "dir": str(tmp_path)}
    assert ("init", expected) == begin
    own = "train_detector/step"
    assert [
        ("run.define_metric", own, {}),
        ("run.define_metric", "train_detector/*", {"step_metric": own}),
        ("run.log", {own: 1, "train_detector/total": 2.5}, {}),
        ("run.log", {own: 2, "train_detector/total": 1.5}, {}),
    ] == rest[:4]
    assert ("run.finish", {}) == rest[-1]


def records(file: Path) -> list[bytes]:
    """Return the records of an event file: length, its checksum, data, its checksum."""
    data = file.read_bytes()
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(data[12 : 12 + length])
        data = data[16 + length :]
    return found


def test_event_files_hold_each_number_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    for _ in range(2):  # the second start replaces what the first has written
        tracker = TRACKERS["tensorboard"]("reef", SETTINGS, Folder.at(tmp_path))
        tracker.scalars("train_detector", {"total": 2.5, "AP": 0.25}, 7)
        tracker.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    values = {}
    for record in records(file):
        event = Event.FromString(record)
        for value in event.summary.value:
            values[value.tag, event.step] = value.simple_value
    assert {("train_detector/total", 7): 2.5, ("train_detector/AP", 7): 0.25} == values


def test_a_tracker_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for name, library in LIBRARIES.items():
        with pytest.raises(JobError, match=rf"report.track: {library} is not installed"):
            check(name, str(tmp_path))


def test_local_files_need_a_local_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: SimpleNamespace())
    for name in ("tensorboard", "wandb"):
        with pytest.raises(JobError, match=r"report\.track: .* writes local files"):
            check(name, "s3://bucket/run?region=eu-west-1")
    check("mlflow", "s3://bucket/run?region=eu-west-1")
