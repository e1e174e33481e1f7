"""What is in the first batches of every training: which images, turned how, with what labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.detectors.base import Sample
from synthaug.generators.copy_paste import Config as Pasting
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import Draw, draw_for
from synthaug.pipeline.batches.joint import unlabelled_images
from synthaug.pipeline.batches.layouts import LayoutFilter, layout_batches
from synthaug.pipeline.batches.maps import View, map_batches
from synthaug.pipeline.batches.photos import HeldOut, photo_batches
from synthaug.pipeline.core.scene import SceneList
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable
from synthaug.pipeline.synthesis.soft import soft_table
from synthaug.pipeline.trial.arms import (
    ARMS,
    RealEnd,
    arm_batches,
    first_part,
    fixed_part,
    real_draw,
)
from synthaug.pipeline.trial.recipe import Recipe
from tests.golden.recorded import Row, digest, hold
from tests.golden.scenes import described, mixed, painted

STEPS = (0, 1, 5)
SAMPLINGS = ("uniform", "repeat_factor", "class_balanced")


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_draws_are_what_they_were(sampling: str) -> None:
    tables = [mixed(), painted("val", 6)]
    draw = draw_for(tables, 6, 5, sampling, 0.6)
    rows: dict[str, Row] = {}
    for step in range(8):
        rows[f"step {step}: images"] = draw(step)
        rows[f"step {step}: drawn for"] = draw.drawn_for(step)
        rows[f"step {step}: mirrored"] = np.flatnonzero(draw.mirrored(step, True))
    if draw.weights is not None:
        rows["weights"] = draw.weights
    hold(f"draw_{sampling}", rows)


def tensors(batch: Any) -> Row:
    """Return digests of what a batch of layouts or maps has."""
    row = {"images": [digest(image) for image in batch.images]}
    if hasattr(batch, "layouts"):
        layouts = batch.layouts
        row["labels"] = layouts.labels
        row["boxes"] = digest(layouts.boxes)
        row["scores"] = digest(layouts.scores)
        if layouts.masks is not None:
            row["masks"] = digest(torch.nan_to_num(layouts.masks, nan=2.0))
    else:
        row["labels"] = digest(batch.labels)
        row["instances"] = digest(batch.instances)
        row["sources"] = list(batch.sources)
        if batch.weights is not None:
            row["weights"] = digest(batch.weights)
    return row


def photos(batch: Any) -> Row:
    """Return what a batch of photos has."""
    rows = []
    for photo in (*batch.photos, *batch.held_out):
        masks = []
        for number in range(len(photo.boxes)):
            mask = photo.mask_of(number)
            masks.append(digest([0] if mask is None else mask))
        shown = [photo.categories, digest(photo.boxes), digest(photo.image / 255)]
        rows.append([*shown, photo.drawn_for, masks])
    return rows


def samples(batch: list[Sample]) -> Row:
    """Return what a batch of a detector has."""
    rows = []
    for sample in batch:
        row = {
            "image": digest(sample.image / 255),
            "labels": sample.labels,
            "boxes": digest(sample.boxes),
            "background": not sample.ignore_background,
        }
        if sample.masks is not None:
            row["masks"] = digest(sample.masks)
        if sample.ignore is not None:
            row["ignore"] = digest(sample.ignore)
        if sample.box_loss is not None:
            row["box loss"] = sample.box_loss.astype(int)
        rows.append(row)
    return rows


def held(name: str, batches: Callable[[int], Any], show: Callable[[Any], Row]) -> None:
    """Hold what a few batches are shown to have."""
    hold(f"batches_{name}", {f"step {step}": show(batches(step)) for step in STEPS})


def test_batches_of_layouts_are_what_they_were() -> None:
    tables = [mixed(), painted("val", 6)]
    chosen = LayoutFilter(0.01, 1, 30)
    draw = draw_for(tables, 3, 5, "uniform", 0.1)
    held("layouts", layout_batches(tables, draw, (24, 32), chosen, True, mask_side=8), tensors)
    part = layout_batches(tables, draw, (24, 24), chosen, True, 1, 2)
    held("layouts_of_a_worker", part, tensors)


@pytest.mark.parametrize("mode", ["fixed", "resize_and_crop"])
def test_batches_of_maps_are_what_they_were(mode: str) -> None:
    tables = [painted(), painted("val", 6)]
    view = View((24, 32)) if mode == "fixed" else View((24, 32), "resize_and_crop", (30, 44))
    draw = draw_for(tables, 3, 5, "uniform", 0.1)
    held(f"maps_{mode}", map_batches(tables, draw, view, True, 0, 1), tensors)


def test_batches_of_photos_are_what_they_were() -> None:
    tables = [mixed(), painted("val", 6)]
    draw = draw_for(tables, 3, 5, "class_balanced", 0.1)
    held("photos", photo_batches(tables, draw, HeldOut(0.2, 4, 5), True), photos)


def test_batches_of_detectors_are_what_they_were() -> None:
    draw = Draw(12, 3, 4)
    held("detector", detector_batches(mixed(), draw, masks=True), samples)


def test_unlabelled_images_are_what_they_were() -> None:
    def show(images: Any) -> Row:
        return [[one.scene.image_id, one.mirror, digest(one.resized / 255)] for one in images]

    held("unlabelled", unlabelled_images(painted(), Draw(12, 4, 4), (24, 24), True), show)


# ---- The arms of a trial ----

RECIPES = {
    "usual": Recipe(),
    "careful": Recipe(added_boxes="agreed", pseudo_boxes="none", added_background="ignore"),
    "classes_alone": Recipe(added_boxes="none"),
}


def made() -> SceneList:
    """Return scenes as synthetic ones are, some of whose boxes a judge agreed with."""
    scenes = []
    for number, scene in enumerate(painted("test", 5)):
        count = len(scene.objects)
        source = tuple("synthetic" if k % 4 else "human" for k in range(count))
        iou = np.linspace(0.6, 1, count).astype(np.float32)
        objects = replace(scene.objects, source=source, verdict_iou=iou)
        name = f"made-{number}"
        scenes.append(replace(scene, image_id=name, objects=objects))
    return SceneList(painted().categories, scenes)


@pytest.mark.parametrize("name", RECIPES)
def test_batches_of_an_arm_are_what_they_were(name: str) -> None:
    real = mixed()
    added = [made(), painted("val", 4)]
    end = RealEnd(5, Draw(12, 2, 9)) if name == "careful" else None
    draw = real_draw(real, 3, 5, "uniform", 0.1)
    held(f"arm_{name}", arm_batches(real, draw, added, 2, 7, RECIPES[name], end), samples)


@pytest.mark.parametrize("sampling", ["uniform", "repeat_factor", "instance_aware"])
def test_real_images_of_an_arm_are_drawn_as_they_were(sampling: str) -> None:
    draw = real_draw(mixed(), 5, 5, sampling, 0.4)
    rows: dict[str, Row] = {f"step {step}": draw(step) for step in range(6)}
    if draw.weights is not None:
        rows["weights"] = draw.weights
    hold(f"arm_draw_{sampling}", rows)


def test_parts_of_tables_are_what_they_were() -> None:
    rows: dict[str, Row] = {}
    for fraction in (0.25, 0.5, 0.7):
        for name, part in (("fixed", fixed_part), ("first", first_part)):
            chosen = part(mixed(), fraction, 3)
            rows[f"{name} {fraction}"] = [scene.image_id for scene in chosen]
    hold("arm_parts", rows)


def test_arms_are_what_they_were() -> None:
    hold("arms", {name: vars(arm) for name, arm in ARMS.items()})


def test_images_of_the_control_arms_are_what_they_were() -> None:
    rows: dict[str, Row] = {}
    pasted = CopyPasteTable(painted(), Pasting(), 5, 30)
    for index in (0, 5, 13, 26):  # of three epochs
        rows[f"copy_paste {index}"] = described(pasted[index], pasted)
    softened = soft_table(painted(), 20)
    for index in range(2):
        rows[f"soft {index}"] = described(softened[index], softened)
    hold("arm_controls", rows, rel=2e-3)
