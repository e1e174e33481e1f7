"""The report's page: all its parts put together as HTML.

Tables, charts, pictures and the sections of single steps. Every text of a job or a data file
reaches the page through the template's autoescape; nothing here makes markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthaug.pipeline.core.links import weak_first
from synthaug.pipeline.report import (
    cards,
    curves,
    leaks,
    pseudo_labels,
    scores,
    tables,
    tiles,
    verification,
)
from synthaug.pipeline.report.frame import escaped, render_framed
from synthaug.pipeline.report.pictures import Picture
from synthaug.pipeline.report.pseudo_labels import Examples, PseudoClass
from synthaug.pipeline.report.tables import ClassRow, Run, fold
from synthaug.pipeline.report.trial.section import section as trial_section

# Step -> its title in the navigation, and the function that makes its section as HTML from its
# manifest ("" = none).
SECTIONS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "trial": ("Trial", trial_section),
    "verify": ("Verification", verification.section),
    "leaks": ("Leaks", leaks.splits),
    "copies": ("Copies", leaks.copies),
}


@dataclass(frozen=True)
class ImagePair:
    """A synthetic image beside the real one its layout came from."""

    synthetic: Picture
    real: Picture | None
    image_id: str
    source: str
    reason: str
    planned: int
    visible: int

    @property
    def weight(self) -> int:
        """Bytes it adds to a page, about."""
        if self.real is None:
            return self.synthetic.weight
        return self.synthetic.weight + self.real.weight


@dataclass(frozen=True)
class ClassExamples:
    """Some instances of one class, synthetic and real."""

    index: int  # of the class
    synthetic: Sequence[Picture]
    real: Sequence[Picture]

    @property
    def weight(self) -> int:
        """Bytes they add to a page, about."""
        return sum(picture.weight for picture in (*self.synthetic, *self.real))


@dataclass(frozen=True)
class Pictures:
    """The pictures of the page, and the number of classes that have none on it.

    Of the classes with instances.
    """

    pairs: Sequence[ImagePair] = ()
    classes: Sequence[ClassExamples] = ()
    not_shown: int = 0
    pseudo_labels: Examples = field(default=Examples())
    gallery: Mapping[str, Any] = field(default_factory=dict)  # see gallery.content


def pseudo_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, PseudoClass]]:
    """Return the classes with detections or truth in the unlabelled images.

    Or with truth in the validation images.
    """
    pseudo = run.manifests["pseudo_label"]
    calibration = run.manifests["calibrate"]
    rule = run.job.pseudo_label.rule
    known = []
    for row in rows:
        numbers = pseudo_labels.class_row(row.name, pseudo, calibration, rule)
        if not numbers.is_empty:
            known.append((row, numbers))
    return known


def sections(run: Run) -> list[tuple[str, str, str]]:
    """Return (id, title, HTML) of each step's own section with something to show."""
    parts = []
    for step, (title, section) in SECTIONS.items():
        html = section(run.manifests.get(step, {}))
        if html:
            parts.append((step, title, html))
    return parts


def render(run: Run, pictures: Pictures) -> bytes:
    """Return the page, UTF-8."""
    job = run.job
    manifests = run.manifests
    rows = tables.class_rows(run)
    things = [row for row in rows if row.isthing]
    stuff = [row for row in rows if not row.isthing]
    most = 0  # objects of a class, for the scale of the bars
    for row in rows:
        most = max(most, row.labelled + row.pseudo, row.made, row.target)
    synthetic = pictures.gallery.get("totals", {}).get("synthetic", 0)
    trial = manifests["trial"]
    return render_framed(
        "report.html.j2",
        pictures.gallery,
        explorer=pictures.gallery,
        missing=run.missing,
        notes=run.notes,
        links=weak_first(run.links),
        verdict=trial.get("verdict"),
        advice=trial.get("advice"),
        wanted=min(job.report.samples, synthetic),
        job=job,
        title=job.report.title or job.name,
        summary=tiles.summary(run),
        sections=sections(run),
        tiles=tiles.tiles(run, rows),
        parts=[("things", fold(things)), ("stuff", fold(stuff))],
        most=most or 1,
        verified=any(row.left is not None for row in rows),
        measured=any(row.ap50 is not None for row in rows),
        by_index={row.index: row for row in rows},
        pictures=pictures,
        scores=run.scores,
        groups=scores.group_rows(run, rows),
        dap=fold(scores.dap_rows(run, rows)),
        cas=fold(scores.cas_rows(run, rows)),
        cas_groups=scores.cas_groups(run, rows),
        confusion=scores.confusion(run),
        cards=cards.cards(run.scores),
        self_training=manifests["self_train"],
        pseudo=manifests["pseudo_label"],
        pseudo_rows=fold(pseudo_rows(run, rows)),
        calibration=pseudo_labels.held_out_quality(manifests["calibrate"], job.pseudo_label.rule),
        charts=[escaped(svg) for svg in curves.charts(run.logs)],
        chosen=curves.chosen(manifests["train_detector"]),
        learnt_along=curves.learnt_along(manifests["train_generator"]),
        losses=tables.losses(run, rows),
        misses=fold(tables.misses(rows)),
        provenance=tables.provenance(run),
    )
