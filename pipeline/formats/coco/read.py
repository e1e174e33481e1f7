"""COCO instances JSON, read: boxes, polygons and run lengths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Objects, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import image_ref, located
from synthaug.pipeline.formats.checked import CheckedDataset, Checker
from synthaug.pipeline.formats.coco.labels import (
    Label,
    LabelReader,
    columns,
    encode_segmentation,
    with_ids,
)
from synthaug.pipeline.formats.coco.records import (
    Config,
    Image,
    is_ours,
    read_categories,
    read_images,
)
from synthaug.pipeline.formats.coco.write import CocoWriter, write
from synthaug.pipeline.formats.json_files import load_object, section

__all__ = ["CocoDataset", "CocoWriter", "Config", "read", "write"]

_COLUMNS = (
    "id",
    "area",
    "iscrowd",
    "isthing",
    "score",
    "source",
    "verdict",
    "verdict_score",
    "verdict_iou",
)
Row = tuple[Image, list[Label]]


class CocoDataset(CheckedDataset[Row]):
    """The images of a checked COCO file with their labels."""

    def __init__(
        self,
        digest: str,
        categories: tuple[Category, ...],
        images: dict[str, Image],
        labels: Iterable[tuple[str, Label]],
        skipped: Skipped,
    ) -> None:
        """Take the images by key, in order, and the labels with their image's key.

        `digest` is that of the JSON file and of what was left out of it.
        """
        labels_of: dict[str, list[Label]] = {key: [] for key in images}
        for key, label in labels:
            labels_of[key].append(label)
        rows = [(image, labels_of[key]) for key, image in images.items()]
        super().__init__(categories, rows, skipped)
        self._digest = digest

    def scene(self, index: int, row: Row) -> Scene:
        """Return a scene; masks given as polygons are filled."""
        image, labels = row
        objects = Objects.build(
            [label.category for label in labels],
            [label.box for label in labels],
            rle=[encode_segmentation(label.segmentation, image.size) for label in labels],
            layout_boxes=[label.layout_box for label in labels],
            **columns(labels, _COLUMNS),
        )
        return Scene(
            image.image_id,
            image.height,
            image.width,
            image_ref(image.path, name=image.original_name),
            objects,
            provenance=image.provenance,
        )

    def content(self) -> str:
        """Return the digest of the JSON and the name and size of every image file."""
        files = [(image.name, image.num_bytes) for image, _ in self.rows]
        return f"{self._digest} {json.dumps(files)}"


def read(config: Config, root: Path = Path()) -> CocoDataset:
    """Open a COCO instances file; bad records stop the reading or are counted."""
    file = _json_file(located(root, config.path))
    document, digest = load_object(file)
    return read_document(document, digest, file, config, root)


_NAMES = ("result.json", "result_coco.json", "_annotations.coco.json")  # as tools call it


def _json_file(path: Path) -> Path:
    """Return the JSON file of a folder or archive, or the file itself."""
    if not path.is_dir():
        return path
    for name in _NAMES:
        if (path / name).is_file():
            return path / name
    files = sorted(path.glob("*.json")) or sorted((path / "annotations").glob("*.json"))
    if len(files) == 1:
        return files[0]
    known = ", ".join(file.relative_to(path).as_posix() for file in files[:8]) or "none"
    raise DatasetError(f"{path}: name one of its JSON files ({known})")


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
    labels: list[tuple[str, Label]] = []

    def add(record: Any) -> None:
        target = reader.target(record)
        if target is not None:
            labels.append((target.key, reader.read(record, target)))

    check.each(records, "annotation", add)
    if not is_ours(document):
        _check_unit(labels, images.images, file)
    numbered = with_ids(labels, check.skipped)
    dataset = CocoDataset(digest, categories, images.images, numbered, check.skipped)
    dataset.has_labels = bool(records) or config.annotations == "required"
    return dataset


def _annotations(document: Json, file: Path, config: Config) -> list[Any]:
    """Return the annotation records; none where they are optional."""
    if document.get("annotations") is None and isinstance(document.get("images"), list):
        if config.annotations == "optional":
            return []
        raise DatasetError(
            f"{file}: 'annotations' is missing or null: nothing is labelled; "
            "such images can be data.unlabelled, or read with annotations=optional"
        )
    return section(document, "annotations", file)


_LEAST_SIDE = 8  # pixels of an image in which boxes under a pixel are a mistake


def _check_unit(labels: list[tuple[str, Label]], images: Mapping[str, Image], file: Path) -> None:
    """Raise DatasetError for boxes that are parts of the image."""
    if not labels:
        return
    for key, label in labels:
        if max(label.box) > 1 or min(images[key].size) < _LEAST_SIDE:
            return
    raise DatasetError(
        f"{file}: every bbox lies within the first pixel, so they are parts of the image (0 to 1); "
        "multiply them by its width and height"
    )
