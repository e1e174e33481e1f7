"""The surroundings of a step: job, folder, earlier outputs, workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        there and the data file has the digest it states. `workers` 0 means as many as there is
        room for; `gpu` says that they run networks.
        """
        folder.sweep()
        present = set(folder.names())
        todo = [(name, item) for name, item in items if not _is_complete(folder, name, present)]
        finished = {name for name, _ in items} - {name for name, _ in todo}
        if finished:
            self.tell(f"  {len(finished)} of {len(items)} shards were finished earlier")
        rows_before = [_read_row(folder, name) for name in finished]
        counts = Counter(add_counts(rows_before, "counts"))
        done = sum(row["rows"] for row in rows_before)
        total = done + sum(_num_scenes(item) for _, item in todo)
        self.progress(done, total, unit, dict(counts))
        if todo:
            most = min(workers or len(todo), len(todo))
            make_shard_worker = partial(_ShardWorker, make, folder.uri)
            for rows, counted in self.executor.pool(make_shard_worker, todo, most, gpu):
                done += rows
                counts.update(counted)
                self.progress(done, total, unit, dict(counts))
        return [_read_row(folder, name) for name, _ in items]


# (name, item) -> row of the manifest with "rows"; writes <name>.parquet
Work = Callable[[str, Any], Json]


class _ShardWorker:
    """Runs in a worker: does one shard, then writes its sidecar, last."""

    def __init__(self, make: Callable[[], Work], uri: str) -> None:
        self._work = make()
        self._folder = Folder.at(uri)

    def __call__(self, shard: tuple[str, Any]) -> tuple[int, dict[str, int]]:
        """Return the number of rows in the shard, and of objects of each class."""
        name, item = shard
        row = self._work(name, item)
        row["sha256"] = self._folder.sha256(f"{name}.parquet")
        self._folder.write_json(f"{name}.json", row)
        return int(row["rows"]), row.get("counts", {})


def _is_complete(folder: Folder, name: str, present: set[str]) -> bool:
    if f"{name}.json" not in present or f"{name}.parquet" not in present:
        return False
    digest = folder.sha256(f"{name}.parquet")
    return bool(_read_row(folder, name)["sha256"] == digest)


def _read_row(folder: Folder, name: str) -> Json:
    row: Json = folder.read_json(f"{name}.json")
    return row


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
