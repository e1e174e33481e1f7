"""A page that compares several runs.

Scores with their controls, classes, curves, conclusions, and where the jobs differ. Numbers stand
side by side only with a word on whether they may be compared: every entry of their metric cards
that says how they were measured must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.report.cards import Card, card, drawn_numbers, words
from synthaug.pipeline.report.curves import overlaid
from synthaug.pipeline.report.frame import escaped, render_framed
from synthaug.pipeline.report.number_text import count, share
from synthaug.pipeline.report.pictures import Picture
from synthaug.pipeline.report.tables import ClassRow, Run, class_rows, versions
from synthaug.pipeline.verification.verdicts import FAILED, KEPT

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Entries of a card that tell what came out, or what was measured, not how.
OUTCOMES = (
    "generator_sha256",
    "confusion",
    "predictions",
    "train_crops",
    "classes_without_training_crops",
    "pairs",
    "examples",
    "warnings",
)
OUTSIDE = ("output", "checks", "cluster", "report", "name")  # of a job: they change no number

Row = tuple[str, list[str]]  # what differs, and its words in each run


@dataclass(frozen=True)
class ComparedRun:
    """One run of the comparison with some of its images, chosen by their position."""

    name: str
    folder: str  # its last part
    run: Run
    pictures: Sequence[Picture] = ()

    @property
    def synthetic(self) -> Mapping[str, Any]:
        """The manifest of its synthetic images."""
        return self.run.manifests["synthesize"]


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of all runs, None where a run has not measured it."""

    name: str
    cards: Sequence[Card | None]
    differs: Sequence[Row]  # entries of the metric cards


@dataclass(frozen=True)
class RunConclusions:
    """The conclusions of trial and verification of one run."""

    trial: Sequence[str]
    verified: str


def compared_metrics(runs: Sequence[Run]) -> list[ComparedMetric]:
    """Return every metric that any run has, in the order of the first run that has it.

    The lines of one metric have the same scale in all runs.
    """
    names: dict[str, None] = {}
    for run in runs:
        names.update(dict.fromkeys(run.scores))
    compared = []
    for name in names:
        metrics = [run.score(name) for run in runs]
        known = [metric for metric in metrics if metric]
        numbers = []
        for metric in known:
            numbers += drawn_numbers(metric)
        cards = []
        for of_run in metrics:
            own = None
            if of_run:
                own = card(name, of_run, also=numbers)
            cards.append(own)
        compared.append(ComparedMetric(name, cards, card_differences(known)))
    return compared


def card_differences(metrics: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the entries of metric cards that differ in how a number was made."""
    texts = []
    for metric in metrics:
        content = metric.get("card") or {}
        texts.append({key: words(content[key]) for key in content if key not in OUTCOMES})
    return _different(texts)


def job_differences(runs: Sequence[Run]) -> list[Row]:
    """Return the keys of the jobs that differ, with their value in each run.

    And the versions of packages.
    """
    import yaml

    texts = []
    for run in runs:
        job = yaml.safe_load(run.job.to_yaml())
        own = flatten({key: job[key] for key in job if key not in OUTSIDE})
        for package, version in versions(run).items():
            own[f"version of {package}"] = version
        texts.append(own)
    return _different(texts)


def _different(texts: Sequence[Mapping[str, str]]) -> list[Row]:
    """Return the keys whose texts are not the same in all mappings.

    "–" stands where one lacks a key.
    """
    keys: dict[str, None] = {}
    for own in texts:
        keys.update(dict.fromkeys(own))
    rows = []
    for key in keys:
        values = [own.get(key, "–") for own in texts]
        if len(set(values)) > 1:
            rows.append((key, values))
    return rows


def flatten(value: Any, key: str = "") -> dict[str, str]:
    """Return a job as dotted keys with their values as text."""
    if not isinstance(value, Mapping) or not value:
        return {key: words(value)}
    flat: dict[str, str] = {}
    for name, entry in value.items():
        dotted = str(name)
        if key:
            dotted = f"{key}.{name}"
        flat.update(flatten(entry, dotted))
    return flat


def compared_classes(runs: Sequence[Run]) -> list[tuple[str, list[ClassRow | None]]]:
    """Return (class, its row in each run), in the order of the first run.

    A class is known by its name.
    """
    tables = [{row.name: row for row in class_rows(run)} for run in runs]
    names: dict[str, None] = {}
    for table in tables:
        names.update(dict.fromkeys(table))
    return [(name, [table.get(name) for table in tables]) for name in names]


def run_conclusions(run: Run) -> RunConclusions:
    """Return the conclusions of a run's trial and verification in a sentence or two."""
    trial = run.manifests["trial"].get("says", ())
    if not run.verified:
        return RunConclusions(trial, "not verified")
    manifest = run.manifests["verify"]
    kept = sum(manifest[KEPT].values())
    judged = kept + sum(sum(manifest[verdict].values()) for verdict in FAILED)
    unjudged = sum(manifest["not_judged"].values())
    images = count(manifest["images"]["verified"])
    objects = f"{count(kept)} of {count(judged)} judged objects recognised ({share(kept, judged)})"
    return RunConclusions(trial, f"{objects}, {count(unjudged)} not judged, {images} images")


def warnings(runs: Sequence[Run]) -> list[str]:
    """Return what a reader must know before comparing any number."""
    texts = []
    if len({run.manifests["ingest"].get("key") for run in runs}) > 1:
        texts.append(
            "The runs were given different data (or by different versions of the first step): "
            "numbers measured on different validation images must not be compared."
        )
    for letter, run in zip(LETTERS, runs, strict=False):
        if run.missing:
            texts.append(f"{letter} is not finished: {', '.join(run.missing)} not done.")
        texts += [f"{letter}: {note}" for note in run.notes]
    return texts


def render(compared_runs: Sequence[ComparedRun], title: str) -> bytes:
    """Return the page, UTF-8."""
    runs = [compared.run for compared in compared_runs]
    letters = LETTERS[: len(runs)]
    logs = {letter: run.logs for letter, run in zip(letters, runs, strict=True)}
    plans = {run.manifests["plan"].get("key") for run in runs}
    seconds = []
    for name in runs[0].manifests:
        own = [run.manifests.get(name, {}).get("seconds") for run in runs]
        seconds.append((name, own))
    return render_framed(
        "compare.html.j2",
        title=title,
        compared_runs=list(zip(letters, compared_runs, strict=True)),
        letters=letters,
        warnings=warnings(runs),
        metrics=compared_metrics(runs),
        classes=compared_classes(runs),
        verified=any(run.verified for run in runs),
        conclusions=[run_conclusions(run) for run in runs],
        charts=[escaped(svg) for svg in overlaid(logs)],
        differs=job_differences(runs),
        same_plan=len(plans) == 1 and None not in plans,
        seconds=seconds,
    )
