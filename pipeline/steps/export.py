"""Write the verified scenes as COCO: images and one instances.json.

pycocotools, detectron2 and torchvision load it. Where the scenes have panoptic maps they are
written as COCO panoptic too: panoptic.json and panoptic/.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.coco.panoptic import PanopticWriter
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.verification.policy import segments_only

NEEDS = ("verify",)
VERSION = 3
PUBLISHES = (
    Published("instances.json", "coco"),
    Published("panoptic.json", "coco"),
    Published("*", "coco/images", "images"),
    Published("*", "coco/panoptic", "panoptic"),
)


@dataclass(frozen=True)
class Spec:
    """Plain data for the export task."""

    source: str
    folder: str
    images: bool


def settings(job: Job) -> Json:
    """Return the export section."""
    return {"export": section_dict(job, "export")}


def write(spec: Spec) -> Json:
    """Write all files in one pass over the shards; runs in a worker.

    Memory does not grow with the number of scenes.
    """
    table = parquet.open_table(spec.source)
    has_maps = len(table) > 0 and table[0].panoptic is not None
    annotations = 0
    folder = Folder.at(spec.folder)
    with ExitStack() as files:
        writer = files.enter_context(coco.CocoWriter(folder, table.categories))
        if has_maps:
            maps = files.enter_context(PanopticWriter(folder, table.categories))
        for index, scene in enumerate(table):
            name = writer.add(scene, write_image=spec.images)
            if has_maps:
                maps.refer(segments_only(scene), index + 1, name)
            annotations += len(scene.objects)
    return {"images": len(table), "annotations": annotations}


def run(context: Context) -> Json:
    """Write `instances.json` and `images/`; the manifest counts them."""
    source = context.inputs["verify"].folder.uri
    spec = Spec(source, context.folder.uri, context.job.export.images)
    manifest: Json = context.executor.call(write, spec)
    context.tell(f"  {manifest['images']} images, {manifest['annotations']} annotations")
    return manifest
