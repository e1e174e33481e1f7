"""Pasting real objects into real images, and the labels of what is visible then.

Objects of the background stay what they are. How much of an object must be visible for it to keep
its label is the same rule everywhere: `paste`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthaug.generators import copy_paste
from synthaug.generators.copy_paste import Config, Cutout, Frame, Piece
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core.arrays import Bytes, Flags, Floats, Floats32, Ints
from synthaug.pipeline.core.boxes import Boxes, box_areas, clip_boxes
from synthaug.pipeline.core.masks import decode_all, encode_with_boxes
from synthaug.pipeline.core.scene import Category, Objects, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.planning.edit_planner import largest_overlap
from synthaug.pipeline.planning.planner import ADDED
from synthaug.pipeline.planning.surfaces import UNKNOWN, StuffMap, belongs, surface_of
from synthaug.pipeline.synthesis.object_bank import Bank

# images tried as background of a layout that names none; the one that shows least besides it is
# taken
BACKGROUNDS = 16
PLACES = 30  # tried for an object whose first place is taken


@dataclass(frozen=True)
class Picture:
    """An image with its labels."""

    image: Bytes  # [H, W, 3]
    objects: Objects
    lost: Counter[str]  # labels lost per class


@dataclass(frozen=True)
class Canvas:
    """A background: its image, and its objects as they lie on it."""

    image: Bytes  # [H, W, 3]
    objects: Objects  # boxes on the canvas, not cut off at its border
    masks: Flags  # [N, H, W] the boxes of objects without a mask
    area: Floats  # [N] pixels the objects would have if nothing hid them

    @staticmethod
    def of(scene: Scene, image: Bytes, frame: Frame) -> Canvas:
        """Lay an image with its objects on a canvas."""
        objects = scene.objects
        height, width = frame.canvas
        boxes = frame.boxes(objects.boxes)
        masks = frame.masks(decode_all(objects, scene.size))
        has_mask = _has_mask(objects)
        for number in np.flatnonzero(~has_mask):
            rounded = boxes[number].round().astype(int)
            corners = rounded.clip(0, [width, height] * 2)
            x0, y0, x1, y1 = corners.tolist()
            masks[number, y0:y1, x0:x1] = True
        scale_y, scale_x = frame.scale
        mask_area = objects.area * (scale_y * scale_x)
        area = np.where(has_mask, mask_area, box_areas(boxes))
        area = area.astype(np.float64)
        moved = Objects.build(
            objects.category,
            boxes,
            id=objects.id,
            rle=objects.rle,
            iscrowd=objects.iscrowd,
            isthing=objects.isthing,
            score=objects.score,
            source=objects.source,
        )
        return Canvas(frame.image(image), moved, masks, area)

    def stuff(self) -> StuffMap:
        """Return the stuff map [H, W]; stuff without a mask is not in it."""
        shown = np.full(self.image.shape[:2], UNKNOWN, np.int32)
        is_stuff = ~self.objects.isthing & _has_mask(self.objects)
        for number in np.flatnonzero(is_stuff).tolist():
            shown[self.masks[number]] = self.objects.category[number]
        return shown


def _has_mask(objects: Objects) -> Flags:
    """Return which objects [N] have a mask."""
    there = [rle is not None for rle in objects.rle]
    return np.array(there, bool)


@dataclass(frozen=True)
class Labels:
    """Labels of the objects of a canvas, N, and of the pieces pasted onto it, P."""

    ids: Ints  # [N + P]
    layout_boxes: Boxes  # [P, 4] boxes that were asked for
    category: Ints  # [P]
    min_area: float  # pixels that must be visible


def paste(
    canvas: Canvas,
    pieces: Sequence[Piece],
    labels: Labels,
    config: Config,
    categories: Sequence[Category],
) -> Picture:
    """Paste pieces onto a canvas.

    Return the image with all objects, as far as they are visible.
    """
    image, visible = copy_paste.compose(canvas.image, canvas.masks, pieces)
    slack = [piece.label - piece.extent for piece in pieces]
    areas = [float(piece.core.sum()) for piece in pieces]
    with_mask = [not piece.by_box for piece in pieces]
    slacks = np.array(slack, np.float32).reshape(-1, 4)
    added = Added(np.array(areas), np.array(with_mask, bool), slacks)
    return with_labels(canvas, image, visible, added, labels, config.min_visible, categories)


@dataclass(frozen=True)
class Added:
    """Objects added to a canvas, P."""

    area: Floats  # [P] pixels they would have if nothing hid them
    has_mask: Flags  # [P] whether their labels are masks, not boxes
    # [P, 4] of the boxes in their annotations, beside the tight boxes of their masks; None: the
    # boxes are tight
    slack: Floats32 | None = None


def with_labels(
    canvas: Canvas,
    image: Bytes,
    visible: Flags,
    added: Added,
    labels: Labels,
    min_visible: float,
    categories: Sequence[Category],
) -> Picture:
    """Label an image [H, W, 3] by the visible masks [N + P, H, W].

    Of the canvas's objects and the added ones. A mask becomes its visible part, a box that of its
    mask; a box without a mask what is left of it. The boxes of added objects lose the sides that
    are covered and stay as far from the others as they were. A label goes when less than
    `min_visible` of the object is visible, or fewer pixels than `min_area`; an ignore region when
    nothing is.
    """
    old = canvas.objects
    num_added = len(added.area)
    category = np.concatenate([old.category, labels.category])
    category = category.astype(np.int64)  # [N + P]
    no_crowds = np.zeros(num_added, bool)
    crowd = np.concatenate([old.iscrowd, no_crowds])
    keep = _visible_enough(canvas, added, visible, labels.min_area, min_visible)
    keep = np.where(crowd, visible.any((1, 2)), keep)
    lost_classes = category[~keep & ~crowd].tolist()
    lost = Counter(categories[c].name for c in lost_classes)
    shapes = _visible_shapes(canvas, added, visible)
    is_thing = [categories[c].isthing for c in category]
    sure = np.ones(num_added, np.float32)
    boxes_of_old = shapes.boxes[: len(old)]
    objects = Objects.build(
        category,
        shapes.boxes,
        id=labels.ids,
        rle=shapes.rle,
        area=shapes.area,
        iscrowd=crowd,
        isthing=np.array(is_thing, bool),
        score=np.concatenate([old.score, sure]),
        source=(*old.source, *(ADDED,) * num_added),
        layout_boxes=np.concatenate([boxes_of_old, labels.layout_boxes]),
    )
    return Picture(image, objects.select(keep), lost)


def _visible_enough(
    canvas: Canvas,
    added: Added,
    visible: Flags,
    min_area: float,
    min_visible: float,
) -> Flags:
    """Return which objects [N + P] have enough pixels in their visible masks.

    The masks are [N + P, H, W].
    """
    area = visible.sum((1, 2))
    whole_area = np.concatenate([canvas.area, added.area])
    least = np.maximum(max(1.0, min_area), min_visible * whole_area)
    enough: Flags = area >= least
    return enough


@dataclass(frozen=True)
class Shapes:
    """Boxes xyxy [M, 4], masks and areas [M] of objects, as far as they are visible."""

    boxes: Boxes
    rle: list[str | None]  # None where an object has no mask
    area: Floats  # pixels


def _visible_shapes(canvas: Canvas, added: Added, visible: Flags) -> Shapes:
    """Return the shapes of the canvas's objects and of the added ones.

    Given their visible masks [N + P, H, W].
    """
    old = canvas.objects
    num_old = len(canvas.objects)
    size = visible.shape[1], visible.shape[2]
    area = visible.sum((1, 2))
    rles, tight = encode_with_boxes(visible)
    has_mask = np.concatenate([_has_mask(old), added.has_mask])
    new = tight[num_old:]
    if added.slack is not None:
        shows = area[num_old:, None] > 0
        with_slack = clip_boxes(new + added.slack, size)
        new = np.where(shows, with_slack, new)
    # a box without a mask that nothing covers keeps its fractions of pixels
    uncovered = area[:num_old] == canvas.masks.sum((1, 2))
    keeps_box = uncovered & ~_has_mask(old)
    clipped = clip_boxes(old.boxes, size)
    of_canvas = np.where(keeps_box[:, None], clipped, tight[:num_old])
    boxes = np.concatenate([of_canvas, new]).astype(np.float32)
    rle: list[str | None] = [None] * len(rles)
    for number in np.flatnonzero(has_mask).tolist():
        rle[number] = rles[number]
    shape_area = np.where(has_mask, area, box_areas(boxes))
    return Shapes(boxes, rle, shape_area.astype(np.float64))


def paste_plan(
    bank: Bank, planned: Scene, mirror: bool, min_area: float, categories: Sequence[Category]
) -> Picture:
    """Paste the planned objects of a scene into its source image.

    At their size and at free places. The plan's place comes first. Objects of the source keep the
    ids of the plan: its first ones are the source's, in their order, without crowds. Objects that
    find no place count as lost.
    """
    assert planned.provenance is not None
    scene, image = bank.scene(planned.provenance.source_image)
    frame = Frame.still(planned.size, mirror)
    canvas = Canvas.of(scene, image, frame)
    seed = planned.provenance.seed
    added = added_objects(planned)
    arrangement = Arrangement.on(canvas, bank)
    pasted = []
    pairs = zip(added.category, added.boxes, strict=True)
    for number, (category, box) in enumerate(pairs):
        rng = rng_for(seed, "piece", number)
        label = int(category)
        centre = (box[:2] + box[2:]) / 2
        cutout = bank.draw(label, rng, like=box)
        if cutout is not None and arrangement.lay(label, cutout, rng, centre):
            pasted.append(number)
    left_out = np.setdiff1d(np.arange(len(added)), pasted)
    left_out_classes = added.category[left_out].tolist()
    without_place = Counter(categories[c].name for c in left_out_classes)
    taken = added.select(pasted)
    ids = np.concatenate([planned_ids(canvas, planned), taken.id])
    taken_classes = taken.category.astype(np.int64)
    labels = Labels(ids, arrangement.label_boxes(), taken_classes, min_area)
    picture = paste(canvas, arrangement.pieces, labels, bank.config, categories)
    return replace(picture, lost=picture.lost + without_place)


class Arrangement:
    """Cutouts laid on a canvas, each where it hardly covers the others."""

    def __init__(
        self,
        stuff: StuffMap,
        taken: Floats32,
        config: Config,
        seen: Flags,
    ) -> None:
        self.pieces: list[Piece] = []
        self._stuff = stuff  # [H, W]
        self._taken = taken  # [N, 4] boxes of what is there
        self._config = config
        self._seen = seen  # [C, C] class on stuff

    @staticmethod
    def on(canvas: Canvas, bank: Bank) -> Arrangement:
        """Return the arrangement on a canvas.

        Its stuff takes no place: an object stands on grass and before the sky.
        """
        taken = canvas.objects.boxes[canvas.objects.isthing]
        return Arrangement(canvas.stuff(), taken, bank.config, bank.seen)

    def lay(
        self,
        category: int,
        cutout: Cutout,
        rng: np.random.Generator,
        centre: Floats32 | None = None,
    ) -> bool:
        """Lay a cutout around a centre (x, y), or at another free place.

        The centre is drawn where none is given. It stands on stuff that its class is seen on.
        Return whether there is such a place.
        """
        height, width = self._stuff.shape
        x0, y0, x1, y1 = cutout.box
        sides = np.array([x1 - x0, y1 - y0], np.float32)
        free = np.array([width, height], np.float32) - sides
        if (free < 0).any():
            return False
        corner = rng.random(2) * free
        if centre is not None:
            corner = (centre - sides / 2).clip(0, free)
        corner = np.rint(corner)
        box = np.concatenate([corner, corner + sides]).astype(np.float32)
        overlap = self._config.overlap
        for _ in range(PLACES):
            is_free = largest_overlap(box, self._taken) <= overlap
            if is_free and belongs(self._seen, category, surface_of(self._stuff, box)):
                edge = copy_paste.edge_of(self._config, rng)
                piece = copy_paste.piece(cutout, box.tolist(), edge)
                self.pieces.append(piece)
                self._taken = np.concatenate([self._taken, box[None]])
                return True
            corner = np.rint(rng.random(2) * free)
            box = np.concatenate([corner, corner + sides]).astype(np.float32)
        return False

    def label_boxes(self) -> Floats32:
        """Return the boxes [P, 4] of the annotations of what was laid."""
        labels = [piece.label for piece in self.pieces]
        return np.array(labels, np.float32).reshape(-1, 4)


def added_objects(planned: Scene) -> Objects:
    """Return the objects that a plan adds to its source image."""
    sources = planned.objects.source
    is_added = [source == ADDED for source in sources]
    return planned.objects.select(np.flatnonzero(is_added))


def planned_ids(canvas: Canvas, planned: Scene) -> Ints:
    """Return the ids [N] of a canvas's objects.

    Those of the plan, and further ones for crowds.
    """
    crowd = canvas.objects.iscrowd
    num_crowds = int(crowd.sum())
    ids = np.zeros(len(crowd), np.int64)
    num_planned = len(crowd) - num_crowds
    highest = planned.objects.id.max(initial=0)
    ids[~crowd] = planned.objects.id[:num_planned]
    ids[crowd] = highest + 1 + np.arange(num_crowds)
    return ids


def paste_layout(bank: Bank, request: Scene, categories: Sequence[Category]) -> Picture:
    """Paste the objects of a layout that names no background.

    Into the real image that shows least besides it. They are brought to their boxes. Objects of the
    background get the id 0, those whose class the bank has not are left out.
    """
    seed = request.provenance.seed if request.provenance else 0
    background = emptiest_background(bank.pixels, request, seed)
    objects = request.objects
    things = objects.select(objects.isthing & ~objects.iscrowd)
    pieces = []
    pasted = []
    pairs = zip(things.category, things.boxes, strict=True)
    for number, (category, box) in enumerate(pairs):
        rng = rng_for(seed, "piece", number)
        piece = bank.piece(int(category), box, rng)
        if piece is not None:
            pieces.append(piece)
            pasted.append(number)
    taken = things.select(pasted)
    no_ids = np.zeros(len(background.objects), np.int64)
    ids = np.concatenate([no_ids, taken.id])
    taken_classes = taken.category.astype(np.int64)
    labels = Labels(ids, taken.boxes, taken_classes, min_area=0.0)
    return paste(background, pieces, labels, bank.config, categories)


def emptiest_background(pixels: Pixels, request: Scene, seed: int) -> Canvas:
    """Return the emptiest of some real images.

    The one with the fewest pixels of things besides the objects of a layout.
    """
    empty = np.zeros((*request.size, 3), np.uint8)
    frame = Frame.still(request.size)
    canvas_asked = Canvas.of(request, empty, frame)
    asked = canvas_asked.masks.any(0)  # [H, W]
    best = None
    fewest = np.inf
    rng = rng_for(seed, "backgrounds")
    drawn = rng.integers(len(pixels), size=BACKGROUNDS)
    for index in drawn.tolist():
        scene, image = pixels[index]
        fitted = Frame.fitted(scene.size, request.size)
        canvas = Canvas.of(scene, image, fitted)
        things = canvas.masks[scene.objects.isthing].any(0)
        besides = float((things & ~asked).sum())
        if besides < fewest:
            best = canvas
            fewest = besides
    assert best is not None
    return best
