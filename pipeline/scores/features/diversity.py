"""DS, diversity score (LostGAN-V2, section 3): how different are two images of one layout? LPIPS (Zhang et al. 2018) says.

Two images are painted from each layout with different latent codes. The mean LPIPS distance over the layouts, and its
standard deviation over them, are the score; higher is more diverse, also where the images are worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.images import resize
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
)
from synthaug.pipeline.scores.card import Metric, full_card
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
class LpipsExtractor(Extractor):
    """LPIPS between the first two images of a layout, and between the first ones of two layouts."""

    name: ClassVar[str] = "lpips"
    tables: tuple[str, ...] = ("synthetic",)
    samples: int = 2
    net: Net = "alex"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class; the partner of an image is read from the table."""
        state, _ = weights.read(inputs.resources.weights, networks.LPIPS_NETS[self.net])
        network = networks.Lpips(self.net, state, inputs.resources.device)
        place = {
            pair: i
            for i, pair in enumerate(
                zip(inputs.pairing.layout.tolist(), inputs.pairing.sample.tolist(), strict=True)
            )
        }
        layouts = sorted({layout for layout, sample in place if layout >= 0 and sample == 0})
        after = dict(zip(layouts, [*layouts[1:], *layouts[:1]], strict=True))

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            nothing = np.zeros(0)
            found: list[dict[str, NDArray[np.float64]]] = [
                {SAME: nothing, OTHER: nothing} for _ in images
            ]
            for name in (SAME, OTHER):
                jobs = [(i, _partner(image, name, place, after)) for i, image in enumerate(images)]
                pairs = [
                    (i, images[i].pixels(), partner) for i, partner in jobs if partner is not None
                ]
                others = [inputs.image("synthetic", partner).pixels() for _, _, partner in pairs]
                others = [
                    resize(b, a.shape[:2]) for (_, a, _), b in zip(pairs, others, strict=True)
                ]
                distances = network([a for _, a, _ in pairs], others)
                for (i, _, _), distance in zip(pairs, distances, strict=True):
                    found[i][name] = np.array([distance])
            return list(found)

        return extract


def _partner(
    image: TableImage, name: str, place: dict[tuple[int, int], int], after: dict[int, int]
) -> int | None:
    """Return the place of the image that a first image of a layout is compared with."""
    if image.sample or image.layout < 0:
        return None
    if name == SAME:
        return place.get((image.layout, 1))
    other = after.get(image.layout, image.layout)
    return place[other, 0] if other != image.layout else None


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Pairs of synthetic images."""
    return (_extractor(config),)


def available(inputs: MetricInputs, config: Config) -> str | None:
    """Two synthetic images of a layout, the library and the published weights must be there."""
    why = reason(inputs, networks.LPIPS_NETS[config.net], "lpips")
    if why:
        return why
    if not inputs.generated and not (inputs.pairing.sample > 0).any():
        return "no layout has two synthetic images; make two or more from each (provenance.source_image says from which)"
    return None


def unsupported(folder: Path | None, config: Config) -> str | None:
    """Say what a machine lacks for this score, whatever the data: the library, or the weights in this folder."""
    return unusable(folder, networks.LPIPS_NETS[config.net], "lpips")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return the mean LPIPS distance of two images of one layout; control `other_layout`: of images of two layouts."""
    extractor = _extractor(config)
    found: dict[str, list[float]] = {SAME: [], OTHER: []}
    for record in inputs.extracted(extractor, "synthetic"):
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
            inputs,
            extractor,
            **entries(inputs, networks.LPIPS_NETS[config.net])
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


def _extractor(config: Config) -> LpipsExtractor:
    return LpipsExtractor(net=config.net, limit=config.max_layouts)
