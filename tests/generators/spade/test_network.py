"""SPADE: what it sees of maps, equal forms of its modulation, training, import, and one line for each mistake."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from synthaug.generators import checkpoint
from synthaug.generators import official as importing
from synthaug.generators import spade as spade_system
from synthaug.generators.base import MapBatch, Maps, SamplerOptions
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.discriminator import Discriminator, Encoder
from synthaug.generators.spade.fast import FastGenerator
from synthaug.generators.spade.semantics import semantics
from synthaug.generators.training.adversarial import AdversarialTraining
from synthaug.generators.training.adversarial import Config as TrainingConfig

SMALL = spade.Config(resolution=32, width=2, width_d=2)


def maps_of(
    height: int, width: int, classes: int, seed: int, count: int = 1, cell: int = 3
) -> Maps:
    """Random maps of cells of several pixels; a class may touch itself in another instance."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (count, height // cell + 1, width // cell + 1))
    labels = coarse.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]
    ids = (
        rng.integers(0, 3, (count, height // 5 + 1, width // 5 + 1))
        .repeat(5, 1)
        .repeat(5, 2)[:, :height, :width]
    )
    return Maps.collate(list(labels), list(labels * 10 + ids), classes)


def settled(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Statistics and weights off their defaults, so that every part of the network shows in its output."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=rng)
        elif value.is_floating_point() and not name.endswith(("weight_u", "weight_v")):
            value.normal_(std=0.1, generator=rng)
    network.train()
    for module in network.modules():  # singular vectors of these weights
        if isinstance(module, spade.SpectralNormed):
            for _ in range(20):
                module.weight()
    return network.eval()


@pytest.mark.parametrize(
    ("dont_care", "edges"), [(True, True), (False, True), (True, False), (False, False)]
)
def test_the_semantic_tensor_by_definition(dont_care: bool, edges: bool) -> None:
    """One-hot classes, then don't care, then boundaries, against loops over pixels; and its size."""
    maps = maps_of(7, 9, 4, seed=1, count=2)
    if dont_care:
        maps.labels[0, 2:4, 3:5] = 4
    dense = semantics(maps, dont_care, edges).dense
    expected = torch.zeros(2, 4 + dont_care + edges, 7, 9)
    for b, y, x in np.ndindex(2, 7, 9):
        expected[b, maps.labels[b, y, x], y, x] = 1
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        ids = [maps.instances[b, v, u] for v, u in around if 0 <= v < 7 and 0 <= u < 9]
        if edges and any(i != maps.instances[b, y, x] for i in ids):
            expected[b, -1, y, x] = 1
    assert torch.equal(expected, dense)


def test_smaller_maps_are_the_top_left_pixels() -> None:
    seen = semantics(maps_of(16, 24, 5, seed=2), True, True)
    assert torch.equal(seen.dense[..., ::4, ::4], seen.at((4, 6)).dense)
    assert torch.equal(F.interpolate(seen.dense, (8, 12)), seen.at((8, 12)).dense)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.booleans(),
    st.booleans(),
)
def test_modulation_by_windows_is_that_by_pixels(
    height: int, width: int, classes: int, seed: int, dont_care: bool, edges: bool
) -> None:
    """Values and every gradient in float64, on maps of any size down to one pixel."""
    seen = semantics(
        maps_of(height, width, classes, seed, count=2, cell=1 + seed % 4), dont_care, edges
    )
    torch.manual_seed(seed)
    norm = spade.SpadeNorm(3, classes + dont_care + edges).double().eval()
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    weight = torch.randn(2, 3, height, width, dtype=torch.float64)
    found = []
    for by_windows in (False, True):
        norm.by_windows = by_windows
        given_x = x.clone().requires_grad_()
        hidden = seen if by_windows else _as_double(seen)
        out = norm(given_x, hidden)
        grads = torch.autograd.grad((out * weight).sum(), [given_x, *norm.parameters()])
        found.append([out.detach(), *grads])
    for pixels, windows in zip(*found, strict=True):
        torch.testing.assert_close(windows, pixels, rtol=0, atol=1e-11)


def _as_double(seen: Any) -> Any:
    other = replace(seen)
    other.__dict__["dense"] = seen.dense.double()
    return other


FORMS = [
    spade.Config(resolution=32, width=4),
    spade.Config(resolution=128, aspect_ratio=2.0, upsampling="more", width=2, dont_care=False),
    spade.Config(resolution=128, upsampling="most", width=2, edges=False),
    spade.Config(resolution=96, aspect_ratio=3.0, width=2, vae=True, z=5),
]


@pytest.mark.parametrize(
    "config", FORMS, ids=["normal", "more", "most", "odd first map and latent code"]
)
def test_production_is_the_network(config: spade.Config) -> None:
    """Every depth, channel choice and start; a batch of unlike maps; float32 up to rounding, bfloat16 roughly."""
    config = replace(config, fast_modulation=False)
    network = settled(spade_system.build(config, 6))
    seen = semantics(
        maps_of(*config.size, 6, seed=3, count=2, cell=7), config.dont_care, config.edges
    )
    z = torch.randn(2, config.z) if config.vae else None
    with torch.inference_mode():
        expected, fast = network(seen, z), FastGenerator(network)(seen, z)  # type: ignore[arg-type]
        narrow = FastGenerator(network, torch.bfloat16)(seen, z)  # type: ignore[arg-type]
    assert expected.shape == (2, 3, *config.size)
    assert 0.05 < expected.abs().mean() < 0.95
    torch.testing.assert_close(fast, expected, rtol=0, atol=1e-5)
    assert (narrow - expected).abs().mean() < 0.02


def test_an_image_is_its_own_whatever_the_batch() -> None:
    config = replace(SMALL, vae=True, z=4)
    network = settled(spade_system.build(config, 5))
    sampler = spade_system.sampler(network, SamplerOptions())
    maps = maps_of(32, 32, 5, seed=4, count=3)
    together = sampler.sample(maps, [7, 8, 7]).images
    assert together.shape == (3, 32, 32, 3)
    one = Maps(maps.labels[1:2], maps.instances[1:2], 5)
    alone = sampler.sample(one, [8]).images
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    other = sampler.sample(one, [9]).images
    assert np.abs(other[0].astype(int) - alone[0]).max() > 1


def test_mistakes_are_one_line() -> None:
    network = spade_system.build(replace(SMALL, dont_care=False), 5)
    sampler = spade_system.sampler(network, SamplerOptions())
    wrong = [
        (maps_of(16, 32, 5, seed=0), "16 x 32 pixels"),
        (maps_of(32, 32, 4, seed=0), "4 classes"),
        (
            Maps(torch.full((1, 32, 32), 5), torch.zeros(1, 32, 32, dtype=torch.int64), 5),
            "don't care",
        ),
    ]
    for maps, text in wrong:
        with pytest.raises(ValueError, match=text) as caught:
            sampler.sample(maps, [0])
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="labels: 9 is not a class index 0 to 4"):
        Maps.collate([np.full((2, 2), 9)], [np.zeros((2, 2), np.int64)], 5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resolution", 40),
        ("upsampling", "all"),
        ("aspect_ratio", 0.0),
        ("aspect_ratio", 100.0),
        ("gan_mode", "lsgan"),
        ("num_layers", 1),
        ("width", 0),
        ("lambda_kl", -1.0),
    ],
)
def test_impossible_settings_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key}:") as caught:
        spade.Config(**{key: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def training_of(config: spade.Config, loop: TrainingConfig) -> AdversarialTraining[MapBatch]:
    return spade_system.training(config, loop, 5, steps=6, seed=3)


def batch_of(count: int, seed: int) -> MapBatch:
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return MapBatch(images, maps_of(32, 32, 5, seed, count))


def parts_of(training: AdversarialTraining[MapBatch]) -> dict[str, Any]:
    return training.modules | {
        f"optimizer {name}": part for name, part in training.optimizers.items()
    }


def state_of(training: AdversarialTraining[MapBatch]) -> dict[str, Any]:
    return copy.deepcopy({name: part.state_dict() for name, part in parts_of(training).items()})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_resumes_bit_for_bit(accumulate: int) -> None:
    """With a latent code, whose encoder learns with G, in one part and in two."""
    config = replace(SMALL, vae=True, z=4)
    loop = TrainingConfig(lr_d=4e-4, beta2=0.9, accumulate=accumulate, ema=0.5)
    straight = training_of(config, loop)
    told = {}
    for step in range(4):
        if step == 2:
            saved = state_of(straight)
        told = straight.step(step, batch_of(4, step))
    assert {"d_real", "d_fake", "g_image", "g_features", "g_kl_sum"} == told.keys()
    assert {"G", "D", "E", "G_ema"} == straight.modules.keys()
    resumed = training_of(config, loop)
    before = state_of(resumed)["E"]["fc_mu.weight"]
    for name, part in parts_of(resumed).items():
        part.load_state_dict(saved[name])
    torch.rand(3)
    for step in (2, 3):
        resumed.step(step, batch_of(4, step))
    torch.testing.assert_close(state_of(resumed), state_of(straight), rtol=0, atol=0)
    assert not torch.equal(before, state_of(straight)["E"]["fc_mu.weight"])


def test_d_learns_on_fakes_of_the_updated_generator() -> None:
    """G runs twice a step, the second time with its new weights, so with other images."""
    training = training_of(SMALL, TrainingConfig(lr_g=1e-2))
    fakes: list[Tensor] = []
    training.modules["G"].register_forward_hook(lambda _m, _i, out: fakes.append(out))
    training.step(0, batch_of(2, 0))
    assert [True, False] == [fake.requires_grad for fake in fakes]
    assert not torch.equal(fakes[0], fakes[1])
    assert (
        training.modules["G"].get_buffer("head_0.norm_0.param_free_norm.num_batches_tracked") == 2
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_by_windows_is_that_by_pixels(precision: str) -> None:
    """Gradients of both networks, up to rounding."""
    found = []
    for fast in (False, True):
        training = training_of(
            replace(SMALL, width=4, fast_modulation=fast), TrainingConfig(precision=precision)
        )
        training.step(0, batch_of(2, 0))
        found.append(
            torch.cat(
                [p.grad.flatten() for n in ("G", "D") for p in training.modules[n].parameters()]
            )
        )  # type: ignore[union-attr]
    apart = (found[0] - found[1]).norm() / found[0].norm()
    assert apart < (1e-4 if precision == "float32" else 0.1)


def test_a_sum_over_images_is_not_weighed_by_parts() -> None:
    """The KL divergence of a batch in parts is that of the whole; without norms over the batch it depends on E alone."""
    config = replace(SMALL, vae=True, z=4)
    told = [
        training_of(config, TrainingConfig(accumulate=n)).step(0, batch_of(4, 0))["g_kl_sum"]
        for n in (1, 2)
    ]
    torch.testing.assert_close(told[0], told[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("config", FORMS, ids=["normal", "more", "most", "latent code"])
def test_generators_come_back_from_official_files(config: spade.Config, tmp_path: Path) -> None:
    """Widths, depth and channels as far as keys and shapes tell; then our own file, and production on it."""
    classes = {(True, True): 182, (False, True): 35, (True, False): 150}[
        (config.dont_care, config.edges)
    ]
    config = replace(
        config, resolution=512 if classes == 35 else 256, aspect_ratio=2.0 if classes == 35 else 1.0
    )
    state = spade_system.build(config, classes).state_dict()
    torch.save(
        {f"module.{key}": value for key, value in state.items()}, tmp_path / "latest_net_G.pth"
    )
    imported = importing.read(tmp_path / "latest_net_G.pth")
    assert (config, classes + 1) == (imported.found.config, imported.found.labels)
    assert importing.write(
        imported, importing.class_names([], classes + 1), tmp_path / "g.safetensors"
    )
    _, network, header = checkpoint.load(tmp_path / "g.safetensors")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())
    assert classes == len(header["classes"])


def test_critics_come_back(tmp_path: Path) -> None:
    critics = {"discriminator": Discriminator(36, 3, 3, 5), "encoder": Encoder(2, 7)}
    for kind, network in critics.items():
        torch.save(network.state_dict(), tmp_path / f"{kind}.pth")
        imported = importing.read(tmp_path / f"{kind}.pth")
        assert kind == imported.found.kind
        names = importing.class_names([], imported.found.labels)
        assert importing.write(imported, names, tmp_path / f"{kind}.safetensors")
        loaded = load_file(tmp_path / f"{kind}.safetensors")
        assert all(torch.equal(v, loaded[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    "key", ["fc.weight", "head_0.conv_0.bias", "up_3.norm_s.mlp_shared.0.weight", "conv_img.bias"]
)
def test_a_missing_or_misshapen_key_is_named(key: str, tmp_path: Path) -> None:
    state = spade_system.build(replace(SMALL, resolution=256), 182).state_dict()
    for change in ({}, {key: torch.zeros(*state[key].shape, 2)}):
        torch.save({k: v for k, v in state.items() if k != key} | change, tmp_path / "g.pth")
        with pytest.raises(ValueError, match=f"g.pth: .*'{key}'") as caught:
            importing.read(tmp_path / "g.pth")
        assert "\n" not in str(caught.value)
