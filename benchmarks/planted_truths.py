"""A real trial on planted truths.

Sets of which it is known whether they help, and what the trial says of each.

    python benchmarks/planted_truths.py FOLDER [SEEDS] [STEPS] [REAL] [EXTRA] [WORKERS] [CONFIRM]

The synthetic set of the trial is EXTRA more toy images with true labels: there is headroom,
screening must choose it and confirmation must find that it helps. Its placebo gives the images each
other's labels (must not gain); `shuffled` gives their objects each other's classes (must lose);
`again` is the same REAL images once more (cannot tell). They fill three quarters of each batch: at
one half the right classes stay in the majority, and a detector hardly minds the shuffled ones.

Trains 7 arms x SEEDS detectors of STEPS steps for screening and 2 x CONFIRM for confirmation, one
thread each, WORKERS at a time (0 = one per core, 1 = in this process), resumes after a kill, writes
FOLDER/planted_truths.md, and ends with 1 when a truth was not found.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same trainings everywhere: one thread of a CPU each
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Cluster, Job
from synthaug.pipeline.core.scene import Dataset, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.ray_executor import open_executor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.report.number_text import ap_difference
from synthaug.pipeline.report.trial import text as report_text
from synthaug.pipeline.run import Console, run_some
from synthaug.pipeline.steps import trial

JOB = Path(__file__).resolve().parents[1] / "jobs" / "semi_supervised.yaml"
GAIN, LOSS, OPEN = "suggests a gain", "suggests a loss", "cannot tell"
TRUTHS = {  # arm -> (what was planted, words of screening that say so)
    "synthetic": ("more real images, true labels", (GAIN,)),
    "placebo": ("their images, each other's labels", (LOSS, OPEN)),
    "external:shuffled": ("their images, each other's classes", (LOSS,)),
    "external:again": ("the same real images again", (OPEN,)),
}


def shuffled(table: Dataset) -> SceneList:
    """The same images and boxes; the classes of all things permuted."""
    scenes = [table[i] for i in range(len(table))]
    things = np.concatenate([s.objects.category[s.objects.isthing] for s in scenes])
    rest = np.random.default_rng(0).permutation(things)
    out = []
    for scene in scenes:
        category = scene.objects.category.copy()
        number = int(scene.objects.isthing.sum())
        category[scene.objects.isthing], rest = rest[:number], rest[number:]
        out.append(replace(scene, objects=replace(scene.objects, category=category), panoptic=None))
    return SceneList(table.categories, out)


def stored(table: Dataset, folder: Folder) -> Folder:
    """Write a table as Parquet where it is not yet."""
    if not folder.exists("done"):
        parquet.write(table, folder)
        folder.write_bytes("done", b"")
    return folder


def planted_job(
    output: Path, seeds: int, confirm: int, steps: int, real: int, extra: int, shuffles: str
) -> Job:
    """The job: REAL labelled images, 100 others to screen on, 300 to confirm on."""
    again = f"toy:train?count={real}"
    overrides = [
        f"data.labelled={again}",
        "data.unlabelled=",
        "data.validation=toy:val?count=100",
        f"trial.seeds={seeds}",
        f"trial.confirm_seeds={confirm}",
        f"trial.steps={steps}",
        "trial.arms=[real,synthetic,placebo]",
        f"trial.external={{shuffled: 'parquet:{shuffles}', again: '{again}'}}",
        f"trial.more=toy:train?count={extra}&seed=1",
        "trial.evaluation=toy:test?count=300",
        "trial.share=0.75",
        "detector.batch=16",
        "detector.save_every=100",
    ]
    return load_job(JOB, overrides, str(output))


def table_of(told: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Lines of a Markdown table, and whether every truth was found."""
    headroom = told["headroom"]
    rows, differences = [], []
    found = True
    for name, planted in (
        ("real_half", "all real images, not half"),
        ("real_more", "more of them"),
    ):
        word = "shown" if name in headroom["shown"] else "not shown"
        found &= word == "shown"
        rows.append((planted, name, "shown", word))
        differences.append(headroom["gains"][name])
    for arm, (planted, words) in TRUTHS.items():
        one = told["comparisons"].get(arm)
        if one is None:  # the trial ended at its headroom
            return [], False
        found &= one["word"] in words
        rows.append((planted, arm, " or ".join(words), one["word"]))
        differences.append(one["against_real"])
    confirmation = told["confirmation"]
    if confirmation is None:
        return [], False
    found &= (confirmation["recipe"], confirmation["word"]) == ("synthetic", "helps")
    rows.append(("confirmation", confirmation["recipe"], "synthetic helps", confirmation["word"]))
    differences.append(confirmation["against_real"])
    lines = [
        "| planted | arm | must come out as | came out as | against real, AP points [95 %] |",
        "|---|---|---|---|---|",
    ]
    for row, difference in zip(rows, differences, strict=True):
        lines.append(f"| {' | '.join(row)} | {ap_difference(difference)} |")
    return lines, found


def main(
    folder: str,
    seeds: int = 4,
    steps: int = 300,
    real: int = 50,
    extra: int = 500,
    workers: int = 0,
    confirm: int = 8,
) -> int:
    """Run it; 0 when every planted truth was found."""
    began, output = time.monotonic(), Path(folder).resolve()
    output.mkdir(parents=True, exist_ok=True)
    more = open_dataset(f"toy:train?count={extra}&seed=1", Path())
    tables = Folder.at(output / "tables")
    perfect = stored(more, tables.sub(f"perfect-{extra}"))
    shuffles = stored(shuffled(more), tables.sub(f"shuffled-{extra}"))
    job = planted_job(output, seeds, confirm, steps, real, extra, shuffles.path)
    done = run_some(job, Console(print, lambda *_: None), ("ingest",))
    made = Output(perfect, {"images": extra, "objects": {}})
    inputs = {"ingest": done["ingest"], "pseudo_label": made, "synthesize": made, "verify": made}
    executor = open_executor(
        Cluster("serial" if workers == 1 else "ray", workers=workers, memory_mb=200)
    )

    def progress(count: int, total: int, unit: str) -> None:
        print(f"  {time.monotonic() - began:5.0f} s  {count} of {total} {unit}", flush=True)

    try:
        told = trial.run(
            Context(job, Folder.at(output).sub("trial"), inputs, executor, print, progress)
        )
    finally:
        executor.close()
    lines, found = table_of(told)
    batch, took = job.detector.training.batch, time.monotonic() - began
    head = [
        f"{seeds} seeds, then {confirm}; {steps} steps of {batch} images, {real} real and {extra} "
        f"more, screened on {told['images']};",
        f"{executor.workers} workers on {platform.machine()}, {took:.0f} s in all.",
        "",
    ]
    text = "\n".join([*head, *lines, "", report_text.markdown(told)])
    (output / "planted_truths.md").write_text(text)
    print(text)
    print("every planted truth was found" if found else "NOT every planted truth was found")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
