"""The surroundings of a step: job, folder, earlier outputs, workers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.executor import Executor, Fits
from synthaug.pipeline.execution.progress import ShowProgress
from synthaug.pipeline.execution.training import read_log

MANIFEST = "manifest.json"
READERS = 16  # threads that look at finished shards: a store takes its time for each
NO_LOSSES = frozenset(("step", "steps", "steps_per_s"))  # in a row of a training's log


@dataclass(frozen=True)
class Output:
    """A finished step: its folder and its manifest."""

    folder: Folder
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """Surroundings of a step, given to its `run`."""

    job: Job
    folder: Folder
    inputs: Mapping[str, Output]
    executor: Executor
    tell: Callable[[str], None]  # one line to the user
    progress: ShowProgress  # done, total, unit, details

    def train(
        self,
        task: Callable[..., Any],
        spec: Any,
        folder: Folder,
        workers: int = 1,
        fits: Fits = lambda _: True,
    ) -> Any:
        """Run a training task in a process group, and show its progress.

        The group has a size that `fits`.
        """

        def tick() -> None:
            rows = read_log(folder)
            if rows:
                last = rows[-1]
                losses = {name: last[name] for name in last.keys() - NO_LOSSES}
                self.progress(int(last["step"]), int(last["steps"]), "steps", losses)

        return self.executor.group(task, workers, spec, tick=tick, fits=fits)

    def shards(
        self,
        make: Callable[[], Work],
        items: Sequence[tuple[str, Any]],
        folder: Folder,
        unit: str,
        workers: int = 0,
        gpu: bool = False,
    ) -> list[Json]:
        """Run named shards through a pool of workers; returns the rows of all, in order.

        Complete ones are not run again: a shard is complete when its sidecar `<name>.json` is
        there and the data file is the one it states. `workers` 0 means as many as there is room
        for; `gpu` says that they run networks.
        """
        folder.sweep()
        rows = _finished_rows(folder, [name for name, _ in items])
        todo = [(name, item) for name, item in items if name not in rows]
        if rows:
            self.tell(f"  {len(rows)} of {len(items)} shards were finished earlier")
        counts = Counter(add_counts(list(rows.values()), "counts"))
        done = sum(row["rows"] for row in rows.values())
        total = done + sum(_num_scenes(item) for _, item in todo)
        self.progress(done, total, unit, dict(counts))
        if todo:
            most = min(workers or len(todo), len(todo))
            make_shard_worker = partial(_ShardWorker, make, folder.uri)
            for name, row in self.executor.pool(make_shard_worker, todo, most, gpu):
                rows[name] = row
                done += row["rows"]
                counts.update(row.get("counts", {}))
                self.progress(done, total, unit, dict(counts))
        return [rows[name] for name, _ in items]


# (name, item) -> row of the manifest with "rows"; writes <name>.parquet
Work = Callable[[str, Any], Json]


class _ShardWorker:
    """Runs in a worker: does one shard, then writes its sidecar, last."""

    def __init__(self, make: Callable[[], Work], uri: str) -> None:
        self._work = make()
        self._folder = Folder.at(uri)

    def __call__(self, shard: tuple[str, Any]) -> tuple[str, Json]:
        """Return the name of the shard and its row."""
        name, item = shard
        row = self._work(name, item)
        data = f"{name}.parquet"
        row["sha256"] = self._folder.sha256(data)
        row["bytes"] = self._folder.size(data)
        self._folder.write_json(f"{name}.json", row)
        as_read_later: Json = json.loads(json.dumps(row))
        return name, as_read_later


def _finished_rows(folder: Folder, names: Sequence[str]) -> dict[str, Json]:
    """Return the rows of the complete ones among some shards, by name.

    One listing tells what is there; several threads read it.
    """
    sizes = folder.sizes()
    present = [name for name in names if f"{name}.json" in sizes and f"{name}.parquet" in sizes]

    def row_if_complete(name: str) -> Json | None:
        row: Json = folder.read_json(f"{name}.json")
        is_complete = _is_stated(folder, name, row, sizes[f"{name}.parquet"])
        return row if is_complete else None

    rows = {}
    with ThreadPoolExecutor(READERS) as readers:
        for name, row in zip(present, readers.map(row_if_complete, present), strict=True):
            if row is not None:
                rows[name] = row
    return rows


def _is_stated(folder: Folder, name: str, row: Json, size: int) -> bool:
    """Return whether a data file of some bytes is the one that its sidecar states.

    An object store keeps whole what it took, so that its size is enough: to read all again would
    take as long as a good part of the work.
    """
    if not folder.is_local and "bytes" in row:
        return bool(row["bytes"] == size)
    digest = folder.sha256(f"{name}.parquet")
    return bool(row["sha256"] == digest)


def _num_scenes(item: Any) -> int:
    """Return the number of scenes in a shard's item.

    A range, or a tuple that ends with one.
    """
    scenes = item if isinstance(item, range) else item[-1]
    return len(scenes)


def cut(count: int, size: int, prefix: str = "part") -> list[tuple[str, range]]:
    """Cut 0..count-1 into named shards of `size`; the last one may be smaller."""
    shards = []
    for number, start in enumerate(range(0, count, size)):
        stop = min(start + size, count)
        shards.append((f"{prefix}-{number:05d}", range(start, stop)))
    return shards


def add_counts(
    rows: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]], key: str
) -> dict[str, int]:
    """Add up the dicts of numbers that rows hold under `key`."""
    total: dict[str, int] = {}
    for row in rows:
        for name, number in row.get(key, {}).items():
            total[name] = total.get(name, 0) + number
    return dict(sorted(total.items()))
