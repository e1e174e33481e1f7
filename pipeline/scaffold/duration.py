"""How long a job takes on a machine, by its sizes and the measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthaug.pipeline.scaffold.rates import (
    DETECT,
    GENERATOR_LEARN,
    GENERATOR_PAINT,
    LEARN,
    SMALLEST_WINDOW,
    Machine,
)

SETUP = 60.0  # seconds: workers, reading, hashes, the report


@dataclass(frozen=True)
class Sizes:
    """What a job's duration depends on, its numbers of steps and images aside."""

    backbone: str
    detector_batch: int
    detector_pixels: float  # of an image in the network
    images_looked_at: int  # by the detector: validation and unlabelled ones
    system: str  # fill | panoptic
    generator_batch: int = 0
    pixels: float = 0  # of a window (fill) or an image (panoptic), the mean
    paintings: int = 0  # of a planned image: objects (fill), or 1
    scored: int = 0  # paintings of the validation set


@dataclass(frozen=True)
class Amounts:
    """The numbers that are made to fit a time."""

    detector_steps: int
    verify_steps: int
    generator_steps: int
    images: int


def seconds(sizes: Sizes, amounts: Amounts, machine: Machine) -> dict[str, float]:
    """Return how long each part of a run takes, in the order of the run."""
    learn = machine.per_second(LEARN[sizes.backbone])
    detect = machine.per_second(DETECT[sizes.backbone])
    learn_to_paint = machine.per_second(GENERATOR_LEARN[sizes.system])
    paint = machine.per_second(GENERATOR_PAINT[sizes.system])
    step = sizes.detector_batch * sizes.detector_pixels / learn
    look = sizes.detector_pixels / detect
    generator_step = sizes.generator_batch * sizes.pixels / learn_to_paint
    painting = sizes.pixels / paint
    return {
        "reading and report": SETUP,
        "detector": amounts.detector_steps * step + sizes.images_looked_at * look,
        "generator": amounts.generator_steps * generator_step,
        "painting": amounts.images * sizes.paintings * painting,
        "verification": amounts.verify_steps * step + amounts.images * look,
        "scores": sizes.scored * painting,
    }


def fitted(sizes: Sizes, full: Amounts, least: Amounts, machine: Machine, budget: float) -> Amounts:
    """Return the largest amounts, `least` to `full`, that fit `budget` seconds.

    All shrink by one share; `least` where even that takes longer.
    """
    low, high = 0.0, 1.0
    if sum(seconds(sizes, full, machine).values()) <= budget:
        return full
    for _ in range(20):
        share = (low + high) / 2
        tried = _between(least, full, share)
        if sum(seconds(sizes, tried, machine).values()) <= budget:
            low = share
        else:
            high = share
    return _between(least, full, low)


def _between(least: Amounts, full: Amounts, share: float) -> Amounts:
    """Return amounts a share of the way from `least` to `full`."""

    def part(low: int, high: int) -> int:
        return round(low + share * (high - low))

    return Amounts(
        part(least.detector_steps, full.detector_steps),
        part(least.verify_steps, full.verify_steps),
        part(least.generator_steps, full.generator_steps),
        part(least.images, full.images),
    )


def window_pixels(resolutions: Sequence[int]) -> float:
    """Return the pixels of a window of these sizes that its time counts, the mean."""
    counted = [max(resolution**2, SMALLEST_WINDOW) for resolution in resolutions]
    return sum(counted) / max(len(counted), 1)
