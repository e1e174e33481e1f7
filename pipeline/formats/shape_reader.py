"""The part that readers of annotation tools share: images and their good shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.drawn import Canvas, Drawn, DrawnImage
from synthaug.pipeline.formats.packed import Packed
from synthaug.pipeline.formats.validation import RecordError

UNLISTED = "image file that the annotations do not list, left out"


class ShapeReader:
    """Checks images of a tool's file and keeps the good ones."""

    def __init__(self, check: Checker) -> None:
        self.images: Packed[DrawnImage] = Packed()
        self.check = check
        self.skipped: Skipped = check.skipped
        self.listed: set[str] = set()  # names of image files that the annotations know
        self._ids: set[str] = set()  # of the images

    def check_id(self, image_id: str, message: str) -> None:
        """Raise RecordError with this message where an image that is kept has the id."""
        if image_id in self._ids:
            raise RecordError("duplicate image id", message)

    def keep(self, image: DrawnImage, objects: Iterable[Drawn]) -> None:
        """Keep a checked image with its objects."""
        kept = tuple(objects)
        for drawn in kept:
            self.check.units.see(drawn.box, image.size)
        self._ids.add(image.image_id)
        self.images.append(replace(image, objects=kept))

    def count_unlisted(self, names: Iterable[str]) -> None:
        """Count image files that no annotation knows, in the folders of those it knows."""
        folders = {PurePosixPath(name).parent for name in self.listed}
        for name in names:
            if name not in self.listed and PurePosixPath(name).parent in folders:
                self.skipped.note(UNLISTED, name)

    def note(self, reason: str, name: str) -> None:
        """Count something by its reason; `name` says where in the file it is."""
        self.skipped.note(reason, f"{self.check.file.name}: {name}")

    def drawn(
        self,
        owner: str,
        size: Size,
        shapes: Iterable[tuple[str, Any]],
        draw: Callable[[Any, Canvas], Drawn | None],
    ) -> list[tuple[Drawn, Any]]:
        """Return the objects of the good shapes of an image (H, W), each with its shape.

        `owner` names the image, and each shape comes with its name there. `draw` returns None for a
        shape that is no object, and raises RecordError for a bad one.
        """
        kept = []
        for name, shape in shapes:

            def note(reason: str, name: str = name) -> None:
                self.note(reason, f"{owner}: {name}")

            canvas = Canvas(size, self.check.cuts_boxes, note)
            drawn = self.check.attempt(owner, name, partial(draw, shape, canvas))
            if drawn is not None:
                kept.append((drawn, shape))
        return kept
