"""Styles as text: a latent code is a recipe, a weighted sum of the draws of seeds.

And the names a checkpoint knows.

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
Style = tuple[tuple[int, float], ...]  # (seed, weight): the sum of weight * the seed's draw


@dataclass(frozen=True)
class Codebook:
    """From class names to labels, and from seeds to latent codes.

    As a checkpoint has them.
    """

    classes: tuple[str, ...]
    config: Config
    truncation: float

    def label(self, name: str) -> int:
        """Return the label row of a class.

        ValueError with the nearest name when there is none.
        """
        if name not in self.classes:
            near = difflib.get_close_matches(name, self.classes, n=1, cutoff=0.6)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(self.classes)}"
            raise ValueError(f"the generator knows no class '{name}'; {hint}")
        return self.classes.index(name) + 1

    def image(self, style: Style) -> Tensor:
        """Return z_img [Z] of a style."""
        draws = []
        for seed, _ in style:
            z_image, _ = draw_latents(self.config, 1, seed, self.truncation)
            draws.append(z_image)
        return _sum(style, draws)

    def object(self, style: Style, number: int) -> Tensor:
        """Return z_obj [Z] of a style for the object with this number."""
        slot = number + int(self.config.background)  # the background's comes first
        return self._slot(style, slot)

    def background(self, style: Style) -> Tensor | None:
        """Return z_obj [Z] of the whole-image object, None where there is none.

        Some generators add one to every layout.
        """
        if not self.config.background:
            return None
        return self._slot(style, 0)

    def _slot(self, style: Style, slot: int) -> Tensor:
        draws = []
        for seed, _ in style:
            _, z_objects = draw_latents(self.config, slot + 1, seed, self.truncation)
            draws.append(z_objects[slot])
        return _sum(style, draws)


def _sum(style: Style, draws: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of draws [Z].

    A lone draw of weight 1 comes back bit for bit.
    """
    total = draws[0] * style[0][1]
    pairs = zip(style[1:], draws[1:], strict=True)
    for (_, weight), draw in pairs:
        total = total + draw * weight
    return total


def style_of(seed: int) -> Style:
    """Return the style of one seed."""
    return ((check_seed(seed), 1.0),)


def check_seed(seed: int) -> int:
    """Return a seed; ValueError when it is none."""
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed {seed} is not a whole number from 0 to 2^63 - 1")
    return seed


def recipe(parts: Iterable[Sequence[float]]) -> Style:
    """Return the style of [seed, weight] pairs."""
    style: list[tuple[int, float]] = []
    for number, weight in parts:
        seed = check_seed(int(number))
        style.append((seed, float(weight)))
    if not style:
        raise ValueError("a style has no seed; give at least one [seed, weight] pair")
    return tuple(style)


def checked_box(box: Sequence[float]) -> Box:
    """Return a box whose corners lie in the image and enclose something.

    Rounding beyond the border is forgiven.
    """
    values = [float(v) for v in box]
    if len(values) != 4 or not all(math.isfinite(v) for v in values):
        raise ValueError(f"box {values} is not four finite numbers x0, y0, x1, y1")
    if min(values) < -1e-6 or max(values) > 1 + 1e-6:
        shown = ", ".join(f"{v:g}" for v in values)
        raise ValueError(
            f"box [{shown}] reaches outside the image; give x0, y0, x1, y1 as shares of its size, "
            "0 to 1"
        )
    inside = [min(max(v, 0.0), 1.0) for v in values]
    x0, y0, x1, y1 = inside
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"box [{x0:g}, {y0:g}, {x1:g}, {y1:g}] is empty; x1 must exceed x0 and y1 must exceed "
            "y0"
        )
    return x0, y0, x1, y1
