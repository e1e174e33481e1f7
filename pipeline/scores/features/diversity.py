"""DS, diversity score: how different are two images of one layout?

LostGAN-V2, section 3; LPIPS (Zhang et al. 2018) says. Two images are painted from each layout with
different latent codes. The mean LPIPS distance over the layouts, and its standard deviation over
them, are the score; higher is more diverse, also where the images are worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.core.images import resize
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
)
from synthaug.pipeline.scores.card import Metric, comparability, deviations, metric_of
from synthaug.pipeline.scores.features import convolutions, networks
from synthaug.pipeline.scores.features.published import (
    RESIZE,
    convolution_entries,
    missing_convolutions,
)
from synthaug.pipeline.scores.pairing import Pairing

Net = Literal["alex", "vgg"]
SAME, OTHER = "same_layout", "other_layout"
ENOUGH = 100  # layouts


@dataclass(frozen=True)
class Config:
    """The network of LPIPS and the number of layouts."""

    net: Net = "alex"  # alex (as published) | vgg
    max_layouts: int = 0  # validation layouts, the first in table order; 0 = all

    def __post_init__(self) -> None:
        if self.max_layouts < 0:
            raise ValueError(f"diversity.max_layouts is {self.max_layouts}; give 0 or more")


PUBLISHED = Config()  # LostGAN-V2, section 3: LPIPS, two images of each layout


@dataclass(frozen=True)
class LpipsExtractor(Extractor):
    """LPIPS between two images of a layout, and between images of two layouts.

    The first two images, and the first one of each.
    """

    name: ClassVar[str] = "lpips"
    tables: tuple[str, ...] = ("synthetic",)
    samples: int = 2
    net: Net = "alex"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the network; the partner of an image is read from the table."""
        name = networks.LPIPS_NETS[self.net]
        layers = convolutions.read_convolutions(inputs.resources.weights, name)
        heads = convolutions.read_heads(name)
        network = networks.Lpips(self.net, layers, heads, inputs.resources.device)
        partners = _Partners(inputs.pairing)

        def distances(images: Sequence[TableImage], kind: str) -> dict[int, float]:
            """Return the distance of each image that has a partner.

            By its position in the batch.
            """
            positions = []
            first = []
            second = []
            for position, image in enumerate(images):
                partner = partners.find(image, kind)
                if partner is None:
                    continue
                pixels = image.pixels()
                other = inputs.image("synthetic", partner).pixels()
                positions.append(position)
                first.append(pixels)
                second.append(resize(other, pixels.shape[:2]))
            found = network(first, second).tolist()
            return dict(zip(positions, found, strict=True))

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            same = distances(images, SAME)
            other = distances(images, OTHER)
            records: list[Arrays] = []
            for position in range(len(images)):
                own = _array(same.get(position))
                record = {SAME: own, OTHER: _array(other.get(position))}
                records.append(record)
            return records

        return extract


def _array(distance: float | None) -> Floats:
    """Return one distance [1], or none [0]."""
    if distance is None:
        return np.zeros(0)
    return np.array([distance])


class _Partners:
    """The images that the first image of each layout is compared with."""

    def __init__(self, pairing: Pairing) -> None:
        self._firsts: dict[int, int] = {}  # layout -> index of its first image
        self._seconds: dict[int, int] = {}
        pairs = zip(pairing.layout.tolist(), pairing.sample.tolist(), strict=True)
        for index, (layout, sample) in enumerate(pairs):
            if layout >= 0 and sample == 0:
                self._firsts[layout] = index
            if layout >= 0 and sample == 1:
                self._seconds[layout] = index
        layouts = sorted(self._firsts)
        self._next_layout = dict(pairwise(layouts))
        if len(layouts) > 1:
            self._next_layout[layouts[-1]] = layouts[0]

    def find(self, image: TableImage, kind: str) -> int | None:
        """Return the index of the partner of the first image of a layout.

        It is of the same layout, or of the next one. None where there is no partner.
        """
        if image.sample or image.layout < 0:
            return None
        if kind == SAME:
            return self._seconds.get(image.layout)
        next_layout = self._next_layout.get(image.layout)
        if next_layout is None:
            return None
        return self._firsts[next_layout]


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of distances between synthetic images."""
    return (_extractor(config),)


def available(inputs: MetricInputs, config: Config) -> str | None:
    """Return None where the score can be measured.

    It needs two synthetic images of a layout and the published weights.
    """
    name = networks.LPIPS_NETS[config.net]
    reason = missing_convolutions(inputs, name) or convolutions.missing_heads(name)
    if reason:
        return reason
    if not inputs.generated and not (inputs.pairing.sample > 0).any():
        return (
            "no layout has two synthetic images; make two or more from each "
            "(provenance.source_image says from which)"
        )
    return None


def unsupported(folder: Path | None, config: Config) -> str | None:
    """Return why this machine cannot use the published weights."""
    name = networks.LPIPS_NETS[config.net]
    return convolutions.find_convolutions(folder, name).reason or convolutions.missing_heads(name)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return the mean LPIPS distance of two images of one layout.

    Control `other_layout`: of images of two layouts.
    """
    extractor = _extractor(config)
    same: list[float] = []
    other: list[float] = []
    for record in inputs.extracted(extractor, "synthetic"):
        same += record.arrays[SAME].tolist()
        other += record.arrays[OTHER].tolist()
    warnings = []
    if len(same) < ENOUGH:
        warnings.append(f"{len(same)} layouts: below {ENOUGH} the mean is uncertain")
    name = networks.LPIPS_NETS[config.net]
    entries = convolution_entries(inputs, name)
    entries["resize"] = RESIZE["lpips"]
    entries["network"] = (
        f"LPIPS 0.1, {config.net}: published linear heads ({convolutions.heads_source(name)})"
        " on torchvision's ImageNet weights"
    )
    values = _values(same)
    return metric_of(
        inputs,
        extractor,
        name="diversity",
        headline="diversity",
        values=values,
        controls={OTHER: _values(other)},
        **entries,
        comparability=comparability(
            deviations("diversity", config, PUBLISHED, ()), "LostGAN-V2's diversity score"
        ),
        protocol="LPIPS between two synthetic images of one layout, mean and standard deviation "
        "over layouts",
        ceiling="other_layout: LPIPS between images of two layouts",
        warnings=warnings,
    )


def _values(distances: list[float]) -> dict[str, float | None]:
    mean = std = None
    if distances:
        mean = float(np.mean(distances))
        std = float(np.std(distances))
    return {"diversity": mean, "diversity_std": std, "layouts": len(distances)}


def _extractor(config: Config) -> LpipsExtractor:
    return LpipsExtractor(net=config.net, limit=config.max_layouts)
