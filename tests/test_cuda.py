"""Every system on a GPU.

What it computes is what it computes on a CPU, and each trains, is resumed and produces there.

Needs only what generators/ and detectors/ need, and pytest: `python -m pytest -m gpu` runs on a
bare machine with a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from synthaug.detectors import torchvision_rcnn
from synthaug.detectors.base import Sample
from synthaug.generators import load_system
from synthaug.generators.base import Layouts, MapBatch, Maps, SamplerOptions, TrainingBatch
from synthaug.generators.lostgan.fast import FastGenerator as FastLostGan
from synthaug.generators.nn.layers import SpectralNormed
from synthaug.generators.nn.panoptic.conv import hole_features
from synthaug.generators.nn.panoptic.neighbourhood import NeighbourhoodPyramid
from synthaug.generators.nn.panoptic.upsample import panoptic_upsample
from synthaug.generators.spade.fast import FastGenerator as FastSpade
from synthaug.generators.spade.semantics import semantics
from synthaug.generators.training.adversarial import AdversarialTraining
from synthaug.generators.training.adversarial import Config as TrainingConfig
from tests.panoptic_maps import blobs, randn

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CLASSES = 5
SETTINGS: dict[str, dict[str, Any]] = {
    "lostgan": {
        "resolution": 64,
        "width": 4,
        "z_image": 8,
        "z_object": 8,
        "embedding": 8,
        "mask_hidden": 8,
    },
    "spade": {"resolution": 32, "width": 4, "width_d": 4},
    "panoptic": {"resolution": 32, "width": 4, "width_d": 4},
}
systems = pytest.mark.parametrize("system", sorted(SETTINGS))


@pytest.fixture(autouse=True)
def full_products() -> Iterator[None]:
    """float32 as float32, so that a CPU's numbers can be expected."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def config_of(system: str, **changed: Any) -> Any:
    return load_system(system).Config(**{**SETTINGS[system], **changed})


def build(system: str, **changed: Any) -> torch.nn.Module:
    """A network whose numbers are large enough to show."""
    torch.manual_seed(0)
    network = load_system(system).build(config_of(system, **changed), CLASSES)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif "mlp_" in name and value.ndim > 1:
            value.normal_(std=0.1)
    for layer in network.train().modules():
        for _ in range(10 if isinstance(layer, SpectralNormed) else 0):
            layer.weight()
    return network.eval()


def maps(side: int = 32) -> Maps:
    labels = blobs(2, side, side, 1, cell=5, ids=CLASSES)
    return Maps(labels, labels + 10 * blobs(2, side, side, 2, cell=7, ids=2), CLASSES)


def layouts() -> Layouts:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.5, (2, 3, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 0.4], -1)
    labels = np.array([[1, 2, 3], [4, 5, 1]])
    return Layouts.collate(list(labels), list(boxes), [np.ones(3, np.float32)] * 2)


def batch_of(system: str) -> Any:
    side = SETTINGS[system]["resolution"]
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return TrainingBatch(images, layouts()) if system == "lostgan" else MapBatch(images, maps())


def training(
    system: str, device: str, precision: str = "float32", **changed: Any
) -> AdversarialTraining[Any]:
    loop = TrainingConfig(precision=precision, ema=0.9)
    made = load_system(system).training(config_of(system, **changed), loop, CLASSES, 10, 0, device)
    assert isinstance(made, AdversarialTraining)
    return made


def close(made: Tensor, expected: Tensor, allowed: float) -> None:
    """No number is further off than allowed, relative to the largest.

    Of bfloat16, relative to all by their norms.
    """
    m, e = made.cpu().double(), expected.cpu().double()
    assert m.isfinite().all()
    if allowed < 1e-2:
        worst = ((m - e).abs().max() / (1 + e.abs().max())).item()
    else:
        worst = ((m - e).norm() / e.norm().clamp_min(1e-6)).item()
    assert worst <= allowed


@systems
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step_is_a_cpus(system: str, precision: str) -> None:
    """The first step's losses; later ones tell how Adam turns rounding into steps."""
    expected = training(system, "cpu").step(0, batch_of(system))
    loop = training(system, DEVICE, precision)
    told = loop.step(0, batch_of(system).to(DEVICE))
    assert told.keys() == expected.keys()
    for name, loss in told.items():
        assert loss.device.type == DEVICE
        close(loss, expected[name], 1e-3 if precision == "float32" else 1e-1)
    assert all(torch.isfinite(loss) for loss in loop.step(1, batch_of(system).to(DEVICE)).values())


@systems
def test_a_training_goes_on_from_its_state(system: str, tmp_path: Path) -> None:
    """Weights, moments and counters come back to where they were, memory layout and all."""
    storage = pytest.importorskip("synthaug.pipeline.core.storage")
    loops = pytest.importorskip("synthaug.pipeline.execution.training")
    folder, batch = storage.Folder.at(tmp_path), batch_of(system).to(DEVICE)
    first = training(system, DEVICE)
    first.step(0, batch)
    loops.save_state(first, folder, 1)
    second = training(system, DEVICE)
    assert loops.load_state(second, folder) == 1
    expected, told = first.step(1, batch), second.step(1, batch)
    for name, loss in told.items():
        close(loss, expected[name], 1e-4)
    for name, value in first.modules["G"].state_dict().items():
        close(second.modules["G"].state_dict()[name], value, 1e-3)


@pytest.mark.parametrize("system", ["spade", "panoptic"])
def test_modulation_by_windows_is_by_pixels(system: str) -> None:
    expected = training(system, DEVICE, fast_modulation=False).step(0, batch_of(system).to(DEVICE))
    told = training(system, DEVICE, fast_modulation=True).step(0, batch_of(system).to(DEVICE))
    for name, loss in told.items():
        close(loss, expected[name], 1e-3)


@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)], ids=str
)
def test_spades_fast_form_is_the_network(dtype: torch.dtype, allowed: float) -> None:
    network, seen = build("spade"), maps()
    with torch.inference_mode():
        expected = network(semantics(seen, True, True))
        fast = FastSpade(network.to(DEVICE), dtype)
        close(fast(semantics(seen.to(DEVICE), True, True)), expected, allowed)


@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)], ids=str
)
def test_lostgans_fast_form_is_the_network(dtype: torch.dtype, allowed: float) -> None:
    network, given = build("lostgan"), layouts()
    z = randn(2, 8).float(), randn(2, 3, 8, seed=1).float()
    with torch.inference_mode():
        expected, masks = network(given, *z)
        fast = FastLostGan(network.to(DEVICE), dtype)
        images, made = fast(given.to(DEVICE), *(t.to(DEVICE) for t in z))
        close(images, expected, allowed)
        for m, e in zip(made, masks, strict=True):
            close(m, e, allowed)


@systems
def test_production_is_a_cpus(system: str) -> None:
    module, network = load_system(system), build(system)
    made = []
    for device in ("cpu", DEVICE):
        sampler = module.sampler(copy.deepcopy(network), SamplerOptions(device))
        conditions = layouts() if module.CONDITION == "layout" else maps()
        made.append(sampler.sample(conditions, [1, 2]).images)
    assert np.abs(made[0].astype(int) - made[1].astype(int)).max() <= 1
    assert made[0].std() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_upsampling_with_holes_is_a_cpus(dtype: torch.dtype) -> None:
    identity = blobs(2, 16, 16, 4, ids=6)
    x, weight = randn(2, 6, 8, 8), randn(6, 6, 3, 3, seed=1)
    grad = randn(2, 6, 16, 16, seed=2)
    results = []
    for device, kind in (("cpu", torch.float64), (DEVICE, dtype)):
        own = [
            t.to(dtype).to(device, kind).detach().requires_grad_() for t in (x, weight)
        ]  # leaves, also on a CPU
        neighbourhood = NeighbourhoodPyramid(identity.to(device), identity.to(device)).at(16)
        out = panoptic_upsample(
            own[0], neighbourhood, hole_features(own[1], None, [neighbourhood])[0]
        )
        out.backward(grad.to(dtype).to(device, kind))
        results.append([out.detach(), *(leaf.grad for leaf in own)])
    for made, expected in zip(results[1], results[0], strict=True):
        assert made is not None and expected is not None
        close(
            made, expected, {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
        )


def samples() -> list[Sample]:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(3):
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        boxes = np.array([[8, 8, 40, 40], [20, 24, 60, 60]], np.float32)
        found.append(Sample(image, boxes, np.array([0, 3])))
    return found


def test_a_detector_learns_and_sees_as_on_a_cpu() -> None:
    """Proposals are drawn the same.

    The first step's losses, and what is found with the weights it started from.
    """
    config = torchvision_rcnn.Config(width=8, image_size=64, score_floor=0.0, flip=False)
    told, found = [], []
    for device in ("cpu", DEVICE):
        detector = torchvision_rcnn.build(config, CLASSES, seed=3, device=device)
        found.append(detector.predict([s.image for s in samples()]))
        told.append(detector.training(4, 0).step(0, samples()))
    for name, loss in told[1].items():
        close(loss, told[0][name], 1e-3)
    for cpu, gpu in zip(*found, strict=True):
        n = min(5, len(cpu.scores), len(gpu.scores))
        assert n and np.abs(cpu.scores[:n] - gpu.scores[:n]).max() < 1e-3
