"""Data set formats: one module each, named in a reference `format:path?option=value`.

A format module has a frozen dataclass `Config` (the options; `path` first), `read(config, root) -> Dataset`, and, where
writing makes sense, `write(dataset, out)`; reading what was written gives equal scenes.
"""

from __future__ import annotations

FORMATS = {
    "cityscapes": "pipeline.formats.cityscapes",
    "coco": "pipeline.formats.coco",
    "coco_panoptic": "pipeline.formats.coco_panoptic",
    "coco_stuff": "pipeline.formats.coco_stuff",
    "coco_stuff_maps": "pipeline.formats.coco_stuff_maps",
    "parquet": "pipeline.formats.parquet",
    "toy": "pipeline.formats.toy",
    "visual_genome": "pipeline.formats.visual_genome",
}
