"""The generator of a job: objects in photos, whole images where there are maps."""

from __future__ import annotations

import math

import numpy as np

from synthaug.generators.fill.config import Config as FillConfig
from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.scaffold.given import MAPS, Given, Key
from synthaug.pipeline.scaffold.measure import SplitFacts

WINDOW_STEP = 16  # pixels: resolutions of windows are multiples of it
NATIVE_SIDES = 1.25  # a window of so many longer sides of its box is not resized (docs/fill.md)
SMALLEST_WINDOW, LARGEST_WINDOW, LARGEST_ON_GPU = 32, 128, 256  # pixels
FILL_STEPS = (200, 1000)  # least, and as in jobs/photos.yaml
MAP_STEPS = (300, 2000)
MAP_WIDTH, MAP_WIDTH_ON_GPU = 64, 256  # pixels
MAP_CELL = 32  # pixels: sides are multiples of it
FILL_BATCH, MAP_BATCH, MAP_BATCH_ON_GPU = 24, 8, 16
MANY = 0.05  # share of the objects that are too large to be painted finely: it is told


def generator_keys(given: Given, steps: int) -> list[Key]:
    """Return the keys of the section generator."""
    if given.system == MAPS:
        return _map_keys(given, steps)
    resolutions = resolutions_of(given)
    fullest = f"the fullest image has {given.labelled.most_objects}"
    keys = [
        Key("system", "fill", "paints further objects into the real images (docs/fill.md)"),
        Key("resolutions", resolutions, _why_resolutions(given, resolutions)),
        Key("max_objects", _room(given.labelled), f"{fullest}; objects of any size are learned"),
    ]
    if given.has_tail:
        why = "a rare class is learned from as often as a frequent one"
        keys.append(Key("sampling", "class_balanced", why))
    why = "as in jobs/photos.yaml; the weights with the lowest held-out loss are kept"
    if steps < FILL_STEPS[1]:
        why = f"what the time allows; {FILL_STEPS[1]} are usual"
    return [*keys, Key("steps", steps, why), Key("batch", FILL_BATCH, "windows per step")]


def _room(facts: SplitFacts) -> int:
    """Return the room of an image: the objects of the fullest, and what is added."""
    return 10 * math.ceil((facts.most_objects + 3) / 10)


def _why_resolutions(given: Given, resolutions: tuple[int, ...]) -> str:
    held = resolutions[-1] / NATIVE_SIDES
    sides = even_sides(given.labelled)
    share = float(np.mean(sides > held)) if len(sides) else 0.0
    why = f"pixels of windows: boxes of up to {held:.0f} are painted as finely as the photo"
    if share >= MANY:
        why += f"; {share:.0%} of the objects, classes counted alike, are larger and become softer"
    return why


def even_sides(facts: SplitFacts) -> Floats:
    """Return quantiles of the longer sides of things in pixels, as many of each class."""
    shares = np.linspace(0.025, 0.975, 20)
    of_classes = [np.zeros(0)]
    for at in facts.things:
        if facts.longer_sides.get(at):
            of_classes.append(np.quantile(np.array(facts.longer_sides[at]), shares))
    return np.concatenate(of_classes)


def resolutions_of(given: Given) -> tuple[int, ...]:
    """Return the sizes of windows that hold a median and a large object, in pixels."""
    sides = even_sides(given.labelled)
    if not len(sides):
        return FillConfig().resolutions
    most = LARGEST_ON_GPU if given.machine.gpu else LARGEST_WINDOW
    chosen = set()
    for share in (0.5, 0.95):
        wanted = NATIVE_SIDES * float(np.quantile(sides, share))
        rounded = WINDOW_STEP * math.ceil(wanted / WINDOW_STEP)
        chosen.add(min(max(rounded, SMALLEST_WINDOW), most))
    return tuple(sorted(chosen))


def resolutions_met(given: Given) -> list[int]:
    """Return the resolution at which each of a sample of objects is seen."""
    from synthaug.generators.fill.edits import window_around

    config = FillConfig(resolutions=resolutions_of(given))
    met = []
    for side in even_sides(given.labelled):
        box = np.array([0, 0, side, side], np.float32)
        _, resolution = window_around(box, config)
        met.append(resolution)
    return met


def _map_keys(given: Given, steps: int) -> list[Key]:
    width, aspect = map_size(given)
    on_cpu = not given.machine.gpu
    told = "pixels, width of the images"
    if on_cpu:
        told += ": as much as is learned without a GPU"
    why = "images have panoptic maps (docs/panoptic.md); fill paints objects into photos instead"
    keys = [Key("system", MAPS, why), Key("resolution", width, told)]
    if aspect != 1:
        why = "width over height, as near to the images' as its blocks allow"
        keys.append(Key("aspect_ratio", aspect, why))
    if on_cpu:
        keys += [
            Key("width", 8, "channels, as in jobs/panoptic.yaml; the published network has 64"),
            Key("width_d", 16, "the same of the discriminators"),
            Key("scaling", "root", "of windows at boundaries: better at this size"),
        ]
    fullest = f"things of a map; the fullest has {given.labelled.most_objects} with its stuff"
    keys.append(Key("max_objects", _room(given.labelled), fullest))
    why = "what the time allows" if steps < MAP_STEPS[1] else ""
    keys.append(Key("steps", steps, why))
    keys.append(Key("batch", MAP_BATCH if on_cpu else MAP_BATCH_ON_GPU, "images per step"))
    if given.has_tail:
        keys.append(Key("sampling", "repeat_factor", "images with rare classes come more often,"))
        keys.append(Key("repeat_threshold", 1.0, "the rarer the more"))
    if given.roles.unlabelled.reference:
        why = "pseudo-labels have maps with detector.masks alone (docs/panoptic.md)"
        keys.append(Key("use_pseudo", False, why))
    return keys


def map_size(given: Given) -> tuple[int, float]:
    """Return the width of the images of a generator of maps, and width over height."""
    height, width = given.labelled.median_size
    resolution = MAP_WIDTH_ON_GPU if given.machine.gpu else MAP_WIDTH
    columns = resolution // MAP_CELL
    rows = max(round(columns * height / max(width, 1)), 1)
    return resolution, round(columns / rows, 4)


def training_keys(given: Given) -> list[Key]:
    """Return the keys of the section train_generator."""
    keys = [Key("precision", "auto", "bfloat16 where the hardware has it")]
    if given.system == MAPS:
        keys += [
            Key("lr_g", 0.0001, "SPADE's: discriminators learn four times as fast"),
            Key("lr_d", 0.0004),
            Key("beta2", 0.9),
        ]
    return keys
