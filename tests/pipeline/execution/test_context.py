"""Shards: cut, done once, done again when damaged, counted in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.execution.progress import NOTHING, Details
from tests import faulty_s3
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
    def progress(done: int, total: int, unit: str, details: Details = NOTHING, /) -> None:
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


class Counting(Writer):
    """Says of each shard which objects it made."""

    def __call__(self, name: str, item: range) -> dict[str, Any]:
        return {**super().__call__(name, item), "counts": {"bus": len(item)}}


def test_progress_has_the_objects_of_each_class_of_earlier_shards_too(
    context: Context, folder: Folder
) -> None:
    told: list[dict[str, float]] = []

    def progress(done: int, total: int, unit: str, details: Details = NOTHING, /) -> None:
        told.append(dict(details))

    own = replace(context, progress=progress)
    run(own, folder, 4, Counting)
    assert [{}, {"bus": 2}, {"bus": 4}] == told
    told.clear()
    run(own, folder, 6, Counting)
    assert [{"bus": 4}, {"bus": 6}] == told


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


def test_a_training_reports_its_losses(context: Context, folder: Folder) -> None:
    told: list[dict[str, float]] = []

    def progress(done: int, total: int, unit: str, details: Details = NOTHING, /) -> None:
        told.append(dict(details))

    def task(number: int) -> int:
        row = b'{"step": 4, "steps": 9, "steps_per_s": 2.5, "class": 0.5, "box": 0.25}'
        folder.write_bytes("log.jsonl", row)
        return number

    replace(context, progress=progress).train(task, 1, folder)
    assert told == [{"class": 0.5, "box": 0.25}]


def test_on_a_store_of_objects_finished_shards_are_listed_once_and_not_read(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto.server", reason="moto is not installed")
    for name, value in faulty_s3.KEYS.items():
        monkeypatch.setenv(name, value)
    faults = faulty_s3.Faults()
    with faulty_s3.served(faults) as address_of:
        folder = Folder.at(address_of("step"))
        first, _ = run(context, folder, 6)
        folder.write_bytes("part-00001.parquet", b"half")
        faults.requests.clear()
        second, asked = run(context, folder, 6)
    assert asked == ["part-00001"]
    assert second == first
    bucket = folder.path.partition("/")[0]
    listings = [one for one in faults.requests if one == f"GET /{bucket}"]
    assert len(listings) == 2, "one to sweep, one to see what is there"
    reads = [one for one in faults.requests if one.startswith("GET") and "parquet" in one]
    assert reads == [f"GET /{bucket}/step/part-00001.parquet"], "the digest of the new one alone"


# ---- Faults of the disk and of a worker ----


def truncate(folder: Folder, name: str) -> None:
    data = folder.read_bytes(f"{name}.parquet")
    folder.write_bytes(f"{name}.parquet", data[:-1])


def flip_a_bit(folder: Folder, name: str) -> None:
    data = bytearray(folder.read_bytes(f"{name}.parquet"))
    data[0] ^= 1
    folder.write_bytes(f"{name}.parquet", bytes(data))


def take_the_sidecar_of_another(folder: Folder, name: str) -> None:
    folder.write_bytes(f"{name}.json", folder.read_bytes("part-00000.json"))


def empty_the_file(folder: Folder, name: str) -> None:
    folder.write_bytes(f"{name}.parquet", b"")


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_bit, take_the_sidecar_of_another, empty_the_file]
)
def test_any_difference_between_a_shard_and_its_sidecar_is_seen(
    context: Context, folder: Folder, damage: Callable[[Folder, str], None]
) -> None:
    first, _ = run(context, folder, 6)
    damage(folder, "part-00001")
    second, asked = run(context, folder, 6)
    assert asked == ["part-00001"]
    assert second == first


def test_progress_counts_no_image_of_a_shard_that_is_done_again(
    context: Context, folder: Folder, reports: list[tuple[int, int, str]]
) -> None:
    run(context, folder, 5)
    truncate(folder, "part-00001")
    reports.clear()
    run(context, folder, 5)
    assert reports == [(3, 5, "images"), (5, 5, "images")]


class FailsAtTheSecond(Writer):
    """Finds a broken image in the second shard."""

    def __call__(self, name: str, scenes: range) -> dict[str, Any]:
        if name == "part-00001":
            raise DatasetError("a.png: is broken; mend it")
        return super().__call__(name, scenes)


def test_a_shard_that_fails_leaves_the_earlier_ones_finished(
    context: Context, folder: Folder
) -> None:
    with pytest.raises(DatasetError, match=r"^a\.png: is broken; mend it$"):
        run(context, folder, 6, FailsAtTheSecond)
    assert folder.names() == ["part-00000.json", "part-00000.parquet"]
    _, asked = run(context, folder, 6)
    assert asked == ["part-00001", "part-00002"]


def test_a_full_disk_while_a_sidecar_is_written_leaves_its_shard_unfinished(
    context: Context, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json = Folder.write_json

    def full(own: Folder, name: str, value: Any) -> None:
        if name == "part-00002.json":
            raise OSError(28, "No space left on device")
        write_json(own, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            run(context, folder, 6)
    rows, asked = run(context, folder, 6)
    assert asked == ["part-00002"]
    assert [row["first"] for row in rows] == [0, 2, 4]


def test_no_worker_is_made_when_all_shards_are_finished(context: Context, folder: Folder) -> None:
    run(context, folder, 4)

    def make(*_: Any) -> Any:
        raise AssertionError("a generator is loaded for nothing")

    assert len(run(context, folder, 4, make)[0]) == 2


# ---- What the executor is asked for ----


class Recorder(SerialExecutor):
    """Notes the size of every pool and group."""

    def __init__(self) -> None:
        self.pools: list[int | None] = []
        self.groups: list[tuple[int, list[bool]]] = []

    def pool(self, make: Any, items: Any, most: int | None = None, gpu: bool = False) -> Any:
        self.pools.append(most)
        return super().pool(make, items, most, gpu)

    def group(
        self, function: Any, size: int, *args: Any, tick: Any = None, fits: Any = None
    ) -> Any:
        self.groups.append((size, [fits(number) for number in (1, 2, 3)]))
        return function(*args)


@pytest.mark.parametrize(("of_the_job", "expected"), [(0, 3), (1, 1), (2, 2), (9, 3)])
def test_the_job_says_how_many_workers_there_are_at_most_but_never_more_than_shards(
    context: Context, folder: Folder, of_the_job: int, expected: int
) -> None:
    executor = Recorder()
    own = replace(context, executor=executor)
    own.shards(partial(Writer, folder, []), cut(6, 2), folder, "images", of_the_job)
    assert executor.pools == [expected]


def test_a_single_shard_that_is_left_has_a_single_worker(context: Context, folder: Folder) -> None:
    run(context, folder, 6)
    folder.delete("part-00001.json")
    executor = Recorder()
    run(replace(context, executor=executor), folder, 6)
    assert executor.pools == [1]


def test_training_hands_on_its_size_and_which_sizes_fit(context: Context, folder: Folder) -> None:
    executor = Recorder()
    own = replace(context, executor=executor)
    assert own.train(len, "abc", folder, 3, lambda size: size != 2) == 3
    assert executor.groups == [(3, [True, False, True])]


def test_training_that_has_logged_nothing_reports_nothing(
    context: Context, folder: Folder, reports: list[tuple[int, int, str]]
) -> None:
    assert context.train(len, "abc", folder) == 3
    assert reports == []


# ---- Properties ----


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.integers(1, 20))
def test_every_shard_but_the_last_is_full_and_names_sort(count: int, size: int) -> None:
    items = cut(count, size)
    covered = [index for _, part in items for index in part]
    assert covered == list(range(count))
    assert all(len(part) == size for _, part in items[:-1])
    assert all(0 < len(part) <= size for _, part in items)
    names = [name for name, _ in items]
    assert names == sorted(names)


class_counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9))


@settings(deadline=None, max_examples=50)
@given(st.lists(class_counts))
def test_counts_do_not_depend_on_the_order_of_the_shards(parts: list[dict[str, int]]) -> None:
    rows = [{"counts": part, "dropped": {"a": 100}} for part in parts]
    total = add_counts(rows, "counts")
    for name in "abcd":
        assert total.get(name, 0) == sum(part.get(name, 0) for part in parts)
    assert add_counts(rows[::-1], "counts") == total
