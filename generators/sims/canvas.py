"""The canvas: real segments on the places of a map's segments.

Back to front, step E of the published code. The map follows: it says afterwards which class each
pasted pixel shows.

Legend: H W pixels, N segments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.generators.sims.segments import Flags, Ints, segments_of

Floats = NDArray[np.float32]
InFront = Callable[[int, int], bool]  # (placed, new) -> whether the placed one hides the new one
# pixels of a band -> those of them that are made white
Speckles = Callable[[Flags], Flags]
BORDER = 0.035  # of the height: width of the band inside a segment's border that is speckled
RIM = 0.04  # of the height: width of the band at the border of loose classes, left open
SHADOW = 0.06  # of the height: width of the band around objects of the source, left open
ROOM = 0.08  # of the height: width of the band beside what stands on the ground, left open
ENLARGED = 0.125  # share of an object's box by which the room around it is larger


@dataclass(frozen=True)
class Piece:
    """A real segment for a segment of a map."""

    category: int
    target: Flags  # [H, W] the map's segment
    whole: Flags  # [H, W] the real segment with its bridge, where it was
    colors: Floats  # [H, W, 3] in [0, 1], 0 outside of the real segment
    mask: Flags  # [H, W] the real segment
    moved_colors: Floats  # [H, W, 3], as the transform network moves it
    moved_mask: Flags  # [H, W]
    shadows: Flags | None = None  # [H, W] objects of the source image, which throw shadows


@dataclass(frozen=True)
class Bare:
    """A segment of a map that is given no real one."""

    category: int
    target: Flags  # [H, W]


@dataclass(frozen=True)
class Rules:
    """Classes that the canvas treats in their own way, by index."""

    ground: Collection[int] = ()  # on which objects throw shadows
    loose: Collection[int] = ()  # whose border is left open, as leaves'
    background: Collection[int] = ()  # that take their pixels back where nothing was pasted


@dataclass(frozen=True)
class Canvas:
    """What the synthesis network sees."""

    colors: Floats  # [H, W, 3] in [0, 1]; black = not covered
    labels: Ints  # [H, W] class of each pixel; `no_class` = not known


def compose(
    labels: Ints,
    no_class: int,
    pieces: Sequence[Piece | Bare],
    in_front: InFront,
    rules: Rules,
    speckles: Speckles | None,
) -> Canvas:
    """Paste pieces, back to front, over a map [H, W].

    `in_front(i, k)` says whether piece i, placed before, hides piece k. Without `speckles` no
    band is left open or made white.
    """
    height, width = labels.shape
    original = labels
    labels = labels.copy()
    canvas = np.zeros((height, width, 3), np.float32)
    placed: dict[int, Flags] = {}
    for number, piece in enumerate(pieces):
        if isinstance(piece, Bare):
            labels[piece.target] = piece.category
            canvas[piece.target] = 0
            continue
        labels[piece.target | piece.whole] = no_class
        colors, mask = better_placed(piece)
        for earlier, other in placed.items():
            shared = mask & other
            if shared.any() and in_front(earlier, number):
                mask = mask & ~other
        placed[number] = mask
        labels[mask] = piece.category
        shown = mask
        if speckles is not None:
            shown = without_bands(piece, mask, rules)
        pasted = colors * shown[..., None]
        if speckles is not None:
            band = near(outline(shown), int(BORDER * height)) & shown
            pasted[speckles(band)] = 1
        canvas[mask] = pasted[mask]
    open_again = (labels == no_class) & np.isin(original, list(rules.background))
    labels[open_again] = original[open_again]
    if speckles is not None:
        canvas[room_for_shadows(labels, no_class, rules)] = 0
    return Canvas(canvas, labels)


def room_for_shadows(labels: Ints, no_class: int, rules: Rules) -> Flags:
    """Return the pixels [H, W] of ground and of no class beside what stands there.

    To the left they reach an eighth of its width beyond its box, to the right and below an eighth
    of its height (published code).
    """
    height, width = labels.shape
    room = np.zeros((height, width), bool)
    for segment in segments_of(labels, no_class):
        if segment.category in rules.background:
            continue
        top, left, bottom, right = segment.box
        across = ENLARGED * (right - left)
        along = ENLARGED * (bottom - top)
        first = max(0, round(left - across))
        window = np.s_[top : round(bottom + along), first : round(right + along)]
        around = near(outline(segment.in_frame((height, width))), int(ROOM * height))
        room[window] |= around[window]
    is_open = np.isin(labels, [*rules.ground, no_class])
    return room & is_open


def better_placed(piece: Piece) -> tuple[Floats, Flags]:
    """Return colors and mask of a piece, moved where that fills more of its place."""
    as_it_was = (piece.mask & piece.target).sum()
    as_moved = (piece.moved_mask & piece.target).sum()
    if as_moved > as_it_was:
        return piece.moved_colors, piece.moved_mask
    return piece.colors, piece.mask


def without_bands(piece: Piece, mask: Flags, rules: Rules) -> Flags:
    """Return the pixels of a piece that are shown.

    Not its source's shadows, nor a loose rim.
    """
    height = len(mask)
    shown = mask
    if piece.category in rules.ground and piece.shadows is not None:
        shown = shown & ~near(outline(piece.shadows), int(SHADOW * height))
    if piece.category in rules.loose:
        shown = shown & ~near(outline(mask), int(RIM * height))
    return shown


def outline(mask: Flags) -> Flags:
    """Return the outline of a mask [H, W]: ridges of Sobel's gradient."""
    values = np.pad(mask.astype(np.float32), 1, mode="edge")
    right = values[:, 2:]
    left = values[:, :-2]
    across = right - left
    gx = (across[:-2] + 2 * across[1:-1] + across[2:]) / 8
    below = values[2:]
    above = values[:-2]
    along = below - above
    gy = (along[:, :-2] + 2 * along[:, 1:-1] + along[:, 2:]) / 8
    strength = gx**2 + gy**2
    middle = strength[1:-1, 1:-1]
    steep_across = np.abs(gx)[1:-1, 1:-1]
    steep_along = np.abs(gy)[1:-1, 1:-1]
    ridge_across = (middle >= strength[1:-1, :-2]) & (middle > strength[1:-1, 2:])
    ridge_along = (middle >= strength[:-2, 1:-1]) & (middle > strength[2:, 1:-1])
    ridge = (steep_across >= steep_along) & ridge_across
    ridge |= (steep_along >= steep_across) & ridge_along
    found = np.zeros(mask.shape, bool)
    found[1:-1, 1:-1] = (middle > 0) & ridge
    return found


def near(pixels: Flags, side: int) -> Flags:
    """Return the pixels [H, W] in squares of a side around given ones.

    A square of even side reaches one pixel farther to the right and below.
    """
    if side <= 1:
        return pixels
    square = np.ones((side, side), np.uint8)
    behind = side // 2
    values = cv2.dilate(pixels.astype(np.uint8), square, anchor=(behind, behind))
    return np.asarray(values > 0)
