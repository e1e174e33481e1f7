"""The report's page: tables, charts, pictures and the sections of single steps, put together as HTML.

Every text of a job or a data file reaches the page through the template's autoescape; nothing here makes markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthaug.pipeline.report import cards as report_cards
from synthaug.pipeline.report import curves as report_curves
from synthaug.pipeline.report import frame as report_frame
from synthaug.pipeline.report import leaks as report_leaks
from synthaug.pipeline.report import pseudo_labels as report_pseudo
from synthaug.pipeline.report import scores as report_scores
from synthaug.pipeline.report import tables as report_tables
from synthaug.pipeline.report import tiles as report_tiles
from synthaug.pipeline.report import trial as report_trial
from synthaug.pipeline.report import verification as report_verify
from synthaug.pipeline.report.pictures import Picture
from synthaug.pipeline.report.pseudo_labels import PseudoRow, Sheets
from synthaug.pipeline.report.tables import ClassRow, Run, fold

# step -> (its title in the navigation, what makes its section as HTML from its manifest: every text escaped, "" = nothing)
PARTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "trial": ("Trial", report_trial.section),
    "verify": ("Verification", report_verify.section),
    "leaks": ("Leaks", report_leaks.splits),
    "copies": ("Copies", report_leaks.copies),
}


@dataclass(frozen=True)
class Pair:
    """A synthetic image beside the real one its layout came from."""

    made: Picture
    real: Picture | None
    image_id: str
    source: str
    reason: str
    planned: int
    visible: int


@dataclass(frozen=True)
class Samples:
    """Some instances of one class, synthetic and real."""

    index: int  # of the class
    made: Sequence[Picture]
    real: Sequence[Picture]


@dataclass(frozen=True)
class Gallery:
    """The pictures of the page, and how many classes with instances have none on it."""

    pairs: Sequence[Pair] = ()
    classes: Sequence[Samples] = ()
    not_shown: int = 0
    labels: Sheets = field(default=Sheets())
    explorer: Mapping[str, Any] = field(default_factory=dict)  # report_gallery.content


def pseudo_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, PseudoRow]]:
    """Classes with detections in the unlabelled images, or with truth there or in the validation images."""
    pseudo, learnt = run.manifests["pseudo_label"], run.manifests["calibrate"]
    told = [
        (row, report_pseudo.class_row(row.name, pseudo, learnt, run.job.pseudo_label.rule))
        for row in rows
    ]
    return [
        (row, found)
        for row, found in told
        if found.found or found.kept or found.truths or found.truth.get("truth")
    ]


def sections(run: Run) -> list[tuple[str, str, str]]:
    """(Id, title, HTML) of the steps that have a section of their own and something to say."""
    made = [
        (step, title, section(run.manifests.get(step, {})))
        for step, (title, section) in PARTS.items()
    ]
    return [(step, title, html) for step, title, html in made if html]


def render(run: Run, gallery: Gallery) -> bytes:
    """Return the page, UTF-8."""
    rows = report_tables.class_rows(run)
    most = max([max(row.labelled + row.pseudo, row.made, row.target) for row in rows], default=0)
    return report_frame.render_framed(
        "report.html.j2",
        gallery.explorer,
        explorer=gallery.explorer,
        missing=run.missing,
        notes=run.notes,
        wanted=min(run.job.report.samples, gallery.explorer.get("totals", {}).get("synthetic", 0)),
        job=run.job,
        title=run.job.report.title or run.job.name,
        summary=report_tiles.summary(run),
        sections=sections(run),
        tiles=report_tiles.tiles(run, rows),
        parts=[
            (part, fold([r for r in rows if r.isthing is flag]))
            for part, flag in (("things", True), ("stuff", False))
        ],
        most=most or 1,
        verified=any(row.left is not None for row in rows),
        measured=any(row.ap50 is not None for row in rows),
        by_index={row.index: row for row in rows},
        gallery=gallery,
        scores=run.scores,
        groups=report_scores.group_rows(run, rows),
        dap=fold(report_scores.dap_rows(run, rows)),
        cas=fold(report_scores.cas_rows(run, rows)),
        cas_groups=report_scores.cas_groups(run, rows),
        confusion=report_scores.confusion(run),
        cards=report_cards.cards(run.scores),
        taught=run.manifests["self_train"],
        pseudo=run.manifests["pseudo_label"],
        pseudo_rows=fold(pseudo_rows(run, rows)),
        trust=report_pseudo.trust(run.manifests["calibrate"], run.job.pseudo_label.rule),
        charts=[report_frame.escaped(svg) for svg in report_curves.charts(run.logs)],
        chosen=report_curves.chosen(run.manifests["train_detector"]),
        losses=report_tables.losses(run, rows),
        misses=fold(report_tables.misses(rows)),
        provenance=report_tables.provenance(run),
    )
