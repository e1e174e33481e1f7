"""Styles as text: a latent code is a recipe, a weighted sum of what seeds draw; and the names a checkpoint knows.

Legend: Z width of a latent code.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from synthaug.generators.lostgan.config import Config
from synthaug.generators.lostgan.sampler import draw_latents

Box = tuple[float, float, float, float]  # xyxy, shares of the image
Style = tuple[tuple[int, float], ...]  # (seed, weight): the sum of weight * what the seed draws


@dataclass(frozen=True)
class Codebook:
    """What a checkpoint lets one ask for: class names to labels, and seeds to latent codes."""

    classes: tuple[str, ...]
    config: Config
    truncation: float

    def label(self, name: str) -> int:
        """Return the label row of a class; ValueError with the nearest name when there is none."""
        if name not in self.classes:
            near = difflib.get_close_matches(name, self.classes, n=1, cutoff=0.6)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(self.classes)}"
            raise ValueError(f"the generator knows no class '{name}'; {hint}")
        return self.classes.index(name) + 1

    def image(self, style: Style) -> Tensor:
        """z_img [Z] of a style."""
        return _sum(style, [self._drawn(seed, 0)[0] for seed, _ in style])

    def object(self, style: Style, number: int) -> Tensor:
        """z_obj [Z] of a style for the object with this number."""
        place = number + int(self.config.background)
        return _sum(style, [self._drawn(seed, place + 1)[1][place] for seed, _ in style])

    def background(self, style: Style) -> Tensor | None:
        """z_obj [Z] of the whole-image object that some generators add to every layout; None for the others."""
        drawn = [self._drawn(seed, 1)[1][0] for seed, _ in style]
        return _sum(style, drawn) if self.config.background else None

    def _drawn(self, seed: int, slots: int) -> tuple[Tensor, Tensor]:
        return draw_latents(self.config, max(1, slots), seed, self.truncation)


def _sum(style: Style, draws: Sequence[Tensor]) -> Tensor:
    """Add up draws [Z] with their weights; a lone draw of weight 1 comes back bit for bit."""
    total = draws[0] * style[0][1]
    for (_, weight), draw in zip(style[1:], draws[1:], strict=True):
        total = total + draw * weight
    return total


def style_of(seed: int) -> Style:
    """The recipe of one seed."""
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed {seed} is not a whole number from 0 to 2^63 - 1")
    return ((seed, 1.0),)


def recipe(parts: Iterable[Sequence[float]]) -> Style:
    """The style of [seed, weight] pairs."""
    style = tuple((style_of(int(seed))[0][0], float(weight)) for seed, weight in parts)
    if not style:
        raise ValueError("a style has no seed; give at least one [seed, weight] pair")
    return style


def checked_box(box: Sequence[float]) -> Box:
    """Return a box whose corners lie in the image and enclose something; rounding beyond the border is forgiven."""
    values = [float(v) for v in box]
    if len(values) != 4 or not all(math.isfinite(v) for v in values):
        raise ValueError(f"box {values} is not four finite numbers x0, y0, x1, y1")
    if min(values) < -1e-6 or max(values) > 1 + 1e-6:
        shown = ", ".join(f"{v:g}" for v in values)
        raise ValueError(
            f"box [{shown}] reaches outside the image; give x0, y0, x1, y1 as shares of its size, 0 to 1"
        )
    x0, y0, x1, y1 = (min(max(v, 0.0), 1.0) for v in values)
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"box [{x0:g}, {y0:g}, {x1:g}, {y1:g}] is empty; x1 must exceed x0 and y1 must exceed y0"
        )
    return x0, y0, x1, y1
