"""The papers' jobs on samples of their data formats."""

from __future__ import annotations

import json
from pathlib import Path

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.scene import SceneList
from tests.pipeline.formats.samples import CAR, Thing, sample_table, write_sample

FORMATS = {  # of the papers' jobs
    "coco_stuff": "coco_stuff",
    "coco_stuff_d1": "coco_stuff",
    "coco_stuff_pseudo": "coco_stuff",
    "coco_stuff_weighted": "coco_stuff",
    "coco_stuff_v1": "coco_stuff",
    "coco_stuff_sg2im": "coco_stuff",
    "coco_stuff_layout2im": "coco_stuff",
    "coco_stuff_grid2im": "coco_stuff",
    "coco_stuff_pix2pix": "coco_stuff",
    "coco_stuff_maps": "coco_stuff_maps",
    "coco_stuff_crn": "coco_stuff_maps",
    "coco_stuff_sims": "coco_stuff_maps",
    "coco_panoptic": "coco_panoptic",
    "cityscapes": "cityscapes",
    "cityscapes_pix2pix": "cityscapes",
    "cityscapes_crn": "cityscapes",
    "cityscapes_sims": "cityscapes",
    "visual_genome": "visual_genome",
    "visual_genome_sg2im": "visual_genome",
    "visual_genome_layout2im": "visual_genome",
    "visual_genome_grid2im": "visual_genome",
}
THREE_THINGS = (
    Thing((1, 1, 12, 14)),
    Thing((15, 1, 30, 14), CAR),
    Thing((5, 16, 36, 29), CAR),
)


def relate(table: SceneList, folder: Path, reference: str) -> str:
    """Relate each image's first object to its second; return the reference that reads it."""
    records = []
    for scene in table:
        first, second = ({"object_id": key} for key in scene.objects.id[:2].tolist())
        relation = {"subject": first, "predicate": "beside", "object": second}
        records.append({"image_id": int(scene.image_id), "relationships": [relation]})
    (folder / "relationships.json").write_text(json.dumps(records))
    return reference.replace("relationships=ignored", "min_predicate=0")


def with_samples(name: str, data: Path, output: Path, *changes: str, pictures: int = 3) -> Job:
    """Return a job of a paper, its data samples of its own format.

    They are written into a folder of `data` unless they are there.
    """
    data_format = FORMATS[name]
    folder = data / data_format
    remembered = data / f"{data_format}.reference"
    if not remembered.is_file():
        table = sample_table(*[THREE_THINGS] * pictures)
        reference = write_sample(data_format, table, folder)
        if data_format == "visual_genome":
            reference = relate(table, folder, reference)
        remembered.write_text(reference)
    reference = remembered.read_text()
    keys = [f"data.{split}='{reference}'" for split in ("labelled", "validation")]
    if load_job(Path(name), ["data.root=."]).data.unlabelled:
        keys.append(f"data.unlabelled='{reference}'")
    return load_job(Path(name), [f"data.root='{folder}'", *keys, *changes], str(output))
