"""Data set formats: one module each, named in a reference `format:path?option=value`.

A format module has a frozen dataclass `Config` (the options; `path` first), `read(config, root) -> Dataset`, and, where
writing makes sense, `write(dataset, out)`; reading what was written gives equal scenes, as far as the format can hold them.
A format with splits of its own has `write_splits(splits, out)` too, which counts what it cannot hold, by reason.
"""

from __future__ import annotations

FORMATS = {
    "cityscapes": "synthaug.pipeline.formats.cityscapes",
    "coco": "synthaug.pipeline.formats.coco.read",
    "coco_panoptic": "synthaug.pipeline.formats.coco.panoptic",
    "coco_stuff": "synthaug.pipeline.formats.coco.stuff",
    "coco_stuff_maps": "synthaug.pipeline.formats.coco.stuff_maps",
    "hf": "synthaug.pipeline.formats.hf",
    "lvis": "synthaug.pipeline.formats.lvis.read",
    "parquet": "synthaug.pipeline.formats.parquet.read",
    "toy": "synthaug.pipeline.formats.toy.dataset",
    "visual_genome": "synthaug.pipeline.formats.visual_genome.read",
    "voc": "synthaug.pipeline.formats.voc.read",
    "yolo": "synthaug.pipeline.formats.yolo.read",
}
