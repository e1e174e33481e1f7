"""`synthaug score`: the scores of any two data sets.

By the same code as in a run, whoever made the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthaug.pipeline.config.build import build
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import DatasetError, JobError, suggest
from synthaug.pipeline.core.json_values import Json, json_digest
from synthaug.pipeline.core.readable import readable, skips_any
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder, check_writable, file_digest
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.ray_executor import open_executor
from synthaug.pipeline.formats.merge import with_classes
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.report import score_page
from synthaug.pipeline.scores import SCORES
from synthaug.pipeline.scores.card import versions
from synthaug.pipeline.scoring import engine
from synthaug.pipeline.scoring.summary import summary_cells
from synthaug.pipeline.steps.networks import check_score_networks

VERSION = 2
PAGE = "scores.html"
PACKAGES = ("synthaug", "torch", "torchvision", "numpy", "faster-coco-eval")


@dataclass(frozen=True)
class Request:
    """Words of the command line."""

    real: str
    synthetic: str
    train: str | None = None
    names: str | None = None  # separated by commas; None = every score that can be had
    detector: Path | None = None
    weights: Path | None = None
    output: str = "runs/score"
    job: Path | None = None


@dataclass(frozen=True)
class Tables:
    """Opens the data sets, in the order of the classes of the real one."""

    references: Mapping[str, str]  # of real, synthetic and perhaps train
    root: str

    def __call__(self, pixels: bool = True) -> Mapping[str, Dataset]:
        """Return the tables by name; DatasetError where one is empty or has other classes."""
        arguments = {"real": "REAL", "synthetic": "SYNTHETIC", "train": "--train"}
        opened = {}
        for name, reference in self.references.items():
            opened[name] = _usable(open_dataset(reference, Path(self.root), key=arguments[name]))
            if not len(opened[name]):
                raise DatasetError(
                    f"{arguments[name]}: {reference} has no image; name a data set that has"
                )
        classes = opened["real"].categories
        tables = {}
        for name, table in opened.items():
            source = f"{arguments[name]}: {self.references[name]}"
            tables[name] = with_classes(table, classes, source)
        return tables


def _usable(table: Dataset) -> Dataset:
    """Return a table without images that cannot be read and are to be left out."""
    return readable(table) if skips_any(table) else table


def score(request: Request, screen: Any) -> list[str]:
    """Measure, write `metrics.json` and `scores.html`.

    Returns what to say, line by line.
    """
    job = _job(request)
    check_writable(request.output)
    given = {"real": request.real, "synthetic": request.synthetic, "train": request.train}
    tables = Tables(
        {name: reference for name, reference in given.items() if reference}, str(Path.cwd())
    )
    opened = tables(False)
    plan = _plan(request, job, tables, opened)
    reasons = engine.prepare(plan)
    for name in _asked(request):
        if name in reasons:
            raise JobError(f"--names: {name} cannot be had: {reasons[name]}")
    plan = plan.without(reasons)
    scores, sheets = _measure(job, plan, screen) if plan.settings else ({}, {})
    used = versions(*PACKAGES)
    out = Folder.at(request.output)
    record = {
        **tables.references,
        "scores": scores,
        "scores_unavailable": reasons,
        "versions": used,
    }
    out.write_json("metrics.json", record)
    shown = [
        score_page.scored_set(name, tables.references[name], table)
        for name, table in tables().items()
    ]
    out.write_bytes(PAGE, score_page.render(shown, scores, reasons, sheets, used))
    return [
        *lines(scores, reasons),
        f"numbers: {out.sub('metrics.json').uri}",
        f"page:    {out.sub(PAGE).uri}",
    ]


def _measure(job: Job, plan: engine.ScoringJob, screen: Any) -> tuple[Json, dict[str, bytes]]:
    """Return the scores of a prepared plan, and the files that they draw."""
    folder = Folder.at(plan.folder)
    executor = open_executor(job.cluster, screen.tell)
    try:
        context = Context(job, folder, {}, executor, screen.tell, screen.progress)
        scores = engine.measure(context, plan)
        drawn: list[str] = []
        for name, metric in scores.items():
            drawn += executor.call(engine.draw, plan, name, metric)
    finally:
        executor.close()
    return scores, {name: folder.read_bytes(name) for name in drawn}


def _asked(request: Request) -> list[str]:
    words = (request.names or "").split(",")
    stripped = [word.strip() for word in words]
    names = [name for name in dict.fromkeys(stripped) if name]
    for name in names:
        if name not in SCORES:
            raise JobError(f"--names: there is no score '{name}'{suggest(name, SCORES)}")
    return names


def _job(request: Request) -> Job:
    """Return the job that has the settings of the scores.

    The one that is named, or the defaults.
    """
    names = _asked(request) or list(SCORES)
    if request.job:
        return load_job(request.job, [f"score.names=[{','.join(names)}]"], None)
    return build({"data": {"labelled": request.real}, "score": {"names": names}}, "score")


def _plan(
    request: Request, job: Job, tables: Tables, opened: Mapping[str, Dataset]
) -> engine.ScoringJob:
    settings = job.score.settings
    check_score_networks(settings, opened["real"].categories)
    named = str(request.detector or job.score.detector)
    detector = Path(named) if named else None
    weights = str(request.weights or job.score.weights)
    weights = str(Path(weights).absolute()) if weights else ""
    digest = _check_detector(detector, len(opened["real"].categories))
    if request.weights and not request.weights.is_dir():
        raise JobError(f"--weights: there is no folder '{request.weights}'; correct the path")
    place = None
    if detector:
        place = (str(detector.absolute().parent), detector.name)
    content = {
        "version": VERSION,
        "tables": {name: table.fingerprint() for name, table in opened.items()},
        "settings": {name: asdict(config) for name, config in settings.items()},
        "detector": digest,
        "seed": job.seed,
    }
    key = json_digest(content)[:12]
    work = Folder.at(request.output).sub("work").sub(key)
    return engine.ScoringJob(
        settings,
        tables,
        work.uri,
        detector=place,
        detector_sha256=digest,
        weights=weights,
        seed=job.seed,
        card_entries={"data_sets": dict(tables.references)},
    )


def _check_detector(path: Path | None, classes: int) -> str:
    """Return the digest of the reference detector.

    JobError when it is no detector of these classes.
    """
    if path is None:
        return ""
    from synthaug.detectors.weights import read_header

    if not path.is_file():
        raise JobError(f"--detector: there is no file '{path}'; name a detector's checkpoint")
    try:
        known = read_header(path)["num_classes"]
    except ValueError as err:
        raise JobError(f"--detector: {err}") from err
    if known != classes:
        raise JobError(
            f"--detector: {path} knows {known} classes, the data has {classes}; name one of the "
            "same classes"
        )
    return file_digest(str(path))


def lines(scores: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """Return the scores as a table, a row each.

    Then what was not measured, and what the numbers are too small for.
    """
    head = ("score", "number", "value", "95 %", "compare with")
    rows = [head, *(summary_cells(metric) for metric in scores.values())]
    widths = []
    for column in zip(*rows, strict=True):
        widths.append(max(len(text) for text in column))
    lines = []
    if scores:
        for row in rows:
            cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
    for name, metric in scores.items():
        for text in metric["card"].get("warnings", ()):
            lines.append(f"{name}: warning: {text}")
    for name, reason in reasons.items():
        lines.append(f"{name}: not measured: {reason}")
    return lines
