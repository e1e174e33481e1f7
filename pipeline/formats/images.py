"""A folder of pictures without labels, as unlabelled images: `images:FOLDER`.

Image files of the folder and of those below it are read, by name; their ids are their paths there
without the suffix, with it where two differ in nothing else. An image that an EXIF tag turns is
taken as a viewer shows it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import header_of_file
from synthaug.pipeline.core.scene import Objects, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import image_ref, located
from synthaug.pipeline.formats.checked import CheckedConfig, CheckedDataset, Checker
from synthaug.pipeline.formats.source_files import find_file, images_below
from synthaug.pipeline.formats.validation import RecordError, is_text


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Options of a reference; `path` is the folder."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A checked image file."""

    image_id: str
    path: Path
    num_bytes: int
    size: Size  # (H, W), as labels would count it


class PictureFolder(CheckedDataset[Picture]):
    """The pictures of a folder, by name; there is no class and no object."""

    has_labels = False

    def scene(self, index: int, row: Picture) -> Scene:
        """Return a scene without objects."""
        image = image_ref(row.path, "as_shown")
        return Scene(row.image_id, *row.size, image, Objects.build([], []))

    def content(self) -> str:
        """Return the names and sizes of the files."""
        return json.dumps([(row.image_id, row.num_bytes) for row in self.rows])


def read(config: Config, root: Path = Path()) -> PictureFolder:
    """Find the pictures of a folder; bad ones stop the reading or are counted."""
    folder = located(root, config.path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; name one that holds pictures")
    folder = folder.resolve()
    skipped = Skipped()
    names = images_below(folder, folder, config.follows_links, skipped)
    stems = Counter(_stem(name) for name in names)
    pictures: list[Picture] = []

    def add(record: dict[str, str]) -> None:
        name = record["file_name"]
        image_id = _stem(name)
        if stems[image_id] > 1:
            image_id = name
        pictures.append(_picture(folder, name, image_id, config))

    check = Checker(folder, config.on_bad, skipped)
    check.each([{"file_name": name} for name in names], "image", add, key="file_name")
    return PictureFolder((), pictures, skipped)


def _picture(folder: Path, name: str, image_id: str, config: Config) -> Picture:
    if not is_text(name):
        raise RecordError("unsafe file name", "its name is not Unicode text")
    path, num_bytes = find_file(
        folder, name, "image file", named_by="name", follow=config.follows_links
    )
    try:
        header = header_of_file(path, config.max_pixels)
    except ValueError as err:
        raise RecordError("bad image", f"the image {err}") from err
    size = header.size if config.turned == "as_stored" else header.shown
    return Picture(image_id, path, num_bytes, size)


def _stem(name: str) -> str:
    """Return a path without the suffix of its file."""
    return name.rsplit(".", 1)[0]
