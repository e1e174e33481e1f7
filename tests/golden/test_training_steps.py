"""Three steps of each learning system: losses, gradients, rates, weights and averages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synthaug.generators import GENERATORS, grid2im, load_system
from synthaug.generators.base import (
    Layouts,
    MapBatch,
    Maps,
    Photo,
    PhotoBatch,
    Remembers,
    ToldOfMasks,
    TrainingBatch,
)
from tests.generators.test_generator_contract import SMALL
from tests.golden.recorded import Row, digest, hold

CLASSES = 5
SIDE = 64
IMAGES = 4
STEPS = 10
SEED = 3
# how far rows may be off on other processors: Adam makes much of gradients that are almost 0
ALLOWED = {"step": (5e-3, 1e-5), "gradients": (3e-2, 1e-5), "later": (1e-1, 1e-3)}
MEASURED = (0, 1, 8)  # steps: the first, one with averages and moments, one where rates fall


@dataclass(frozen=True)
class Case:
    """A system, and what differs from its defaults but the sizes."""

    system: str
    config: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)


WIDER = ("spade", "panoptic", "crn", "sims")
WIDE = {"aspect_ratio": 2.0}  # where a system makes images of two sides
SIZES = {name: {**keys, **(WIDE if name in WIDER else {})} for name, keys in SMALL.items()}
CASES = {name: Case(name) for name in GENERATORS if load_system(name).LEARNS}
CASES |= {
    "lostgan_per_image": Case("lostgan", {"per_image": True}, {"accumulate": 2}),
    "lostgan_parts": Case("lostgan", {}, {"accumulate": 2}),
    "lostgan_spade": Case("lostgan", {"normalization": "spade"}, {"ema": 0.9}),
    "sg2im_masks": Case("sg2im", {"given_masks": True, "mask_side": 8}, {"accumulate": 2}),
    "pix2pix_parts": Case("pix2pix", {}, {"accumulate": 2, "ema": 0.9}),
    "spade_ls": Case("spade", {"vae": False, "gan_mode": "ls"}, {"accumulate": 2}),
    "panoptic_style": Case("panoptic", {"vae": True, "z": 4}, {"ema": 0.9}),
    "crn_parts": Case("crn", {}, {"accumulate": 2, "ema": 0.9}),
    "fill_examples": Case("fill", {"examples": True}, {"turns": True}),
}


def layouts(config: Any) -> Layouts:
    """Four layouts with three, one, two and no objects, some of which are unsure.

    With masks where a system is told of them. Instance norms make noise of an empty image, so that
    Grid2Im's last one has an object.
    """
    mask_side = config.learns_masks if isinstance(config, ToldOfMasks) else 0
    rng = np.random.default_rng(5)
    counts = (3, 1, 2, 1 if isinstance(config, grid2im.Config) else 0)
    labels = [rng.integers(1, CLASSES + 1, count) for count in counts]
    boxes = []
    scores = []
    masks = []
    for count in counts:
        low = rng.random((count, 2)) * 0.5
        high = low + 0.2 + 0.3 * rng.random((count, 2))
        boxes.append(np.concatenate([low, high], 1).astype(np.float32))
        scores.append((1 - 0.7 * rng.random(count)).astype(np.float32))
        masks.append((rng.random((count, mask_side, mask_side)) < 0.6).astype(np.float32))
    masks[1][:] = np.nan  # of one that is not known
    return Layouts.collate(labels, boxes, scores, masks if mask_side else None)


def maps(size: tuple[int, int]) -> Maps:
    """Four maps of cells of 8 pixels, with pixels of no class and things side by side."""
    cells_down, cells_right = size[0] // 8, size[1] // 8
    rng = np.random.default_rng(6)
    labels = []
    instances = []
    for _ in range(IMAGES):
        cells = rng.integers(0, CLASSES + 1, (cells_down, cells_right))
        things = rng.integers(0, 3, (cells_down, cells_right))
        labels.append(cells.repeat(8, 0).repeat(8, 1))
        instances.append(things.repeat(8, 0).repeat(8, 1))
    return Maps.collate(labels, instances, CLASSES)


def photo(row: int) -> Photo:
    """Return a photo with two objects, of one of which the mask is known."""
    rng = np.random.default_rng(70 + row)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    boxes = np.array([[4, 6, 24, 20], [30, 28, 58, 60]], np.float32)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:18, 6:22] = True

    def mask_of(number: int) -> np.ndarray | None:
        return mask if number == 0 else None

    return Photo(image, np.array([row, 1]), boxes, drawn_for=row % 2, mask_of=mask_of)


def images(size: tuple[int, int]) -> Tensor:
    """Four smooth pictures in [-1, 1], no two alike."""
    rng = np.random.default_rng(7)
    coarse = torch.from_numpy(rng.uniform(-1, 1, (IMAGES, 3, 8, 8)).astype(np.float32))
    return nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def batch_of(condition: str, config: Any) -> Any:
    """Return a batch of a kind, with what a system is told of."""
    if condition == "edit":
        photos = [photo(row) for row in range(IMAGES)]
        return PhotoBatch(photos, [photo(4)])
    if condition == "map":
        weights = torch.from_numpy(np.random.default_rng(8).random((IMAGES, *config.size)))
        sources = torch.arange(IMAGES)
        return MapBatch(images(config.size), maps(config.size), weights.float(), sources)
    return TrainingBatch(images(config.size), layouts(config))


def flat(tensors: list[Tensor]) -> Tensor:
    """Return tensors end to end."""
    if not tensors:
        return torch.zeros(0)
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def weights_of(module: nn.Module) -> Tensor:
    return flat(list(module.parameters()))


def recorded_steps(case: Case) -> dict[str, Row]:
    """Return what three steps of a training did."""
    system = load_system(case.system)
    config = system.Config(**{**SIZES[case.system], **case.config})
    loop = system.Loop(**{"precision": "float32", **case.loop})
    training = system.training(config, loop, CLASSES, STEPS, SEED)
    batch = batch_of(system.CONDITION, config)
    if isinstance(training, Remembers):
        training.remember([batch])
    rows: dict[str, Row] = {}
    for name, module in training.modules.items():
        rows[f"start: {name}"] = digest(weights_of(module))
    for index in MEASURED:
        before = {name: weights_of(module) for name, module in training.modules.items()}
        losses = training.step(index, batch)
        for name, loss in sorted(losses.items()):
            rows[f"step {index}: loss {name}"] = float(loss)
        for name, optimizer in training.optimizers.items():
            rates = [float(group["lr"]) for group in optimizer.param_groups]
            rows[f"step {index}: rates of {name}"] = rates
        for name, module in training.modules.items():
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            if gradients and not index:  # later ones hang on signs of gradients that are almost 0
                rows[f"step {index}: gradient of {name}"] = digest(flat(gradients))
            moved = weights_of(module) - before[name]
            rows[f"step {index}: moved {name}"] = float(moved.norm())
            statistics = [b for b in module.buffers() if b.is_floating_point()]
            if statistics:
                rows[f"step {index}: buffers of {name}"] = digest(flat(statistics))
    return rows


def kind_of(key: str) -> str:
    """Return of which file a row is: what a step gives at once, gradients, or what follows."""
    if "gradient" in key:
        return "gradients"
    at_once = key.startswith(("start", "step 0")) or "rates" in key
    return "step" if at_once else "later"


@pytest.mark.parametrize("name", CASES)
def test_three_steps_do_what_they_did(name: str) -> None:
    """What the first step does is the same to rounding; what follows, to what Adam makes of it."""
    rows = recorded_steps(CASES[name])
    for kind, (rel, least) in ALLOWED.items():
        of_kind = {key: row for key, row in rows.items() if kind_of(key) == kind}
        hold(f"{kind}_{name}", of_kind, rel, least)
