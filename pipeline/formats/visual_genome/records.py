"""Objects and relationships of Visual Genome, image by image, each checked."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Relation
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.validation import (
    Box,
    RecordError,
    has_extent,
    is_text,
    need,
    number,
)
from synthaug.pipeline.formats.visual_genome.files import (
    IMAGES,
    OBJECTS,
    RELATIONS,
    Files,
    read_aliases,
    whole,
)


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object that is large enough, under all its names."""

    object_id: int
    names: tuple[str, ...]
    box: Box  # xyxy pixels, inside the image
    clipped: bool


class ObjectReader:
    """Reads objects.json: large enough objects, and name counts of training images.

    `images` are the records of all images; what is left out is counted for those in `image_ids`.
    """

    def __init__(
        self,
        files: Files,
        images: Mapping[int, Any],
        image_ids: Collection[int],
        training: Collection[int],
        min_size: float,
    ) -> None:
        self._files = files
        self._images = images
        self._image_ids = image_ids
        self._training = training
        self._min_size = min_size
        self._aliases = read_aliases(files, "object_alias.txt")
        # by image id, of the images in `image_ids` or `training`
        self.objects: dict[int, list[NamedObject]] = {}
        self.names: Counter[str] = Counter()  # whatever the size of the object

    def read(self) -> None:
        """Read the file."""
        seen: set[int] = set()

        def add(record: Any) -> None:
            key, records = image_part(record, "objects", self._images, seen)
            if key in self._image_ids or key in self._training:
                self.objects[key] = self._objects(key, records)

        self._files.each(OBJECTS, add)

    def _objects(self, image_id: int, records: list[Any]) -> list[NamedObject]:
        """Check the objects of one image and return the large enough ones."""
        objects: dict[int, NamedObject] = {}
        image = self._images[image_id]
        left_out = Skipped()

        def add(record: Any) -> None:
            object_id = whole(record, "object_id")
            told = f"{OBJECTS}: image {image_id}: object {object_id}"
            names = self._names(record)
            x, y, width, height = (number(need(record, name), name) for name in "xywh")
            if not names:
                left_out.note("object without a name", told)
                return
            if image_id in self._training:
                self.names.update(names)
            if width < self._min_size or height < self._min_size:
                left_out[f"object under {self._min_size:g} px"] += 1
                return
            box = (x, y, x + width, y + height)
            inner = _clip(box, image["height"], image["width"])
            if inner is None:
                left_out.note("object outside its image", told)
            elif object_id in objects:
                left_out.note("object listed twice", told)
            else:
                objects[object_id] = NamedObject(object_id, names, inner, inner != box)

        self._files.check_parts(OBJECTS, records, f"image {image_id}: object", add, "object_id")
        if image_id in self._image_ids:
            self._files.skipped.take(left_out)
        return list(objects.values())

    def _names(self, record: Json) -> tuple[str, ...]:
        """Return the main names of an object, each once."""
        names = need(record, "names")
        if not isinstance(names, list) or not all(is_text(name) for name in names):
            raise RecordError("bad value", f"names {names!r} must be a list of texts")
        texts: list[str] = names
        main_names: dict[str, None] = {}  # a set in order
        for name in texts:
            main_names[sys.intern(self._aliases.get(name, name))] = None
        return tuple(main_names)


def image_part(
    record: Any, part: str, images: Mapping[int, Any], seen: set[int]
) -> tuple[int, list[Any]]:
    """Return the id and the list of an image's record.

    Refuses one of an unknown image, and the second of one image.
    """
    key = whole(record, "image_id")
    listed = need(record, part)
    if key not in images:
        raise RecordError("unknown image", f"its image_id is not in {IMAGES}")
    if key in seen:
        raise RecordError("duplicate image id", "another record has the same image_id")
    if not isinstance(listed, list):
        raise RecordError("bad value", f"its {part} must be a list")
    seen.add(key)
    return key, listed


def _clip(box: Box, height: int, width: int) -> Box | None:
    """Clip a box to its image; None where nothing is left.

    By any amount: the annotators drew over the edges of images, so unlike in a COCO file that is no
    sign of a wrong one.
    """
    x1 = max(box[0], 0.0)
    y1 = max(box[1], 0.0)
    x2 = min(box[2], float(width))
    y2 = min(box[3], float(height))
    clipped = (x1, y1, x2, y2)
    return clipped if has_extent(clipped) else None


def read_relations(
    files: Files,
    images: Mapping[int, Any],
    kept: Mapping[int, Collection[int]],
    training: Collection[int],
) -> dict[int, list[Relation]]:
    """Return the relationships between `kept` objects (ids by image id), by image id.

    Predicates of training images are put in small letters and brought to their main name. Those of
    other images are taken as written: the published preparation does so, and the numbers of images
    in the papers come from it.
    """
    aliases = read_aliases(files, "relationship_alias.txt")
    relations: dict[int, list[Relation]] = {}
    seen: set[int] = set()

    def add(record: Any) -> None:
        key, records = image_part(record, "relationships", images, seen)
        if not kept.get(key):
            return
        counted = None
        if key in training:
            counted = aliases
        reader = _RelationReader(kept[key], counted)
        files.check_parts(
            RELATIONS, records, f"image {key}: relationship", reader.add, "relationship_id"
        )
        relations[key] = reader.relations

    files.each(RELATIONS, add)
    return relations


class _RelationReader:
    """Checks the relationships of one image."""

    def __init__(self, ids: Collection[int], aliases: dict[str, str] | None) -> None:
        """Predicates are taken as written without `aliases`."""
        self._ids = ids
        self._aliases = aliases
        self.relations: list[Relation] = []

    def add(self, record: Any) -> None:
        subject = whole(need(record, "subject"), "object_id")
        other = whole(need(record, "object"), "object_id")
        predicate = need(record, "predicate")
        if not is_text(predicate):
            raise RecordError("bad value", f"predicate {predicate!r} is no text")
        if self._aliases is not None:
            lowered = predicate.lower().strip()
            predicate = self._aliases.get(lowered, lowered)
        if subject in self._ids and other in self._ids:
            self.relations.append(Relation(subject, sys.intern(predicate), other))
