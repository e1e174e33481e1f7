"""Copy-paste on scene tables: the bank of real objects, pictures for planned layouts, and the table of a trial's arm.

Only objects that a person labelled are cut, crowds and ignore regions never; those of a background stay what they are. What
an object of a background is seen of, and what becomes of its label, is the same rule everywhere: `finished`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.generators import copy_paste
from synthaug.generators.copy_paste import Config, Frame, Piece
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core import masks as mask_tools
from synthaug.pipeline.core.datasets import View
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.planning.planner import ADDED

TRIES = 8  # objects of a class looked at for a place; the one nearest in size and shape is taken
BACKGROUNDS = 16  # images looked at for a layout that names none; the one that shows least besides it is taken
Entry = tuple[Scene, NDArray[np.uint8]]
Extent = tuple[NDArray[np.float32], NDArray[np.bool_] | None]  # box xyxy [4], mask [H, W]
Picture = tuple[
    NDArray[np.uint8], Objects, Counter[str]
]  # pixels [H, W, 3], objects, labels lost per class


@dataclass(frozen=True)
class Bank:
    """The objects of a table that can be pasted, M of them, and the images they are in."""

    pixels: Pixels
    config: Config
    places: dict[str, int]  # image_id -> place in the table
    image: NDArray[np.int64]  # [M] place of the image in the table
    number: NDArray[np.int64]  # [M] place of the object in its scene
    category: NDArray[np.int64]  # [M]
    size: NDArray[np.float32]  # [M, 2] of the box (h, w), pixels
    inside: NDArray[
        np.bool_
    ]  # [M] whether the whole object is in its image, as far as its box tells

    @staticmethod
    def of(table: Dataset, bare: Dataset, config: Config) -> Bank:
        """Look through `bare`, the same table read without pixels."""
        rows: list[tuple[int, int, int, float, float, bool]] = []
        places = {}
        for place in range(len(bare)):
            scene = bare[place]
            places[scene.image_id] = place
            for k in pasteable(scene.objects):
                x0, y0, x1, y1 = scene.objects.boxes[k].tolist()
                inside = x0 >= 1 and y0 >= 1 and x1 <= scene.width - 1 and y1 <= scene.height - 1
                rows.append((place, k, int(scene.objects.category[k]), y1 - y0, x1 - x0, inside))
        found = np.array(rows, np.float64).reshape(-1, 6)
        image, number, category = found[:, :3].T.astype(np.int64)
        size = found[:, 3:5].astype(np.float32)  # [M, 2]
        return Bank(
            Pixels([table], None), config, places, image, number, category, size, found[:, 5] > 0
        )

    def scene(self, image_id: str) -> Entry:
        """The scene of an image and its pixels."""
        return self.pixels[self.places[image_id]]

    def piece(
        self, category: int, box: NDArray[np.float32], rng: np.random.Generator
    ) -> Piece | None:
        """Return an object of a class, brought to a place like that of an xyxy box [4]; None where there is none.

        Of some objects drawn, the one nearest to the box in size and shape; it keeps its own shape, and takes the box's
        centre and area. Objects cut off by the border of their image are drawn only where there are no others.
        """
        known = np.flatnonzero(self.category == category)
        whole = known[self.inside[known]]
        known = whole if len(whole) else known
        if not len(known):
            return None
        drawn = known[rng.integers(len(known), size=TRIES)]
        high, wide = max(1.0, float(box[3] - box[1])), max(1.0, float(box[2] - box[0]))
        away = np.abs(np.log(self.size[drawn] / np.array([high, wide], np.float32))).sum(
            1
        )  # [TRIES]
        chosen = int(drawn[away.argmin()])
        scene, image = self.pixels[int(self.image[chosen])]
        where = extent(scene, int(self.number[chosen]))
        x0, y0, x1, y1 = where[0].tolist()
        half = np.array([x1 - x0, y1 - y0]) * np.sqrt(high * wide / ((x1 - x0) * (y1 - y0))) / 2
        middle = (box[:2] + box[2:]) / 2
        target = np.concatenate([middle - half, middle + half]).astype(np.float32)
        return piece_of(image, where, target, bool(rng.random() < self.config.mirror), self.config)


def pasteable(objects: Objects) -> list[int]:
    """Places of the objects that may be cut: things that a person labelled, no crowds, two pixels wide and high."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    human = np.array([source == "human" for source in objects.source], bool)
    return [
        int(k)
        for k in np.flatnonzero(objects.isthing & ~objects.iscrowd & human & (sides >= 2).all(1))
    ]


def extent(scene: Scene, number: int) -> Extent:
    """The xyxy box [4] of an object and its mask [H, W], None where it has none; the box is that of the mask."""
    rle = scene.objects.rle[number]
    mask = None if rle is None else mask_tools.decode(rle, (scene.height, scene.width))
    if mask is None or not mask.any():
        return scene.objects.boxes[number], None
    return mask_tools.tight_boxes(mask[None])[0], mask


def piece_of(
    image: NDArray[np.uint8],
    where: Extent,
    target: NDArray[np.float32],
    mirror: bool,
    config: Config,
) -> Piece:
    """Cut an object out of an image and bring it to an xyxy box [4] of a canvas."""
    box, mask = where
    size = (float(box[3] - box[1]), float(box[2] - box[0]))
    scale = float(target[3] - target[1]) / max(size[0], 1e-6)
    one = copy_paste.cut(
        image, box.tolist(), mask, copy_paste.margin_of(mask is None, size, scale, config)
    )
    return copy_paste.piece(one, target.tolist(), mirror, config)


@dataclass(frozen=True)
class Canvas:
    """A background: its picture, and its objects where they came to lie."""

    image: NDArray[np.uint8]  # [H, W, 3]
    objects: Objects  # boxes on the canvas, not cut off at its border
    shown: NDArray[np.bool_]  # [N, H, W] the masks, or the boxes of objects without one
    whole: NDArray[np.float64]  # [N] pixels they would have if nothing hid them

    @staticmethod
    def of(scene: Scene, image: NDArray[np.uint8], frame: Frame) -> Canvas:
        """Lay an image with its objects on a canvas."""
        objects, (height, width) = scene.objects, frame.canvas
        boxes = frame.boxes(objects.boxes)
        shown = frame.masks(mask_tools.decode_all(objects, (scene.height, scene.width)))
        for k, box in enumerate(boxes):
            if objects.rle[k] is None:
                x0, y0, x1, y1 = box.round().astype(int).clip(0, [width, height] * 2)
                shown[k, y0:y1, x0:x1] = True
        sides = boxes[:, 2:] - boxes[:, :2]
        zoom = frame.scale[0] * frame.scale[1]
        masked = [rle is not None for rle in objects.rle]
        whole = np.where(masked, objects.area * zoom, sides.prod(1)).astype(np.float64)
        columns = {
            name: getattr(objects, name) for name in ("id", "iscrowd", "isthing", "score", "source")
        }
        moved = Objects.build(objects.category, boxes, rle=objects.rle, **columns)
        return Canvas(frame.image(image), moved, shown, whole)


@dataclass(frozen=True)
class Labels:
    """What is to become of the labels: the plan's wishes and the limits below which they go."""

    ids: NDArray[np.int64]  # [N + P]
    layout: NDArray[np.float32]  # [P, 4] where the pasted ones were asked to be
    category: NDArray[np.int64]  # [P]
    least: float  # pixels that must be seen


def finished(
    canvas: Canvas,
    pieces: Sequence[Piece],
    labels: Labels,
    config: Config,
    categories: Sequence[Category],
) -> Picture:
    """Paste pieces onto a canvas: its picture, all objects as far as they are seen, how many of each class lost their label.

    A mask becomes its visible part, a box that of its mask; a box without a mask what is left of it. A label goes when less
    than `min_visible` of the object is seen, or fewer pixels than `least`; an ignore region when nothing is left of it.
    """
    image, visible = copy_paste.compose(canvas.image, canvas.shown, pieces)
    there, (height, width) = canvas.objects, image.shape[:2]
    area = visible.sum((1, 2))
    whole = np.concatenate([canvas.whole, [float(one.core.sum()) for one in pieces]])
    crowd = np.concatenate([there.iscrowd, np.zeros(len(pieces), bool)])
    seen = (area >= max(1.0, labels.least)) & (area >= config.min_visible * whole)
    keep = np.where(crowd, area > 0, seen)
    category = np.concatenate([there.category, labels.category]).astype(np.int64)
    lost = Counter(categories[c].name for c in category[~keep & ~crowd].tolist())
    rles, tight = mask_tools.encode_with_boxes(visible)
    masked = np.array(
        [rle is not None for rle in there.rle] + [not one.by_box for one in pieces], bool
    )
    untouched = np.concatenate(
        [area[: len(there)] == canvas.shown.sum((1, 2)), np.zeros(len(pieces), bool)]
    )
    clipped = np.concatenate([there.boxes.clip(0, [width, height] * 2), tight[len(there) :]])
    boxes = np.where((untouched & ~masked)[:, None], clipped, tight).astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    objects = Objects.build(
        category,
        boxes,
        id=labels.ids,
        rle=tuple(rle if has else None for rle, has in zip(rles, masked, strict=True)),
        area=np.where(masked, area, sides.prod(1)),
        iscrowd=crowd,
        isthing=np.array([categories[c].isthing for c in category], bool),
        score=np.concatenate([there.score, np.ones(len(pieces), np.float32)]),
        source=(*there.source, *(ADDED,) * len(pieces)),
        layout_boxes=np.concatenate([boxes[: len(there)], labels.layout]),
    )
    return image, objects.select(keep), lost


class Pasted(View):
    """A table of pictures made of two real images each, drawn from (seed, index) whenever they are read.

    It is what Simple Copy-Paste trains on: background and source zoomed and mirrored, a part of the source's objects pasted.
    """

    def __init__(self, table: Dataset, config: Config, seed: int, size: int) -> None:
        super().__init__(table, f"{config}:{seed}:{size}")
        self.skipped = Counter()
        self.config, self.seed, self._size = config, seed, size
        self._pixels = Pixels([table], None)

    def __len__(self) -> int:
        return self._size

    def entry(self, index: int) -> Entry:
        """Scene `index` without encoded pixels, and its pixels [H, W, 3]."""
        count, config = len(self.table), self.config
        rng = rng_for(self.seed, "paste", index)
        scene, image = self._pixels[
            permuted(index % count, count, seed_for(self.seed, "background", index // count))
        ]
        giver = self._pixels[int(rng.integers(count))]
        size = (scene.height, scene.width)
        canvas = Canvas.of(scene, image, Frame.draw(size, size, config, rng))
        frame = Frame.draw((giver[0].height, giver[0].width), size, config, rng)
        numbers = part_of(pasteable(giver[0].objects), config.part, rng)
        cut_out = [extent(giver[0], k) for k in numbers]
        boxes = frame.boxes(np.array([box for box, _ in cut_out], np.float32).reshape(-1, 4))
        pieces = [
            piece_of(giver[1], where, box, frame.mirror, config)
            for where, box in zip(cut_out, boxes, strict=True)
        ]
        category = giver[0].objects.category[numbers].astype(np.int64)
        ids = np.arange(1, len(canvas.objects) + len(pieces) + 1)
        labels = Labels(ids, boxes, category, 1.0)
        picture, objects, _ = finished(canvas, pieces, labels, config, self.categories)
        return Scene(f"copy-paste-{index:08d}", *size, ImageRef(None, None), objects), picture

    def __getitem__(self, index: int) -> Scene:
        scene, picture = self.entry(index)
        return replace(scene, image=ImageRef(encode(picture, "png"), None))


def part_of(numbers: list[int], part: float, rng: np.random.Generator) -> list[int]:
    """Return each of some numbers with probability `part`, in their order; one at least, where there is one."""
    kept = [k for k, drawn in zip(numbers, rng.random(len(numbers)), strict=True) if drawn < part]
    return kept or ([numbers[int(rng.integers(len(numbers)))]] if numbers else [])


def paste_plan(
    bank: Bank, planned: Scene, mirror: bool, least: float, categories: Sequence[Category]
) -> Picture:
    """Return the picture of a planned scene: its source image with the planned objects pasted in.

    Objects of the source keep what the plan calls them by: its first ones are the source's, in their order, without crowds.
    """
    assert planned.provenance is not None
    entry = bank.scene(planned.provenance.source_image)
    canvas = Canvas.of(*entry, Frame.still((planned.height, planned.width), mirror))
    crowd = canvas.objects.iscrowd
    wanted = planned.objects.select(
        [k for k, source in enumerate(planned.objects.source) if source == ADDED]
    )
    ids = np.zeros(len(crowd), np.int64)
    ids[~crowd] = planned.objects.id[: int((~crowd).sum())]
    ids[crowd] = planned.objects.id.max(initial=0) + 1 + np.arange(int(crowd.sum()))
    return _pasted(bank, canvas, wanted, ids, (planned.provenance.seed, least), categories)


def paste_layout(bank: Bank, asked: Scene, categories: Sequence[Category]) -> Picture:
    """Return a picture of a layout that names no background: of some real images, the one that shows least besides it."""
    seed = asked.provenance.seed if asked.provenance else 0
    size = (asked.height, asked.width)
    there = Canvas.of(asked, np.zeros((*size, 3), np.uint8), Frame.still(size)).shown.any(0)
    best, least = None, np.inf
    for place in rng_for(seed, "backgrounds").integers(len(bank.places), size=BACKGROUNDS).tolist():
        scene, image = bank.pixels[place]
        still = Frame.fitted((scene.height, scene.width), size)
        canvas = Canvas.of(scene, image, still)
        besides = float((canvas.shown[scene.objects.isthing].any(0) & ~there).sum())
        if besides < least:
            best, least = canvas, besides
    assert best is not None
    things = asked.objects.select(asked.objects.isthing & ~asked.objects.iscrowd)
    return _pasted(
        bank, best, things, np.zeros(len(best.objects), np.int64), (seed, 0.0), categories
    )


def _pasted(
    bank: Bank,
    canvas: Canvas,
    wanted: Objects,
    ids: NDArray[np.int64],
    drawn: tuple[int, float],
    categories: Sequence[Category],
) -> Picture:
    """Paste objects like the wanted ones, each drawn from (seed, its id); `drawn` has the seed and the least pixels."""
    seed, least = drawn
    found = [
        bank.piece(int(category), box, rng_for(seed, "piece", k))
        for k, (category, box) in enumerate(zip(wanted.category, wanted.boxes, strict=True))
    ]
    there = [k for k, one in enumerate(found) if one is not None]
    taken = wanted.select(there)
    labels = Labels(
        np.concatenate([ids, taken.id]), taken.boxes, taken.category.astype(np.int64), least
    )
    return finished(
        canvas, [one for one in found if one is not None], labels, bank.config, categories
    )
