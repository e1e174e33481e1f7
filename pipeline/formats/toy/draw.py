"""Things of the toy world as lists of colored polygons, independent of resolution.

A thing stands on the origin: x runs to the right, y upwards, the unit is its nominal height.
`style` is a vector of STYLE uniform numbers that fixes everything individual; `lit` is -1 or 1, the
side the sun is on. Nothing here knows pixels, so a silhouette measured on a coarse grid is the
silhouette that is painted on a fine one.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats

Rgb = tuple[float, float, float]
Part = tuple[Floats, Rgb]  # polygon [P, 2], color 0..255
Style = NDArray[np.float64]  # [STYLE] in [0, 1)

STYLE = 48
_TURN = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
_COSINES, _SINES = np.cos(_TURN), np.sin(_TURN)
_CIRCLE = np.stack([_COSINES, _SINES], 1)  # [16, 2]
GLASS: Rgb = (74, 98, 122)
TYRE: Rgb = (30, 30, 34)


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """Return the color 0..255 of hue, saturation and value in [0, 1]; hue wraps."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def shade(color: Rgb, factor: float) -> Rgb:
    """Return the color, darker or lighter."""
    red, green, blue = [min(255.0, channel * factor) for channel in color]
    return red, green, blue


def polygon(*corners: tuple[float, float]) -> Floats:
    """Return the polygon [P, 2] of corners (x, y)."""
    return np.array(corners, np.float64)


def box(x0: float, y0: float, x1: float, y1: float) -> Floats:
    """Return an upright rectangle [4, 2]."""
    return polygon(
        (x0, y0),
        (x1, y0),
        (x1, y1),
        (x0, y1),
    )


def disc(x: float, y: float, rx: float, ry: float | None = None) -> Floats:
    """Return an ellipse as a polygon [16, 2]; a circle without `ry`."""
    radii = (rx, rx) if ry is None else (rx, ry)
    return _CIRCLE * radii + (x, y)


def bar(
    x0: float, y0: float, x1: float, y1: float, thick: float, tip: float | None = None
) -> Floats:
    """Return a limb [4, 2], `thick` at its start and `tip` at its end."""
    double_length = 2 * math.hypot(x1 - x0, y1 - y0)
    across_x = (y0 - y1) / double_length  # half a unit
    across_y = (x1 - x0) / double_length
    if tip is None:
        tip = thick
    start_x = across_x * thick
    start_y = across_y * thick
    end_x = across_x * tip
    end_y = across_y * tip
    start = ((x0 + start_x, y0 + start_y), (x0 - start_x, y0 - start_y))
    end = ((x1 - end_x, y1 - end_y), (x1 + end_x, y1 + end_y))
    return polygon(*start, *end)


def tree(style: Style, lit: int) -> list[Part]:
    """Draw a leafy crown of three layers of blobs on a trunk, or (one in four) a fir."""
    bark = hsv(0.07, 0.5, 0.30 + 0.12 * style[0])
    if style[1] < 0.25:
        return _fir(style, lit, bark)
    leaf_saturation = 0.62 + 0.2 * style[3]
    leaf = hsv(0.22 + 0.11 * style[2], leaf_saturation, 0.42 + 0.2 * style[4])
    wide = 0.86 + 0.3 * style[5]
    trunk = polygon(
        (-0.075, 0),
        (-0.035, 0.2),
        (-0.04, 0.5),
        (0.04, 0.5),
        (0.035, 0.2),
        (0.075, 0),
    )
    light_bark = bar(0.03 * lit, 0, 0.02 * lit, 0.45, 0.03)
    left_bough = bar(0, 0.24, -0.17 * wide, 0.46, 0.04, 0.02)
    right_bough = bar(0, 0.28, 0.18 * wide, 0.5, 0.04, 0.02)
    parts: list[Part] = [
        (trunk, bark),
        (light_bark, shade(bark, 1.35)),
        (left_bough, shade(bark, 0.8)),
        (right_bough, shade(bark, 0.8)),
    ]
    # from the shade to the light: (tone, aside, up, ring, radius of a blob, number of blobs)
    layers = (
        (0.58, 0.0, 0.0, 0.195, 0.16, 9),
        (0.86, 0.04, 0.045, 0.14, 0.115, 8),
        (1.24, 0.09, 0.10, 0.10, 0.06, 7),
    )
    used = 6  # numbers of the style
    for tone, aside, up, ring, radius, number in layers:
        middle_x = aside * lit
        middle_y = 0.645 + up
        mass = disc(middle_x, middle_y, ring * wide + 0.03, ring)
        parts.append((mass, shade(leaf, tone)))
        for k in range(number):
            turn = 2 * np.pi * (k + 0.7 * style[used % STYLE]) / number
            x = middle_x + ring * wide * np.cos(turn)
            y = middle_y + ring * np.sin(turn)
            own_size = style[(used + 11) % STYLE]
            own_tone = style[(used + 5) % STYLE]
            size = radius * (0.75 + 0.5 * own_size)
            blob_tone = tone * (0.92 + 0.16 * own_tone)
            blob = disc(x, y, size)
            parts.append((blob, shade(leaf, blob_tone)))
            used += 1
    return parts


def _fir(style: Style, lit: int, bark: Rgb) -> list[Part]:
    """Draw five layers of needles, the sunny half of each lighter."""
    saturation = 0.55 + 0.2 * style[3]
    needle = hsv(0.36 + 0.07 * style[2], saturation, 0.32 + 0.14 * style[4])
    parts: list[Part] = [(box(-0.045, 0, 0.045, 0.25), bark)]
    for k in range(5):
        foot = 0.12 + 0.155 * k
        tip = 0.46 + 0.135 * k
        width = 0.36 - 0.06 * k
        half = width * (0.9 + 0.25 * style[6 + k])
        sag = foot - 0.035
        layer = polygon(
            (-half, sag),
            (0, foot + 0.03),
            (half, sag),
            (0, tip),
        )
        sunny = polygon((0.85 * half * lit, sag + 0.02), (0.02 * lit, foot + 0.06), (0, tip))
        parts.append((layer, shade(needle, 0.72)))
        parts.append((sunny, shade(needle, 1.3)))
    return parts


def house(style: Style, lit: int) -> list[Part]:
    """Draw a gabled house from a corner: bright walls, tiled roof, windows."""
    wall_saturation = 0.08 + 0.3 * style[1]
    tile_saturation = 0.55 + 0.25 * style[4]
    wall = hsv(0.09 + 0.05 * style[0], wall_saturation, 0.84 + 0.12 * style[2])
    tile = hsv(0.99 + 0.05 * style[3], tile_saturation, 0.5 + 0.22 * style[5])
    left = -0.62
    corner = -0.16 - 0.1 * style[6]
    right = 0.52 + 0.16 * style[7]
    eaves = 0.5
    ridge = 0.93
    peak = (-0.62 + corner) / 2
    if lit < 0:
        front_color = shade(wall, 1.04)
        side_color = shade(wall, 0.74)
    else:
        front_color = shade(wall, 0.78)
        side_color = shade(wall, 1.02)
    chimney = box(right - 0.28, 0.7, right - 0.16, 1.0)
    side = box(corner, 0, right, eaves + 0.04)
    front = polygon(
        (left, 0),
        (corner, 0),
        (corner, eaves),
        (peak, ridge - 0.06),
        (left, eaves),
    )
    roof_foot = ((corner, eaves - 0.05), (right + 0.06, eaves - 0.05))
    roof = polygon(*roof_foot, (right - 0.1, ridge), (peak, ridge))
    left_gable = bar(left - 0.06, eaves - 0.08, peak, ridge, 0.07)
    right_gable = bar(corner + 0.02, eaves - 0.08, peak, ridge, 0.05)
    base = box(left, 0, right, 0.05)
    door = box(peak - 0.08, 0.0, peak + 0.08, 0.28)
    upper_window = box(peak - 0.07, 0.4, peak + 0.07, 0.56)
    parts: list[Part] = [
        (chimney, shade(tile, 0.7)),
        (side, side_color),
        (front, front_color),
        (roof, tile),
        (left_gable, shade(tile, 0.72)),
        (right_gable, shade(tile, 1.25)),
        (base, shade(wall, 0.55)),
        (door, hsv(style[8], 0.5, 0.42)),
        (upper_window, GLASS),
    ]
    for row in range(3):
        y = eaves + 0.07 + 0.11 * row
        inset = 0.8 * (y - eaves)
        tiles = bar(corner - 0.45 * inset, y, right - 0.3 * inset, y, 0.025)
        parts.append((tiles, shade(tile, 0.8)))
    frame = shade(wall, 1.15)
    span = (right - corner) / 2
    for k in range(2):
        x = corner + span * (k + 0.5)
        is_lit = style[9 + k] < 0.3
        pane = (250, 214, 120) if is_lit else GLASS
        outer = box(x - 0.11, 0.17, x + 0.11, 0.39)
        inner = box(x - 0.085, 0.19, x + 0.085, 0.37)
        bar_between = box(x - 0.01, 0.19, x + 0.01, 0.37)
        parts += [(outer, frame), (inner, pane), (bar_between, frame)]
    return parts


def _wheel(x: float, radius: float) -> list[Part]:
    tyre = disc(x, radius, radius)
    rim = disc(x, radius, 0.55 * radius)
    return [(tyre, TYRE), (rim, (168, 170, 176))]


def car(style: Style, _lit: int) -> list[Part]:
    """Draw a saloon from the side: glossy body, glass cabin, two wheels."""
    hues = (0.0, 0.98, 0.6, 0.57, 0.62)
    paint = hsv(0.6, 0.04, 0.86)
    if style[0] < 0.8:
        hue = hues[int(style[1] * 5)]
        paint = hsv(hue, 0.85, 0.72 + 0.22 * style[2])
    back = -0.92 - 0.1 * style[3]
    front = 0.95 + 0.08 * style[4]
    roof0 = -0.55 - 0.15 * style[5]
    roof1 = 0.22 + 0.12 * style[6]
    middle = (roof0 + roof1) / 2
    tail = ((back, 0.2), (back - 0.02, 0.52), (back + 0.1, 0.6))
    bonnet = (
        (0.5, 0.62),
        (front - 0.1, 0.52),
        (front, 0.4),
        (front, 0.2),
    )
    body = polygon(*tail, *bonnet)
    cabin = polygon(
        (roof0 - 0.24, 0.56),
        (roof0, 0.98),
        (roof1, 0.98),
        (roof1 + 0.34, 0.58),
    )
    rear_pane = (
        (roof0 - 0.12, 0.6),
        (roof0 + 0.04, 0.9),
        (middle - 0.03, 0.9),
        (middle - 0.03, 0.6),
    )
    front_pane = (
        (middle + 0.04, 0.6),
        (middle + 0.04, 0.9),
        (roof1 - 0.03, 0.9),
        (roof1 + 0.21, 0.6),
    )
    gloss = polygon(
        (back, 0.48),
        (back + 0.1, 0.58),
        (0.5, 0.6),
        (front - 0.12, 0.5),
    )
    glint = bar(middle + 0.1, 0.64, roof1 - 0.06, 0.86, 0.05)
    sill = box(back, 0.2, front, 0.3)
    pillar = box(middle - 0.01, 0.3, middle + 0.02, 0.58)
    head_light = disc(front - 0.06, 0.43, 0.07, 0.055)
    tail_light = box(back - 0.01, 0.4, back + 0.07, 0.5)
    rear_arch = disc(-0.55, 0.22, 0.25)
    front_arch = disc(0.56, 0.22, 0.25)
    return [
        (cabin, shade(paint, 0.88)),
        (polygon(*rear_pane), GLASS),
        (polygon(*front_pane), GLASS),
        (glint, shade(GLASS, 1.6)),
        (body, paint),
        (gloss, shade(paint, 1.3)),
        (sill, shade(paint, 0.55)),
        (pillar, shade(paint, 0.7)),
        (head_light, (255, 244, 190)),
        (tail_light, (196, 30, 30)),
        (rear_arch, shade(paint, 0.3)),
        (front_arch, shade(paint, 0.3)),
        *_wheel(-0.55, 0.21),
        *_wheel(0.56, 0.21),
    ]


def bus(style: Style, _lit: int) -> list[Part]:
    """Draw a coach from the side: a long yellow to orange box with a band of windows."""
    paint = hsv(0.105 + 0.045 * style[0], 0.9, 0.88 + 0.1 * style[1])
    stripe = hsv(0.02 + 0.6 * float(style[3] < 0.5), 0.7, 0.6)
    half = 1.0 + 0.1 * style[2]
    rear = ((-half, 0.12), (-half, 0.93), (-half + 0.06, 1))
    body = polygon(
        *rear,
        (half - 0.1, 1),
        (half, 0.9),
        (half, 0.12),
    )
    windscreen = polygon(
        (half - 0.2, 0.54),
        (half - 0.2, 0.88),
        (half - 0.02, 0.86),
        (half, 0.54),
    )
    roof_light = box(-half + 0.03, 0.93, half - 0.1, 1.0)
    sill = box(-half, 0.12, half, 0.24)
    band = box(-half, 0.36, half, 0.43)
    head_light = box(half - 0.09, 0.27, half, 0.35)
    door = box(half - 0.44, 0.16, half - 0.25, 0.86)
    parts: list[Part] = [
        (body, paint),
        (roof_light, shade(paint, 1.25)),
        (sill, shade(paint, 0.5)),
        (band, stripe),
        (windscreen, shade(GLASS, 1.2)),
        (head_light, (255, 244, 190)),
        (door, shade(GLASS, 0.75)),
    ]
    for k in range(5):
        x = -half + 0.07 + 0.29 * k * (half - 0.25) / 0.8
        window = box(x, 0.54, x + 0.24, 0.86)
        glint = bar(x + 0.05, 0.56, x + 0.17, 0.84, 0.05)
        parts += [(window, GLASS), (glint, shade(GLASS, 1.45))]
    wheels = [*_wheel(-0.56, 0.16), *_wheel(0.46, 0.16)]
    return [*parts, *wheels]


def person(style: Style, lit: int) -> list[Part]:
    """Draw somebody walking: bright jacket, dark trousers, legs in stride."""
    skin_saturation = 0.35 + 0.2 * style[1]
    skin = hsv(0.06 + 0.02 * style[0], skin_saturation, 0.55 + 0.38 * style[2])
    jacket_hues = (0.0, 0.93, 0.05, 0.78, 0.97)
    jacket_hue = jacket_hues[int(style[3] * 5)]
    jacket = hsv(jacket_hue, 0.8, 0.8 + 0.18 * style[4])
    cloth_hue = 0.6 + 0.08 * style[5]
    cloth = hsv(cloth_hue, 0.45, 0.22 + 0.2 * style[6])
    hair = hsv(0.07, 0.6, 0.12 + 0.3 * style[7])
    step = 0.1 + 0.09 * style[8]
    swing = 0.17 + 0.08 * style[9]
    torso = (
        (-0.15, 0.42),
        (-0.15, 0.74),
        (-0.09, 0.8),
        (0.09, 0.8),
        (0.15, 0.74),
        (0.14, 0.42),
    )
    lit_edge = 0.14 * lit
    sunny = box(min(0.0, lit_edge), 0.43, max(0.0, lit_edge), 0.76)
    far_arm = bar(0.0, 0.72, -swing, 0.44, 0.09, 0.07)
    far_leg = bar(-0.03, 0.46, -step, 0.02, 0.14, 0.09)
    near_leg = bar(0.03, 0.46, step, 0.02, 0.14, 0.09)
    far_shoe = box(-step - 0.05, 0, -step + 0.09, 0.05)
    near_shoe = box(step - 0.05, 0, step + 0.09, 0.05)
    near_arm = bar(0.04, 0.74, swing, 0.46, 0.1, 0.075)
    near_hand = disc(swing, 0.45, 0.045)
    far_hand = disc(-swing, 0.43, 0.04)
    neck = box(-0.035, 0.78, 0.035, 0.84)
    back_of_head = disc(-0.01, 0.905, 0.105, 0.1)
    face = disc(0.02, 0.885, 0.083, 0.088)
    return [
        (far_arm, shade(jacket, 0.62)),
        (far_leg, shade(cloth, 0.75)),
        (near_leg, cloth),
        (far_shoe, (38, 30, 28)),
        (near_shoe, (48, 38, 34)),
        (polygon(*torso), jacket),
        (sunny, shade(jacket, 1.22)),
        (near_arm, shade(jacket, 0.85)),
        (near_hand, skin),
        (far_hand, shade(skin, 0.8)),
        (neck, shade(skin, 0.8)),
        (back_of_head, hair),
        (face, skin),
    ]


def cow(style: Style, _lit: int) -> list[Part]:
    """Draw a grazing cow, white with dark patches."""
    hide = hsv(0.09, 0.05 + 0.06 * style[0], 0.92)
    patch = hsv(0.06, 0.3 + 0.4 * style[1], 0.14 + 0.14 * style[2])
    x, y = 0.68, 0.72 - 0.16 * style[3]  # of the head
    back = (
        (-0.6, 0.42),
        (-0.62, 0.78),
        (-0.5, 0.9),
        (0.35, 0.9),
        (0.55, 0.84),
    )
    body = polygon(
        *back,
        (0.54, 0.5),
        (0.3, 0.36),
        (-0.4, 0.36),
    )
    neck = polygon(
        (0.36, 0.88),
        (0.62, y + 0.14),
        (0.62, y - 0.12),
        (0.46, 0.5),
    )
    belly = (
        (-0.6, 0.42),
        (-0.4, 0.36),
        (0.3, 0.36),
        (0.54, 0.5),
        (0.3, 0.47),
        (-0.4, 0.47),
    )
    parts: list[Part] = []
    for x_leg in (-0.4, 0.3):
        far_leg = bar(x_leg, 0.5, x_leg + 0.02, 0, 0.12, 0.09)
        parts.append((far_leg, shade(hide, 0.6)))
    for x_leg in (-0.54, 0.42):
        near_leg = bar(x_leg, 0.5, x_leg, 0, 0.14, 0.1)
        parts.append((near_leg, shade(hide, 0.86)))
    for x_hoof in (-0.54, -0.38, 0.32, 0.42):
        hoof = box(x_hoof - 0.06, 0, x_hoof + 0.06, 0.06)
        parts.append((hoof, patch))
    udder = disc(-0.3, 0.37, 0.1, 0.08)
    tail = bar(-0.6, 0.84, -0.68, 0.36, 0.05, 0.07)
    parts += [
        (udder, (226, 160, 156)),
        (body, hide),
        (tail, patch),
        (neck, shade(hide, 0.93)),
        (polygon(*belly), shade(hide, 0.72)),
    ]
    for k in range(3):
        spot_x = -0.42 + 0.34 * k + 0.14 * style[4 + k]
        spot_y = 0.6 + 0.16 * style[7 + k]
        width = 0.1 + 0.1 * style[10 + k]
        height = 0.1 + 0.05 * style[13 + k]
        spot = disc(spot_x, spot_y, width, height)
        parts.append((spot, patch))
    chin = ((x + 0.2, y - 0.13), (x + 0.06, y - 0.17))
    head = polygon((x - 0.1, y + 0.14), (x + 0.08, y + 0.14), *chin)
    muzzle = polygon((x + 0.12, y - 0.02), *chin)
    ear = bar(x - 0.05, y + 0.12, x - 0.16, y + 0.17, 0.08, 0.03)
    horn = bar(x + 0.0, y + 0.13, x + 0.03, y + 0.24, 0.05, 0.02)
    return [
        *parts,
        (head, patch),
        (muzzle, (222, 168, 156)),
        (ear, shade(patch, 1.3)),
        (horn, (226, 216, 196)),
    ]


def boat(style: Style, lit: int) -> list[Part]:
    """Draw a sailing boat: hull, mast, white main sail and a jib."""
    hull_hues = (0.0, 0.04, 0.62, 0.07)
    hull_hue = hull_hues[int(style[0] * 4)]
    hull_color = hsv(hull_hue, 0.7, 0.42 + 0.2 * style[1])
    sail_color = hsv(0.12, 0.06 + 0.1 * style[2], 0.97)
    lean = 0.05 * (style[3] - 0.5)
    long = 0.42 + 0.07 * style[4]
    jib_color = shade(sail_color, 0.82)
    if style[5] >= 0.6:
        jib_color = hsv(style[6], 0.6, 0.9)
    fold_tone = 1.06 if lit > 0 else 0.86
    top = -0.02 + lean
    keel = ((-long + 0.1, 0), (long - 0.13, 0))
    hull = polygon(*keel, (long, 0.17), (-long, 0.15))
    rim = polygon(
        (-long, 0.15),
        (long, 0.17),
        (long - 0.02, 0.12),
        (-long + 0.02, 0.1),
    )
    wet_hull = polygon(*keel, (long - 0.08, 0.05), (-long + 0.07, 0.05))
    sail = polygon(
        (-0.03, 0.24),
        (-long + 0.05, 0.26),
        (-0.26, 0.52),
        (top, 0.96),
    )
    fold = polygon((-0.03, 0.24), (-0.2, 0.25), (top, 0.96))
    jib = polygon(
        (0.04, 0.26),
        (long - 0.05, 0.22),
        (0.17, 0.5),
        (0.02 + lean, 0.9),
    )
    cabin = box(-0.2, 0.15, 0.08, 0.22)
    mast = bar(0, 0.15, lean, 1.0, 0.035, 0.02)
    seam = bar(-0.03, 0.46, -0.27, 0.47, 0.015)
    return [
        (hull, hull_color),
        (rim, shade(hull_color, 1.9)),
        (wet_hull, shade(hull_color, 0.55)),
        (cabin, (232, 226, 210)),
        (mast, (92, 68, 48)),
        (sail, sail_color),
        (fold, shade(sail_color, fold_tone)),
        (seam, shade(sail_color, 0.7)),
        (jib, jib_color),
    ]


def balloon(style: Style, lit: int) -> list[Part]:
    """Draw a hot-air balloon: gores in two colors, ropes and a basket.

    `foot` is the basket's floor.
    """
    warm = style[1] < 0.75
    hue = 0.58 + 0.22 * style[0]
    if warm:
        hue = 0.93 + 0.2 * style[0]
    vivid = 0.7 * float(style[2] < 0.6)
    first_color = hsv(hue, 0.85, 0.92)
    second_color = hsv(0.12 + 0.04 * style[2], vivid, 0.98)
    colors = first_color, second_color
    lower = (
        (0.06, 0.24),
        (0.17, 0.36),
        (0.29, 0.5),
        (0.345, 0.64),
    )
    outline = polygon(
        *lower,
        (0.325, 0.79),
        (0.24, 0.92),
        (0.1, 0.99),
    )  # right half, from below
    outline[:, 0] *= 0.96 + 0.1 * style[3]
    basket = hsv(0.08, 0.55, 0.42)
    left_rope = bar(-0.05, 0.1, -0.07, 0.26, 0.02)
    right_rope = bar(0.05, 0.1, 0.07, 0.26, 0.02)
    wicker = box(-0.07, 0, 0.07, 0.12)
    edge = box(-0.07, 0.085, 0.07, 0.12)
    parts: list[Part] = [
        (left_rope, shade(basket, 0.6)),
        (right_rope, shade(basket, 0.6)),
        (wicker, basket),
        (edge, shade(basket, 1.5)),
    ]
    meridians = np.linspace(-np.pi / 2, np.pi / 2, 8)
    seams = np.sin(meridians)  # of seven gores of a globe
    for k in range(7):
        left = seams[k]
        right = seams[k + 1]
        left_side = outline * (left, 1)
        right_side = outline[::-1] * (right, 1)
        gore = np.concatenate([left_side, right_side])
        from_light = abs((left + right) / 2 - 0.35 * lit)
        tone = 1.08 - 0.42 * from_light**1.5
        parts.append((gore, shade(colors[k % 2], tone)))
    belt = outline[3:5]
    band = np.concatenate([belt, belt[::-1] * (-1, 1)])
    gleam = disc(0.14 * lit, 0.83, 0.06, 0.045)
    return [
        *parts,
        (band, shade(colors[1], 0.8)),
        (gleam, shade(colors[0], 1.5)),
    ]


def windmill(style: Style, lit: int) -> list[Part]:
    """Draw a tower mill: white tapering tower, dark cap, four lattice sails."""
    wall = hsv(0.1, 0.06 + 0.1 * style[0], 0.9)
    cap = hsv(0.04 + 0.03 * style[1], 0.55, 0.34)
    dark = -lit  # the side away from the sun
    tower = polygon(
        (-0.2, 0),
        (-0.12, 0.6),
        (0.12, 0.6),
        (0.2, 0),
    )
    tower_shade = polygon(
        (0.2 * dark, 0),
        (0.12 * dark, 0.6),
        (0.03 * dark, 0.6),
        (0.06 * dark, 0),
    )
    roof = polygon(
        (-0.15, 0.58),
        (-0.11, 0.72),
        (0.0, 0.79),
        (0.11, 0.72),
        (0.15, 0.58),
    )
    parts: list[Part] = [
        (tower, wall),
        (tower_shade, shade(wall, 0.7)),
        (box(-0.06, 0, 0.06, 0.17), cap),
        (box(-0.04, 0.3, 0.04, 0.39), GLASS),
        (roof, cap),
    ]
    wood = hsv(0.07, 0.5, 0.3)
    cloth = hsv(0.08, 0.35 + 0.3 * style[2], 0.72)
    sail: list[Part] = [
        (box(0.08, 0, 0.37, 0.1), cloth),
        (bar(0.17, 0, 0.17, 0.1, 0.018), wood),
        (bar(0.27, 0, 0.27, 0.1, 0.018), wood),
        (bar(0, 0, 0.37, 0, 0.04), wood),
    ]
    for k in range(4):
        turn = math.pi / 2 * (k + style[3])
        cosine = math.cos(turn)
        sine = math.sin(turn)
        rotation = np.array([(cosine, sine), (-sine, cosine)])
        for shape, color in sail:
            parts.append((shape @ rotation + (0, 0.63), color))
    hub = disc(0, 0.63, 0.045)
    return [*parts, (hub, shade(wood, 1.3))]


# From the most to the least frequent: the data set's long tail.
DRAWERS: dict[str, Callable[[Style, int], list[Part]]] = {
    "tree": tree,
    "car": car,
    "house": house,
    "person": person,
    "cow": cow,
    "boat": boat,
    "balloon": balloon,
    "bus": bus,
    "windmill": windmill,
}
