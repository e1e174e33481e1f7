"""Images that can be read: the check before a data set is used or handed on."""

from __future__ import annotations

from collections.abc import Callable

from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.skipped import Skipped

UNREADABLE = "unreadable image or map"
OBJECTS = "object of an unreadable image"


def read_scene(
    table: Dataset,
    index: int,
    skipped: Skipped,
    otherwise: bool = False,
    look: Callable[[Scene], object] = decode,
) -> Scene | None:
    """Return a scene whose pixels can be read; None for one to be skipped.

    What is skipped is counted and named. `otherwise` says whether that is done where nobody said so
    of the set; `look` decodes the scene. Raises DatasetError for an unreadable scene that is not to
    be skipped.
    """
    scene = None
    try:
        scene = table[index]  # a panoptic map is decoded and checked here
        look(scene)
    except DatasetError as err:
        skips = table.skips_bad(index)
        if skips is None:
            skips = otherwise
        if not skips:
            raise
        skipped.note(UNREADABLE, str(err), wrong=True)
        if scene is not None and len(scene.objects):
            skipped[OBJECTS] += len(scene.objects)
        return None
    return scene


class Readable(Subset):
    """The scenes of a table whose pixels can be read.

    The others are counted and named.
    """

    def __init__(self, table: Dataset, index: list[int], skipped: Skipped) -> None:
        super().__init__(table, index)
        self.skipped = skipped


def readable(
    table: Dataset, otherwise: bool = False, progress: Callable[[int], None] | None = None
) -> Dataset:
    """Decode every image and return the scenes that can be read.

    It is the table itself if all can. `progress` is called with the number of images that are done.
    Raises DatasetError for an unreadable scene that is not to be skipped, and where none is left.
    """
    skipped = Skipped(table.skipped)
    kept = []
    for index in range(len(table)):
        if read_scene(table, index, skipped, otherwise) is not None:
            kept.append(index)
        if progress is not None:
            progress(index + 1)
    if len(kept) == len(table):
        return table
    if not kept:
        raise DatasetError(
            f"{skipped.names[UNREADABLE][0]}; not one of {len(table)} images can be read"
        )
    return Readable(table, kept, skipped)


def skips_any(table: Dataset) -> bool:
    """Whether scenes of a table are to be left out when they cannot be read."""
    return any(table.skips_bad(index) for index in range(len(table)))


LABELS_WANTED = "name a labelled set (unlabelled images can be data.unlabelled)"


def check_content(
    source: str, table: Dataset, images: int, objects: int, advice: str = LABELS_WANTED
) -> None:
    """Raise DatasetError, which begins with `source`, for an empty set.

    `advice` says what to do about images without an object to be learnt.
    """
    if not images:
        raise DatasetError(f"{source}: not one image is in the data set; name one that has images")
    if table.has_labels and not objects:
        raise DatasetError(
            f"{source}: {images} images, and their annotations hold not one object to be learnt; "
            f"{advice}"
        )
