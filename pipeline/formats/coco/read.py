"""COCO instances JSON, read: boxes, polygons and run lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import image_ref, located
from synthaug.pipeline.formats.checked import CheckedDataset, Checker
from synthaug.pipeline.formats.coco.label_table import LabelsByImage, LabelTable
from synthaug.pipeline.formats.coco.labels import LabelReader
from synthaug.pipeline.formats.coco.records import (
    Config,
    Image,
    is_ours,
    read_categories,
    read_images,
)
from synthaug.pipeline.formats.coco.write import CocoWriter, write
from synthaug.pipeline.formats.json_files import is_list, open_object, section
from synthaug.pipeline.formats.json_stream import RecordList

__all__ = ["CocoDataset", "CocoWriter", "Config", "read", "write"]


class CocoDataset(CheckedDataset[Image]):
    """The images of a checked COCO file with their labels."""

    def __init__(
        self,
        digest: str,
        categories: tuple[Category, ...],
        images: dict[str, Image],
        labels: LabelTable,
        skipped: Skipped,
    ) -> None:
        """Take the images by key, in order, and their labels.

        `digest` is that of the JSON file and of what was left out of it.
        """
        self._labels = LabelsByImage(labels, len(images), skipped)
        super().__init__(categories, list(images.values()), skipped)
        self._digest = digest

    def scene(self, index: int, row: Image) -> Scene:
        """Return a scene; masks given as polygons are filled."""
        return Scene(
            row.image_id,
            row.height,
            row.width,
            image_ref(row.path, name=row.original_name),
            self._labels.objects(index, row.size),
            provenance=row.provenance,
        )

    def content(self) -> str:
        """Return the digest of the JSON and the name and size of every image file."""
        files = [(image.name, image.num_bytes) for image in self.rows]
        return f"{self._digest} {json.dumps(files)}"


def read(config: Config, root: Path = Path()) -> CocoDataset:
    """Open a COCO instances file; bad records stop the reading or are counted."""
    file = _json_file(located(root, config.path))
    document, digest = open_object(file)
    return read_document(document, digest, file, config, root)


_NAMES = ("result.json", "result_coco.json", "_annotations.coco.json")  # as tools call it


def _json_file(path: Path) -> Path:
    """Return the JSON file of a folder or archive, or the file itself."""
    if not path.is_dir():
        return path
    for name in _NAMES:
        if (path / name).is_file():
            return path / name
    files = _json_files(path) or _json_files(path / "annotations")
    if len(files) == 1:
        return files[0]
    if not files:
        files = sorted(path.glob("*/*.json"))
    known = ", ".join(file.relative_to(path).as_posix() for file in files[:8]) or "none"
    raise DatasetError(f"{path}: name one of its JSON files ({known})")


_RECORD = "export.json"  # what an export writes beside its sets


def _json_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if file.name != _RECORD]


def read_document(
    document: Json, digest: str, file: Path, config: Config, root: Path
) -> CocoDataset:
    """Check the parsed content of a COCO file; the rest is as in `read`."""
    check = Checker(file, config.on_bad, cuts_boxes=config.cuts_boxes)
    section(document, "images", file)  # its absence is told first
    records = _annotations(document, file, config)
    if not records and config.annotations == "optional":
        document = document | {"categories": document.get("categories") or []}
    categories = read_categories(document, check)
    images = read_images(document, config, root, check)
    reader = LabelReader(images, categories, check, is_ours(document))
    labels = LabelTable(images.images)

    def add(record: Any) -> None:
        target = reader.target(record)
        if target is not None:
            labels.add(target.key, reader.read(record, target))

    check.each(records, "annotation", add)
    dataset = CocoDataset(digest, categories, images.images, labels, check.skipped)
    dataset.has_labels = bool(records) or config.annotations == "required"
    return dataset


def _annotations(document: Json, file: Path, config: Config) -> RecordList:
    """Return the annotation records; none where they are optional."""
    if document.get("annotations") is None and is_list(document.get("images")):
        if config.annotations == "optional":
            return []
        raise DatasetError(
            f"{file}: 'annotations' is missing or null: nothing is labelled; "
            "such images can be data.unlabelled, or read with annotations=optional"
        )
    return section(document, "annotations", file)
