"""`synthaug studio`: a page in the browser to paint and change layouts by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from synthaug.pipeline.commands.report import Found, look
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Category, Scene
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.training import device
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps import synthesize, verify
from synthaug.pipeline.studio.painters.base import Painter
from synthaug.pipeline.studio.real_photos import Outlines, RealPhotos, Split
from synthaug.pipeline.studio.server.serve import check_installed, listen, serve
from synthaug.pipeline.studio.session import Judge, Judged, Session, Workshop
from synthaug.pipeline.studio.sketch import SEEDS
from synthaug.pipeline.synthesis.conditioning import conditioning_of

if TYPE_CHECKING:
    from synthaug.pipeline.synthesis.edits import EditConditioning
    from synthaug.pipeline.synthesis.pastes import PasteConditioning

SPLITS = ("validation", "labelled")
FOLDER = "studio"  # in the run's


def studio(run: Path, port: int, tell: Callable[[str], None]) -> None:
    """Serve the studio of a finished run until the user stops it.

    JobError where the run has no generator yet, or the port cannot be had.
    """
    check_installed()
    found = look(run)
    if "train_generator" not in found.folders:
        raise JobError(
            f"{run}: its step train_generator is not finished, so there is nothing to paint with; "
            "run the job"
        )
    listening = listen(port)
    for note in found.notes:
        tell(f"note: {note}")
    serve(session_of(found), listening, tell)


def session_of(found: Found) -> Session:
    """Return a session with a run; it paints with `synthesize.threads` CPU threads."""
    return Session(workshop_of(found))


def workshop_of(found: Found) -> Workshop:
    """Return what a session works with, of a run: generator, real images, judge."""
    job = found.job
    splits = {}
    for name in SPLITS:
        folder = Folder.at(found.folders["ingest"]).sub(name)
        table = parquet.open_table(folder)
        splits[name] = Split(table, parquet.open_table(folder, pixels=False))
    photos = RealPhotos(splits)
    labelled = splits["labelled"].bare
    categories = labelled.categories
    painter = painter_of(job, Folder.at(found.folders["train_generator"]), photos, categories)
    judge = judge_of(found, categories)
    return Workshop(
        run=found.path.resolve().name,
        system=job.generator.system,
        categories=categories,
        painter=painter,
        photos=photos,
        outlines=Outlines(labelled),
        folder=Folder.at(found.path).sub(FOLDER),
        seed=seed_for(job.seed, "studio") % SEEDS,
        judge=judge,
        no_judge="this run has verified nothing, so it has no judge; run it with verify.enabled",
    )


def painter_of(
    job: Job, trained: Folder, photos: RealPhotos, categories: tuple[Category, ...]
) -> Painter:
    """Return what paints with a run's generator."""
    from synthaug.pipeline.studio.painters.photos import PastePainter, PhotoPainter
    from synthaug.pipeline.studio.painters.scenes import ScenePainter

    network = synthesize.load_generator(trained, job)
    conditioning = conditioning_of(job)
    if job.generator.system == "lostgan":
        return _style_painter(network, conditioning.sampler_options(device()), categories)
    condition = conditioning.system.CONDITION
    if condition == "edit":
        editing = cast("EditConditioning", conditioning)
        parts = editing.parts(network, device(), trained)
        return PhotoPainter(parts, photos, categories)
    if condition == "paste":
        pasting = cast("PasteConditioning", conditioning)
        return PastePainter(pasting.bank(network, device(), trained), photos, categories)
    synthesizer = conditioning.synthesizer(network, device(), trained)
    by_maps = conditioning.plans_maps
    return ScenePainter(synthesizer, categories, by_maps)


def _style_painter(network: Any, options: Any, categories: tuple[Category, ...]) -> Painter:
    from synthaug.generators.lostgan.control import Studio
    from synthaug.generators.lostgan.sampler import LostGanSampler
    from synthaug.pipeline.studio.painters.styles import StylePainter

    names = [category.name for category in categories]
    return StylePainter(Studio(LostGanSampler(network, options), names), categories)


def judge_of(found: Found, categories: tuple[Category, ...]) -> Judge | None:
    """Return the detector that verified a run's images; None where none did."""
    if "verify" not in found.folders or not found.manifests["verify"]["enabled"]:
        return None
    judge = verify.Judge.of(
        found.job, found.folders["verify"], found.manifests["verify"], categories
    )

    def judged(scene: Scene) -> Judged:
        result = judge(scene)
        told: Judged = []
        scores = np.nan_to_num(result.score).tolist()
        rows = zip(scene.objects.id.tolist(), result.verdict, scores, strict=True)
        for identity, word, score in rows:
            told.append((identity, word, score))
        return told

    return judged
