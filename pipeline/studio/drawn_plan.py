"""Layouts that were sent to the plan: planned scenes, and the file they gather in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.boxes import clip_boxes
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.formats.json_files import load_object
from synthaug.pipeline.formats.validation import RecordError, is_int, need
from synthaug.pipeline.planning.planner import ADDED, REAL
from synthaug.pipeline.studio.layout_files import mapping, only
from synthaug.pipeline.studio.painters.base import labels_of
from synthaug.pipeline.studio.painters.scenes import layout_scene, map_scene
from synthaug.pipeline.studio.sketch import MIN_SIDE, Item, Sketch
from synthaug.pipeline.studio.sketch_files import sketch_of

MOST_COPIES = 1000  # of a layout
REASON = "drawn by hand"
PHOTOS = "labelled/"  # begins the names of photos that a plan may edit
USUAL_SIZE = (256, 256)  # (H, W) of layouts in shares of the image

PhotoOf = Callable[[str], Scene | None]  # image id -> the labelled scene, without pixels


def planned_scene(
    sketch: Sketch, kind: str, categories: Sequence[Category], photo_of: PhotoOf
) -> Scene:
    """Return a sketch as a planned scene without a seed.

    ValueError for what a plan cannot ask.
    `kind` is layout, map or photo: what the generator's images depend on.
    """
    known = labels_of(categories)
    for item in sketch.items:
        if item.label not in known:
            raise ValueError(f"the data has no class '{item.label}', which {item.name} is of")
    if kind == "map":
        scene = map_scene(sketch, categories, 0)
    elif kind == "photo":
        return _edited_photo(sketch, categories, photo_of)
    else:
        scene = layout_scene(sketch, categories, 0)
    return replace(scene, provenance=Provenance(0, "", "", "", REASON))


def _edited_photo(sketch: Sketch, categories: Sequence[Category], photo_of: PhotoOf) -> Scene:
    """Return the plan of edits: a photo's objects but crowds, then the new ones."""
    if not sketch.photo.startswith(PHOTOS):
        raise ValueError(
            "a plan edits labelled images only, since others are measured on; open one of those"
        )
    image_id = sketch.photo.removeprefix(PHOTOS)
    photo = photo_of(image_id)
    if photo is None:
        raise ValueError(f"no labelled image has the id '{image_id}'")
    there = photo.objects
    by_origin = {item.origin: item for item in sketch.items if item.origin >= 0}
    sources = []
    for position in np.flatnonzero(~there.iscrowd).tolist():
        item = by_origin.get(position)
        if item is not None:
            _check_label(item, categories[int(there.category[position])].name)
        elif _is_shown(there, position, photo):
            name = categories[int(there.category[position])].name
            raise ValueError(
                f"a plan adds objects to a photo or paints them anew in their place; a {name} of "
                "it was moved or removed"
            )
        sources.append(REAL if item is None or item.real else ADDED)
    own = there.without_crowds()
    label_of = labels_of(categories)
    new = [item for item in sketch.items if item.origin < 0]
    labels = [*own.category.tolist(), *(label_of[item.label] for item in new)]
    new_boxes = np.array([item.box for item in new], np.float32).reshape(-1, 4)
    boxes = np.concatenate([own.boxes, new_boxes])
    things = np.array([categories[label].isthing for label in labels], bool)
    objects = Objects.build(labels, boxes, isthing=things, source=(*sources, *(ADDED,) * len(new)))
    provenance = Provenance(0, "", "", image_id, REASON)
    nothing = ImageRef(None, None)
    return Scene("drawn", photo.height, photo.width, nothing, objects, None, provenance)


def _check_label(item: Item, label: str) -> None:
    if item.label != label:
        raise ValueError(
            f"a plan paints objects of a photo anew as what they are; {item.name} was a {label}"
        )


def _is_shown(objects: Objects, position: int, photo: Scene) -> bool:
    """Return whether the studio shows an object of a photo."""
    box = clip_boxes(objects.boxes[position][None], photo.size)[0]
    sides = box[2:] - box[:2]
    return bool(objects.isthing[position] and (sides >= MIN_SIDE).all())


def read_drawn(
    path: Path, kind: str, categories: Sequence[Category], labelled: Dataset, generator: str
) -> list[Scene]:
    """Return the planned scenes of a file, each as often as it says.

    `labelled` are the labelled images, without pixels. DatasetError names file and layout.
    """
    document, _ = load_object(path)
    index_of: dict[str, int] = {}

    def photo_of(image_id: str) -> Scene | None:
        if not index_of:
            index_of.update({scene.image_id: index for index, scene in enumerate(labelled)})
        return labelled[index_of[image_id]] if image_id in index_of else None

    planned = []
    try:
        for place, record in enumerate(_entries(document)):
            where = f"layout {place}"
            copies = _copies(record, where)
            try:
                sketch = sketch_of(need(record, "layout"), USUAL_SIZE, 0)
                scene = planned_scene(sketch, kind, categories, photo_of)
            except RecordError as err:
                raise RecordError(err.reason, f"{where}: {err.detail}") from err
            except ValueError as err:
                raise RecordError("bad layout", f"{where}: {err}") from err
            assert scene.provenance is not None
            provenance = replace(scene.provenance, generator=generator)
            planned += [replace(scene, provenance=provenance)] * copies
    except RecordError as err:
        raise DatasetError(f"plan.drawn: {path}: {err.detail}; correct the file") from err
    return planned


def _entries(document: Json) -> list[Json]:
    only(document, ("layouts",), "the file")
    entries = need(document, "layouts")
    if not isinstance(entries, list):
        raise RecordError("bad value", "'layouts' must be a list")
    records = []
    for place, entry in enumerate(entries):
        where = f"layout {place}"
        only(mapping(entry, where), ("copies", "layout"), where)
        records.append(entry)
    return records


def _copies(record: Json, where: str) -> int:
    copies = need(record, "copies")
    if not is_int(copies) or not 1 <= copies <= MOST_COPIES:
        raise RecordError("bad value", f"{where}: copies {copies!r} is not from 1 to {MOST_COPIES}")
    return int(copies)
