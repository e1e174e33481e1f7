"""Systems that paint or paste objects into real photos.

Each object is painted by a seed of its own, one after the other into what was painted before. So an
object keeps its look while others change, and only what comes after a change is painted anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from synthaug.generators.copy_paste import Frame, compose
from synthaug.pipeline.core.arrays import Bytes, Flags, Floats32, Ints
from synthaug.pipeline.core.boxes import clip_boxes
from synthaug.pipeline.core.scene import Category, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.studio.painters.base import Abilities, Painted, labels_of
from synthaug.pipeline.studio.sketch import MIN_SIDE, Item, Sketch, inside, seed_of, style_of
from synthaug.pipeline.synthesis.edits import PAINTED, EditParts, draw_example, example_of
from synthaug.pipeline.synthesis.masks_from_levels import resolve
from synthaug.pipeline.synthesis.object_bank import Bank
from synthaug.pipeline.synthesis.pasting import Canvas

if TYPE_CHECKING:
    from synthaug.generators.base import Painting

REMEMBERED = 256  # pictures on the way to others
Photos = Callable[[str], tuple[Scene, Bytes]]  # name of a photo -> its scene and pixels


def canvas_of(photos: Photos, sketch: Sketch) -> Canvas:
    """Return the photo of a sketch with its objects; ValueError where it has none."""
    if not sketch.photo:
        raise ValueError("this generator paints into photos; open a real image first")
    scene, image = photos(sketch.photo)
    if scene.size != sketch.size:
        raise ValueError(f"{sketch.photo} is not of the layout's size; open it again")
    return Canvas.of(scene, image, Frame.still(scene.size))


def image_id_of(photo: str) -> str:
    """Return the image id in the name of a photo, split/id."""
    return photo.partition("/")[2]


def editable(canvas: Canvas) -> list[int]:
    """Return the positions of a photo's objects that can be changed: its things.

    Those of a pixel at least.
    """
    height, width = canvas.image.shape[:2]
    boxes = clip_boxes(canvas.objects.boxes, (height, width))
    sides = boxes[:, 2:] - boxes[:, :2]
    is_instance = canvas.objects.isthing & ~canvas.objects.iscrowd
    chosen = is_instance & (sides >= MIN_SIDE).all(1)
    positions: list[int] = np.flatnonzero(chosen).tolist()
    return positions


@dataclass(frozen=True)
class Task:
    """One region of a photo to be painted, and by what seed."""

    item: int  # number of the object; -1 = background
    label: int
    box: tuple[float, ...]
    seed: int
    origin: int  # position of the photo's object that goes; -1 = none


@dataclass(frozen=True)
class Done:
    """What was painted into a photo, one after the other."""

    photo: str
    tasks: tuple[Task, ...]
    draft: bool


@dataclass(frozen=True)
class Stage:
    """A photo in which some tasks are done, and the objects that are told of."""

    image: Bytes  # [H, W, 3]
    origins: Ints  # [N] positions in the photo; -1 = painted
    categories: Ints  # [N]
    boxes: Floats32  # [N, 4]
    soft: Floats32  # [H, W] of what was painted last


class PhotoPainter:
    """Paints objects into photos, and background where objects were."""

    abilities = Abilities(
        "photo", object_styles=True, image_style=False, interpolates=False, erases=True
    )

    def __init__(self, parts: EditParts, photos: Photos, categories: Sequence[Category]) -> None:
        """Take what paints and the photos, by their names."""
        from synthaug.generators.base import Drafts

        self._parts = parts
        self._photos = photos
        self._categories = categories
        self._label_of = labels_of(categories)
        self._stages: OrderedDict[Done, Stage] = OrderedDict()
        self._draft = parts.sampler
        if isinstance(parts.sampler, Drafts):
            self._draft = parts.sampler.draft()

    def check(self, sketch: Sketch) -> None:
        """Refuse sketches without a photo, with unknown classes, and with stuff."""
        canvas = canvas_of(self._photos, sketch)
        _check_origins(sketch, canvas)
        _check_labels(sketch, self._label_of, self._categories)

    def paint(self, sketches: Sequence[Sketch], draft: bool = False) -> list[Painted]:
        """Return the photos with all that was changed in them.

        In a draft only what is new since the last full painting is drawn in few steps.
        """
        return [self._paint(sketch, draft) for sketch in sketches]

    def _paint(self, sketch: Sketch, draft: bool) -> Painted:
        canvas = canvas_of(self._photos, sketch)
        tasks = self._tasks(sketch, canvas)
        stage = _first_stage(canvas)
        shown: dict[int, Flags] = {}
        for item in sketch.items:
            if item.real:
                shown[item.number] = canvas.masks[item.origin].copy()
        for count, task in enumerate(tasks, start=1):
            done = Done(sketch.photo, tuple(tasks[:count]), draft)
            stage = self._stage(done, canvas, stage)
            mask = self._mask(task, stage.soft)
            for earlier in shown.values():
                earlier &= ~mask
            if task.item >= 0:
                shown[task.item] = mask
        masks = np.zeros((len(sketch.items), *sketch.size), bool)
        for place, item in enumerate(sketch.items):
            masks[place] = shown[item.number]
        return Painted(stage.image, masks)

    def _tasks(self, sketch: Sketch, canvas: Canvas) -> list[Task]:
        """Return what is to be painted: background first, then objects in their order."""
        objects = canvas.objects
        kept = {item.origin for item in sketch.items}
        tasks = []
        for position in editable(canvas):
            if position not in kept:
                label = int(objects.category[position])
                box = tuple(objects.boxes[position].tolist())
                tasks.append(Task(-1, label, box, sketch.seed, position))
        for item in sketch.items:
            if not item.real:
                tasks.append(self._task(item))
        return tasks

    def _task(self, item: Item) -> Task:
        label = self._label_of[item.label]
        return Task(item.number, label, item.box, seed_of(item.style), item.origin)

    def _stage(self, done: Done, canvas: Canvas, before: Stage) -> Stage:
        """Return the photo after the last of some tasks; it is painted only once."""
        full = replace(done, draft=False)
        for known in (full, done):
            if known in self._stages:
                self._stages.move_to_end(known)
                return self._stages[known]
        self._stages[done] = self._after(done, canvas, before)
        if len(self._stages) > REMEMBERED:
            self._stages.popitem(last=False)
        return self._stages[done]

    def _after(self, done: Done, canvas: Canvas, before: Stage) -> Stage:
        from synthaug.generators.base import Edit, Photo

        task = done.tasks[-1]
        painting = self._painting(done.photo, canvas, before, task)
        seen = Photo(before.image, before.categories, before.boxes)
        sampler = self._draft if done.draft else self._parts.sampler
        (edited,) = sampler.edit([Edit(seen, [painting])], [task.seed])
        stays = np.arange(len(before.categories)) != painting.replaces
        origins = before.origins[stays]
        categories = before.categories[stays]
        boxes = before.boxes[stays]
        if task.item >= 0:
            origins = np.append(origins, -1)
            categories = np.append(categories, task.label)
            boxes = np.concatenate([boxes, painting.box[None]])
        return Stage(edited.image, origins, categories, boxes, edited.masks[0])

    def _painting(self, photo: str, canvas: Canvas, before: Stage, task: Task) -> Painting:
        from synthaug.generators.base import Painting

        replaces = -1
        mask = None
        if task.origin >= 0:
            replaces = int(np.flatnonzero(before.origins == task.origin)[0])
            if canvas.objects.rle[task.origin] is not None:
                mask = canvas.masks[task.origin]
        box = np.array(task.box, np.float32)
        if task.item < 0:
            return Painting(task.label, box, "background", replaces)
        painting = Painting(task.label, box, replaces=replaces, mask=mask)
        if not self._parts.examples:
            return painting
        rng = rng_for(task.seed, "example")
        cutout = draw_example(self._parts.examples, painting, rng, image_id_of(photo))
        if cutout is None:
            return painting
        return replace(painting, example=example_of(cutout))

    def _mask(self, task: Task, soft: Floats32) -> Flags:
        """Return the pixels [H, W] of what a task has painted."""
        if task.item < 0:
            painted: Flags = soft >= PAINTED
            return painted
        box = np.array([task.box], np.float32)
        things = np.array([self._categories[task.label].isthing])
        mask: Flags = resolve(soft[None], box, things)[0]
        return mask


class PastePainter:
    """Pastes real objects into photos; a photo's own objects stay."""

    abilities = Abilities(
        "photo", object_styles=True, image_style=False, interpolates=False, erases=False
    )

    def __init__(self, bank: Bank, photos: Photos, categories: Sequence[Category]) -> None:
        self._bank = bank
        self._photos = photos
        self._categories = categories
        self._label_of = labels_of(categories)

    def check(self, sketch: Sketch) -> None:
        """Refuse what would take a photo's object away, and classes without real objects."""
        canvas = canvas_of(self._photos, sketch)
        _check_origins(sketch, canvas)
        _check_labels(sketch, self._label_of, self._categories)
        there = {item.origin for item in sketch.items if item.real}
        if not there.issuperset(editable(canvas)):
            raise ValueError("pasting takes nothing away: objects of the photo stay as they are")
        for item in sketch.items:
            if not item.real and not (self._bank.category == self._label_of[item.label]).any():
                raise ValueError(f"no labelled image has a '{item.label}' to be pasted")

    def paint(self, sketches: Sequence[Sketch], draft: bool = False) -> list[Painted]:
        """Return the photos with the pasted objects."""
        return [self._paint(sketch) for sketch in sketches]

    def _paint(self, sketch: Sketch) -> Painted:
        canvas = canvas_of(self._photos, sketch)
        pieces = []
        pasted = []
        for place, item in enumerate(sketch.items):
            if item.real:
                continue
            rng = rng_for(seed_of(item.style), "piece")
            box = np.array(item.box, np.float32)
            piece = self._bank.piece(self._label_of[item.label], box, rng)
            assert piece is not None, item.label
            pieces.append(piece)
            pasted.append(place)
        image, visible = compose(canvas.image, canvas.masks, pieces)
        masks = np.zeros((len(sketch.items), *sketch.size), bool)
        for place, item in enumerate(sketch.items):
            if item.real:
                masks[place] = visible[item.origin]
        masks[pasted] = visible[len(canvas.objects) :]
        return Painted(image, masks)


def _check_origins(sketch: Sketch, canvas: Canvas) -> None:
    origins = [item.origin for item in sketch.items if item.origin >= 0]
    if len(set(origins)) < len(origins) or set(origins) - set(editable(canvas)):
        raise ValueError("the layout names objects that its photo has not; open the photo again")


def _check_labels(
    sketch: Sketch, label_of: Mapping[str, int], categories: Sequence[Category]
) -> None:
    for item in sketch.items:
        if item.label not in label_of:
            raise ValueError(f"the data has no class '{item.label}'")
        if not item.real and not categories[label_of[item.label]].isthing:
            raise ValueError(f"'{item.label}' is stuff; only things are put into photos")


def first_items(canvas: Canvas, categories: Sequence[Category], seed: int) -> list[Item]:
    """Return the objects of a photo as they are."""
    items: list[Item] = []
    for position in editable(canvas):
        label = categories[int(canvas.objects.category[position])].name
        height, width = canvas.image.shape[:2]
        box = inside(canvas.objects.boxes[position].tolist(), (height, width))
        items.append(Item(len(items), label, box, style_of(seed), origin=position, real=True))
    return items


def _first_stage(canvas: Canvas) -> Stage:
    """Return a photo as it is; of stuff nothing is told."""
    told = np.array(editable(canvas), np.int64)
    categories = canvas.objects.category[told].astype(np.int64)
    boxes = canvas.objects.boxes[told].astype(np.float32)
    nothing = np.zeros(canvas.image.shape[:2], np.float32)
    return Stage(canvas.image, told, categories, boxes, nothing)
