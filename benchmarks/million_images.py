"""Do the driver and a worker hold more where more images are planned?

    python benchmarks/million_images.py RUN [COUNT ...]

RUN is a folder for a run of jobs/smoke.yaml with the generator that learns nothing (made, as far as
it is not there). For each COUNT (10,000, 100,000 and 1,000,000) of planned images, in processes of
their own:

driver   `Context.shards` over shards of 500 images as production has them, by workers that take no
         time (each links one finished shard and writes its sidecar); then the same command again,
         which finds all of them finished; then `synthaug status`
worker   plans and paints so many images, shard after shard, the last of which is kept

Prints peak memory (resident, MB) and processor seconds, those of the imports left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST, Context, add_counts, cut
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.run import Console, run_some
from synthaug.pipeline.steps.contract import load_steps

KEYS = [
    "generator.system=boxes",
    "generator.resolution=64",
    "plan.shard=500",
    "plan.count=500",
    "plan.target=balanced",
    "cluster.executor=serial",
]
SHARD = 500
NAME = "part-00000"


def no_progress(*_: Any) -> None:
    """Show nothing."""


class InNoTime(SerialExecutor):
    """Workers that take no time: each shard is the one that is there already."""

    def __init__(self, folder: Path, row: dict[str, Any]) -> None:
        self._folder = folder
        self._row = row

    def pool(self, make: Any, items: Any, most: int | None = None, gpu: bool = False) -> Any:
        """Link the finished shard under each name, and write its sidecar."""
        return self._finished(items)

    def _finished(self, items: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        text = json.dumps(self._row)
        for name, _ in items:
            if name != NAME:
                os.link(self._folder / f"{NAME}.parquet", self._folder / f"{name}.parquet")
            (self._folder / f"{name}.json").write_text(text)
            yield name, json.loads(text)


def step_folder(run: Path, step: str) -> Path:
    """Return the folder of a finished step."""
    (manifest,) = (run / "steps").glob(f"{step}-*/{MANIFEST}")
    return manifest.parent


def drive(run: Path, count: int) -> dict[str, float]:
    """Measure the driver; returns its figures."""
    from synthaug.pipeline.commands.status import lines

    job = load_job(run / "job.yaml")
    finished = step_folder(run, "synthesize")
    figures = {"begin_mb": peak()}
    with tempfile.TemporaryDirectory(dir=run) as out:
        step = Path(out) / "steps" / "synthesize-0"
        step.mkdir(parents=True)
        (Path(out) / "job.yaml").write_text(job.to_yaml())
        os.link(finished / f"{NAME}.parquet", step / f"{NAME}.parquet")
        row = json.loads((finished / f"{NAME}.json").read_text())
        folder = Folder.at(step)
        executor = InNoTime(step, row)
        context = Context(job, folder, {}, executor, no_progress, no_progress)
        items = cut(count, SHARD)
        for name in ("first", "again"):
            began = time.process_time()
            rows = context.shards(lambda: None, items, folder, "images")  # type: ignore[arg-type, return-value]
            manifest = {"images": count, "objects": add_counts(rows, "counts")}
            manifest["shards"] = {shard: row["sha256"] for shard, _ in items}
            manifest["seconds"] = 1.0
            folder.write_json(MANIFEST, manifest)
            figures[f"{name}_cpu_s"] = time.process_time() - began
            figures[f"{name}_mb"] = peak()
        began = time.process_time()
        assert any("done" in line for line in lines(out))
        figures["status_cpu_s"] = time.process_time() - began
    return figures


def work(run: Path, count: int) -> dict[str, float]:
    """Measure a worker; returns its figures."""
    from synthaug.pipeline.steps.plan import PlanWriter
    from synthaug.pipeline.steps.synthesize import ShardSynthesizer

    job = load_job(run / "job.yaml", [f"plan.count={count}"])
    labelled = step_folder(run, "ingest") / "labelled"
    weights = step_folder(run, "train_generator")
    with tempfile.TemporaryDirectory(dir=run) as out:
        plan, made = Path(out) / "plan", Path(out) / "made"
        planner = PlanWriter(job, str(labelled), None, str(plan))
        producer = ShardSynthesizer(job, str(plan), str(weights), "0" * 64, str(made))
        figures = {"begin_mb": peak()}
        began = time.process_time()
        for name, indices in cut(count, SHARD):
            planner(name, indices)
            producer(name, indices)
            if name == NAME:
                figures["first_shard_mb"] = peak()
            (plan / f"{name}.parquet").unlink()
            (made / f"{name}.parquet").unlink()
    figures["cpu_s"] = time.process_time() - began
    figures["end_mb"] = peak()
    return figures


def needed_for(step: str, job: Job) -> tuple[str, ...]:
    """Return a step with all that it needs."""
    needed = [step]
    for name in needed:
        needed += load_steps([name])[name].needs_of(job)
    return tuple(set(needed))


def peak() -> float:
    """Return the peak of this process's resident memory, MB.

    Of its own program: getrusage would tell of that which started it, too.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Make the run, then measure in processes of their own."""
    run = Path(sys.argv[1])
    if len(sys.argv) == 4 and sys.argv[2] in ("driver", "worker"):
        measure = {"driver": drive, "worker": work}[sys.argv[2]]
        print(json.dumps(measure(run, int(sys.argv[3]))))
        return
    counts = [int(word) for word in sys.argv[2:]] or [10_000, 100_000, 1_000_000]
    smoke = Path(__file__).parents[1] / "jobs" / "smoke.yaml"
    job = load_job(smoke, [*KEYS, f"output={run}"])
    run_some(job, Console(no_progress, no_progress), needed_for("synthesize", job))
    for part in ("driver", "worker"):
        for count in counts:
            command = [sys.executable, __file__, str(run), part, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            told = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
            print(f"{part}, {count:,} images: {told}", flush=True)


if __name__ == "__main__":
    main()
