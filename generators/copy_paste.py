"""Copy-paste of a few objects: real objects on other real images.

After Dwibedi et al. 2017 and Ghiasi et al. 2021. Nothing is learnt; pixels and geometry only. A few
objects, of rare classes where the job does not say otherwise, keep their size and come to free
places of a real image; the labels there lose the pixels that are covered. Unlike Ghiasi et al. no
image is zoomed, a part of an image's objects is never pasted at once, and an object without a mask
is cut by its box. An object of which less than `min_visible` can still be seen loses its label
(there: one that is wholly covered). Blends are drawn object by object, so that no edge tells that
an object was pasted (Dwibedi et al., section 4.2).

Legend: H W canvas, h w a piece, N objects of the canvas, P pieces. Boxes are xyxy in pixels,
offsets (y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from synthaug.generators.base import SamplerOptions, Samples
from synthaug.ranges import from_0_to_1

CONDITION = "paste"
LEARNS = False
ADDS_ONLY = True
TWO_STAGE = False
FILES: dict[str, str] = {}

REACH = 3.0  # standard deviations of a blurred edge that are kept
# blends of an object with what is under it: the standard deviation of its edge, in `edge`s
BLENDS = {"none": 0.0, "gaussian": 1.0, "wide": 3.0}

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Config:
    """Which objects are pasted, and how they are cut, moved and blended."""

    # pasted: [rare] (labelled at most as often as the median class) | [all] | names of classes
    classes: tuple[str, ...] = ("rare",)
    most: int = 3  # the trial's arm: 1 to this many objects per image; a plan has plan.most_edits
    overlap: float = (
        0.3  # of the smaller of two boxes, that a pasted object may cover or be covered
    )
    # where stuff has masks, objects come to: seen (stuff that their class is seen on) | any
    surface: Literal["seen", "any"] = "seen"
    # mask (else box) | auto (mask, else found by colour where that is sound, else box) | box
    cut: Literal["mask", "auto", "box"] = "mask"
    zoom: float = 1.0  # objects are scaled by 1 / zoom to zoom; 1 = they keep their size
    mirror: float = 0.5  # probability that an object is mirrored
    turns: bool = False  # by 90, 180, 270 degrees: for cells, and whatever has no upside
    # of which one is drawn per object: none (hard edge) | gaussian (`edge`) | wide (three `edge`s)
    blends: tuple[str, ...] = ("none", "gaussian")
    edge: float = 1.0  # pixels, standard deviation of a blurred edge
    min_visible: float = 0.1  # share of an object that must be seen, or it loses its label

    def __post_init__(self) -> None:
        for name in ("classes", "blends"):  # lists in the header of a checkpoint
            object.__setattr__(self, name, tuple(getattr(self, name)))
        from_0_to_1(self, "mirror", "min_visible", "overlap")
        if not 0 <= self.edge <= 20:
            raise ValueError(f"edge: {self.edge} is not between 0 and 20 pixels")
        if not 1 <= self.zoom <= 10:
            raise ValueError(f"zoom: {self.zoom} is not between 1 (none) and 10")
        if self.most < 1:
            raise ValueError(f"most: {self.most} is less than 1 object")
        if not self.classes:
            raise ValueError("classes: the list is empty; give [rare], [all] or names of classes")
        unknown = [name for name in self.blends if name not in BLENDS]
        if unknown or not self.blends:
            raise ValueError(f"blends: {list(self.blends)} is no list of {', '.join(BLENDS)}")


@dataclass(frozen=True)
class Frame:
    """A canvas that an image is stretched over, perhaps mirrored."""

    canvas: tuple[int, int]  # (H, W)
    scale: tuple[float, float]  # of canvas to source (y, x)
    mirror: bool

    @staticmethod
    def still(size: tuple[int, int], mirror: bool = False) -> Frame:
        """Return the frame of the image as it is, or of its mirror image."""
        return Frame(size, (1.0, 1.0), mirror)

    @staticmethod
    def fitted(source: tuple[int, int], canvas: tuple[int, int]) -> Frame:
        """Return the frame of an image (h, w) stretched over the canvas."""
        scale_y = canvas[0] / source[0]
        scale_x = canvas[1] / source[1]
        scale = (scale_y, scale_x)
        return Frame(canvas, scale, mirror=False)

    def boxes(self, boxes: Floats) -> Floats:
        """Return xyxy boxes [N, 4] of the source on the canvas.

        Parts that leave it are not cut off.
        """
        scale_y, scale_x = self.scale
        moved = boxes * _floats(scale_x, scale_y, scale_x, scale_y)
        if self.mirror:
            width = np.float32(self.canvas[1])
            x0, y0, x1, y1 = moved.T
            left = width - x1
            right = width - x0
            moved = np.stack([left, y0, right, y1], 1)
        return np.asarray(moved, np.float32)

    def image(self, pixels: Image) -> Image:
        """Return the source image on the canvas [H, W, 3]."""
        stretched = resize(pixels.astype(np.float32), self.canvas)
        if self.mirror:
            stretched = stretched[:, ::-1]
        rounded = np.rint(stretched).clip(0, 255)
        return rounded.astype(np.uint8)

    def masks(self, masks: Flags) -> Flags:
        """Return the masks [N, h, w] of the source on the canvas [N, H, W].

        Nearest pixel: disjoint ones stay so.
        """
        if self == Frame.still(self.canvas) and masks.shape[1:] == self.canvas:
            return masks
        rows = self._nearest(0, masks.shape[1])
        columns = self._nearest(1, masks.shape[2])
        of_rows = masks[:, rows]
        return np.asarray(of_rows[:, :, columns])

    def _nearest(self, axis: int, length: int) -> NDArray[np.int64]:
        """Return for each pixel of a canvas's axis the nearest of the source's `length`."""
        pixels = np.arange(self.canvas[axis])
        if axis == 1 and self.mirror:
            pixels = pixels[::-1]
        in_source = (pixels + 0.5) / self.scale[axis]
        nearest = in_source.astype(np.int64)
        return np.asarray(nearest.clip(0, length - 1))


def _overlap(
    canvas: tuple[int, int], offset: tuple[int, int], size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the rows and columns that a canvas and a piece share.

    Those of the canvas, and the same pixels' of the piece.
    """
    on_canvas = []
    of_piece = []
    for axis in (0, 1):
        low = max(0, offset[axis])
        end = offset[axis] + size[axis]
        high = max(low, min(canvas[axis], end))
        on_canvas.append(slice(low, high))
        start = offset[axis]
        of_piece.append(slice(low - start, high - start))
    rows, columns = on_canvas
    piece_rows, piece_columns = of_piece
    return (rows, columns), (piece_rows, piece_columns)


@dataclass(frozen=True)
class Cutout:
    """An object with some pixels around it."""

    pixels: Floats  # [h, w, 3] 0 to 255
    core: Floats  # [h, w] in [0, 1]: where the object is; of one without a mask its box
    box: tuple[int, int, int, int]  # xyxy of the object inside the cutout, whole pixels
    label: Floats  # [4] xyxy of the box in its annotation, inside the cutout
    by_box: bool  # it has no mask in its annotation
    outlined: bool  # core is its outline: that of its mask, or one that was found

    def at_size(self, size: tuple[int, int]) -> Cutout:
        """Return the same object with a box of (h, w) pixels.

        The pixels around it grow and shrink with it.
        """
        x0, y0, x1, y1 = self.box
        height, width = size
        scale_y = height / (y1 - y0)
        scale_x = width / (x1 - x0)
        if scale_y == scale_x == 1.0:
            return self
        top = round(y0 * scale_y)
        left = round(x0 * scale_x)
        old_height, old_width = self.core.shape
        below = round((old_height - y1) * scale_y)
        beside = round((old_width - x1) * scale_x)
        whole = (top + height + below, left + width + beside)
        core = self.core[..., None]
        planes = np.concatenate([self.pixels, core], 2)
        zoomed = resize(planes, whole)
        box = (left, top, left + width, top + height)
        scale = np.array([scale_x, scale_y] * 2, np.float32)
        corner = np.array([x0, y0] * 2, np.float32)
        new_corner = np.array([left, top] * 2, np.float32)
        label = (self.label - corner) * scale + new_corner
        zoomed_pixels = zoomed[..., :3]
        zoomed_core = zoomed[..., 3]
        return Cutout(zoomed_pixels, zoomed_core, box, label, self.by_box, self.outlined)

    def mirror(self) -> Cutout:
        """Return its mirror image."""
        x0, y0, x1, y1 = self.box
        width = self.core.shape[1]
        box = (width - x1, y0, width - x0, y1)
        left, top, right, bottom = self.label
        label = _floats(width - right, top, width - left, bottom)
        pixels = self.pixels[:, ::-1]
        core = self.core[:, ::-1]
        return Cutout(pixels, core, box, label, self.by_box, self.outlined)

    def turn(self) -> Cutout:
        """Return it turned by 90 degrees, counterclockwise."""
        x0, y0, x1, y1 = self.box
        width = self.core.shape[1]
        box = (y0, width - x1, y1, width - x0)
        left, top, right, bottom = self.label
        label = _floats(top, width - right, bottom, width - left)
        pixels = np.rot90(self.pixels)
        core = np.rot90(self.core)
        return Cutout(pixels, core, box, label, self.by_box, self.outlined)


def _floats(*values: float) -> Floats:
    return np.array(values, np.float32)


def cut(
    image: Image,
    box: Sequence[float],
    mask: Flags | None,
    margin: int,
    label: Sequence[float] | None = None,
) -> Cutout:
    """Cut the object of a box, or of a mask [H, W] in it, out of an image.

    With up to `margin` pixels around. `label` is the box of its annotation, `box` where none is
    given.
    """
    height, width = image.shape[:2]
    x0, x1 = _whole_pixels(box[0], box[2], width)
    y0, y1 = _whole_pixels(box[1], box[3], height)
    top = max(0, y0 - margin)
    bottom = min(height, y1 + margin)
    left = max(0, x0 - margin)
    right = min(width, x1 + margin)
    if mask is None:
        core = np.zeros((height, width), np.float32)
        core[y0:y1, x0:x1] = 1
    else:
        core = mask.astype(np.float32)
    around = image[top:bottom, left:right]
    pixels = around.astype(np.float32)
    inside = (x0 - left, y0 - top, x1 - left, y1 - top)
    if label is None:
        label = box
    corner = _floats(left, top, left, top)
    own_label = np.asarray(label, np.float32) - corner
    core_around = core[top:bottom, left:right]
    return Cutout(pixels, core_around, inside, own_label, mask is None, mask is not None)


def _whole_pixels(low: float, high: float, length: int) -> tuple[int, int]:
    """Round an interval to whole pixels of an axis, at least one."""
    first = round(float(low))
    start = min(max(0, first), length - 1)
    last = round(float(high))
    end = min(max(start + 1, last), length)
    return start, end


@dataclass(frozen=True)
class Piece:
    """A cutout on its way onto a canvas."""

    pixels: Floats  # [h, w, 3]
    alpha: Floats  # [h, w] share of the piece in the picture
    core: Flags  # [h, w] the pixels that are the object
    offset: tuple[int, int]  # of its upper left corner on the canvas; may lie outside
    label: Floats  # [4] xyxy on the canvas, the box of its annotation
    by_box: bool  # its label is a box

    @property
    def extent(self) -> Floats:
        """Return the tight xyxy box [4] of its object on the canvas."""
        rows = np.flatnonzero(self.core.any(1))
        columns = np.flatnonzero(self.core.any(0))
        if not len(rows):
            return self.label
        top, left = self.offset
        low = (left + columns[0], top + rows[0])
        right = left + columns[-1] + 1
        bottom = top + rows[-1] + 1
        high = (right, bottom)
        return _floats(*low, *high)


def piece(cutout: Cutout, box: Sequence[float], edge: float = 0.0) -> Piece:
    """Bring a cutout to an xyxy box of the canvas (rounded to whole pixels).

    `edge` is the standard deviation of its blurred edge in pixels, 0 a hard one.
    """
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    height = max(1, y1 - y0)
    width = max(1, x1 - x0)
    zoomed = cutout.at_size((height, width))
    core = zoomed.core >= 0.5
    alpha = blur(core.astype(np.float32), edge)
    top = y0 - zoomed.box[1]
    left = x0 - zoomed.box[0]
    label = zoomed.label + _floats(left, top, left, top)
    return Piece(zoomed.pixels, alpha, core, (top, left), label, zoomed.by_box)


def edge_of(config: Config, rng: np.random.Generator) -> float:
    """Draw a blend and return the standard deviation of the edge it has, in pixels."""
    drawn = int(rng.integers(len(config.blends)))
    name = config.blends[drawn]
    return BLENDS[name] * config.edge


def margin_of(scale: float, config: Config) -> int:
    """Return the pixels that `cut` must leave around an object for its edge.

    When it will be scaled by `scale`.
    """
    reaches = [BLENDS[name] for name in config.blends]
    widest = max(reaches) * config.edge
    return math.ceil(REACH * widest / max(scale, 1e-3))


def compose(image: Image, objects: Flags, pieces: Sequence[Piece]) -> tuple[Image, Flags]:
    """Paste P pieces, each over those before it, onto an image [H, W, 3].

    The image has objects [N, H, W]. Returns the picture and the visible part of every object [N +
    P, H, W]: no pixel of an object lies under another piece.
    """
    picture = image.astype(np.float32)
    height, width = image.shape[:2]
    unseen = np.zeros((len(pieces), height, width), np.bool_)
    visible = np.concatenate([objects, unseen])
    for number, one in enumerate(pieces, start=len(objects)):
        on_canvas, of_piece = _overlap((height, width), one.offset, one.core.shape)
        core = one.core[of_piece]
        alpha = one.alpha[of_piece]
        beneath = picture[on_canvas]
        difference = one.pixels[of_piece] - beneath
        picture[on_canvas] += alpha[..., None] * difference
        covered = core | (alpha >= 0.5)
        visible[(slice(number), *on_canvas)] &= ~covered
        visible[(number, *on_canvas)] = core
    pixels = np.rint(picture).clip(0, 255)
    return pixels.astype(np.uint8), visible


def resize(planes: Floats, size: tuple[int, int]) -> Floats:
    """Resize float32 [h, w, C] to (H, W), bilinear and antialiased."""
    if planes.shape[:2] == size:
        return planes
    whole = np.ascontiguousarray(planes)
    tensor = torch.from_numpy(whole).permute(2, 0, 1)[None]
    resized = nn.functional.interpolate(
        tensor, size, mode="bilinear", antialias=True, align_corners=False
    )
    channels_last = resized[0].permute(1, 2, 0)
    return np.asarray(channels_last.numpy(), np.float32)


def blur(plane: Floats, sigma: float) -> Floats:
    """Blur [h, w] by a Gaussian; outside of it is 0."""
    if not sigma:
        return plane
    reach = math.ceil(REACH * sigma)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        length = plane.shape[axis]
        borders = [(0, 0), (0, 0)]
        borders[axis] = (reach, reach)
        padded = np.pad(plane, borders)
        total = np.zeros(plane.shape)
        for shift, weight in enumerate(weights):
            indices = range(shift, shift + length)
            total += weight * padded.take(indices, axis)
        plane = total.astype(np.float32)
    return plane


class Scissors(nn.Module):
    """A network without weights, made of its Config.

    Saved and loaded like the networks of other systems.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config


def build(config: Config, _num_classes: int) -> Scissors:
    """Return the settings as a network."""
    return Scissors(config)


@dataclass(frozen=True)
class Edit:
    """A real image, its objects, and the pieces to be pasted onto it."""

    image: Image  # [H, W, 3]
    objects: Flags  # [N, H, W] disjoint
    pieces: Sequence[Piece]  # P, later ones on top


class PasteSampler:
    """Pastes; `config` says how pieces are cut and blended.

    The pipeline cuts them (pipeline/synthesis/pasting.py).
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def sample(self, conditions: Sequence[Edit], seeds: Sequence[int]) -> Samples:
        """Return the pictures of edits, and the visible part of every object.

        The edits have the same sizes and numbers. The masks [B, N + P, H, W] are 0 or 1: those of
        the objects, then those of the pieces. Nothing is drawn from seeds.
        """
        images = []
        masks = []
        for edit in conditions:
            image, visible = compose(edit.image, edit.objects, edit.pieces)
            images.append(image)
            masks.append(visible.astype(np.float32))
        return Samples(np.stack(images), np.stack(masks))


def sampler(network: nn.Module, _options: SamplerOptions) -> PasteSampler:
    """Return the sampler; no option changes anything."""
    assert isinstance(network, Scissors)
    return PasteSampler(network.config)
