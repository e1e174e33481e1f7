"""How much faster are the production forms of pix2pix and CRN than their networks, evaluated
directly?

    python -m benchmarks.map_baselines_speed [pix2pix] [pix2pix_maps] [crn]

The baselines are the networks in evaluation, in float32, from conditions with a channel per class.
Published widths, random weights and conditions. One thread of one process runs both forms on one
condition after the other; what counts is the median over conditions of the ratio of their CPU
seconds, which other work on the machine hardly moves.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from synthaug.generators import crn, pix2pix
from synthaug.generators.base import Layouts, Maps
from synthaug.generators.crn.config import Config as CrnConfig
from synthaug.generators.crn.fast import FastCascade
from synthaug.generators.pix2pix import maps as pix2pix_maps
from synthaug.generators.pix2pix.config import Config, MapConfig
from synthaug.generators.pix2pix.fast import BoxStem, FastUNet, MapStem
from synthaug.generators.pix2pix.painting import class_boxes
from synthaug.generators.pix2pix.sampler import first_weight
from synthaug.generators.spade.semantics import Semantics, semantics

CONDITIONS = 5
CELL = 16  # pixels a side of the areas of one class
OBJECTS = 6  # of a layout


@dataclass(frozen=True)
class Forms:
    """Both forms of a system, as functions of the number of a condition."""

    direct: Callable[[int], Tensor]
    production: Callable[[int], Tensor]


def layouts_of(number: int, count: int, classes: int) -> Layouts:
    """Return layouts of six objects each."""
    rng = torch.Generator().manual_seed(number)
    corners = torch.rand(count, OBJECTS, 2, 2, generator=rng)
    low = corners.amin(2)
    high = corners.amax(2)
    boxes = torch.cat([low, high], -1)  # [B, O, 4]
    shape = (count, OBJECTS)
    labels = torch.randint(1, classes + 1, shape, generator=rng)
    scores = torch.ones(shape)
    return Layouts(labels, boxes, scores)


def maps_of(number: int, size: tuple[int, int], classes: int) -> Maps:
    """Return a map of square areas."""
    rng = torch.Generator().manual_seed(number)
    height, width = size
    shape = (1, height // CELL, width // CELL)
    cells = torch.randint(classes, shape, generator=rng)
    rows = cells.repeat_interleave(CELL, 1)
    labels = rows.repeat_interleave(CELL, 2)
    return Maps(labels, labels, classes)


def semantics_of(number: int, size: tuple[int, int], classes: int) -> Semantics:
    """Return a map of square areas as networks see it."""
    return semantics(maps_of(number, size, classes), True, False)


def pix2pix_forms() -> Forms:
    """COCO-Stuff's 171 classes at 64 pixels, 16 layouts at a time."""
    classes, count = 171, 16
    config = Config()
    network = pix2pix.build(config, classes).eval()
    stem = BoxStem(first_weight(network), config.size)
    fast = FastUNet(network)

    def direct(number: int) -> Tensor:
        layouts = layouts_of(number, count, classes)
        channels = class_boxes(layouts, classes, config.size)
        images: Tensor = network(channels)
        return images

    def production(number: int) -> Tensor:
        layouts = layouts_of(number, count, classes)
        images: Tensor = fast(stem(layouts))
        return images

    return Forms(direct, production)


def pix2pix_map_forms() -> Forms:
    """Cityscapes' 34 classes at 256 pixels."""
    classes = 34
    config = MapConfig()
    network = pix2pix_maps.build(config, classes).eval()
    stem = MapStem(first_weight(network), classes + 1)
    fast = FastUNet(network)

    def direct(number: int) -> Tensor:
        seen = semantics_of(number, config.size, classes)
        images: Tensor = network(seen.dense)
        return images

    def production(number: int) -> Tensor:
        seen = semantics_of(number, config.size, classes)
        images: Tensor = fast(stem(seen))
        return images

    return Forms(direct, production)


def crn_forms() -> Forms:
    """Cityscapes' 19 classes at 512 x 256 pixels."""
    classes = 19
    config = CrnConfig()
    network = crn.build(config, classes).eval()
    fast = FastCascade(network)

    def direct(number: int) -> Tensor:
        seen = semantics_of(number, config.size, classes)
        images: Tensor = network(seen.dense)
        return images[:, 0]

    def production(number: int) -> Tensor:
        seen = semantics_of(number, config.size, classes)
        images: Tensor = fast(seen.dense, [0])
        return images

    return Forms(direct, production)


SYSTEMS = {"pix2pix": pix2pix_forms, "pix2pix_maps": pix2pix_map_forms, "crn": crn_forms}


@torch.inference_mode()
def compare(name: str, conditions: int = CONDITIONS) -> str:
    """Return a line of the table."""
    torch.manual_seed(0)
    forms = SYSTEMS[name]()
    spent: dict[str, list[float]] = {"direct": [], "production": []}
    apart = 0.0
    forms.production(0)  # memory that is there already is no advantage
    for number in range(conditions):
        images = []
        for form, seconds in spent.items():
            began = time.process_time()
            images.append(vars(forms)[form](number))
            seconds.append(time.process_time() - began)
        direct, production = images
        largest = direct.abs().max()
        difference = (direct - production).abs().max()
        apart = max(apart, float(difference / largest))
    ratios = []
    for direct_seconds, seconds in zip(spent["direct"], spent["production"], strict=True):
        ratios.append(direct_seconds / seconds)
    columns = [name]
    for of_form in spent.values():
        columns.append(f"{statistics.median(of_form):.2f}")
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    columns.append(f"{statistics.median(ratios):.2f} {spread}")
    columns.append(f"{apart:.0e}")
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Print the table of the systems that are named, or of all."""
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(SYSTEMS)
    unknown = set(names) - SYSTEMS.keys()
    if unknown:
        raise SystemExit(f"{min(unknown)} is not one of {', '.join(SYSTEMS)}")
    print("| system | direct, CPU s | production, CPU s | ratio (min to max) | apart |")
    print("|---|---|---|---|---|")
    for name in names:
        print(compare(name), flush=True)


if __name__ == "__main__":
    main()
