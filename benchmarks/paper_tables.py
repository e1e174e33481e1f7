"""The papers' tables as commands: settings of one system, or systems beside each other.

    python -m benchmarks.paper_tables TABLE OUT data.root=FOLDER [KEY=VALUE ...] [--seeds N]
    python -m benchmarks.paper_tables systems OUT [--job JOB] [--systems A,B] [KEY=VALUE ...]

    lostgan-5   semi-supervised settings
    lostgan-7   parts of the generator left out
    lostgan-8   stages of refinement, one training
    panoptic-4  SPADE, + convolution, + upsampling
    systems     every system that learns from layouts or maps, or those of --systems, on the data
                and with the settings of JOB (a shipped name or a file; smoke)

Each setting is a run of a job up to its scores, for each of `--seeds` (by default as many as the
paper averages over); what is finished in OUT is not done again. Systems share one folder per seed,
and so the detector that judges them. NAME:KEY=VALUE changes a job for the system NAME alone. Prints
the table (the mean over the seeds and half its 95 % interval) and writes OUT/summary.md and
OUT/sheet.png: the same layouts, a column per setting, of the first seed. IS and FID need
score.weights (docs/weights.md); what is not measured is a dash.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from benchmarks.system_sheet import Column, sheet
from synthaug.generators import GENERATORS, load_system
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError, SynthaugError, suggest
from synthaug.pipeline.execution.context import Output
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.run import Console, run_some
from synthaug.pipeline.steps.contract import load_steps
from synthaug.pipeline.steps.score import PAIRED, Tables


@dataclass(frozen=True)
class Setting:
    """A row of a table: a job and its changes."""

    name: str
    job: str
    changes: tuple[str, ...] = ()
    folder: str = ""  # of the run, in OUT; settings of one folder share what they can
    own: tuple[str, ...] = ()  # changes that come after the overrides of all settings


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
SYSTEMS = "systems"
SYSTEM_COLUMNS = {
    **IS,
    **FID,
    **DS,
    "CAS": ("cas", "top1"),
    "DAP": ("dap", "AP"),
    "DAP 50": ("dap", "AP50"),
    "mIoU": ("segmentation", "miou"),
    "accuracy": ("segmentation", "pixel_accuracy"),
    "mask IoU": ("mask_iou", "miou"),
}
REAL = "real images"  # what the scores say of them, where one has such a control
ROWS = 6  # layouts on the sheet
LEVEL = 0.95


@dataclass(frozen=True)
class Finished:
    """A run of a setting that has its scores."""

    setting: str
    seed: int
    job: Job
    outputs: Mapping[str, Output]  # by step


Runner = Callable[[Job], Mapping[str, Output]]  # runs a job up to its scores


def of_systems(job: str, systems: Sequence[str], own: Mapping[str, Sequence[str]]) -> Comparison:
    """Return the comparison of systems on one job; `own` are changes of one system alone."""
    settings = []
    for name in systems:
        if name not in GENERATORS:
            raise JobError(f"--systems: there is no '{name}'{suggest(name, GENERATORS)}")
        if load_system(name).CONDITION not in ("layout", "map"):
            raise JobError(
                f"--systems: {name} paints no whole images of layouts or maps, which is what these "
                "scores are of; leave it out"
            )
        changes = (f"generator.system={name}",)
        settings.append(Setting(name, job, changes, SYSTEMS, tuple(own.get(name, ()))))
    return Comparison(tuple(settings), SYSTEM_COLUMNS)


def learning_systems() -> list[str]:
    """Return the systems that learn to paint images of layouts or maps and need no file."""
    names = []
    for name in GENERATORS:
        system = load_system(name)
        of_whole_images = system.CONDITION in ("layout", "map") and not system.TWO_STAGE
        if system.LEARNS and of_whole_images:
            names.append(name)
    return names


def run_all(
    comparison: Comparison, out: Path, overrides: Sequence[str], seeds: int, runner: Runner
) -> list[Finished]:
    """Run every setting for every seed, the first seed of all settings first."""
    finished = []
    for seed in range(seeds):
        for setting in comparison.settings:
            changes = [change.format(out=out, seed=seed) for change in setting.changes]
            keys = [f"seed={seed}", *changes, *overrides, *setting.own]
            output = out / f"{setting.folder}-{seed}"
            job = load_job(Path(setting.job), keys, str(output))
            finished.append(Finished(setting.name, seed, job, runner(job)))
    return finished


def table_of(
    comparison: Comparison, finished: Sequence[Finished]
) -> dict[str, dict[str, list[float]]]:
    """Return, by setting and column, the numbers of all seeds that were measured.

    The first row is of real images, as far as a score measures them: one number per seed, of the
    first setting that has it.
    """
    table: dict[str, dict[str, list[float]]] = {}
    for name in (REAL, *(setting.name for setting in comparison.settings)):
        table[name] = {column: [] for column in comparison.columns}
    of_real: dict[tuple[str, int], float] = {}  # by column and seed
    for done in finished:
        scores = done.outputs["score"].manifest["scores"]
        for column, (score, key) in comparison.columns.items():
            measured = scores.get(score, {})
            value = measured.get("values", {}).get(key)
            if value is not None:
                table[done.setting][column].append(value)
            real = measured.get("controls", {}).get("real", {}).get(key)
            if real is not None:
                of_real.setdefault((column, done.seed), real)
    for (column, _), real in of_real.items():
        table[REAL][column].append(real)
    if not of_real:
        del table[REAL]
    return table


def summary(table: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the table in Markdown: mean, and half its interval where there are several seeds."""
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
    return f"{mean(values):.4g} ± {half_width(values):.2g}"


def half_width(values: Sequence[float]) -> float:
    """Return half the width of Student's interval of a mean over seeds, two or more."""
    from scipy import special

    count = len(values)
    quantile = float(special.stdtrit(count - 1, 0.5 + LEVEL / 2))
    return quantile * stdev(values) / count**0.5


def columns_of(finished: Sequence[Finished]) -> list[Column]:
    """Return the painted layouts of the first seed's runs, a column per setting."""
    columns = []
    for done in finished:
        if done.seed == 0:
            folder = done.outputs["score"].folder.sub(PAIRED)
            columns.append(Column(done.setting, parquet.open_table(folder)))
    return columns


def _run(job: Job) -> Mapping[str, Output]:
    return run_some(job, Console(print, lambda *_: None), steps_of(job))


def steps_of(job: Job) -> tuple[str, ...]:
    """Return the steps that a job's scores need, and the one that looks for leaks."""
    steps = load_steps()
    wanted = {"leaks", "score"}
    for name in reversed(steps):
        if name in wanted:
            wanted |= set(steps[name].needs_of(job))
    return tuple(wanted)


def main() -> None:
    """Run the settings of one table, print it and leave it and its sheet of pictures."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("table", choices=(*COMPARISONS, SYSTEMS))
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--job", default="smoke")
    parser.add_argument("--systems", default="")
    words = parser.parse_intermixed_args()
    try:
        print(_compare(words))
    except SynthaugError as err:
        print(f"error: {err}", file=sys.stderr)
        sys.exit(err.exit_code)


def _compare(words: argparse.Namespace) -> str:
    """Run a table, leave OUT/summary.md and OUT/sheet.png; return the table."""
    comparison, overrides = _asked(words)
    seeds = words.seeds or comparison.seeds
    finished = run_all(comparison, words.out, overrides, seeds, _run)
    text = summary(table_of(comparison, finished))
    (words.out / "summary.md").write_text(text)
    first = finished[0]
    tables = Tables(first.job, first.outputs["ingest"].folder.uri, "")
    page = sheet(tables.real(), columns_of(finished), ROWS)
    page.save(words.out / "sheet.png", optimize=True)
    return text


def _asked(words: argparse.Namespace) -> tuple[Comparison, list[str]]:
    """Return the comparison that the command line names, and the overrides of all settings."""
    if words.table != SYSTEMS:
        return COMPARISONS[words.table], words.overrides
    systems = learning_systems()
    if words.systems:
        systems = words.systems.split(",")
    common: list[str] = []
    own: dict[str, list[str]] = {name: [] for name in systems}
    for word in words.overrides:
        name, _, change = word.partition(":")
        if name in own:
            own[name].append(change)
        else:
            common.append(word)
    return of_systems(words.job, systems, own), common


if __name__ == "__main__":
    main()
