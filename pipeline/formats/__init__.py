"""Data set formats, a module each, named in references `format:path?option=value`.

A format module has a frozen dataclass `Config` (the options; `path` first), `read(config, root) ->
Dataset`, and, where writing makes sense, `write(dataset, out)`; reading what was written gives
equal scenes, as far as the format can hold them. A format with splits of its own has
`write_splits(splits, out)` too, which counts what it cannot hold, by reason. `checked.py` has the
part that readers share. The contract tests find a format here; one that is only read needs a sample
in tests/pipeline/formats/samples.py, and one that cannot hold everything says so there.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from synthaug.pipeline.core.errors import JobError, suggest

if TYPE_CHECKING:
    from synthaug.pipeline.core.scene import Dataset
    from synthaug.pipeline.core.storage import Folder

FORMATS = {
    "cityscapes": "synthaug.pipeline.formats.cityscapes",
    "coco": "synthaug.pipeline.formats.coco.read",
    "coco_panoptic": "synthaug.pipeline.formats.coco.panoptic",
    "coco_stuff": "synthaug.pipeline.formats.coco.stuff",
    "coco_stuff_maps": "synthaug.pipeline.formats.coco.stuff_maps",
    "cvat": "synthaug.pipeline.formats.cvat",
    "hf": "synthaug.pipeline.formats.hf",
    "hub": "synthaug.pipeline.formats.hub.read",
    "images": "synthaug.pipeline.formats.images",
    "label_studio": "synthaug.pipeline.formats.label_studio.read",
    "labelme": "synthaug.pipeline.formats.labelme",
    "lvis": "synthaug.pipeline.formats.lvis.read",
    "parquet": "synthaug.pipeline.formats.parquet.read",
    "toy": "synthaug.pipeline.formats.toy.dataset",
    "visual_genome": "synthaug.pipeline.formats.visual_genome.read",
    "voc": "synthaug.pipeline.formats.voc.read",
    "yolo": "synthaug.pipeline.formats.yolo.read",
}


class Format(Protocol):
    """The names that every format module has."""

    Config: type[Any]

    def read(self, config: Any, root: Path = ...) -> Dataset:
        """Open a data set; relative paths start at `root`."""
        ...


def load_format(name: str, key: str = "data") -> Format:
    """Import a format's module; JobError when it is unknown or lacks something.

    The error names `key`.
    """
    if name not in FORMATS:
        raise JobError(f"{key}: unknown format '{name}'{suggest(name, FORMATS)}")
    try:
        module = importlib.import_module(FORMATS[name])
    except ImportError as err:
        raise JobError(
            f"{key}: format '{name}' cannot be imported ({err}); "
            "install what is missing, or correct its line in pipeline/formats/__init__.py"
        ) from err
    names = vars(module)
    for needed in ("Config", "read"):
        if needed not in names:
            raise JobError(f"{key}: format '{name}' has no '{needed}'; add it to {module.__file__}")
    config = names["Config"]
    if not is_dataclass(config) or [field.name for field in fields(config)][:1] != ["path"]:
        raise JobError(
            f"{key}: format '{name}' needs a Config that is a dataclass whose first field is "
            f"'path'; correct it in {module.__file__}"
        )
    return cast(Format, module)


def splits_writer(module: Any) -> Callable[[Mapping[str, Dataset], Folder], Counter[str]]:
    """Return what writes splits: the format's own function, else a folder per split."""
    names = vars(module)
    if "write_splits" in names:
        own: Callable[[Mapping[str, Dataset], Folder], Counter[str]] = names["write_splits"]
        return own

    def write_folders(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
        for split, table in splits.items():
            module.write(table, out.sub(split))
        return Counter()

    return write_folders


def can_write(name: str) -> bool:
    """Whether a format has `write`."""
    return "write" in vars(load_format(name))
