"""A page that compares several runs: scores with their controls, classes, curves, verdicts, and where the jobs differ.

Numbers stand side by side only with a word on whether they may be compared: every entry of their metric cards that says how
they were measured must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.report import cards as report_cards
from synthaug.pipeline.report import curves as report_curves
from synthaug.pipeline.report import frame as report_frame
from synthaug.pipeline.report import tables as report_tables
from synthaug.pipeline.report.cards import Card
from synthaug.pipeline.report.number_text import count, share
from synthaug.pipeline.report.pictures import Picture
from synthaug.pipeline.report.tables import ClassRow, Run

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OUTCOMES = (  # entries of a card that tell what came out, or what was measured, not how
    "generator_sha256",
    "confusion",
    "predictions",
    "train_crops",
    "classes_without_training_crops",
    "warnings",
)
OUTSIDE = ("output", "cluster", "report", "name")  # of a job: they change no number


@dataclass(frozen=True)
class Contestant:
    """One run of the comparison: what it says, and some of its images, chosen by their place."""

    name: str
    folder: str  # its last part
    run: Run
    pictures: Sequence[Picture] = ()

    @property
    def made(self) -> Mapping[str, Any]:
        """The manifest of its production."""
        return self.run.manifests["synthesize"]


@dataclass(frozen=True)
class Side:
    """One metric of all runs, None where a run has not measured it."""

    name: str
    cards: Sequence[Card | None]
    differs: Sequence[tuple[str, Sequence[str]]]  # entry of the metric cards, its words per run


@dataclass(frozen=True)
class Verdict:
    """What trial and verification of one run say."""

    trial: Sequence[str]
    verified: str


def sides(runs: Sequence[Run]) -> list[Side]:
    """Every metric that any run has, in the order of the first run that has it; all bars of one have the same scale."""
    names = list(dict.fromkeys(name for run in runs for name in run.scores))
    found = []
    for name in names:
        metrics = [run.score(name) for run in runs]
        span = [
            number for metric in metrics if metric for number in report_cards.drawn_numbers(metric)
        ]
        cards = [
            report_cards.card(name, metric, also=span) if metric else None for metric in metrics
        ]
        found.append(Side(name, cards, differences([metric for metric in metrics if metric])))
    return found


def differences(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Entries of metric cards that say how a number was made and are not the same in all of them."""
    told = [metric.get("card") or {} for metric in metrics]
    keys = list(dict.fromkeys(key for card in told for key in card if key not in OUTCOMES))
    rows = [
        (key, [report_cards.words(card[key]) if key in card else "–" for card in told])
        for key in keys
    ]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def flat(value: Any, key: str = "") -> dict[str, str]:
    """A job as dotted keys with their values as text."""
    if isinstance(value, Mapping) and value:
        inner = (
            flat(entry, f"{key}.{name}" if key else str(name)) for name, entry in value.items()
        )
        return {name: text for part in inner for name, text in part.items()}
    return {key: report_cards.words(value)}


def job_differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Keys of the jobs, and versions of the packages, that differ, with their value in each run."""
    import yaml

    told = []
    for run in runs:
        job = {
            key: value
            for key, value in yaml.safe_load(run.job.to_yaml()).items()
            if key not in OUTSIDE
        }
        versions = report_tables.provenance(run)["versions"]
        told.append(
            {**flat(job), **{f"version of {name}": version for name, version in versions.items()}}
        )
    keys = list(dict.fromkeys(key for values in told for key in values))
    rows = [(key, [values.get(key, "–") for values in told]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def class_rows(runs: Sequence[Run]) -> list[tuple[str, list[ClassRow | None]]]:
    """(Class, its row in each run), in the order of the first run; a class is known by its name."""
    tables = [{row.name: row for row in report_tables.class_rows(run)} for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return [(name, [table.get(name) for table in tables]) for name in names]


def verdict(run: Run) -> Verdict:
    """What a run's trial and verification say, in a sentence or two."""
    told = run.manifests["verify"]
    if not run.verified:
        return Verdict(run.manifests["trial"].get("says", ()), "not verified")
    left, made = sum(told["objects"].values()), sum(run.manifests["synthesize"]["objects"].values())
    return Verdict(
        run.manifests["trial"].get("says", ()),
        f"{count(left)} of {count(made)} objects left ({share(left, made)}), "
        f"{count(told['images']['verified'])} images",
    )


def warnings(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before comparing any number."""
    said = []
    if len({run.manifests["ingest"].get("key") for run in runs}) > 1:
        said.append(
            "The runs were given different data (or by different versions of the first step): numbers measured on "
            "different validation images must not be compared."
        )
    for letter, run in zip(LETTERS, runs, strict=False):
        said += (
            [f"{letter} is not finished: {', '.join(run.missing)} not done."] if run.missing else []
        )
        said += [f"{letter}: {note}" for note in run.notes]
    return said


def render(contestants: Sequence[Contestant], title: str) -> bytes:
    """Return the page, UTF-8."""
    runs = [contestant.run for contestant in contestants]
    letters = LETTERS[: len(runs)]
    logs = {letter: run.logs for letter, run in zip(letters, runs, strict=True)}
    plans = {run.manifests["plan"].get("key") for run in runs}
    return report_frame.render_framed(
        "compare.html.j2",
        title=title,
        contestants=list(zip(letters, contestants, strict=True)),
        letters=letters,
        warnings=warnings(runs),
        sides=sides(runs),
        classes=class_rows(runs),
        verified=any(run.verified for run in runs),
        verdicts=[verdict(run) for run in runs],
        charts=[report_frame.escaped(svg) for svg in report_curves.overlaid(logs)],
        differs=job_differences(runs),
        same_plan=len(plans) == 1 and None not in plans,
        seconds=[
            (name, [run.manifests.get(name, {}).get("seconds") for run in runs])
            for name in runs[0].manifests
        ],
    )
