"""Write a surveyed data set with its faults mended.

As COCO, the images beside it, and every change by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.errors import DatasetError, JobError, one_line
from synthaug.pipeline.core.images import upright
from synthaug.pipeline.core.readable import check_content
from synthaug.pipeline.core.scene import Objects, Scene
from synthaug.pipeline.core.skipped import Skipped, all_lines, short_lines
from synthaug.pipeline.core.staging import staged
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.coco.write import CocoWriter, file_name
from synthaug.pipeline.formats.image_files import PNG, encoded_image
from synthaug.pipeline.formats.validation import CUT
from synthaug.pipeline.survey.look import image_name, object_name
from synthaug.pipeline.survey.tally import Tally
from synthaug.pipeline.survey.twins import twins

CHANGES = "changes.txt"
FILE = "instances.json"
UPRIGHT = "image that an EXIF tag turned, stored upright"
SAME_PICTURE = "picture there before with the same labels, left out"
SAME_OBJECT = "duplicate object, left out"
NO_EXTENT = "object with a side under a pixel, left out"
MAP = "panoptic map, not written; the masks of its objects are"
_LEAST_SIDE = 1.0  # pixels
_MANY_CUT = 0.1  # of the objects: then it is no mistake of single ones
_FEW_CUT = 5


def mend(tally: Tally, out: Path, progress: Callable[[int, int, str], None]) -> Iterator[str]:
    """Write the set that a survey looked at into a new folder; says what was changed.

    Its source is only read. Raises JobError where the folder is there or cannot be written, and
    DatasetError where what looks like a fault is the way of the whole set, or nothing is left.
    """
    if out.exists():
        raise JobError(f"--fix: {out} is there already; name a folder that is not")
    _check_convention(tally)
    changes = Skipped(tally.skipped)
    try:
        with staged(out) as folder:
            _write(tally, folder, changes, progress)
    except OSError as err:
        raise JobError(f"--fix: cannot write {out} ({one_line(err)}); name another folder") from err
    yield f"mended: {out}/{FILE} (COCO) and images/"
    if not changes:
        yield "  nothing had to be changed"
        return
    yield f"changes, each by name in {out}/{CHANGES}:"
    yield from short_lines(changes)


def _check_convention(tally: Tally) -> None:
    cut = tally.skipped[CUT]
    if cut >= _FEW_CUT and cut > _MANY_CUT * tally.num_objects:
        raise DatasetError(
            f"{tally.reference}: {cut} of {tally.num_objects} boxes reach out of their image: that "
            "is another way of writing boxes (corners for width and height?), not single mistakes; "
            "correct the whole file"
        )


def _write(
    tally: Tally, folder: Folder, changes: Skipped, progress: Callable[[int, int, str], None]
) -> None:
    """Write the JSON, the images and the changes."""
    repeated = _repeated(tally, changes)
    images = folder.sub("images")
    used: set[str] = set()
    objects = 0
    with CocoWriter(folder, tally.table.categories, FILE) as writer:
        for place, index in enumerate(tally.index):
            if place not in repeated:
                scene = _mended(tally.table[index], changes)
                objects += len(scene.objects)
                data = encoded_image(scene)
                name = _free_name(scene, data, used)
                images.write_bytes(name, data, durable=False)
                writer.refer(scene, _image_id(scene), name)
            progress(place + 1, len(tally.index), "images written")
    check_content(tally.reference, tally.table, len(used), objects)
    lines = list(all_lines(changes))
    for what, count in sorted(changes.unread.items()):
        lines.append(f"not kept: {count} times {what}")
    text = "".join(f"{line}\n" for line in lines)
    folder.write_bytes(CHANGES, text.encode("utf-8", "backslashreplace"))


def _repeated(tally: Tally, changes: Skipped) -> set[int]:
    """Return the places of images that repeat an earlier one with the same labels."""
    repeated = set()
    for group in twins(tally):
        if group.same_labels:
            first = tally.name_of(group.places[0])
            for place in group.places[1:]:
                repeated.add(place)
                changes.note(SAME_PICTURE, f"{tally.name_of(place)}, which is {first}")
    return repeated


def _mended(scene: Scene, changes: Skipped) -> Scene:
    """Return a scene with an upright image and without needless objects."""
    name = image_name(scene)
    scene, was_turned = upright(scene)
    if was_turned:
        changes.note(UPRIGHT, name)
    if scene.panoptic is not None:
        changes[MAP] += 1
        scene = replace(scene, panoptic=None)
    keep = np.ones(len(scene.objects), np.bool_)
    for at, reason in _needless(scene.objects):
        keep[at] = False
        changes.note(reason, object_name(scene, at))
    return scene.with_objects(scene.objects.select(keep))


def _needless(objects: Objects) -> Iterator[tuple[int, str]]:
    """Yield the places of objects that teach nothing, and why."""
    seen = set()
    for at in np.flatnonzero(~objects.iscrowd).tolist():
        x1, y1, x2, y2 = objects.boxes[at].tolist()
        label = (int(objects.category[at]), x1, y1, x2, y2, objects.rle[at])
        if min(x2 - x1, y2 - y1) < _LEAST_SIDE:
            yield at, NO_EXTENT
        elif label in seen:
            yield at, SAME_OBJECT
        seen.add(label)


def _image_id(scene: Scene) -> int | str:
    """Return the id of an image as its file had it: a number where it is one."""
    text = scene.image_id
    if text.isascii() and text.isdecimal() and str(int(text)) == text:
        return int(text)
    return text


def _free_name(scene: Scene, data: bytes, used: set[str]) -> str:
    """Return the name of an image's file, which no other image has."""
    name = file_name(scene, data)
    if scene.image.path:
        path = Path(scene.image.path)
        name = path.name
        if data.startswith(PNG) and path.suffix.lower() != ".png":
            name = f"{path.stem}.png"
    number = 1
    free = name
    while free.casefold() in used:  # some disks know no capitals
        number += 1
        free = f"{number}_{name}"
    used.add(free.casefold())
    return free
