"""The tables of the papers that compare settings of one system: each is one command.

    python -m benchmarks.paper_tables TABLE OUT data.root=FOLDER [KEY=VALUE ...] [--seeds N]

    lostgan-5   semi-supervised settings
    lostgan-7   parts of the generator left out
    lostgan-8   stages of refinement, one training
    panoptic-4  SPADE, + convolution, + upsampling

Each setting is a run of a shipped job, for each of `--seeds` (by default as many as the paper
averages over); what is finished in OUT is not done again. The numbers are of painted validation
layouts, so no further images are made and verified (plan.count, verify.enabled). Prints the table,
mean and standard deviation over the seeds, and writes OUT/summary.md. IS and FID need score.weights
(docs/weights.md); what is not measured is a dash.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.run import Console, run


@dataclass(frozen=True)
class Setting:
    """A row of a table: a job and its changes."""

    name: str
    job: str
    changes: tuple[str, ...] = ()
    folder: str = ""  # of the run, in OUT; settings of one folder share its training


@dataclass(frozen=True)
class Comparison:
    """A table: its rows, and the numbers of its columns."""

    settings: tuple[Setting, ...]
    columns: Mapping[str, tuple[str, str]]  # heading -> score, key of its values
    seeds: int = 1  # runs that the paper averages over


IS = {"IS": ("inception_score", "inception_score")}
FID = {"FID": ("fid", "fid")}
DS = {"DS": ("diversity", "diversity")}
JUDGED = ("score.detector={out}/coco_stuff-{seed}/checkpoints/detector.safetensors",)
REFINED = ("generator.resolution=256", "score.names=[inception_score,fid]")
PLAIN = ("generator.panoptic_upsampling=false",)
ONLY_SCORES = ("plan.count=1", "verify.enabled=false")
PANOPTIC = ("score.names=[segmentation,dap]",)
COMPARISONS = {
    "lostgan-5": Comparison(
        (
            Setting("all labelled", "coco_stuff", (), "coco_stuff"),
            Setting("(i) D1", "coco_stuff_d1", JUDGED, "d1"),
            Setting("(ii) D1 + D2", "coco_stuff_pseudo", JUDGED, "pseudo"),
            Setting("(iii) D1 + D2, eq. 15", "coco_stuff_weighted", JUDGED, "weighted"),
        ),
        {**IS, **FID, **DS, "AP": ("dap", "AP")},
    ),
    "lostgan-7": Comparison(
        (
            Setting("w/o layout-to-mask", "coco_stuff", ("generator.layout_to_mask=false",), "box"),
            Setting("w/o refinement", "coco_stuff", ("generator.refine_stages=0",), "m0"),
            Setting("w/o image head", "coco_stuff", ("generator.lambda_image=0",), "no_image"),
            Setting("w/o object head", "coco_stuff", ("generator.lambda_object=0",), "no_object"),
            Setting("full", "coco_stuff", (), "full"),
        ),
        {**IS, **FID, **DS},
    ),
    "lostgan-8": Comparison(
        tuple(
            Setting(
                f"m0 ... m{stages}",
                "coco_stuff",
                (*REFINED, f"synthesize.refine_stages={stages}"),
                "refined",
            )
            for stages in range(6)
        ),
        {**IS, **FID},
    ),
    "panoptic-4": Comparison(
        (
            Setting("SPADE", "cityscapes", (*PANOPTIC, "generator.system=spade"), "spade"),
            Setting("+ convolution", "cityscapes", (*PANOPTIC, *PLAIN), "convolution"),
            Setting("+ upsampling", "cityscapes", PANOPTIC, "upsampling"),
        ),
        {"mIoU": ("segmentation", "miou"), "detAP": ("dap", "AP")},
        seeds=3,
    ),
}
Runner = Callable[[Job], Mapping[str, Any]]  # runs a job, returns the content of its metrics.json


def compare(
    comparison: Comparison, out: Path, overrides: Sequence[str], seeds: int, runner: Runner
) -> dict[str, dict[str, list[float]]]:
    """Return, by setting and column, the numbers of all seeds that were measured."""
    table: dict[str, dict[str, list[float]]] = {}
    for setting in comparison.settings:
        table[setting.name] = {column: [] for column in comparison.columns}
    for seed in range(seeds):
        for setting in comparison.settings:
            changes = [change.format(out=out, seed=seed) for change in setting.changes]
            keys = [f"seed={seed}", *ONLY_SCORES, *changes, *overrides]
            output = out / f"{setting.folder}-{seed}"
            measured = runner(load_job(Path(setting.job), keys, str(output)))["scores"]
            for column, (score, key) in comparison.columns.items():
                value = measured.get(score, {}).get("values", {}).get(key)
                if value is not None:
                    table[setting.name][column].append(value)
    return table


def summary(table: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the table in Markdown: mean, and deviation where there are several seeds."""
    columns = list(next(iter(table.values())))
    lines = [f"| setting | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, numbers in table.items():
        cells = [_cell(numbers[column]) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{mean(values):.4g} ± {stdev(values):.2g}"


def _run(job: Job) -> Mapping[str, Any]:
    output = run(job, Console(print, lambda *_: None))
    content: dict[str, Any] = json.loads(output.read_bytes("metrics.json"))
    return content


def main() -> None:
    """Run the settings of one table and print it."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("table", choices=COMPARISONS)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=0)
    words = parser.parse_args()
    comparison = COMPARISONS[words.table]
    seeds = words.seeds or comparison.seeds
    text = summary(compare(comparison, words.out, words.overrides, seeds, _run))
    words.out.mkdir(parents=True, exist_ok=True)
    (words.out / "summary.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
