"""Images of every system, of weights that are drawn from numbers and not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from synthaug.generators import GENERATORS, System, checkpoint, load_system
from synthaug.generators.base import Edit, Example, Layouts, Painting, SamplerOptions
from synthaug.generators.copy_paste import Edit as Paste
from synthaug.generators.copy_paste import cut, piece
from tests.golden.recorded import Row, digest, hold
from tests.golden.test_training_steps import CLASSES, SIDE, SIZES, batch_of, layouts, maps, photo

SEEDS = (7, 8, 9, 10)
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lostgan_sharp": ("lostgan", {"background": True, "clip_masks": True}, {"truncation": 0.4}),
    "sg2im_stretched": ("sg2im", {"stretch": True, "given_boxes": False}, {}),
    "panoptic_plain": ("panoptic", {"panoptic_conv": False, "vae": True, "z": 4}, {}),
    "posthoc_all_known": ("posthoc", {"dont_care": False}, {}),
    "fill_examples": ("fill", {"examples": True, "guidance": 2.0}, {}),
}
LOOSE = {"panoptic_plain": 3e-2}  # whose pixels differ more on other processors
SYSTEMS = {name: (name, {}, {}) for name in GENERATORS if name not in ("diffusers", "sims")}
SYSTEMS |= VARIANTS


def drawn(system: System, config: Any, classes: int = CLASSES) -> nn.Module:
    """Return a network whose weights no initialization decides; statistics are as they begin."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the states of power iterations
        network = system.build(config, classes)
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for weight in network.parameters():
            fan_in = max(1, weight[0].numel()) if weight.ndim > 1 else 25
            numbers = rng.normal(0, 1 / np.sqrt(fan_in), tuple(weight.shape))
            centre = 1.0 if weight.ndim == 1 else 0.0
            weight.copy_(torch.from_numpy(centre + numbers))
    return network


def edits(with_example: bool) -> list[Edit]:
    """Photos in which an object, a seam and background are painted."""
    shown = None
    if with_example:
        noise = np.random.default_rng(3).integers(0, 256, (12, 9, 3), np.uint8)
        down, right = np.mgrid[:12, :9]
        disc = (down - 5.5) ** 2 / 36 + (right - 4) ** 2 / 20 < 1
        shown = Example(noise, disc.astype(np.float32))
    paintings = [
        Painting(1, np.array([34, 30, 54, 50], np.float32), example=shown),
        Painting(2, np.array([10, 8, 30, 22], np.float32), "background", replaces=0),
        Painting(1, np.array([30, 28, 58, 60], np.float32), "seam"),
    ]
    return [Edit(photo(0), paintings), Edit(photo(1), paintings[:1])]


def pastes() -> list[Paste]:
    """Images into which a piece of another one is pasted, over the corner of an object."""
    made = []
    for row in range(2):
        rng = np.random.default_rng(row)
        image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        there = np.zeros((1, SIDE, SIDE), bool)
        there[0, 10:40, 10 + row : 40] = True
        cutout = cut(image, (0, 0, 20, 14), None, 0)
        made.append(Paste(image, there, [piece(cutout, (30, 30, 50, 44), edge=1.0)]))
    return made


def conditions(system: System, config: Any) -> Any:
    """Return two to four conditions of a system's kind."""
    if system.CONDITION == "map":
        return maps(config.size)
    if system.CONDITION == "edit":
        return edits(bool(vars(config).get("examples")))
    if system.CONDITION == "paste":
        return pastes()
    given: Layouts = layouts(config)
    return given


def described(samples: Any) -> dict[str, Row]:
    """Return rows of images, masks and boxes."""
    rows: dict[str, Row] = {}
    for number, image in enumerate(samples.images):
        for name, channel in zip("rgb", np.moveaxis(image, -1, 0) / 255, strict=True):
            rows[f"image {number}: {name}"] = digest(channel)
    if samples.masks is not None:
        for number, masks in enumerate(samples.masks):
            rows[f"image {number}: masks"] = [digest(mask) for mask in masks]
    if samples.boxes is not None:
        rows["boxes"] = digest(samples.boxes)
    return rows


@pytest.mark.parametrize("name", SYSTEMS)
def test_images_are_what_they_were(name: str, tmp_path: Path) -> None:
    system_name, changes, options = SYSTEMS[name]
    system = load_system(system_name)
    settings = {**SIZES.get(system_name, {}), **changes}
    if system_name == "posthoc":
        settings = parts(tmp_path, **changes)
    config = system.Config(**settings)
    sampler = system.sampler(drawn(system, config), SamplerOptions(**options))
    given = conditions(system, config)
    samples = sampler.sample(given, SEEDS[: len(given)])
    hold(f"images_{name}", described(samples), LOOSE.get(name, 5e-3), least=2e-3)


def parts(folder: Path, dont_care: bool = True) -> dict[str, str]:
    """Write the two checkpoints of a system in two stages; pixels of maps may be of no class."""
    files = {}
    for key, name in (("layouts", "lostgan"), ("maps", "panoptic")):
        system = load_system(name)
        own = {} if name == "lostgan" else {"dont_care": dont_care}
        config = system.Config(**{**SIZES[name], **own})
        path = folder / f"{name}.safetensors"
        checkpoint.save(path, drawn(system, config), name, config, list("abcde"), {})
        files[key] = str(path)
    return files


def test_sims_pastes_and_paints_what_it_pasted() -> None:
    """Its images are made of what it remembers, so it is given something to remember."""
    system = load_system("sims")
    config = system.Config(**SIZES["sims"])
    training = system.training(config, system.Loop(precision="float32"), CLASSES, 2, 3)
    training.remember([batch_of("map", config)])  # type: ignore[attr-defined]
    sampler = system.sampler(training.generator(), SamplerOptions())
    hold("images_sims", described(sampler.sample(maps(config.size), SEEDS)), rel=5e-3, least=2e-3)
