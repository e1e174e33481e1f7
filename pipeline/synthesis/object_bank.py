"""The real objects of a table that can be pasted into other images.

Only those that a person labelled, never crowds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthaug.generators import copy_paste
from synthaug.generators.copy_paste import Config, Cutout, Piece
from synthaug.pipeline.batches.automatic_mask import automatic_mask
from synthaug.pipeline.batches.pixels import Pixels, ScenePixels
from synthaug.pipeline.core.arrays import Bytes, Flags, Floats32, Ints
from synthaug.pipeline.core.masks import decode, tight_boxes
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.planning.surfaces import seen_surfaces

TRIES = 8  # objects of a class drawn for a box; the one nearest in size and shape is taken
OUTLINE = 16  # pixels per side at which outlines are compared
MIN_SIDE = 2  # pixels; narrower objects are not cut

Box = NDArray[np.float32]  # xyxy [4]
Extent = tuple[Box, Flags | None]  # box, mask [H, W] where there is one


@dataclass(frozen=True)
class Bank:
    """The objects of a table that can be pasted, M of them.

    And the images they are in.
    """

    pixels: Pixels
    bare: Dataset  # the table without pixels
    config: Config
    index_of: dict[str, int]  # image_id -> index in the table
    image: Ints  # [M] index of the image in the table
    number: Ints  # [M] position of the object in its scene
    category: Ints  # [M]
    size: Floats32  # [M, 2] of the box (h, w), pixels
    inside: Flags  # [M] whether the box does not touch the border of its image

    @staticmethod
    def of(
        table: Dataset,
        bare: Dataset,
        config: Config,
        chosen: Callable[[Objects], list[int]] | None = None,
    ) -> Bank:
        """Look through `bare`, the same table read without pixels.

        `chosen` returns the positions of the objects of a scene that are in the bank; else they are
        those of `pasteable`.
        """
        choose = chosen or pasteable
        rows: list[tuple[int, int, int, float, float, bool]] = []
        index_of = {}
        for index, scene in enumerate(bare):
            index_of[scene.image_id] = index
            for number in choose(scene.objects):
                x0, y0, x1, y1 = scene.objects.boxes[number].tolist()
                inside = x0 >= 1 and y0 >= 1
                inside = inside and x1 <= scene.width - 1 and y1 <= scene.height - 1
                category = int(scene.objects.category[number])
                rows.append((index, number, category, y1 - y0, x1 - x0, inside))
        columns = np.array(rows, np.float64).reshape(-1, 6)
        whole = columns[:, :3].astype(np.int64)
        image, number, category = whole.T
        size = columns[:, 3:5].astype(np.float32)
        inside = columns[:, 5] > 0
        pixels = Pixels([table])
        return Bank(pixels, bare, config, index_of, image, number, category, size, inside)

    @cached_property
    def seen(self) -> Flags:
        """Return which classes may stand on which stuff, [C, C] (planning/surfaces.py)."""
        if self.config.surface == "seen":
            return seen_surfaces(self.bare)
        num_classes = len(self.bare.categories)
        return np.zeros((num_classes, num_classes), bool)

    def scene(self, image_id: str) -> ScenePixels:
        """Return the scene of an image and its pixels."""
        return self.pixels[self.index_of[image_id]]

    def draw(
        self,
        category: int,
        rng: np.random.Generator,
        like: Box | None = None,
        elsewhere: str = "",
        outline: Flags | None = None,
        outlined: bool = False,
    ) -> Cutout | None:
        """Return an object of a class, mirrored, turned and scaled as drawn.

        None where there is none. With a box `like` [4] it is, of some objects drawn, the one
        nearest in size and shape; with an `outline` [H, W] in that box, in its outline too; where
        `outlined` asks for it, the nearest of which it is known where they end, if any is. Objects
        cut off by the border of their image, and those of the image `elsewhere`, are drawn only
        where there are no others.
        """
        ranked = self._draw(category, rng, like, elsewhere, outline)
        if not ranked:
            return None
        config = self.config
        zoom = config.zoom ** rng.uniform(-1.0, 1.0)
        chosen = ranked[0]
        cutout = self._cutout(chosen, zoom)
        if outlined and not cutout.outlined:
            for position in ranked[1:]:
                other = self._cutout(position, zoom)
                if other.outlined:
                    chosen, cutout = position, other
                    break
        mirrored = rng.random() < config.mirror
        if outline is not None and like is not None:
            straight, turned_over = self._overlaps(chosen, outline_in_box(outline, like))
            mirrored = turned_over > straight
        if mirrored:
            cutout = cutout.mirror()
        if config.turns:
            for _ in range(int(rng.integers(4))):
                cutout = cutout.turn()
        x0, y0, x1, y1 = cutout.box
        height = max(1, round((y1 - y0) * zoom))
        width = max(1, round((x1 - x0) * zoom))
        return cutout.at_size((height, width))

    def piece(self, category: int, box: Box, rng: np.random.Generator) -> Piece | None:
        """Return an object of a class, brought to an xyxy box [4].

        None where there is none. It is drawn as one like the box, keeps its shape, and takes the
        box's centre and area.
        """
        ranked = self._draw(category, rng, box)
        if not ranked:
            return None
        chosen = ranked[0]
        height, width = _sides(box)
        own_height, own_width = self.size[chosen].tolist()
        own_area = max(1e-6, own_height * own_width)
        scale = float(np.sqrt(height * width / own_area))
        cutout = self._cutout(chosen, scale)
        if rng.random() < self.config.mirror:
            cutout = cutout.mirror()
        x0, y0, x1, y1 = cutout.box
        own = np.array([x0, y0, x1, y1], np.float32)
        target = _same_shape(own, box, height * width)
        edge = copy_paste.edge_of(self.config, rng)
        return copy_paste.piece(cutout, target.tolist(), edge)

    def _draw(
        self,
        category: int,
        rng: np.random.Generator,
        like: Box | None,
        elsewhere: str = "",
        outline: Flags | None = None,
    ) -> list[int]:
        """Return the positions of objects drawn of a class, the one to take first.

        Without anything to be like it is one; [] where the class has none.
        """
        candidates = np.flatnonzero(self.category == category)
        of_others = candidates[self.image[candidates] != self.index_of.get(elsewhere, -1)]
        if len(of_others):
            candidates = of_others
        whole = candidates[self.inside[candidates]]
        if len(whole):
            candidates = whole
        if not len(candidates):
            return []
        if like is None:
            return [int(candidates[rng.integers(len(candidates))])]
        drawn = candidates[rng.integers(len(candidates), size=TRIES)]
        sides = np.array(_sides(like), np.float32)
        ratio = self.size[drawn] / sides  # [TRIES, 2]
        distance = np.abs(np.log(ratio)).sum(1)
        if outline is not None:
            wanted = outline_in_box(outline, like)
            overlaps = [max(self._overlaps(position, wanted)) for position in drawn.tolist()]
            distance = distance + 1 - np.array(overlaps)
        nearest_first: list[int] = drawn[distance.argsort(kind="stable")].tolist()
        return list(dict.fromkeys(nearest_first))

    def _overlaps(self, position: int, wanted: Flags) -> tuple[float, float]:
        """Return how well an object has an outline, as it is and mirrored (0 to 1).

        The outline is [OUTLINE, OUTLINE]. Where objects are not mirrored, the latter is 0.
        """
        scene = self.bare[int(self.image[position])]
        box, mask = extent_of(scene, int(self.number[position]))
        own = np.ones_like(wanted)
        if mask is not None:
            own = outline_in_box(mask, box)
        straight = intersection_over_union(own, wanted)
        if not self.config.mirror:
            return straight, 0.0
        return straight, intersection_over_union(own[:, ::-1], wanted)

    def _cutout(self, position: int, scale: float) -> Cutout:
        """Cut an object out of its image, with what its edge needs when it is scaled."""
        scene, image = self.pixels[int(self.image[position])]
        number = int(self.number[position])
        return cutout_of(scene, image, number, scale, self.config)


def outline_in_box(mask: Flags, box: Box) -> Flags:
    """Return a mask [H, W] in the frame of a box [4], [OUTLINE, OUTLINE]."""
    middles = (np.arange(OUTLINE) + 0.5) / OUTLINE  # of its pixels, in sides of the box
    low, sides = box[:2], box[2:] - box[:2]
    places = low + middles[:, None] * sides  # [OUTLINE, 2] x, y
    last = np.array(mask.shape[::-1]) - 1
    columns, rows = places.astype(np.int64).clip(0, last).T
    return mask[np.ix_(rows, columns)]


def intersection_over_union(one: Flags, other: Flags) -> float:
    """Return the share of two masks' pixels that both have."""
    union = (one | other).sum()
    return float((one & other).sum() / max(1, union))


def _sides(box: Box) -> tuple[float, float]:
    """Return the height and the width of a box [4], a pixel at least."""
    height = max(1.0, float(box[3] - box[1]))
    width = max(1.0, float(box[2] - box[0]))
    return height, width


def _same_shape(box: Box, target: Box, area: float) -> Box:
    """Return a box of the shape of `box`, with the centre of `target` and an area."""
    x0, y0, x1, y1 = box.tolist()
    sides = np.array([x1 - x0, y1 - y0])
    scale = np.sqrt(area / sides.prod())
    half = sides * scale / 2
    center = (target[:2] + target[2:]) / 2
    box = np.concatenate([center - half, center + half])
    return box.astype(np.float32)


def pasteable(objects: Objects) -> list[int]:
    """Return the positions of the objects that may be cut.

    Things that a person labelled, no crowds, not too narrow.
    """
    is_human = [source == "human" for source in objects.source]
    human = np.array(is_human, bool)
    positions: list[int] = np.flatnonzero(_can_be_cut(objects) & human).tolist()
    return positions


def surest(table: Dataset) -> Callable[[Objects], list[int]]:
    """Return what chooses pseudo-labelled things of a scene, as `pasteable` does.

    Of each class the half with the higher scores in the table.
    """
    scores: dict[int, list[float]] = {}
    for scene in table:
        objects = scene.objects
        for number in np.flatnonzero(_can_be_cut(objects)).tolist():
            scores.setdefault(int(objects.category[number]), []).append(
                float(objects.score[number])
            )
    least = np.full(len(table.categories), np.inf)
    for category, values in scores.items():
        least[category] = np.median(values)

    def choose(objects: Objects) -> list[int]:
        is_sure = objects.score >= least[objects.category]
        positions: list[int] = np.flatnonzero(_can_be_cut(objects) & is_sure).tolist()
        return positions

    return choose


def _can_be_cut(objects: Objects) -> Flags:
    """Return which objects [N] are things, no crowds, and not too narrow."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    wide_enough = (sides >= MIN_SIDE).all(1)
    return np.asarray(objects.isthing & ~objects.iscrowd & wide_enough)


def lender_of(banks: Sequence[Bank], category: int, rng: np.random.Generator) -> Bank:
    """Draw one of some banks, as likely as it has objects of a class."""
    if len(banks) == 1:
        return banks[0]
    counts = [np.count_nonzero(bank.category == category) for bank in banks]
    ends = np.cumsum(counts)
    if not ends[-1]:
        return banks[0]
    place = rng.integers(ends[-1])
    return banks[int(np.searchsorted(ends, place, side="right"))]


def extent_of(scene: Scene, number: int) -> Extent:
    """Return the box [4] of an object and its mask [H, W], None where it has none.

    The box is that of the mask.
    """
    rle = scene.objects.rle[number]
    box = scene.objects.boxes[number]
    if rle is None:
        return box, None
    mask = decode(rle, scene.size)
    if not mask.any():
        return box, None
    return tight_boxes(mask[None])[0], mask


def cutout_of(scene: Scene, image: Bytes, number: int, scale: float, config: Config) -> Cutout:
    """Cut an object out of its image as `config.cut` says.

    Its label is that of its annotation.
    """
    box, mask = extent_of(scene, number)
    by_box = mask is None or config.cut == "box"
    label = scene.objects.boxes[number]
    if config.cut == "box":
        box, mask = label, None
    elif config.cut == "auto" and mask is None:
        mask = automatic_mask(image, box)
    margin = copy_paste.margin_of(scale, config)
    cutout = copy_paste.cut(image, box.tolist(), mask, margin, label.tolist())
    return replace(cutout, by_box=by_box)
