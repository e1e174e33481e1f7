"""Simple Copy-Paste (Ghiasi et al. 2021): real objects on other real images. Nothing is learnt; pixels and geometry only.

Two real images are zoomed and mirrored at random, some objects of one are pasted onto the other, and what they cover is taken
from the labels there. Where ours differs: an object without a mask is cut by its box, with a feathered rim outside of it; an
object of which less than `min_visible` can still be seen loses its label (the paper: one that is wholly covered).

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

CONDITION = "edit"
LEARNS = False
ADDS_ONLY = True
TWO_STAGE = False
FILES = ()
ZOOMS = {
    "standard": (0.8, 1.25),
    "large": (0.1, 2.0),
    "none": (1.0, 1.0),
}  # section 3: scale jittering, SSJ and LSJ
GREY = 127  # of what a zoomed-out image leaves free
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
    feather: float = (
        0.1  # width of the rim around an object cut by its box, share of its shorter side
    )
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
        """Draw one for a source image (h, w): zoom from the range of `config.zoom`, any place where it fits or is cut.

        An image of another size than the canvas is first brought to the same area.
        """
        low, high = ZOOMS[config.zoom]
        zoom = math.sqrt(math.prod(canvas) / math.prod(source)) * rng.uniform(low, high)
        size = (max(1, round(source[0] * zoom)), max(1, round(source[1] * zoom)))
        free = [c - s for c, s in zip(canvas, size, strict=True)]
        top, left = (int(rng.integers(min(0, f), max(0, f) + 1)) for f in free)
        scale = (size[0] / source[0], size[1] / source[1])
        return Frame(canvas, size, (top, left), scale, bool(rng.random() < config.mirror))

    @staticmethod
    def still(size: tuple[int, int], mirror: bool = False) -> Frame:
        """The image as it is, or its mirror image."""
        return Frame(size, size, (0, 0), (1.0, 1.0), mirror)

    @staticmethod
    def fitted(source: tuple[int, int], canvas: tuple[int, int]) -> Frame:
        """The whole image (h, w) stretched over the canvas."""
        return Frame(canvas, canvas, (0, 0), (canvas[0] / source[0], canvas[1] / source[1]), False)

    def boxes(self, boxes: Floats) -> Floats:
        """Where xyxy boxes [N, 4] of the source come to lie; what leaves the canvas is not cut off."""
        moved = boxes * np.array([self.scale[1], self.scale[0]] * 2, np.float32)
        if self.mirror:
            moved = np.array([self.size[1], 0] * 2, np.float32) + moved[:, [2, 1, 0, 3]] * np.array(
                [-1, 1] * 2, np.float32
            )
        return np.asarray(
            moved + np.array([self.offset[1], self.offset[0]] * 2, np.float32), np.float32
        )

    def image(self, pixels: Image) -> Image:
        """The canvas [H, W, 3] with the source image on grey."""
        zoomed = resized(pixels.astype(np.float32), self.size)
        zoomed = zoomed[:, ::-1] if self.mirror else zoomed
        canvas = np.full((*self.canvas, 3), GREY, np.uint8)
        (top, left), (height, width) = self.offset, self.size
        y0, x0, y1, x1 = (
            max(0, top),
            max(0, left),
            min(self.canvas[0], top + height),
            min(self.canvas[1], left + width),
        )
        canvas[y0:y1, x0:x1] = np.rint(zoomed[y0 - top : y1 - top, x0 - left : x1 - left]).clip(
            0, 255
        )
        return canvas

    def masks(self, masks: Flags) -> Flags:
        """The masks [N, h, w] of the source on the canvas [N, H, W], nearest pixel: what was disjoint stays so."""
        if self == Frame.still(self.canvas) and masks.shape[1:] == self.canvas:
            return masks
        places = []
        for axis in (0, 1):
            at = np.arange(self.canvas[axis]) - self.offset[axis]
            inside = (at >= 0) & (at < self.size[axis])
            at = self.size[axis] - 1 - at if axis and self.mirror else at
            nearest = ((at + 0.5) / self.scale[axis]).astype(int).clip(0, masks.shape[1 + axis] - 1)
            places.append((nearest, inside))
        (rows, below), (columns, beside) = places
        return np.asarray(masks[:, rows][:, :, columns] & below[:, None] & beside)


@dataclass(frozen=True)
class Cutout:
    """An object with some pixels around it."""

    pixels: Floats  # [h, w, 3] 0 to 255
    core: Floats  # [h, w] in [0, 1]: where the object is; of one without a mask its box
    box: tuple[int, int, int, int]  # xyxy of the object inside the cutout, whole pixels
    by_box: bool

    def at_size(self, size: tuple[int, int]) -> Cutout:
        """The same object with a box of (h, w) pixels; what is around it grows and shrinks with it."""
        x0, y0, x1, y1 = self.box
        scale = size[0] / (y1 - y0), size[1] / (x1 - x0)
        if scale == (1.0, 1.0):
            return self
        top, left = round(y0 * scale[0]), round(x0 * scale[1])
        rest = [
            round((n - end) * s) for n, end, s in zip(self.core.shape, (y1, x1), scale, strict=True)
        ]
        whole = (top + size[0] + rest[0], left + size[1] + rest[1])
        both = resized(np.concatenate([self.pixels, self.core[..., None]], 2), whole)
        return replace(
            self,
            pixels=both[..., :3],
            core=both[..., 3],
            box=(left, top, left + size[1], top + size[0]),
        )

    def mirrored(self) -> Cutout:
        """Its mirror image."""
        x0, y0, x1, y1 = self.box
        width = self.core.shape[1]
        return replace(
            self,
            pixels=self.pixels[:, ::-1],
            core=self.core[:, ::-1],
            box=(width - x1, y0, width - x0, y1),
        )


def cut(image: Image, box: Sequence[float], mask: Flags | None, margin: int) -> Cutout:
    """Cut the object of a box, or of a mask [H, W] in it, out of an image, with up to `margin` pixels around."""
    height, width = image.shape[:2]
    x0, y0 = (
        min(max(0, round(float(v))), n - 1) for v, n in zip(box[:2], (width, height), strict=True)
    )
    x1, y1 = (
        min(max(low + 1, round(float(v))), n)
        for v, low, n in zip(box[2:], (x0, y0), (width, height), strict=True)
    )
    top, left, bottom, right = (
        max(0, y0 - margin),
        max(0, x0 - margin),
        min(height, y1 + margin),
        min(width, x1 + margin),
    )
    core = np.zeros((height, width), np.float32) if mask is None else mask.astype(np.float32)
    if mask is None:
        core[y0:y1, x0:x1] = 1
    inside = (x0 - left, y0 - top, x1 - left, y1 - top)
    pixels = image[top:bottom, left:right].astype(np.float32)
    return Cutout(pixels, core[top:bottom, left:right], inside, mask is None)


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
    whole = cutout.at_size((max(1, y1 - y0), max(1, x1 - x0)))
    whole = whole.mirrored() if mirror else whole
    core = whole.core >= 0.5
    if whole.by_box:
        alpha = _feathered(core.shape, whole.box, config.feather)
    else:
        alpha = blurred(core.astype(np.float32), config.edge if config.blend == "gaussian" else 0.0)
    return Piece(whole.pixels, alpha, core, (y0 - whole.box[1], x0 - whole.box[0]), whole.by_box)


def margin_of(by_box: bool, size: tuple[float, float], scale: float, config: Config) -> int:
    """Pixels that `cut` must leave around an object (h, w) for its edge, when it will be scaled by `scale`."""
    if by_box:
        return math.ceil(config.feather * min(size))
    return math.ceil(REACH * config.edge / max(scale, 1e-3)) if config.blend == "gaussian" else 0


def compose(image: Image, there: Flags, pieces: Sequence[Piece]) -> tuple[Image, Flags]:
    """Paste P pieces, each over those before it, onto an image [H, W, 3] with objects `there` [N, H, W].

    Returns the picture and what is to be seen of every object [N + P, H, W]: no pixel of an object lies under another piece.
    """
    picture = image.astype(np.float32)
    height, width = image.shape[:2]
    visible = np.concatenate([there, np.zeros((len(pieces), height, width), np.bool_)])
    for number, one in enumerate(pieces, len(there)):
        (top, left), (h, w) = one.offset, one.core.shape
        y0, x0, y1, x1 = max(0, top), max(0, left), min(height, top + h), min(width, left + w)
        if y0 >= y1 or x0 >= x1:
            continue
        part, here = np.s_[y0 - top : y1 - top, x0 - left : x1 - left], np.s_[y0:y1, x0:x1]
        alpha = one.alpha[part][..., None]
        picture[here] += alpha * (one.pixels[part] - picture[here])
        visible[(slice(number), *here)] &= ~(one.core[part] | (one.alpha[part] >= 0.5))
        visible[(number, *here)] = one.core[part]
    return np.rint(picture).clip(0, 255).astype(np.uint8), visible


def resized(planes: Floats, size: tuple[int, int]) -> Floats:
    """Antialiased bilinear resize of float32 [h, w, C] to (H, W)."""
    if planes.shape[:2] == size:
        return planes
    tensor = torch.from_numpy(np.ascontiguousarray(planes)).permute(2, 0, 1)[None]
    made = nn.functional.interpolate(
        tensor, size, mode="bilinear", antialias=True, align_corners=False
    )
    return np.asarray(made[0].permute(1, 2, 0).numpy(), np.float32)


def blurred(plane: Floats, sigma: float) -> Floats:
    """Gaussian blur of [h, w]; outside of it is 0."""
    if not sigma:
        return plane
    reach = math.ceil(REACH * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        wide = np.pad(plane, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)])
        length = plane.shape[axis]
        plane = sum(
            w * wide.take(range(k, k + length), axis) for k, w in enumerate(weights)
        ).astype(np.float32)
    return plane


def _feathered(shape: tuple[int, ...], box: tuple[int, int, int, int], feather: float) -> Floats:
    """1 inside a box, falling to 0 over a rim outside of it that is `feather` of its shorter side wide."""
    x0, y0, x1, y1 = box
    rim = max(feather * min(y1 - y0, x1 - x0), 1e-6)
    away = []
    for length, low, high in ((shape[0], y0, y1), (shape[1], x0, x1)):
        at = np.arange(length) + 0.5
        away.append(np.maximum(np.maximum(low - at, at - high), 0))
    return np.asarray((1 - np.hypot(away[0][:, None], away[1]) / rim).clip(0, 1), np.float32)


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
        """Return the pictures of edits with the same sizes and numbers, and what is seen of every object.

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
