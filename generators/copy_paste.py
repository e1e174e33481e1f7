"""Simple Copy-Paste (Ghiasi et al. 2021): real objects on other real images. Nothing is learnt; pixels and geometry only.

Two real images are zoomed and mirrored at random, some objects of one are pasted onto the other, and the labels there lose
the pixels that are covered. Where ours differs: an object without a mask is cut by its box, with a feathered rim outside of
it; an object of which less than `min_visible` can still be seen loses its label (the paper: one that is wholly covered).

Legend: H W canvas, h w a piece, N objects of the canvas, P pieces. Boxes are xyxy in pixels, offsets (y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from synthaug.generators.base import SamplerOptions, Samples

CONDITION = "paste"
LEARNS = False
ADDS_ONLY = True
TWO_STAGE = False
FILES = ()

# factors of an image's size; section 3: scale jittering, SSJ and LSJ
ZOOMS = {"standard": (0.8, 1.25), "large": (0.1, 2.0), "none": (1.0, 1.0)}
GREY = 127  # of canvas that a zoomed-out image leaves free
REACH = 3.0  # standard deviations of a blurred edge that are kept

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Config:
    """How objects are cut, moved and blended."""

    # of background and source: standard (0.8 to 1.25) | large (0.1 to 2) | none
    zoom: Literal["standard", "large", "none"] = "standard"
    mirror: float = 0.5  # probability that an image is mirrored
    part: float = 0.5  # share of an image's objects that is pasted, one at least
    blend: Literal["gaussian", "none"] = "gaussian"  # edges of masks: gaussian | none
    edge: float = 0.7  # pixels, standard deviation of a blurred edge
    feather: float = 0.1  # rim around an object cut by its box, share of its shorter side
    min_visible: float = 0.1  # share of an object that must be seen, or it loses its label

    def __post_init__(self) -> None:
        for name in ("mirror", "part", "feather", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not between 0 and 1")
        if not 0 <= self.edge <= 20:
            raise ValueError(f"edge: {self.edge} is not between 0 and 20 pixels")


@dataclass(frozen=True)
class Frame:
    """Where an image lies on a canvas: zoomed, mirrored, shifted."""

    canvas: tuple[int, int]  # (H, W)
    size: tuple[int, int]  # of the zoomed image
    offset: tuple[int, int]  # of its upper left corner; negative where it is cropped
    scale: tuple[float, float]  # of zoomed to source (y, x)
    mirror: bool

    @staticmethod
    def draw(
        source: tuple[int, int], canvas: tuple[int, int], config: Config, rng: np.random.Generator
    ) -> Frame:
        """Draw one for a source image (h, w): zoom from the range of `config.zoom`, any offset where it fits or is cut.

        An image of another size than the canvas is first brought to the same area.
        """
        low, high = ZOOMS[config.zoom]
        same_area = math.sqrt(math.prod(canvas) / math.prod(source))
        zoom = same_area * rng.uniform(low, high)
        height = max(1, round(source[0] * zoom))
        width = max(1, round(source[1] * zoom))
        top = _draw_offset(canvas[0] - height, rng)
        left = _draw_offset(canvas[1] - width, rng)
        scale = (height / source[0], width / source[1])
        mirror = bool(rng.random() < config.mirror)
        return Frame(canvas, (height, width), (top, left), scale, mirror)

    @staticmethod
    def still(size: tuple[int, int], mirror: bool = False) -> Frame:
        """Return the frame of the image as it is, or of its mirror image."""
        return Frame(size, size, (0, 0), (1.0, 1.0), mirror)

    @staticmethod
    def fitted(source: tuple[int, int], canvas: tuple[int, int]) -> Frame:
        """Return the frame of the whole image (h, w) stretched over the canvas."""
        scale = (canvas[0] / source[0], canvas[1] / source[1])
        return Frame(canvas, canvas, (0, 0), scale, mirror=False)

    def boxes(self, boxes: Floats) -> Floats:
        """Return xyxy boxes [N, 4] of the source on the canvas; parts that leave it are not cut off."""
        scale_y, scale_x = self.scale
        top, left = self.offset
        moved = boxes * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        if self.mirror:
            width = np.float32(self.size[1])
            x0, y0, x1, y1 = moved.T
            moved = np.stack([width - x1, y0, width - x0, y1], 1)
        moved = moved + np.array([left, top, left, top], np.float32)
        return np.asarray(moved, np.float32)

    def image(self, pixels: Image) -> Image:
        """Return the canvas [H, W, 3] with the source image on grey."""
        zoomed = resize(pixels.astype(np.float32), self.size)
        if self.mirror:
            zoomed = zoomed[:, ::-1]
        canvas = np.full((*self.canvas, 3), GREY, np.uint8)
        on_canvas, of_image = _overlap(self.canvas, self.offset, self.size)
        canvas[on_canvas] = np.rint(zoomed[of_image]).clip(0, 255)
        return canvas

    def masks(self, masks: Flags) -> Flags:
        """Return the masks [N, h, w] of the source on the canvas [N, H, W], nearest pixel: disjoint ones stay so."""
        if self == Frame.still(self.canvas) and masks.shape[1:] == self.canvas:
            return masks
        rows, row_inside = self._nearest(0, masks.shape[1])
        columns, column_inside = self._nearest(1, masks.shape[2])
        moved = masks[:, rows][:, :, columns]
        return np.asarray(moved & row_inside[:, None] & column_inside)

    def _nearest(self, axis: int, length: int) -> tuple[NDArray[np.int64], Flags]:
        """Return for each pixel of an axis of the canvas the nearest of the source's `length`, and whether it is inside."""
        zoomed = np.arange(self.canvas[axis]) - self.offset[axis]
        inside = (zoomed >= 0) & (zoomed < self.size[axis])
        if axis == 1 and self.mirror:
            zoomed = self.size[axis] - 1 - zoomed
        nearest = ((zoomed + 0.5) / self.scale[axis]).astype(int)
        return nearest.clip(0, length - 1), inside


def _draw_offset(free: int, rng: np.random.Generator) -> int:
    """Draw where an image starts that leaves `free` pixels of the canvas, or is that much longer (negative)."""
    return int(rng.integers(min(0, free), max(0, free) + 1))


def _overlap(
    canvas: tuple[int, int], offset: tuple[int, int], size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the rows and columns of a canvas that a piece covers, and the same pixels as rows and columns of the piece."""
    on_canvas, of_piece = [], []
    for axis in (0, 1):
        low = max(0, offset[axis])
        high = max(low, min(canvas[axis], offset[axis] + size[axis]))
        on_canvas.append(slice(low, high))
        of_piece.append(slice(low - offset[axis], high - offset[axis]))
    return (on_canvas[0], on_canvas[1]), (of_piece[0], of_piece[1])


@dataclass(frozen=True)
class Cutout:
    """An object with some pixels around it."""

    pixels: Floats  # [h, w, 3] 0 to 255
    core: Floats  # [h, w] in [0, 1]: where the object is; of one without a mask its box
    box: tuple[int, int, int, int]  # xyxy of the object inside the cutout, whole pixels
    by_box: bool

    def at_size(self, size: tuple[int, int]) -> Cutout:
        """Return the same object with a box of (h, w) pixels; the pixels around it grow and shrink with it."""
        x0, y0, x1, y1 = self.box
        height, width = size
        scale_y, scale_x = height / (y1 - y0), width / (x1 - x0)
        if scale_y == scale_x == 1.0:
            return self
        top, left = round(y0 * scale_y), round(x0 * scale_x)
        below = round((self.core.shape[0] - y1) * scale_y)
        beside = round((self.core.shape[1] - x1) * scale_x)
        whole = (top + height + below, left + width + beside)
        planes = np.concatenate([self.pixels, self.core[..., None]], 2)
        zoomed = resize(planes, whole)
        box = (left, top, left + width, top + height)
        return replace(self, pixels=zoomed[..., :3], core=zoomed[..., 3], box=box)

    def mirror(self) -> Cutout:
        """Return its mirror image."""
        x0, y0, x1, y1 = self.box
        width = self.core.shape[1]
        box = (width - x1, y0, width - x0, y1)
        return replace(self, pixels=self.pixels[:, ::-1], core=self.core[:, ::-1], box=box)


def cut(image: Image, box: Sequence[float], mask: Flags | None, margin: int) -> Cutout:
    """Cut the object of a box, or of a mask [H, W] in it, out of an image, with up to `margin` pixels around."""
    height, width = image.shape[:2]
    x0, x1 = _whole_pixels(box[0], box[2], width)
    y0, y1 = _whole_pixels(box[1], box[3], height)
    top, bottom = max(0, y0 - margin), min(height, y1 + margin)
    left, right = max(0, x0 - margin), min(width, x1 + margin)
    if mask is None:
        core = np.zeros((height, width), np.float32)
        core[y0:y1, x0:x1] = 1
    else:
        core = mask.astype(np.float32)
    pixels = image[top:bottom, left:right].astype(np.float32)
    inside = (x0 - left, y0 - top, x1 - left, y1 - top)
    return Cutout(pixels, core[top:bottom, left:right], inside, mask is None)


def _whole_pixels(low: float, high: float, length: int) -> tuple[int, int]:
    """Round an interval to whole pixels of an axis, at least one."""
    start = min(max(0, round(float(low))), length - 1)
    end = min(max(start + 1, round(float(high))), length)
    return start, end


@dataclass(frozen=True)
class Piece:
    """A cutout on its way onto a canvas."""

    pixels: Floats  # [h, w, 3]
    alpha: Floats  # [h, w] share of the piece in the picture
    core: Flags  # [h, w] the pixels that are the object
    offset: tuple[int, int]  # of its upper left corner on the canvas; may lie outside
    by_box: bool  # its label is a box


def piece(cutout: Cutout, box: Sequence[float], mirror: bool, config: Config) -> Piece:
    """Bring a cutout to an xyxy box of the canvas (rounded to whole pixels) and soften its edge."""
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    zoomed = cutout.at_size((max(1, y1 - y0), max(1, x1 - x0)))
    if mirror:
        zoomed = zoomed.mirror()
    core = zoomed.core >= 0.5
    if zoomed.by_box:
        alpha = _feathered_box(core.shape, zoomed.box, config.feather)
    elif config.blend == "gaussian":
        alpha = blur(core.astype(np.float32), config.edge)
    else:
        alpha = core.astype(np.float32)
    offset = (y0 - zoomed.box[1], x0 - zoomed.box[0])
    return Piece(zoomed.pixels, alpha, core, offset, zoomed.by_box)


def margin_of(by_box: bool, size: tuple[float, float], scale: float, config: Config) -> int:
    """Return the pixels that `cut` must leave around an object (h, w) for its edge, when it will be scaled by `scale`."""
    if by_box:
        return math.ceil(config.feather * min(size))
    if config.blend == "gaussian":
        return math.ceil(REACH * config.edge / max(scale, 1e-3))
    return 0


def compose(image: Image, objects: Flags, pieces: Sequence[Piece]) -> tuple[Image, Flags]:
    """Paste P pieces, each over those before it, onto an image [H, W, 3] with objects [N, H, W].

    Returns the picture and the visible part of every object [N + P, H, W]: no pixel of an object lies under another piece.
    """
    picture = image.astype(np.float32)
    height, width = image.shape[:2]
    unseen = np.zeros((len(pieces), height, width), np.bool_)
    visible = np.concatenate([objects, unseen])
    for number, one in enumerate(pieces, start=len(objects)):
        on_canvas, of_piece = _overlap((height, width), one.offset, one.core.shape)
        core, alpha = one.core[of_piece], one.alpha[of_piece]
        beneath = picture[on_canvas]
        picture[on_canvas] += alpha[..., None] * (one.pixels[of_piece] - beneath)
        covered = core | (alpha >= 0.5)
        visible[(slice(number), *on_canvas)] &= ~covered
        visible[(number, *on_canvas)] = core
    return np.rint(picture).clip(0, 255).astype(np.uint8), visible


def resize(planes: Floats, size: tuple[int, int]) -> Floats:
    """Resize float32 [h, w, C] to (H, W), bilinear and antialiased."""
    if planes.shape[:2] == size:
        return planes
    tensor = torch.from_numpy(np.ascontiguousarray(planes)).permute(2, 0, 1)[None]
    resized = nn.functional.interpolate(
        tensor, size, mode="bilinear", antialias=True, align_corners=False
    )
    return np.asarray(resized[0].permute(1, 2, 0).numpy(), np.float32)


def blur(plane: Floats, sigma: float) -> Floats:
    """Blur [h, w] by a Gaussian; outside of it is 0."""
    if not sigma:
        return plane
    reach = math.ceil(REACH * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        length = plane.shape[axis]
        borders = [(0, 0), (0, 0)]
        borders[axis] = (reach, reach)
        padded = np.pad(plane, borders)
        total = np.zeros(plane.shape)
        for shift, weight in enumerate(weights):
            total += weight * padded.take(range(shift, shift + length), axis)
        plane = total.astype(np.float32)
    return plane


def _feathered_box(
    shape: tuple[int, ...], box: tuple[int, int, int, int], feather: float
) -> Floats:
    """Return 1 inside a box, falling to 0 over a rim outside of it that is `feather` of its shorter side wide."""
    x0, y0, x1, y1 = box
    rim = max(feather * min(y1 - y0, x1 - x0), 1e-6)
    rows = _distance(shape[0], y0, y1)
    columns = _distance(shape[1], x0, x1)
    distance = np.hypot(rows[:, None], columns)
    return np.asarray((1 - distance / rim).clip(0, 1), np.float32)


def _distance(length: int, low: int, high: int) -> NDArray[np.float64]:
    """Return the distance of each pixel's centre on an axis from an interval, 0 inside."""
    centre = np.arange(length) + 0.5
    distance: NDArray[np.float64] = np.maximum(low - centre, centre - high).clip(0)
    return distance


class Scissors(nn.Module):
    """No weights: it is saved and loaded like the networks of other systems, for its Config."""

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
    """Pastes; `config` says how pieces are cut and blended, which the pipeline does (pipeline/synthesis/pasting.py)."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def sample(self, conditions: Sequence[Edit], seeds: Sequence[int]) -> Samples:
        """Return the pictures of edits with the same sizes and numbers, and the visible part of every object.

        The masks [B, N + P, H, W] are 0 or 1: those of the objects, then those of the pieces. Nothing is drawn from seeds.
        """
        images, masks = [], []
        for edit in conditions:
            image, visible = compose(edit.image, edit.objects, edit.pieces)
            images.append(image)
            masks.append(visible.astype(np.float32))
        return Samples(np.stack(images), np.stack(masks))


def sampler(network: nn.Module, _options: SamplerOptions) -> PasteSampler:
    """Return the sampler; no option changes anything."""
    assert isinstance(network, Scissors)
    return PasteSampler(network.config)
