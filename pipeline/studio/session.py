"""One person's work with a generator: what the page asks for, without HTTP.

Every method returns plain JSON values and raises ValueError, in one sentence, for what cannot be.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Flags
from synthaug.pipeline.core.images import encode, resize
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.masks import tight_boxes
from synthaug.pipeline.core.scene import Category, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.json_files import load_object
from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.studio.drawing import color
from synthaug.pipeline.studio.drawn_plan import MOST_COPIES, planned_scene
from synthaug.pipeline.studio.history import History
from synthaug.pipeline.studio.map_layers import of_map
from synthaug.pipeline.studio.painters.base import Painted, Painter, labels_of, scene_of
from synthaug.pipeline.studio.painters.photos import canvas_of, first_items
from synthaug.pipeline.studio.real_photos import Outlines, RealPhotos
from synthaug.pipeline.studio.sketch import Item, Sketch, blank, next_seed, of_objects, seed_of
from synthaug.pipeline.studio.sketch_edits import Rules, apply
from synthaug.pipeline.studio.sketch_files import record_of, sketch_of

SAMPLES = 8
REMEMBERED = 128  # painted sketches
THUMBNAIL = 96  # pixels of the longer side
PAGE = 24  # thumbnails at once
EXACT = 1 << 19  # pixels up to which an image is shown without loss
OVERLAY = 512  # pixels of the longer side that masks are drawn at, at most
OPACITY, EDGE_OPACITY = 80, 255  # of masks, of 255
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SUFFIX = ".json"
LAYOUTS, PLANNED = "layouts", "plan.json"  # in the studio's folder

Judged = list[tuple[int, str | None, float]]  # id of an object, its verdict, the score it rests on
Judge = Callable[[Scene], Judged]


@dataclass(frozen=True)
class Workshop:
    """What a session works with."""

    run: str  # its name
    system: str
    categories: tuple[Category, ...]
    painter: Painter
    photos: RealPhotos
    outlines: Outlines
    folder: Folder  # where layouts are saved
    seed: int
    judge: Judge | None
    no_judge: str  # why there is none


class Session:
    """A sketch with its history; one request at a time works on it."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._rules = Rules(workshop.categories, workshop.painter.abilities, workshop.outlines.draw)
        self._painted: OrderedDict[Sketch, Painted] = OrderedDict()  # in full, no drafts
        self._drafted: tuple[Sketch, Painted] | None = None
        self._lock = threading.RLock()
        self._origin = ""
        self._saved_as = ""
        self._history = History(self._first())

    # ---- what there is ----

    def about(self) -> Json:
        """Return what does not change: the run, its classes, what the generator can do."""
        workshop = self._workshop
        classes = []
        for category in workshop.categories:
            classes.append({"name": category.name, "thing": category.isthing})
        splits = {name: len(split.bare) for name, split in workshop.photos.splits.items()}
        return {
            "run": workshop.run,
            "system": workshop.system,
            "classes": classes,
            "splits": splits,
            "samples": SAMPLES,
            "page": PAGE,
            "judge": workshop.judge is not None,
            "no_judge": workshop.no_judge if workshop.judge is None else "",
            **vars(workshop.painter.abilities),
        }

    def state(self, draft: bool = False) -> Json:
        """Return the sketch, its image and masks, and what can be undone."""
        with self._lock:
            sketch = self._history.present
            painted = self._paint(sketch, draft)
            pairs = zip(sketch.items, tight_boxes(painted.masks).tolist(), strict=True)
            items = [_item_record(item, tight) for item, tight in pairs]
            return {
                "size": list(sketch.size),
                "items": items,
                "seed": seed_of(sketch.style),
                "photo": sketch.photo,
                "origin": self._origin,
                "saved_as": self._saved_as,
                "undo": len(self._history.past),
                "redo": len(self._history.future),
                "image": shown(painted.image),
                "masks": data_url(overlay(painted.masks, [item.number for item in sketch.items])),
            }

    def image(self) -> bytes:
        """Return the image of the sketch as PNG."""
        with self._lock:
            return encode(self._paint(self._history.present).image, "png")

    def thumbnails(self, split: str, start: int) -> list[Json]:
        """Return small pictures of a page of real images."""
        photos = self._workshop.photos
        photos.name_at(split, start)
        stop = min(start + PAGE, len(photos.splits[split].bare))
        found = []
        for index in range(start, stop):
            name = photos.name_at(split, index)
            with self._lock:
                scene, image = photos(name)
            longer = max(scene.size)
            height, width = (max(1, round(side * THUMBNAIL / longer)) for side in scene.size)
            small = resize(image, (height, width))
            picture = data_url(encode(small, "jpeg"), "jpeg")
            found.append({"index": index, "name": name, "image": picture})
        return found

    # ---- where layouts come from ----

    def _first(self) -> Sketch:
        """Return the layout of the first validation image, or an empty canvas."""
        for split, found in self._workshop.photos.splits.items():
            if len(found.bare):
                return self._of_photo(split, 0)
        return blank((64, 64), self._workshop.seed)

    def _of_photo(self, split: str, index: int) -> Sketch:
        """Return the sketch of a real image, as the generator is told of one."""
        workshop = self._workshop
        name = workshop.photos.name_at(split, index)
        scene, _ = workshop.photos(name)
        seed = next_seed(workshop.seed, name)
        self._origin = name
        self._saved_as = ""
        kind = workshop.painter.abilities.kind
        if kind == "map":
            return of_map(scene, workshop.categories, seed)
        if kind == "photo":
            return self._of_canvas(name, scene, seed)
        objects = scene.objects.without_crowds()
        names = [workshop.categories[c].name for c in objects.category.tolist()]
        pairs = zip(names, objects.layout_boxes.tolist(), strict=True)
        return of_objects(scene.size, pairs, seed)

    def _of_canvas(self, name: str, scene: Scene, seed: int) -> Sketch:
        empty = replace(blank(scene.size, seed), photo=name)
        canvas = canvas_of(self._workshop.photos, empty)
        items = first_items(canvas, self._workshop.categories, seed)
        return replace(empty, items=tuple(items), born=len(items))

    def open_photo(self, split: str, index: int) -> Json:
        """Take the layout of a real image; where photos are painted into, that image too."""
        with self._lock:
            before = self._origin, self._saved_as
            return self._change(self._of_photo(split, index), "", before)

    def clear(self) -> Json:
        """Begin with an empty canvas of the same size, or with the photo as it is."""
        with self._lock:
            before = self._origin, self._saved_as
            sketch = self._history.present
            self._saved_as = ""
            if sketch.photo:
                split, _, image_id = sketch.photo.partition("/")
                index = self._workshop.photos.splits[split].index_of[image_id]
                return self._change(self._of_photo(split, index), "", before)
            self._origin = "an empty canvas"
            empty = replace(blank(sketch.size, sketch.seed), ground=sketch.ground)
            return self._change(empty, "", before)

    def load(self, document: Any, name: str) -> Json:
        """Take the layout of a file's JSON."""
        with self._lock:
            before = self._origin, self._saved_as
            sketch = self._checked_file(document)
            self._origin = name
            self._saved_as = ""
            return self._change(sketch, "", before)

    def _checked_file(self, document: Any) -> Sketch:
        size = self._history.present.size
        try:
            sketch = sketch_of(document, size, self._workshop.seed)
        except RecordError as err:
            raise ValueError(err.detail) from err
        known = labels_of(self._workshop.categories)
        for item in sketch.items:
            if item.label not in known:
                raise ValueError(f"the data has no class '{item.label}', which {item.name} is of")
        return sketch

    # ---- editing ----

    def edit(self, record: Any, gesture: str = "", draft: bool = False) -> Json:
        """Apply an edit; those of one gesture are undone together.

        With `draft` the image may be rougher, for the sake of time.
        """
        with self._lock:
            try:
                sketch = apply(self._history.present, record, self._rules)
            except RecordError as err:
                raise ValueError(err.detail) from err
            return self._change(sketch, gesture, draft=draft)

    def undo(self) -> Json:
        """Undo the last edit."""
        with self._lock:
            self._history = self._history.undo()
            return self.state()

    def redo(self) -> Json:
        """Do again what was undone last."""
        with self._lock:
            self._history = self._history.redo()
            return self.state()

    def _change(
        self,
        sketch: Sketch,
        gesture: str,
        before: tuple[str, str] | None = None,
        draft: bool = False,
    ) -> Json:
        """Make a sketch the present one, once it is painted; else all is as it was."""
        try:
            self._paint(sketch, draft)
        except ValueError:
            if before is not None:
                self._origin, self._saved_as = before
            raise
        self._history = self._history.push(sketch, gesture)
        return self.state(draft)

    def _paint(self, sketch: Sketch, draft: bool = False) -> Painted:
        """Return the painted sketch, from memory where it was painted before."""
        if draft and sketch not in self._painted:
            return self._draft(sketch)
        (painted,) = self._paint_all([sketch])
        return painted

    def _draft(self, sketch: Sketch) -> Painted:
        """Return a sketch as it is shown while it changes; the last one is remembered."""
        if self._drafted is None or self._drafted[0] != sketch:
            self._workshop.painter.check(sketch)
            (painted,) = self._workshop.painter.paint([sketch], draft=True)
            self._drafted = (sketch, painted)
        return self._drafted[1]

    def _paint_all(self, sketches: Sequence[Sketch]) -> list[Painted]:
        missing = [sketch for sketch in dict.fromkeys(sketches) if sketch not in self._painted]
        for sketch in missing:
            self._workshop.painter.check(sketch)
        if missing:
            painted = self._workshop.painter.paint(missing)
            for sketch, result in zip(missing, painted, strict=True):
                self._painted[sketch] = result
        results = [self._painted[sketch] for sketch in sketches]
        while len(self._painted) > REMEMBERED:
            self._painted.popitem(last=False)
        return results

    # ---- samples ----

    def samples(self) -> list[Json]:
        """Return samples of the layout: the seed and the image of each."""
        with self._lock:
            sketches = self._history.present.samples(SAMPLES)
            return self._pictures(sketches, [{"seed": seed_of(s.style)} for s in sketches])

    def interpolation(self, number: int | None) -> list[Json]:
        """Return the way from a style to the next one, in steps."""
        with self._lock:
            if not self._rules.abilities.interpolates:
                raise ValueError("this generator has no codes to mix; only LostGAN has")
            sketch = self._history.present
            style = sketch.style if number is None else sketch[number].style
            seed = next_seed(seed_of(style), "interpolate")
            shares = [step / (SAMPLES - 1) for step in range(SAMPLES)]
            sketches = [sketch.interpolate(number, seed, t) for t in shares]
            return self._pictures(sketches, [{"seed": seed, "t": t} for t in shares])

    def _pictures(self, sketches: Sequence[Sketch], words: Sequence[Json]) -> list[Json]:
        painted = self._paint_all(sketches)
        pictures = []
        for result, own in zip(painted, words, strict=True):
            pictures.append({**own, "image": shown(result.image)})
        return pictures

    def verdicts(self) -> list[Json]:
        """Return the verdict on each object, by the detector that verified the run."""
        judge = self._workshop.judge
        if judge is None:
            raise ValueError(self._workshop.no_judge)
        with self._lock:
            sketch = self._history.present
            painted = self._paint(sketch)
            scene = scene_of(sketch, painted, self._workshop.categories)
            judged = {identity - 1: (word, score) for identity, word, score in judge(scene)}
        told = []
        for item in sketch.items:
            word, score = judged.get(item.number, ("not seen", 0.0))
            told.append(
                {
                    "number": item.number,
                    "verdict": word or "not judged",
                    "score": score if word else None,
                }
            )
        return told

    # ---- files ----

    def document(self) -> Json:
        """Return the layout file of the sketch."""
        with self._lock:
            return record_of(self._history.present)

    def save(self, name: str) -> Json:
        """Save the layout under a name in the run's folder."""
        with self._lock:
            checked = _checked_name(name)
            folder = self._workshop.folder.sub(LAYOUTS)
            folder.write_bytes(checked + SUFFIX, _text_of(self.document()))
            self._saved_as = checked
            return self.state()

    def saved(self) -> list[str]:
        """Return the names of saved layouts."""
        names = []
        for file in self._workshop.folder.sub(LAYOUTS).names():
            name = file.removesuffix(SUFFIX)
            if name != file and NAME.fullmatch(name):
                names.append(name)
        return sorted(names)

    def load_saved(self, name: str) -> Json:
        """Take a saved layout."""
        with self._lock:
            checked = _checked_name(name)
            if checked not in self.saved():
                raise ValueError(f"no layout is saved as '{checked}'")
            folder = self._workshop.folder.sub(LAYOUTS)
            document, _ = load_object(Path(folder.local_path(checked + SUFFIX)))
            state = self.load(document, checked)
            self._saved_as = checked
            return {**state, "saved_as": checked}

    def send_to_plan(self, copies: int) -> Json:
        """Add the layout to the file that `plan.drawn` may name.

        Return where it is and what it holds.
        """
        if not 1 <= copies <= MOST_COPIES:
            raise ValueError(f"copies: {copies} is not from 1 to {MOST_COPIES}")
        with self._lock:
            kind = self._rules.abilities.kind
            sketch = self._history.present
            planned_scene(sketch, kind, self._workshop.categories, self._labelled)
            folder = self._workshop.folder
            planned: Json = {"layouts": []}
            if folder.exists(PLANNED):
                planned = folder.read_json(PLANNED)
            planned["layouts"].append({"copies": copies, "layout": self.document()})
            folder.write_bytes(PLANNED, _text_of(planned))
        total = sum(entry["copies"] for entry in planned["layouts"])
        file = folder.sub(PLANNED).uri
        return {
            "file": file,
            "layouts": len(planned["layouts"]),
            "images": total,
            "key": f"plan.drawn={file}",
        }

    def _labelled(self, image_id: str) -> Scene | None:
        """Return the labelled scene with an id, without pixels; None where there is none."""
        split = self._workshop.photos.splits.get("labelled")
        if split is None or image_id not in split.index_of:
            return None
        return split.bare[split.index_of[image_id]]


def _item_record(item: Item, tight: Sequence[float]) -> Json:
    """Return what the page is told of an object.

    `tight` is the box of what is seen of it.
    """
    red, green, blue = color(item.number)
    is_seen = tight[2] > tight[0]
    return {
        "number": item.number,
        "class": item.label,
        "box": list(item.box),
        "locked": item.locked,
        "real": item.real,
        "seed": seed_of(item.style),
        "color": f"#{red:02x}{green:02x}{blue:02x}",
        "seen": list(tight) if is_seen else None,
    }


def _checked_name(name: str) -> str:
    """Return a name of a saved layout; ValueError for a path and the like."""
    if not NAME.fullmatch(name):
        raise ValueError(
            "a name has 1 to 64 letters, digits, dots, dashes or underscores and begins with a "
            "letter or digit"
        )
    return name.removesuffix(SUFFIX)


def _text_of(document: Json) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()


def data_url(data: bytes, kind: str = "png") -> str:
    """Return an image as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def shown(image: Bytes) -> str:
    """Return an image as the page shows it: exactly, or a large one as JPEG for speed."""
    height, width = image.shape[:2]
    kind = "png" if height * width <= EXACT else "jpeg"
    return data_url(encode(image, kind), kind)


def overlay(masks: Flags, numbers: Sequence[int]) -> bytes:
    """Return masks [N, H, W] in their objects' colors as a PNG to lie over the image.

    Small ones are enlarged, so that their outlines are thin.
    """
    import cv2

    height, width = masks.shape[1:]
    zoom = max(1, OVERLAY // max(height, width))
    canvas: Bytes = np.zeros((height * zoom, width * zoom, 4), np.uint8)
    ring = np.ones((5, 5), np.uint8)
    for mask, number in zip(masks, numbers, strict=True):
        large = mask.repeat(zoom, 0).repeat(zoom, 1)
        red, green, blue = color(number)
        canvas[large] = (blue, green, red, OPACITY)  # as OpenCV has it
        inner = cv2.erode(large.astype(np.uint8), ring) > 0
        canvas[large & ~inner, 3] = EDGE_OPACITY
    done, data = cv2.imencode(".png", canvas)
    assert done
    return bytes(data.tobytes())
