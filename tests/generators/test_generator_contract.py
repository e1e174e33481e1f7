"""The contract of generators/__init__.py, over all entries of GENERATORS.

A new entry is tested unasked.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synthaug.generators import CONDITIONS, GENERATORS, NAMES, System, checkpoint, load_system
from synthaug.generators.base import (
    Edit,
    Layouts,
    MapBatch,
    Maps,
    Painting,
    Photo,
    PhotoBatch,
    SamplerOptions,
    Samples,
    TrainingBatch,
)
from synthaug.generators.copy_paste import Edit as Paste
from synthaug.generators.copy_paste import cut, piece
from tests.generators.tiny_pipeline import tiny_pipeline

CLASSES = 5
NAMES_OF_CLASSES = ["a", "b", "c", "d", "e"]
SMALL: dict[
    str, dict[str, Any]
] = {  # settings of systems whose images are not 64 x 64 by default, or large
    "lostgan": {
        "resolution": 64,
        "width": 4,
        "z_image": 8,
        "z_object": 8,
        "embedding": 8,
        "mask_hidden": 8,
    },
    "sg2im": {"width": 4, "width_d": 4, "embedding": 16, "hidden": 16, "noise": 4},
    "layout2im": {"width": 16, "width_d": 4, "embedding": 16, "z_object": 16},
    "grid2im": {
        "resolution": 64,
        "width": 4,
        "width_d": 4,
        "residual_blocks": 2,
        "embedding": 16,
        "hidden": 16,
        "mask_side": 8,
        "mask_noise": 8,
        "appearance": 8,
    },
    "spade": {"resolution": 64, "width": 2, "width_d": 2, "vae": True, "z": 4},
    "panoptic": {"resolution": 64, "width": 2, "width_d": 2},
    "pix2pix": {"width": 4, "width_d": 4},
    "pix2pix_maps": {"resolution": 64, "width": 4, "width_d": 4, "edges": True},
    "crn": {"resolution": 64, "aspect_ratio": 1.0, "width": 8, "images": 2},
    "sims": {"resolution": 64, "aspect_ratio": 1.0, "width": 2},
    "fill": {"resolutions": (16, 32), "width": 8, "embedding": 16, "heads": 2, "flow_steps": 3},
    "diffusers": {"side": 64, "denoising_steps": 2},
}
SIDE = 64
THREE = (0, 1, 2)
SEEDS = (7, 8, 9)
systems = pytest.mark.parametrize("name", GENERATORS)
learning = [name for name in GENERATORS if load_system(name).LEARNS]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Settings of systems that are made of checkpoints."""
    folder = tmp_path_factory.mktemp("parts")
    for name in ("lostgan", "panoptic"):
        system = load_system(name)
        config = system.Config(**SMALL[name])
        network = fresh(system, config)
        checkpoint.save(folder / f"{name}.safetensors", network, name, config, NAMES_OF_CLASSES, {})
    return {
        "posthoc": {
            "layouts": str(folder / "lostgan.safetensors"),
            "maps": str(folder / "panoptic.safetensors"),
        },
        **inpainting_files(folder / "pipeline"),
    }


def inpainting_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of a small pipeline of diffusers, where it is installed."""
    if importlib.util.find_spec("diffusers") is None:
        return {}
    return {"diffusers": {"pipeline": str(tiny_pipeline(folder))}}


def config_of(name: str, files: dict[str, dict[str, Any]]) -> Any:
    if name == "diffusers":
        pytest.importorskip("diffusers")
    return load_system(name).Config(**SMALL.get(name, {}), **files.get(name, {}))


def fresh(system: System, config: Any) -> nn.Module:
    """A network with weights that are large enough for conditions to show in its images."""
    torch.manual_seed(0)
    network = system.build(config, CLASSES)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn(value.shape) * 0.1)
    return network


def layouts_of(rows: Sequence[int]) -> Layouts:
    """Some of three layouts, with three, one and two objects."""
    boxes = np.array([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9], [0, 0.5, 1, 1]], np.float32)
    counts = [(3, 1, 2)[row] for row in rows]
    labels = [np.arange(1, n + 1) for n in counts]
    scores = [np.ones(n, np.float32) for n in counts]
    return Layouts.collate(labels, [boxes[:n] for n in counts], scores)


def maps_of(rows: Sequence[int]) -> Maps:
    """Some of three maps of cells of 8 pixels."""
    labels = []
    for row in rows:
        cells = np.random.default_rng(row).integers(0, CLASSES, (8, 8))
        labels.append(cells.repeat(8, 0).repeat(8, 1))
    return Maps.collate(labels, labels, CLASSES)


def pastes_of(rows: Sequence[int]) -> list[Paste]:
    """Some of three images with an object, and another one to be pasted over its corner."""
    pastes = []
    for row in rows:
        image = np.random.default_rng(row).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        there = np.zeros((1, SIDE, SIDE), bool)
        there[0, 10:40, 10 + row : 40] = True
        cutout = cut(image, (0, 0, 20, 20), None, 0)
        pieces = [piece(cutout, (30, 30, 50, 50), edge=1.0)]
        pastes.append(Paste(image, there, pieces))
    return pastes


def photo_of(row: int) -> Photo:
    """One of three photos with an object."""
    image = np.random.default_rng(row).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return Photo(image, np.array([row]), np.array([[4, 4, 24, 20]], np.float32))


def edits_of(rows: Sequence[int]) -> list[Edit]:
    """Some of three photos, and another object to be painted into each."""
    new = Painting(1, np.array([34, 30, 54, 50], np.float32))
    return [Edit(photo_of(row), [new]) for row in rows]


CONDITIONS_OF = {
    "layout": layouts_of,
    "map": maps_of,
    "edit": edits_of,
    "paste": pastes_of,
}


def batch_of(condition: str) -> Any:
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if condition == "map":
        return MapBatch(images, maps_of(THREE))
    if condition == "edit":
        return PhotoBatch([photo_of(row) for row in THREE])
    return TrainingBatch(images, layouts_of(THREE))


def sample(
    system: System, network: nn.Module, rows: Sequence[int], seeds: Sequence[int], **options: Any
) -> Samples:
    sampler = system.sampler(network, SamplerOptions(**options))
    return sampler.sample(CONDITIONS_OF[system.CONDITION](rows), seeds)


@systems
def test_the_module_states_what_the_pipeline_asks(name: str) -> None:
    system = load_system(name)
    assert system.CONDITION in CONDITIONS
    for flag in (system.LEARNS, system.ADDS_ONLY, system.TWO_STAGE):
        assert isinstance(flag, bool)
    assert all(isinstance(left_out, str) for left_out in system.FILES.values())


@systems
def test_an_image_is_that_of_its_own_condition_and_seed(
    name: str, files: dict[str, dict[str, Any]]
) -> None:
    """Alone, in a batch and in another order, to a grey level; what it learns from matters."""
    system = load_system(name)
    network = fresh(system, config_of(name, files))
    together = sample(system, network, THREE, SEEDS).images.astype(int)
    reversed_order = sample(system, network, THREE[::-1], SEEDS[::-1]).images.astype(int)
    assert np.abs(together - reversed_order[::-1]).max() <= 1
    for row, seed in zip(THREE, SEEDS, strict=True):
        alone = sample(system, network, [row], [seed]).images.astype(int)
        assert np.abs(together[row] - alone[0]).max() <= 1
    if system.LEARNS:
        other = sample(system, network, [1], [SEEDS[0]]).images.astype(int)
        assert np.abs(together[0] - other[0]).max() > 1


@systems
def test_samples_are_pixels_and_masks_lie_where_there_are_objects(
    name: str, files: dict[str, dict[str, Any]]
) -> None:
    system = load_system(name)
    network = fresh(system, config_of(name, files))
    samples = sample(system, network, THREE, SEEDS)
    assert samples.images.shape == (3, SIDE, SIDE, 3) and samples.images.dtype == np.uint8
    assert (samples.masks is None) == (system.CONDITION == "map")
    if samples.masks is None:
        return
    assert samples.masks.dtype == np.float32 and samples.masks.shape[2:] == (SIDE, SIDE)
    assert 0 <= samples.masks.min() and samples.masks.max() <= 1
    if system.CONDITION == "layout":
        assert samples.masks.shape[1] == 3
        assert samples.masks[0].any((1, 2)).any() and not samples.masks[1, 1:].any()


@systems
def test_every_option_is_accepted(name: str, files: dict[str, dict[str, Any]]) -> None:
    system = load_system(name)
    network = fresh(system, config_of(name, files))
    for options in ({"truncation": 0.0}, {"precision": "bfloat16"}, {"precision": "auto"}):
        images = sample(system, network, [0], [3], **options).images
        assert images.shape == (1, SIDE, SIDE, 3)
    sampler = system.sampler(network, SamplerOptions(compiled=True))  # compiles at the first call
    assert sampler is not None


@systems
def test_a_checkpoint_gives_the_same_samples(
    name: str, files: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    system = load_system(name)
    network = fresh(system, config_of(name, files))
    expected = sample(system, network, THREE, SEEDS)
    path = tmp_path / "generator.safetensors"
    checkpoint.save(path, network, name, network.config, NAMES_OF_CLASSES, {})
    loaded_system, loaded, header = checkpoint.load(path)
    assert loaded_system is system and header["classes"] == NAMES_OF_CLASSES
    made = sample(system, loaded, THREE, SEEDS)
    np.testing.assert_array_equal(made.images, expected.images)
    if expected.masks is not None:
        np.testing.assert_array_equal(made.masks, expected.masks)


def trained(name: str, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses of a first step, and the weights of the generator after it."""
    system = load_system(name)
    loop = system.Loop(ema=0.5)
    training = system.training(system.Config(**SMALL.get(name, {})), loop, CLASSES, 2, seed)
    losses = training.step(0, batch_of(system.CONDITION))
    assert training.modules and training.optimizers
    return dict(losses), training.generator().state_dict()


@pytest.mark.parametrize("name", learning)
def test_a_training_step_moves_the_weights_and_is_a_matter_of_the_seed(name: str) -> None:
    torch.manual_seed(1)
    losses, weights = trained(name, seed=3)
    before = torch.get_rng_state()
    torch.manual_seed(2)  # which must not matter
    losses_again, weights_again = trained(name, seed=3)
    torch.set_rng_state(before)
    assert all(bool(torch.isfinite(loss)) and not loss.requires_grad for loss in losses.values())
    torch.testing.assert_close(losses_again, losses, rtol=0, atol=0)
    torch.testing.assert_close(weights_again, weights, rtol=0, atol=0)
    system = load_system(name)
    config = system.Config(**SMALL.get(name, {}))
    start = system.training(config, system.Loop(ema=0.5), CLASSES, 2, 3).generator()
    moved = [key for key, value in start.named_parameters() if not torch.equal(value, weights[key])]
    assert moved
    _, others = trained(name, seed=4)
    assert any(not torch.equal(value, weights[key]) for key, value in others.items())


@pytest.mark.parametrize("name", learning)
def test_what_a_training_leaves_can_be_sampled(name: str) -> None:
    system = load_system(name)
    config = system.Config(**SMALL.get(name, {}))
    training = system.training(config, system.Loop(), CLASSES, 1, 0)
    training.step(0, batch_of(system.CONDITION))
    images = sample(system, training.generator(), THREE, SEEDS).images
    assert images.shape == (3, SIDE, SIDE, 3)


def incomplete(monkeypatch: pytest.MonkeyPatch, without: str, **changed: Any) -> None:
    """Enter a copy of the system boxes that lacks a name as `noise`."""
    boxes = importlib.import_module(GENERATORS["boxes"])
    module = ModuleType("noise_system")
    names = {**vars(boxes), **changed}
    names.pop(without, None)
    vars(module).update(names)
    monkeypatch.setitem(GENERATORS, "noise", "noise_system")
    monkeypatch.setitem(importlib.sys.modules, "noise_system", module)  # type: ignore[attr-defined]


@pytest.mark.parametrize("missing", NAMES)
def test_a_module_that_lacks_a_name_is_one_line(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    incomplete(monkeypatch, missing)
    with pytest.raises(ValueError, match=f"^noise_system lacks {missing}; generators/__init__"):
        load_system("noise")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"CONDITION": "boxes"}, "CONDITION 'boxes' is not one of layout, map, edit, paste"),
        ({"LEARNS": True}, "noise_system lacks Loop, training;"),
        ({"FILES": ("weights",)}, "noise_system.Config lacks weights;"),
        ({"CONDITION": "map"}, "noise_system.Config lacks size, dont_care;"),
        (
            {"LEARNS": True, "Loop": None, "training": None},
            "noise_system.Config lacks size;",
        ),
    ],
)
def test_a_module_that_contradicts_the_contract_is_one_line(
    changed: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    incomplete(monkeypatch, "", **changed)
    with pytest.raises(ValueError, match=message) as caught:
        load_system("noise")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="generator 'gaugan' is unknown; choose lostgan, boxes"):
        load_system("gaugan")
