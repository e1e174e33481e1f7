"""`synthaug plan`: the gaps of the labelled data and the plan of a job.

Before any training.
"""

from __future__ import annotations

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.boxes import relative_boxes
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Provenance, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.layout_statistics import Statistics, deviation
from synthaug.pipeline.report import plan_page
from synthaug.pipeline.report.pictures import Picture, full_picture, layout_picture
from synthaug.pipeline.report.plan_page import LayoutPair, PlanPage
from synthaug.pipeline.run import Console, run_some
from synthaug.pipeline.steps.contract import load_steps
from synthaug.pipeline.synthesis.conditioning import conditioning_of

PAGE = "plan.html"
SIDE = 300  # longer side of a picture, pixels
PAIRS = 24  # at most; fewer with report.samples


def plan(job: Job, console: Console) -> list[str]:
    """Plan in the job's output folder and write the page there.

    Returns lines for the terminal.
    """
    needs = load_steps(("plan",))["plan"].needs_of(job)
    done = run_some(job, console, (*needs, "plan"))
    labelled = done["ingest"].folder.sub("labelled").uri
    manifest = done["plan"].manifest
    planned = parquet.open_table(done["plan"].folder, pixels=False)
    real = parquet.open_table(labelled, pixels=False)
    num_classes = len(real.categories)
    sources = conditioning_of(job).layouts(real)
    natural = Statistics.of([source.layout for source in sources], num_classes)
    target = Statistics.of([_layout(scene) for scene in planned], num_classes)
    num_pairs = min(PAIRS, job.report.samples)
    page = PlanPage(
        title=job.report.title or job.name,
        target=job.plan.target,
        placement=job.plan.placement,
        manifest=manifest,
        rows=plan_page.class_rows(real.categories, natural, manifest),
        deviation=deviation(natural, target),
        pairs=_pairs(planned, parquet.open_table(labelled), num_pairs),
    )
    output = Folder.at(job.output)
    output.write_bytes(PAGE, plan_page.render(page))
    return [*plan_page.lines(page), f"page: {output.sub(PAGE).uri}"]


def _layout(scene: Scene) -> Layout:
    objects = scene.objects.without_crowds()
    return Layout(objects.category, relative_boxes(objects.boxes, scene.size))


def _pairs(planned: Dataset, real: Dataset, most: int) -> list[LayoutPair]:
    """Return layouts evenly spaced through the plan, beside the images they come from."""
    count = min(most, len(planned))
    some = [planned[k * len(planned) // count] for k in range(count)]
    # what was drawn by hand has no image that it comes from
    scenes = [scene for scene in some if _origin(scene).source_image]
    origins = [_origin(scene) for scene in scenes]
    sources = _draw(real, {origin.source_image for origin in origins})
    pairs = []
    for scene, origin in zip(scenes, origins, strict=True):
        picture = layout_picture(scene, planned.categories, SIDE)
        name = origin.source_image
        pairs.append(LayoutPair(picture, sources[name], scene.image_id, name, origin.reason))
    return pairs


def _origin(scene: Scene) -> Provenance:
    assert scene.provenance is not None, f"{scene.image_id} is not planned"
    return scene.provenance


def _draw(real: Dataset, image_ids: set[str]) -> dict[str, Picture]:
    """Return pictures of these images; reading ends with the last of them."""
    pictures: dict[str, Picture] = {}
    for scene in real:
        if len(pictures) == len(image_ids):
            break
        if scene.image_id in image_ids:
            pictures[scene.image_id] = full_picture(scene, decode(scene), real.categories, SIDE)
    return pictures
