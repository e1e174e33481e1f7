"""Write the report: one page that needs nothing else.

With the numbers, the pictures and what was lost on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import EVALUATION, read_log
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.report import gallery as report_gallery
from synthaug.pipeline.report import pseudo_labels as report_pseudo
from synthaug.pipeline.report import run_page
from synthaug.pipeline.report.gallery import (
    GalleryTables,
    Verdicts,
    find,
    planned_objects,
    spread,
)
from synthaug.pipeline.report.pictures import Picture, full_picture, object_picture
from synthaug.pipeline.report.pseudo_labels import Candidate, Examples, Labelled
from synthaug.pipeline.report.run_page import ClassExamples, ImagePair, Pictures
from synthaug.pipeline.report.tables import UNDONE, Run, class_rows
from synthaug.pipeline.steps import verify
from synthaug.pipeline.steps.contract import Published, links_of

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
VERSION = 7
AS_ASKED = True
LOGS = ("train_detector", "self_train", "train_generator")  # steps with a loss curve
PAGE = "report.html"
PUBLISHES = (Published(PAGE),)
PAIRS = 12  # images shown beside their source
CLASSES = 24  # with examples
EXAMPLES = 6  # instances of a class, of each kind
PAIR_SIDE = 256  # pixels, the longer side of an embedded picture
EXAMPLE_SIDE = 192
LABEL_SIDE = 128
BUDGET = 4_000_000  # bytes of pictures; classes beyond it are not shown, which the page says

Position = tuple[int, int]  # (scene of a table, object of the scene)


@dataclass(frozen=True)
class Spec:
    """The manifests and folders of the steps, and where the page goes, as plain data."""

    job: Job
    manifests: dict[str, Json]
    folders: dict[str, str]
    out: str
    notes: tuple[str, ...] = ()

    def table(self, step: str, split: str = "", pixels: bool = True) -> Dataset:
        """Open the scene table of a step."""
        folder = Folder.at(self.folders[step])
        if split:
            folder = folder.sub(split)
        return parquet.open_table(folder, pixels=pixels)

    def run(self) -> Run:
        """Return the run without pixels; steps without a folder count as not done."""
        missing = tuple(name for name in NEEDS if name not in self.folders)
        manifests = {**UNDONE, **self.manifests}
        logs = read_logs(self.folders)
        links = links_of(self.manifests)
        return Run(self.job, manifests, logs, missing, self.notes, links)


def settings(job: Job) -> Json:
    """Return the report section, and the name the page carries."""
    return {"report": section_dict(job, "report"), "name": job.name}


def run(context: Context) -> Json:
    """Write `report.html`; the manifest has its size."""
    manifests = {}
    folders = {}
    for name in NEEDS:
        manifests[name] = dict(context.inputs[name].manifest)
        folders[name] = context.inputs[name].folder.uri
    spec = Spec(context.job, manifests, folders, context.folder.uri)
    size = context.executor.call(build, spec)
    context.tell(f"  {PAGE}, {size / 1e6:.1f} MB")
    return {"file": PAGE, "bytes": size}


def build(spec: Spec) -> int:
    """Runs in a worker: write the page; return its size in bytes."""
    content = page(spec)
    Folder.at(spec.out).write_bytes(PAGE, content)
    return len(content)


def page(spec: Spec) -> bytes:
    """Read the tables and logs, draw, and return the page.

    Steps that `spec` has no folder of count as not done.
    """
    own_run = spec.run()
    return run_page.render(own_run, pictures(spec, own_run))


def read_logs(folders: Mapping[str, str]) -> Json:
    """Return the rows of every training's log.

    And of the evaluations during the detector's.
    """
    logs: Json = {name: [] for name in (*LOGS, "evaluation")}
    for name in LOGS:
        if name in folders:
            logs[name] = read_log(Folder.at(folders[name]))
    if "train_detector" in folders:
        of_detector = Folder.at(folders["train_detector"])
        logs["evaluation"] = read_log(of_detector, EVALUATION)
    return logs


def pictures(spec: Spec, own_run: Run) -> Pictures:
    """Choose scenes by their position in the tables, and draw them.

    Never by how they look.
    """
    samples = spec.job.report.samples
    if not samples:
        return Pictures()
    labels = Examples()
    if own_run.manifests["pseudo_label"]["images"]:
        labels = _pseudo_labels(spec)
    if not own_run.manifests["synthesize"]["images"]:
        return Pictures(pseudo_labels=labels)
    pairs = _pairs(spec, min(PAIRS, samples))
    left = BUDGET - sum(pair.weight for pair in pairs)
    classes, not_shown = _classes(spec, own_run, left)
    return Pictures(pairs, classes, not_shown, labels, _gallery(spec, own_run))


def _gallery(spec: Spec, own_run: Run) -> Json:
    """Return the data of the gallery that the page's script draws."""
    samples = spec.job.report.samples
    synthetic = spec.table("synthesize")
    plan = spec.table("plan", pixels=False)
    pseudo = None
    if own_run.manifests["pseudo_label"]["images"]:
        pseudo = spec.table("pseudo_label")
    verdicts: Verdicts = {}
    if own_run.verified:
        shown = spread(len(synthetic), samples)
        image_ids = {plan[index].image_id for index in shown}
        verdicts = _verdicts(spec, image_ids)
    real = spec.table("ingest", "labelled")
    bare = spec.table("ingest", "labelled", pixels=False)
    tables = GalleryTables(synthetic, plan, real, pseudo, verdicts)
    return report_gallery.content(tables, bare, samples)


def _verdicts(spec: Spec, image_ids: set[str]) -> Verdicts:
    """Return the verdicts on the objects of some images, kept and rejected ones."""
    verdicts: dict[int, tuple[str | None, float]] = {}
    for split in ("", verify.REJECTED):
        for scene in spec.table("verify", split, pixels=False):
            if scene.image_id not in image_ids:
                continue
            objects = scene.objects
            scores = objects.verdict_score.tolist()
            own = zip(objects.verdict, scores, strict=True)
            verdicts.update(zip(objects.id.tolist(), own, strict=True))
    return verdicts


def _pseudo_labels(spec: Spec) -> Examples:
    """Draw the most and the least certain pseudo-labels."""
    labels = spec.table("pseudo_label", pixels=False)
    most, least = report_pseudo.ends(labels)
    table = spec.table("pseudo_label")

    def draw(scene: Scene, number: int) -> Picture:
        return object_picture(scene, decode(scene), table.categories, LABEL_SIDE, number, crop=True)

    positions = [(candidate.scene, candidate.number) for candidate in (*most, *least)]
    drawn = _draw(table, positions, draw)

    def labelled(candidate: Candidate) -> Labelled:
        picture = drawn[candidate.scene, candidate.number]
        name = table.categories[candidate.category].name
        image_id = table[candidate.scene].image_id
        return Labelled(picture, name, candidate.score, image_id)

    return Examples([labelled(own) for own in most], [labelled(own) for own in least])


def _pairs(spec: Spec, most: int) -> list[ImagePair]:
    """Draw synthetic images beside the real ones their layouts came from.

    Evenly spaced through the set.
    """
    synthetic = spec.table("synthesize")
    plan = spec.table("plan", pixels=False)
    real = spec.table("ingest", "labelled")
    chosen = spread(len(synthetic), most)
    origins = [synthetic[index].provenance for index in chosen]
    source_ids = {origin.source_image for origin in origins if origin}
    labelled = spec.table("ingest", "labelled", pixels=False)
    sources = find(labelled, source_ids)

    def draw(scene: Scene, _: int) -> Picture:
        return full_picture(scene, decode(scene), real.categories, PAIR_SIDE)

    positions = [(index, 0) for index in sources.values()]
    drawn = _draw(real, positions, draw)
    pairs = []
    for index in chosen:
        scene = synthetic[index]
        origin = scene.provenance
        assert origin is not None
        planned = planned_objects(plan[index], scene)
        picture = full_picture(scene, decode(scene), synthetic.categories, PAIR_SIDE, planned)
        source = sources.get(origin.source_image)
        real_picture = None
        if source is not None:
            real_picture = drawn[source, 0]
        pairs.append(
            ImagePair(
                synthetic=picture,
                real=real_picture,
                image_id=scene.image_id,
                source=origin.source_image,
                reason=origin.reason,
                planned=len(planned),
                visible=len(scene.objects),
            )
        )
    return pairs


def _classes(spec: Spec, own_run: Run, budget: int) -> tuple[list[ClassExamples], int]:
    """Draw examples of the thing classes that have any.

    Those that are not shown are counted. Where there are too many for the page the rarest are
    shown: they are why the data was made.
    """
    rows = [row for row in class_rows(own_run) if row.isthing and (row.labelled or row.made)]
    most = min(CLASSES, spec.job.report.samples)
    indices = [row.index for row in rows[-most:]]
    synthetic = _examples(spec, "synthesize", "", indices, crop=False)
    real = _examples(spec, "ingest", "labelled", indices, crop=True)
    shown: list[ClassExamples] = []
    for index in reversed(indices):
        examples = ClassExamples(index, synthetic[index], real[index])
        budget -= examples.weight
        if budget < 0:
            break
        shown.append(examples)
    return shown[::-1], len(rows) - len(shown)


def _examples(
    spec: Spec, step: str, split: str, classes: Sequence[int], crop: bool
) -> dict[int, list[Picture]]:
    """Draw the first instances of each class in table order.

    At most one per image: its largest.
    """
    table_without_pixels = spec.table(step, split, pixels=False)
    positions = first_instances(table_without_pixels, classes, EXAMPLES)
    table = spec.table(step, split)

    def draw(scene: Scene, number: int) -> Picture:
        return object_picture(scene, decode(scene), table.categories, EXAMPLE_SIDE, number, crop)

    every: list[Position] = []
    for own in positions.values():
        every += own
    drawn = _draw(table, every, draw)
    pictures = {}
    for label, own in positions.items():
        pictures[label] = [drawn[position] for position in own]
    return pictures


def first_instances(table: Dataset, classes: Sequence[int], most: int) -> dict[int, list[Position]]:
    """Return the first `most` images of each class, with its largest object there.

    In table order.
    """
    positions: dict[int, list[Position]] = {label: [] for label in classes}
    missing = set(classes)
    for index, scene in enumerate(table):
        if not missing:
            break
        largest = _largest(scene.objects)
        for label in missing & largest.keys():
            positions[label].append((index, largest[label]))
        missing = {label for label in missing if len(positions[label]) < most}
    return positions


def _largest(objects: Objects) -> dict[int, int]:
    """Return the largest object of each class, crowds left out."""
    largest: dict[int, int] = {}
    for number in np.argsort(objects.area, kind="stable").tolist():
        if not objects.iscrowd[number]:
            largest[int(objects.category[number])] = number
    return largest


def _draw(
    table: Dataset, positions: Iterable[Position], draw: Callable[[Scene, int], Picture]
) -> dict[Position, Picture]:
    """Draw in table order, so that each row group is read once.

    Memory holds pictures, not scenes.
    """
    drawn = {}
    for index, number in sorted(set(positions)):
        drawn[index, number] = draw(table[index], number)
    return drawn
