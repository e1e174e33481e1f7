"""Shards: cut, done once, done again when damaged, counted in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.execution.executor import SerialExecutor
from tests.paths import JOBS


class Writer:
    """Writes a shard's indices, and notes which shards it was asked for."""

    def __init__(self, folder: Folder, asked: list[str]) -> None:
        self._folder = folder
        self._asked = asked

    def __call__(self, name: str, scenes: range) -> dict[str, Any]:
        self._asked.append(name)
        self._folder.write_bytes(f"{name}.parquet", str(list(scenes)).encode())
        return {"rows": len(scenes), "first": scenes[0]}


class Split:
    """Does the same for items that name their split."""

    def __init__(self, folder: Folder, asked: list[str]) -> None:
        self._writer = Writer(folder, asked)

    def __call__(self, name: str, item: tuple[str, range]) -> dict[str, Any]:
        return self._writer(name, item[1])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "step").create()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def reports() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture
def context(folder: Folder, lines: list[str], reports: list[tuple[int, int, str]]) -> Context:
    def progress(done: int, total: int, unit: str) -> None:
        reports.append((done, total, unit))

    job = load_job(JOBS / "smoke.yaml")
    return Context(job, folder, {}, SerialExecutor(), lines.append, progress)


def run(
    context: Context, folder: Folder, count: int, make: Callable[..., Any] = Writer
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of all shards of two scenes, and the names of those that were done."""
    asked: list[str] = []
    items: list[tuple[str, Any]] = list(cut(count, 2))
    if make is Split:
        items = [(name, ("train", scenes)) for name, scenes in items]
    rows = context.shards(partial(make, folder, asked), items, folder, "images")
    return rows, asked


def test_shards_cover_every_scene_once_and_in_order() -> None:
    shards = cut(7, 3, "layouts")
    assert shards == [
        ("layouts-00000", range(3)),
        ("layouts-00001", range(3, 6)),
        ("layouts-00002", range(6, 7)),
    ]
    assert cut(0, 3) == []


def test_rows_come_in_the_order_of_the_shards(context: Context, folder: Folder) -> None:
    rows, asked = run(context, folder, 5)
    assert [row["first"] for row in rows] == [0, 2, 4]
    assert [row["rows"] for row in rows] == [2, 2, 1]
    assert len(asked) == 3


def test_no_shard_is_no_work(context: Context, folder: Folder) -> None:
    assert run(context, folder, 0) == ([], [])


def test_finished_shards_are_not_done_again(
    context: Context, folder: Folder, lines: list[str]
) -> None:
    first, _ = run(context, folder, 4)
    assert lines == []
    second, asked = run(context, folder, 6)
    assert asked == ["part-00002"]
    assert second[:2] == first
    assert lines == ["  2 of 3 shards were finished earlier"]


@pytest.mark.parametrize("make", [Writer, Split])
def test_a_shard_whose_digest_is_wrong_is_done_again(
    context: Context, folder: Folder, make: Callable[..., Any]
) -> None:
    run(context, folder, 6, make)
    folder.write_bytes("part-00001.parquet", b"damaged")
    rows, asked = run(context, folder, 6, make)
    assert asked == ["part-00001"]
    assert folder.read_bytes("part-00001.parquet") == b"[2, 3]"
    assert rows[1]["sha256"] == folder.sha256("part-00001.parquet")


def test_a_shard_without_its_sidecar_or_its_data_is_done_again(
    context: Context, folder: Folder
) -> None:
    run(context, folder, 6)
    folder.delete("part-00000.json")
    folder.delete("part-00002.parquet")
    _, asked = run(context, folder, 6)
    assert asked == ["part-00000", "part-00002"]


def test_what_a_killed_writer_left_is_swept_away(context: Context, folder: Folder) -> None:
    folder.write_bytes("part-00000.parquet.77.tmp", b"half")
    run(context, folder, 2)
    assert folder.names() == ["part-00000.json", "part-00000.parquet"]


def test_progress_begins_with_what_was_done_earlier(
    context: Context, folder: Folder, reports: list[tuple[int, int, str]]
) -> None:
    run(context, folder, 4)
    assert reports == [(0, 4, "images"), (2, 4, "images"), (4, 4, "images")]
    reports.clear()
    run(context, folder, 5)
    assert reports == [(4, 5, "images"), (5, 5, "images")]


def test_counts_of_shards_add_up_by_name() -> None:
    rows = [{"counts": {"car": 2, "bus": 1}}, {"counts": {"car": 1}}, {}]
    assert list(add_counts(rows, "counts").items()) == [("bus", 1), ("car", 3)]


def test_a_training_reports_the_last_row_of_its_log(
    context: Context, folder: Folder, reports: list[tuple[int, int, str]]
) -> None:
    def task(number: int) -> int:
        folder.write_bytes("log.jsonl", b'{"step": 1, "steps": 9}\n{"step": 4, "steps": 9}\n')
        return number + 1

    assert context.train(task, 1, folder) == 2
    assert reports == [(4, 9, "steps")]
