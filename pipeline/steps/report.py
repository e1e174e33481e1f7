"""Write the report: one page that needs nothing else, with the numbers, the pictures and what was lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import EVALUATION, read_log
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.report import gallery as report_gallery
from synthaug.pipeline.report import pictures as report_pictures
from synthaug.pipeline.report import pseudo_labels as report_pseudo
from synthaug.pipeline.report import run_page as report_page
from synthaug.pipeline.report.gallery import Tables, Verdicts, find, planned_objects
from synthaug.pipeline.report.pictures import Picture
from synthaug.pipeline.report.pseudo_labels import Candidate, Labelled, Sheets
from synthaug.pipeline.report.run_page import Gallery, Pair, Samples
from synthaug.pipeline.report.tables import UNDONE, Run, class_rows
from synthaug.pipeline.steps import verify
from synthaug.pipeline.steps.contract import Published

NEEDS = (
    "ingest",
    "leaks",
    "train_detector",
    "self_train",
    "calibrate",
    "pseudo_label",
    "train_generator",
    "plan",
    "synthesize",
    "copies",
    "verify",
    "export",
    "score",
    "trial",
)
VERSION = 5
LOGS = ("train_detector", "self_train", "train_generator")  # steps with a loss curve
PAGE = "report.html"
PUBLISHES = (Published(PAGE),)
PAIRS = 12  # images shown beside their source
CLASSES = 24  # with examples
EXAMPLES = 6  # instances of a class, of each kind
PAIR_SIDE, EXAMPLE_SIDE, LABEL_SIDE = (
    256,
    192,
    128,
)  # pixels, the longer side of an embedded picture
BUDGET = 4_000_000  # bytes of pictures; classes beyond it are not shown, which the page says

Place = tuple[int, int]  # (scene of a table, object of the scene)


@dataclass(frozen=True)
class Spec:
    """What the task needs, as plain data: the manifests and folders of the steps, and where the page goes."""

    job: Job
    manifests: dict[str, dict[str, Any]]
    folders: dict[str, str]
    out: str
    notes: tuple[str, ...] = ()

    def table(self, step: str, split: str = "", pixels: bool = True) -> Dataset:
        """Open the scene table of a step."""
        folder = Folder.at(self.folders[step])
        return parquet.read(
            parquet.Config((folder.sub(split) if split else folder).uri), pixels=pixels
        )


def settings(job: Job) -> dict[str, Any]:
    """The report section, and the name the page carries."""
    return {"report": section_dict(job, "report"), "name": job.name}


def run(context: Context) -> dict[str, Any]:
    """Write `report.html`; the manifest has its size."""
    manifests = {name: dict(context.inputs[name].manifest) for name in NEEDS}
    folders = {name: context.inputs[name].folder.uri for name in NEEDS}
    size = context.executor.call(build, Spec(context.job, manifests, folders, context.folder.uri))
    context.tell(f"  {PAGE}, {size / 1e6:.1f} MB")
    return {"file": PAGE, "bytes": size}


def build(spec: Spec) -> int:
    """Runs in a worker: make the page and write it; returns its size in bytes."""
    made = page(spec)
    Folder.at(spec.out).write_bytes(PAGE, made)
    return len(made)


def page(spec: Spec) -> bytes:
    """Read the tables and logs, draw, and return the page; steps that `spec` has no folder of count as not done."""
    logs = read_logs(spec.folders)
    told = Run(
        spec.job,
        {**UNDONE, **spec.manifests},
        logs,
        tuple(name for name in NEEDS if name not in spec.folders),
        spec.notes,
    )
    return report_page.render(told, gallery(spec, told))


def read_logs(folders: Mapping[str, str]) -> dict[str, Any]:
    """The rows of every training's log, and of the evaluations during the detector's."""
    logs = {name: read_log(Folder.at(folders[name])) if name in folders else [] for name in LOGS}
    measured = "train_detector" in folders
    logs["evaluation"] = (
        read_log(Folder.at(folders["train_detector"]), EVALUATION) if measured else []
    )
    return logs


def gallery(spec: Spec, told: Run) -> Gallery:
    """Choose scenes by their place in the tables, never by how they look, and draw them."""
    if not spec.job.report.samples:
        return Gallery()
    labels = _labels(spec) if told.manifests["pseudo_label"]["images"] else Sheets()
    if not told.manifests["synthesize"]["images"]:
        return Gallery(labels=labels)
    pairs = _pairs(spec, min(PAIRS, spec.job.report.samples))
    left = BUDGET - sum(p.made.weight + (p.real.weight if p.real else 0) for p in pairs)
    classes, not_shown = _classes(spec, told, left)
    return Gallery(pairs, classes, not_shown, labels, _explorer(spec, told))


def _explorer(spec: Spec, told: Run) -> dict[str, Any]:
    """The data of the gallery that the page's script draws."""
    pseudo = spec.table("pseudo_label") if told.manifests["pseudo_label"]["images"] else None
    made, plan, real = (
        spec.table("synthesize"),
        spec.table("plan", pixels=False),
        spec.table("ingest", "labelled"),
    )
    places = report_gallery.spread(len(made), spec.job.report.samples)
    verdicts = _verdicts(spec, {plan[place].image_id for place in places}) if told.verified else {}
    tables = Tables(made, plan, real, pseudo, verdicts)
    return report_gallery.content(
        tables, spec.table("ingest", "labelled", pixels=False), spec.job.report.samples
    )


def _verdicts(spec: Spec, image_ids: set[str]) -> Verdicts:
    """What verification said of the objects of some images, those it kept and those it took out."""
    found: dict[int, tuple[str | None, float]] = {}
    for split in ("", verify.REJECTED):
        table = spec.table("verify", split, pixels=False)
        for scene in (table[index] for index in range(len(table))):
            if scene.image_id in image_ids:
                objects = scene.objects
                told = zip(objects.verdict, objects.verdict_score.tolist(), strict=True)
                found |= dict(zip(objects.id.tolist(), told, strict=True))
    return found


def _labels(spec: Spec) -> Sheets:
    """The most and the least certain pseudo-labels."""
    most, least = report_pseudo.ends(spec.table("pseudo_label", pixels=False))
    table = spec.table("pseudo_label")

    def draw(scene: Scene, place: int) -> Picture:
        return report_pictures.single(
            scene, decode(scene), table.categories, LABEL_SIDE, place, crop=True
        )

    drawn = _draw(table, [(c.scene, c.place) for c in (*most, *least)], draw)

    def shown(chosen: Candidate) -> Labelled:
        name = table.categories[chosen.category].name
        return Labelled(
            drawn[chosen.scene, chosen.place], name, chosen.score, table[chosen.scene].image_id
        )

    return Sheets([shown(c) for c in most], [shown(c) for c in least])


def _pairs(spec: Spec, most: int) -> list[Pair]:
    """Synthetic images evenly spaced through the set, beside the real images their layouts came from."""
    made, plan = spec.table("synthesize"), spec.table("plan", pixels=False)
    real, places = spec.table("ingest", "labelled"), range(min(most, len(made)))
    chosen = [made[k * len(made) // len(places)] for k in places]
    layouts = [plan[k * len(made) // len(places)] for k in places]
    wanted = {scene.provenance.source_image for scene in chosen if scene.provenance}
    sources = find(spec.table("ingest", "labelled", pixels=False), wanted)

    def draw(scene: Scene, _: int) -> Picture:
        return report_pictures.whole(scene, decode(scene), real.categories, PAIR_SIDE)

    drawn = _draw(real, [(index, 0) for index in sources.values()], draw)
    pairs = []
    for scene, layout in zip(chosen, layouts, strict=True):
        origin = scene.provenance
        assert origin is not None
        planned = planned_objects(layout, scene)
        picture = report_pictures.whole(scene, decode(scene), made.categories, PAIR_SIDE, planned)
        source = sources.get(origin.source_image)
        beside = None if source is None else drawn[source, 0]
        pairs.append(
            Pair(
                picture,
                beside,
                scene.image_id,
                origin.source_image,
                origin.reason,
                len(planned),
                len(scene.objects),
            )
        )
    return pairs


def _classes(spec: Spec, told: Run, budget: int) -> tuple[list[Samples], int]:
    """Examples of the thing classes there is something to show of, and how many of these are not shown.

    Where there are too many for the page the rarest are shown: they are why the data was made.
    """
    rows = [row for row in class_rows(told) if row.isthing and (row.labelled or row.made)]
    kept = rows[-min(CLASSES, spec.job.report.samples) :]
    indices = [row.index for row in kept]
    made = _examples(spec, "synthesize", "", indices, crop=False)
    real = _examples(spec, "ingest", "labelled", indices, crop=True)
    samples: list[Samples] = []
    for index in reversed(indices):
        found = Samples(index, made[index], real[index])
        budget -= sum(picture.weight for picture in (*found.made, *found.real))
        if budget < 0:
            break
        samples.append(found)
    return samples[::-1], len(rows) - len(samples)


def _examples(
    spec: Spec, step: str, split: str, classes: Sequence[int], crop: bool
) -> dict[int, list[Picture]]:
    """Draw the first instances of each class in table order, at most one per image: its largest."""
    found = _first_instances(spec.table(step, split, pixels=False), classes)
    table = spec.table(step, split)
    categories: tuple[Category, ...] = table.categories

    def draw(scene: Scene, place: int) -> Picture:
        return report_pictures.single(scene, decode(scene), categories, EXAMPLE_SIDE, place, crop)

    drawn = _draw(table, [place for places in found.values() for place in places], draw)
    return {index: [drawn[place] for place in places] for index, places in found.items()}


def _first_instances(table: Dataset, classes: Sequence[int]) -> dict[int, list[Place]]:
    found: dict[int, list[Place]] = {index: [] for index in classes}
    missing = set(classes)
    for index in range(len(table)):
        if not missing:
            break
        objects = table[index].objects
        largest: dict[int, int] = {}
        for place in np.argsort(objects.area, kind="stable").tolist():
            if not objects.iscrowd[place]:
                largest[int(objects.category[place])] = place
        for category in missing & largest.keys():
            found[category].append((index, largest[category]))
        missing = {category for category in missing if len(found[category]) < EXAMPLES}
    return found


def _draw(
    table: Dataset, places: Iterable[Place], draw: Callable[[Scene, int], Picture]
) -> dict[Place, Picture]:
    """Draw in table order, so that each row group is read once; memory holds pictures, not scenes."""
    return {(index, place): draw(table[index], place) for index, place in sorted(set(places))}
