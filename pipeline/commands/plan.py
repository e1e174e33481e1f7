"""`synthaug plan`: what the labelled data lacks and what a job would make of it, told before any training."""

from __future__ import annotations

import numpy as np

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.layout_statistics import Statistics, deviation
from synthaug.pipeline.report import plan_page
from synthaug.pipeline.report.pictures import Picture, full_picture, layout_picture
from synthaug.pipeline.report.plan_page import LayoutPair, PlanPage
from synthaug.pipeline.run import Console, run_some
from synthaug.pipeline.synthesis.conditioning import conditioning_of

PAGE = "plan.html"
SIDE = 300  # longer side of a picture, pixels
PAIRS = 24  # at most; fewer with report.samples


def plan(job: Job, console: Console) -> list[str]:
    """Read and plan in the job's output folder, write the page there, and return the lines for the terminal."""
    done = run_some(job, console, ("ingest", "plan"))
    labelled = done["ingest"].folder.sub("labelled").uri
    real = parquet.open_table(labelled, pixels=False)
    sources = conditioning_of(job).layouts(real)
    natural = Statistics.of([source.layout for source in sources], len(real.categories))
    table = parquet.open_table(done["plan"].folder, pixels=False)
    planned = Statistics.of([_layout(table[i]) for i in range(len(table))], len(real.categories))
    manifest = done["plan"].manifest
    page = PlanPage(
        title=job.report.title or job.name,
        target=job.plan.target,
        placement=job.plan.placement,
        manifest=manifest,
        rows=plan_page.class_rows(real.categories, natural, manifest),
        deviation=deviation(natural, planned),
        pairs=_pairs(table, parquet.open_table(labelled), min(PAIRS, job.report.samples)),
    )
    output = Folder.at(job.output)
    output.write_bytes(PAGE, plan_page.render(page))
    return [*plan_page.lines(page), f"page: {output.uri}/{PAGE}"]


def _layout(scene: Scene) -> Layout:
    size = np.array([scene.width, scene.height, scene.width, scene.height], np.float32)
    return Layout(scene.objects.category, scene.objects.boxes / size)


def _pairs(table: Dataset, real: Dataset, most: int) -> list[LayoutPair]:
    """Layouts evenly spaced through the plan, beside the images they come from."""
    number = min(most, len(table))
    chosen = [table[k * len(table) // number] for k in range(number)]
    wanted = {scene.provenance.source_image for scene in chosen if scene.provenance}
    drawn: dict[str, Picture] = {}
    for i in range(len(real)):
        if len(drawn) == len(wanted):
            break
        source = real[i]
        if source.image_id in wanted:
            drawn[source.image_id] = full_picture(source, decode(source), real.categories, SIDE)
    pairs = []
    for scene in chosen:
        origin = scene.provenance
        assert origin is not None
        picture = layout_picture(scene, table.categories, SIDE)
        pairs.append(
            LayoutPair(
                picture,
                drawn[origin.source_image],
                scene.image_id,
                origin.source_image,
                origin.reason,
            )
        )
    return pairs
