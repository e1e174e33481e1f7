"""The objects and relationships of Visual Genome, image by image, each checked and brought to a few plain values."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.formats.validation import Box, RecordError, is_text, need, number
from synthaug.pipeline.formats.visual_genome.files import (
    IMAGES,
    OBJECTS,
    RELATIONS,
    Files,
    read_aliases,
    whole,
)

Relation = tuple[int, str, int]  # object id of the subject, predicate, object id of the object


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is large enough, under all its names."""

    object_id: int
    names: tuple[str, ...]
    box: Box  # xyxy pixels, inside the image
    clipped: bool


class ObjectReader:
    """Reads objects.json: the large enough objects of images, and how many objects of training images have a name.

    `images` are the records of all images; what is left out is counted for those in `wanted`.
    """

    def __init__(
        self,
        files: Files,
        images: Mapping[int, Any],
        wanted: Collection[int],
        training: Collection[int],
        min_size: float,
    ) -> None:
        self._files, self._images, self._wanted, self._training = files, images, wanted, training
        self._min_size = min_size
        self._aliases = read_aliases(files, "object_alias.txt")
        self.found: dict[
            int, list[Found]
        ] = {}  # by image id, of the images in `wanted` or `training`
        self.names: Counter[str] = Counter()  # whatever the size of the object

    def read(self) -> None:
        """Read the file."""
        seen: set[int] = set()

        def add(record: Any) -> None:
            key, objects = image_part(record, "objects", self._images, seen)
            if key in self._wanted or key in self._training:
                self.found[key] = self._objects(key, objects)

        self._files.each(OBJECTS, add)

    def _objects(self, image_id: int, records: list[Any]) -> list[Found]:
        kept: dict[int, Found] = {}
        image = self._images[image_id]
        left_out = self._files.skipped if image_id in self._wanted else Counter[str]()

        def add(record: Any) -> None:
            object_id, names = whole(record, "object_id"), self._names(record)
            box = [number(need(record, name), name) for name in "xywh"]
            if image_id in self._training:
                self.names.update(names)
            if box[2] < self._min_size or box[3] < self._min_size:
                left_out[f"object under {self._min_size:g} px"] += 1
                return
            inner = _inside(box, image["height"], image["width"])
            if inner is None:
                left_out["object outside its image"] += 1
            elif object_id in kept:
                left_out["object listed twice"] += 1
            else:
                outer = (box[0], box[1], box[0] + box[2], box[1] + box[3])
                kept[object_id] = Found(object_id, names, inner, inner != outer)

        self._files.check(OBJECTS, records, f"image {image_id}: object", add, "object_id")
        return list(kept.values())

    def _names(self, record: dict[str, Any]) -> tuple[str, ...]:
        """Return the main names of an object, each once."""
        names = need(record, "names")
        if not isinstance(names, list) or not all(is_text(name) for name in names):
            raise RecordError("bad value", f"names {names!r} must be a list of texts")
        texts: list[str] = names
        return tuple(dict.fromkeys(sys.intern(self._aliases.get(text, text)) for text in texts))


def image_part(
    record: Any, part: str, images: Mapping[int, Any], seen: set[int]
) -> tuple[int, list[Any]]:
    """Return the id and the list of an image's record; refuse one of an unknown image, or the second of one image."""
    key, listed = whole(record, "image_id"), need(record, part)
    if key not in images:
        raise RecordError("unknown image", f"its image_id is not in {IMAGES}")
    if key in seen:
        raise RecordError("duplicate image id", "another record has the same image_id")
    if not isinstance(listed, list):
        raise RecordError("bad value", f"its {part} must be a list")
    seen.add(key)
    return key, listed


def _inside(box: list[float], height: int, width: int) -> Box | None:
    """Clip an xywh box to its image and return it as xyxy; None where nothing is left.

    By any amount: the annotators drew over the edges of images, so unlike in a COCO file that is no sign of a wrong one.
    """
    x, y, w, h = box
    inner = (max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height)))
    flat = np.float32(inner[0]) >= np.float32(inner[2]) or np.float32(inner[1]) >= np.float32(
        inner[3]
    )
    return None if flat else inner


def read_relations(
    files: Files,
    images: Mapping[int, Any],
    kept: Mapping[int, Collection[int]],
    training: Collection[int],
) -> dict[int, list[Relation]]:
    """Return, by image id, the relationships between objects that are `kept` (object ids by image id).

    Predicates of training images are put in small letters and brought to their main name. Those of other images are taken
    as written: the published preparation does so, and the numbers of images in the papers come from it.
    """
    aliases = read_aliases(files, "relationship_alias.txt")
    found: dict[int, list[Relation]] = {}
    seen: set[int] = set()

    def add(record: Any) -> None:
        key, relations = image_part(record, "relationships", images, seen)
        if kept.get(key):
            taker = _Taker(kept[key], aliases if key in training else None)
            files.check(
                RELATIONS, relations, f"image {key}: relationship", taker.add, "relationship_id"
            )
            found[key] = taker.found

    files.each(RELATIONS, add)
    return found


class _Taker:
    """Checks the relationships of one image."""

    def __init__(self, ids: Collection[int], aliases: dict[str, str] | None) -> None:
        self._ids, self._aliases = ids, aliases
        self.found: list[Relation] = []

    def add(self, record: Any) -> None:
        subject, other = (whole(need(record, end), "object_id") for end in ("subject", "object"))
        predicate = need(record, "predicate")
        if not is_text(predicate):
            raise RecordError("bad value", f"predicate {predicate!r} is no text")
        if self._aliases is not None:
            lowered = predicate.lower().strip()
            predicate = self._aliases.get(lowered, lowered)
        if subject in self._ids and other in self._ids:
            self.found.append((subject, sys.intern(predicate), other))
