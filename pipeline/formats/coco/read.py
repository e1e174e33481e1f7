"""COCO instances JSON, read: boxes, polygons and run lengths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.formats.checked import CheckedDataset, Checker
from synthaug.pipeline.formats.coco.labels import (
    Label,
    LabelReader,
    columns,
    encode_segmentation,
    with_ids,
)
from synthaug.pipeline.formats.coco.records import Config, Image, read_categories, read_images
from synthaug.pipeline.formats.coco.write import CocoWriter, write
from synthaug.pipeline.formats.json_files import load_object, section

__all__ = ["CocoDataset", "CocoWriter", "Config", "read", "write"]

_COLUMNS = ("id", "area", "iscrowd", "isthing", "score", "source", "verdict", "verdict_score")
Row = tuple[Image, list[Label]]


class CocoDataset(CheckedDataset[Row]):
    """The images of a checked COCO file with their labels."""

    def __init__(
        self,
        digest: str,
        categories: tuple[Category, ...],
        images: dict[str, Image],
        labels: Iterable[tuple[str, Label]],
        skipped: Counter[str],
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
            ImageRef(None, str(image.path)),
            objects,
            provenance=image.provenance,
        )

    def content(self) -> str:
        """Return the digest of the JSON and the name and size of every image file."""
        files = [(image.name, image.num_bytes) for image, _ in self.rows]
        return f"{self._digest} {json.dumps(files)}"


def read(config: Config, root: Path = Path()) -> CocoDataset:
    """Open a COCO instances file; bad records stop the reading or are counted."""
    file = root / config.path
    document, digest = load_object(file)
    return read_document(document, digest, file, config, root)


def read_document(
    document: dict[str, Any], digest: str, file: Path, config: Config, root: Path
) -> CocoDataset:
    """Check the parsed content of a COCO file; the rest is as in `read`."""
    check = Checker(file, config.on_bad)
    categories = read_categories(document, check)
    images = read_images(document, config, root, check)
    reader = LabelReader(images, categories, check.skipped)
    labels: list[tuple[str, Label]] = []

    def add(record: Any) -> None:
        target = reader.target(record)
        if target is not None:
            labels.append((target.key, reader.read(record, target)))

    check.each(section(document, "annotations", file), "annotation", add)
    numbered = with_ids(labels, check.skipped)
    return CocoDataset(digest, categories, images.images, numbered, check.skipped)
