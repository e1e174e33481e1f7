"""Are planned layouts more natural when added objects go where their class occurs?

    python benchmarks/planner.py [BCCD]

Plans the layouts of the toy set, and of the blood cells in folder BCCD, with `plan.placement`
uniform and natural, for several job seeds, and prints the distances of the plans to real layouts
(pipeline/planning/layout_statistics.py: Jensen-Shannon, bits; mean and standard deviation over the
seeds). "Seen" layouts are those the plan is made from; "unseen" ones are other images of the same
kind, which no lift was learnt from. Target natural changes nothing: what distance is chance alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.layout_statistics import Statistics, deviation
from synthaug.pipeline.steps.plan import open_planner
from synthaug.pipeline.synthesis.conditioning import conditioning_of

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 3
COLUMNS = ("pairs_given_frequency", "pairs", "objects_per_image", "sizes", "positions")
TOY = ("semi_supervised", ".", "toy:train?count=900", "toy:train?count=900&seed=1")
CELLS = (
    "bccd",
    "",
    "coco:annotations/train_labelled.json?images=images",
    "coco:annotations/val.json?images=images",
)
PLANS = [
    (target, placement) for target in ("sqrt", "balanced") for placement in ("uniform", "natural")
]


def main() -> None:
    sets = [TOY] + [(CELLS[0], sys.argv[1], *CELLS[2:])] * (len(sys.argv) > 1)
    print(
        f"| data | target | placement | to | {' | '.join(COLUMNS)} | worst class, share of its "
        "target |"
    )
    print(f"|{'---|' * (len(COLUMNS) + 5)}")
    for name, root, *references in sets:
        with tempfile.TemporaryDirectory() as scratch:
            tables = [
                copied(reference, root, f"{scratch}/{i}") for i, reference in enumerate(references)
            ]
            for target, placement in [*PLANS, ("natural", "natural")]:
                for line in rows(name, tables, target, placement):
                    print(line, flush=True)


def copied(reference: str, root: str, out: str) -> str:
    """A scene table of a data set, as the step ingest leaves it."""
    table = open_dataset(reference, Path(root), key="data.labelled")
    with parquet.ShardWriter(Folder.at(out), "part-00000.parquet", table.categories) as writer:
        for i in range(len(table)):
            writer.write([replace(table[i], panoptic=None)])
    return out


def rows(name: str, tables: list[str], target: str, placement: str) -> Iterator[str]:
    found: dict[str, list[dict[str, float]]] = {"seen": [], "unseen": []}
    off: list[float] = []
    for seed in range(SEEDS):
        words = [
            f"plan.target={target}",
            f"plan.placement={placement}",
            f"seed={seed}",
            "plan.count=900",
        ]
        job = load_job(ROOT / "jobs" / f"{name}.yaml", [*words, "plan.jitter=0"])
        planner = open_planner(job, tables[0])
        classes = len(planner.categories)
        scenes = [planner.scene(i) for i in range(planner.count)]
        scale = [np.array([s.width, s.height] * 2, np.float32) for s in scenes]
        made = [
            Layout(s.objects.category, s.objects.boxes / k)
            for s, k in zip(scenes, scale, strict=True)
        ]
        planned = Statistics.of(made, classes)
        wanted = planner.target > 0
        off.append(float(np.abs(planned.counts.sum(0)[wanted] / planner.target[wanted] - 1).max()))
        for kind, table in zip(found, tables, strict=True):
            labelled = parquet.open_table(table, pixels=False)
            real = [source.layout for source in conditioning_of(job).layouts(labelled)]
            both_ways = real + [
                mirrored(layout) for layout in real
            ]  # as the plan mirrors half of its layouts
            found[kind].append(deviation(Statistics.of(both_ways, classes), planned))
    for kind, told in found.items():
        cells = [told_as([d[column] for d in told]) for column in COLUMNS]
        print_off = f"{np.mean(off):.3f}"
        yield f"| {name} | {target} | {placement} | {kind} | {' | '.join(cells)} | {print_off} |"


def mirrored(layout: Layout) -> Layout:
    boxes = layout.boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1]) + np.array([1, 0, 1, 0])
    return Layout(layout.category, boxes.astype(np.float32))


def told_as(values: list[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


if __name__ == "__main__":
    main()
