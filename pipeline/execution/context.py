"""What a step is given: the job, its own folder, the outputs of the steps before it, and where to run work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.executor import Executor, Fits
from synthaug.pipeline.execution.training import read_log

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Output:
    """A finished step: its folder and its manifest."""

    folder: Folder
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """Everything `run(context)` of a step may use."""

    job: Job
    folder: Folder
    inputs: Mapping[str, Output]
    executor: Executor
    tell: Callable[[str], None]  # one line to the user
    progress: Callable[[int, int, str], None]  # done, total, unit

    def train(
        self,
        task: Callable[..., Any],
        spec: Any,
        folder: Folder,
        workers: int = 1,
        fits: Fits = lambda _: True,
    ) -> Any:
        """Run a training task (or a group of them, of a size that `fits`) and show the steps its log reports."""

        def tick() -> None:
            rows = read_log(folder)
            if rows:
                self.progress(int(rows[-1]["step"]), int(rows[-1]["steps"]), "steps")

        return self.executor.group(task, workers, spec, tick=tick, fits=fits)

    def shards(
        self,
        make: Callable[[], Work],
        items: Sequence[tuple[str, Any]],
        folder: Folder,
        unit: str,
        workers: int = 0,
    ) -> list[dict[str, Any]]:
        """Run named shards through the pool, leaving out those already complete; returns all their rows, in order.

        A shard is complete when its sidecar `<name>.json` is there and the data file has the digest it states.
        """
        folder.sweep()
        present = set(folder.names())
        todo = [(name, item) for name, item in items if not _complete(folder, name, present)]
        if len(todo) < len(items):
            self.tell(f"  {len(items) - len(todo)} of {len(items)} shards were finished earlier")
        crew = min(workers or self.executor.workers, len(todo))
        done = sum(_rows(folder, name) for name, _ in items) - sum(
            _rows(folder, name) for name, _ in todo
        )
        total = done + sum(_size(item) for _, item in todo)
        self.progress(done, total, unit)
        for result in (
            self.executor.pool(partial(_Shard, make, folder.uri), todo, crew) if todo else ()
        ):
            done += result
            self.progress(done, total, unit)
        return [folder.read_json(f"{name}.json") for name, _ in items]


Work = Callable[
    [str, Any], dict[str, Any]
]  # (name, item) -> row of the manifest with "rows"; writes <name>.parquet


class _Shard:
    """Runs in a worker: does one shard, then writes its sidecar, last."""

    def __init__(self, make: Callable[[], Work], uri: str) -> None:
        self._work, self._folder = make(), Folder.at(uri)

    def __call__(self, named: tuple[str, Any]) -> int:
        name, item = named
        row = self._work(name, item)
        row["sha256"] = self._folder.sha256(f"{name}.parquet")
        self._folder.write_json(f"{name}.json", row)
        return int(row["rows"])


def _complete(folder: Folder, name: str, present: set[str]) -> bool:
    if f"{name}.json" not in present or f"{name}.parquet" not in present:
        return False
    return bool(folder.read_json(f"{name}.json")["sha256"] == folder.sha256(f"{name}.parquet"))


def _rows(folder: Folder, name: str) -> int:
    return int(folder.read_json(f"{name}.json")["rows"]) if folder.exists(f"{name}.json") else 0


def _size(item: Any) -> int:
    """Images in a shard's work: items are ranges, or end with one."""
    return len(item if isinstance(item, range) else item[-1])


def cut(count: int, size: int, prefix: str = "part") -> list[tuple[str, range]]:
    """Cut 0..count-1 into named shards of `size`."""
    starts = range(0, count, size)
    return [
        (f"{prefix}-{i:05d}", range(start, min(start + size, count)))
        for i, start in enumerate(starts)
    ]


def add_counts(
    rows: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]], key: str
) -> dict[str, int]:
    """Add up the dicts of numbers that rows hold under `key`."""
    total: dict[str, int] = {}
    for row in rows:
        for name, number in row.get(key, {}).items():
            total[name] = total.get(name, 0) + number
    return dict(sorted(total.items()))
