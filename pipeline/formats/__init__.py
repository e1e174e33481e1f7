"""Data set formats: one module each, named in a reference `format:path?option=value`.

A format module has a frozen dataclass `Config` (the options; `path` first), `read(config, root) -> Dataset`, and, where
writing makes sense, `write(dataset, out)`; reading what was written gives equal scenes, as far as the format can hold them.
A format with splits of its own has `write_splits(splits, out)` too, which counts what it cannot hold, by reason.
"""

from __future__ import annotations

FORMATS = {
    "cityscapes": "pipeline.formats.cityscapes",
    "coco": "pipeline.formats.coco",
    "coco_panoptic": "pipeline.formats.coco_panoptic",
    "coco_stuff": "pipeline.formats.coco_stuff",
    "coco_stuff_maps": "pipeline.formats.coco_stuff_maps",
    "hf": "pipeline.formats.hf",
    "lvis": "pipeline.formats.lvis",
    "parquet": "pipeline.formats.parquet",
    "toy": "pipeline.formats.toy",
    "visual_genome": "pipeline.formats.visual_genome",
    "voc": "pipeline.formats.voc",
    "yolo": "pipeline.formats.yolo",
}
