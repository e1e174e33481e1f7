"""DS, diversity score (LostGAN-V2, section 3): how different are two images of one layout? LPIPS (Zhang et al. 2018) says.

Two images are painted from each layout with different latent codes. The mean LPIPS distance over the layouts, and its
standard deviation over them, are the score; higher is more diverse, also where the images are worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.images import resize
from synthaug.pipeline.scores.base import Arrays, Look, Material, Observer, View, full_card
from synthaug.pipeline.scores.card import Metric
from synthaug.pipeline.scores.features import networks, weights
from synthaug.pipeline.scores.features.published import RESIZE, entries, reason, unusable

Net = Literal["alex", "vgg"]
SAME, OTHER = "same_layout", "other_layout"


@dataclass(frozen=True)
class Config:
    """Whose LPIPS is used, on how many layouts."""

    net: Net = "alex"  # alex (as published) | vgg
    max_layouts: int = 0  # validation layouts, the first in table order; 0 = all

    def __post_init__(self) -> None:
        if self.max_layouts < 0:
            raise ValueError(f"diversity.max_layouts is {self.max_layouts}; give 0 or more")


@dataclass(frozen=True)
class PairLook(Look):
    """LPIPS between the first two images of a layout, and between the first ones of two layouts."""

    tables: tuple[str, ...] = ("synthetic",)
    samples: int = 2
    net: Net = "alex"

    def observer(self, material: Material) -> Observer:
        """See the base class; the partner of an image is read from the table."""
        state, _ = weights.read(material.weights, networks.LPIPS_NETS[self.net])
        network = networks.Lpips(self.net, state, material.device)
        place = {
            pair: i
            for i, pair in enumerate(
                zip(material.layout.tolist(), material.sample.tolist(), strict=True)
            )
        }
        layouts = sorted({layout for layout, sample in place if layout >= 0 and sample == 0})
        after = dict(zip(layouts, [*layouts[1:], *layouts[:1]], strict=True))

        def observe(views: Sequence[View]) -> list[Arrays]:
            nothing = np.zeros(0)
            found: list[dict[str, NDArray[np.float64]]] = [
                {SAME: nothing, OTHER: nothing} for _ in views
            ]
            for name in (SAME, OTHER):
                jobs = [(i, _partner(view, name, place, after)) for i, view in enumerate(views)]
                pairs = [
                    (i, views[i].pixels(), partner) for i, partner in jobs if partner is not None
                ]
                others = [material.view("synthetic", partner).pixels() for _, _, partner in pairs]
                others = [
                    resize(b, a.shape[:2]) for (_, a, _), b in zip(pairs, others, strict=True)
                ]
                distances = network([a for _, a, _ in pairs], others)
                for (i, _, _), distance in zip(pairs, distances, strict=True):
                    found[i][name] = np.array([distance])
            return list(found)

        return observe


def _partner(
    view: View, name: str, place: dict[tuple[int, int], int], after: dict[int, int]
) -> int | None:
    """Return the place of the image that a first image of a layout is compared with."""
    if view.sample or view.layout < 0:
        return None
    if name == SAME:
        return place.get((view.layout, 1))
    other = after.get(view.layout, view.layout)
    return place[other, 0] if other != view.layout else None


def looks(config: Config) -> tuple[Look, ...]:
    """Pairs of synthetic images."""
    return (_look(config),)


def available(material: Material, config: Config) -> str | None:
    """Two synthetic images of a layout, the library and the published weights must be there."""
    why = reason(material, networks.LPIPS_NETS[config.net], "lpips")
    if why:
        return why
    if not material.painted and not (material.sample > 0).any():
        return "no layout has two synthetic images; make two or more from each (provenance.source_image says from which)"
    return None


def lacks(folder: Path | None, config: Config) -> str | None:
    """Say what a machine lacks for this score, whatever the data: the library, or the weights in this folder."""
    return unusable(folder, networks.LPIPS_NETS[config.net], "lpips")


def score(material: Material, config: Config) -> Metric:
    """Return the mean LPIPS distance of two images of one layout; control `other_layout`: of images of two layouts."""
    look = _look(config)
    found: dict[str, list[float]] = {SAME: [], OTHER: []}
    for record in material.seen(look, "synthetic"):
        for name, distances in found.items():
            distances += record.arrays[name].tolist()
    same, other = (_values(distances) for distances in found.values())
    few = (
        [f"{len(found[SAME])} layouts: below 100 the mean is uncertain"]
        if len(found[SAME]) < 100
        else []
    )
    return Metric(
        name="diversity",
        value=same["diversity"],
        values=same,
        card=full_card(
            material,
            look,
            **entries(material, networks.LPIPS_NETS[config.net])
            | {"resize": RESIZE["lpips"]}
            | {
                "network": f"LPIPS 0.1, {config.net}: published linear heads (torchmetrics) on torchvision's ImageNet weights"
            },
            headline_key="diversity",
            protocol="LPIPS between two synthetic images of one layout, mean and standard deviation over layouts",
            ceiling="other_layout: LPIPS between images of two layouts",
            warnings=few,
        ),
        controls={OTHER: other},
    )


def _values(distances: list[float]) -> dict[str, float | None]:
    mean, std = (float(np.mean(distances)), float(np.std(distances))) if distances else (None, None)
    return {"diversity": mean, "diversity_std": std, "layouts": len(distances)}


def _look(config: Config) -> PairLook:
    return PairLook(net=config.net, limit=config.max_layouts)
