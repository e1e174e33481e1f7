"""The panoptic-aware generator.

SPADE where it must be, identities that do not mix, training, production.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.generators import checkpoint
from synthaug.generators import panoptic as panoptic_system
from synthaug.generators import spade as spade_system
from synthaug.generators.base import MapBatch, Maps, SamplerOptions
from synthaug.generators.panoptic import network as panoptic
from synthaug.generators.panoptic.fast import FastPanoptic
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.semantics import Semantics, semantics
from synthaug.generators.training.adversarial import Config as TrainingConfig
from tests.panoptic_maps import blobs

SMALL = panoptic.Config(resolution=32, width=2, width_d=2)


def maps_of(seed: int, count: int = 2, size: int = 32) -> Maps:
    """Maps of 3 classes with instances, and pixels of no class."""
    labels = blobs(count, size, size, seed, cell=5, ids=4)
    return Maps(labels, labels + 10 * blobs(count, size, size, seed + 1, cell=7, ids=2), 3)


def seen_by(config: spade.Config, maps: Maps) -> Semantics:
    return semantics(maps, config.dont_care, config.edges)


def pair(config: panoptic.Config) -> tuple[panoptic.PanopticGenerator, spade.SpadeGenerator]:
    """A generator, and SPADE with the same weights where they have the same names.

    Weights are large enough to show.
    """
    torch.manual_seed(0)
    own = panoptic_system.build(config, 3)
    with torch.no_grad():
        for value in own.parameters():
            value.normal_(std=0.2)
    plain = {k: v for k, v in asdict(config).items() if k in spade.Config.__dataclass_fields__}
    other = spade_system.build(spade.Config(**plain), 3)
    other.load_state_dict({k: v for k, v in own.state_dict().items() if not k.startswith("fill.")})
    return own.eval(), other.eval()


def test_one_identity_and_matching_border_is_spade() -> None:
    own, other = pair(replace(SMALL, border="same"))
    one = Maps(torch.full((2, 32, 32), 1), torch.full((2, 32, 32), 7), 3)
    seen = seen_by(SMALL, one)
    assert torch.allclose(own(seen), other(seen), atol=1e-5)
    mixed = seen_by(SMALL, maps_of(0))
    assert not torch.allclose(own(mixed), other(mixed), atol=1e-3)
    outside, _ = pair(SMALL)  # border: hole
    assert not torch.allclose(outside(seen), other(seen), atol=1e-3)


def test_both_switches_off_is_spade() -> None:
    own, other = pair(replace(SMALL, panoptic_conv=False, panoptic_upsampling=False))
    seen = seen_by(SMALL, maps_of(1))
    assert own.state_dict().keys() == other.state_dict().keys()
    assert torch.equal(own(seen), other(seen))


@pytest.mark.parametrize(("conv", "upsampling"), [(True, False), (False, True)])
def test_each_switch_changes_the_image_alone(conv: bool, upsampling: bool) -> None:
    own, other = pair(replace(SMALL, panoptic_conv=conv, panoptic_upsampling=upsampling))
    seen = seen_by(SMALL, maps_of(2))
    assert not torch.allclose(own(seen), other(seen), atol=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_only_which_instances_differ_counts(seed: int) -> None:
    """Other numbers for the same instances give the same image."""
    own, _ = pair(SMALL)
    maps = maps_of(seed, 1)
    renamed = replace(maps, instances=1000 - 3 * maps.instances)
    with torch.no_grad():
        assert torch.allclose(own(seen_by(SMALL, maps)), own(seen_by(SMALL, renamed)), atol=1e-5)


def test_blocks_are_kept_apart_by_identity() -> None:
    """A block's convolution of one instance does not see another one's features."""
    conv = panoptic.PanopticBlockConv(4, 5, 3, True, SMALL.neighbourhood).eval()
    maps = maps_of(3, 1, 8)
    seen = seen_by(SMALL, maps)
    identity = seen.neighbourhood(SMALL.neighbourhood).identity[0]
    inside = identity == identity[0, 0]
    assert inside.any() and not inside.all()
    x = torch.randn(1, 4, 8, 8)
    changed = torch.where(inside, x, x + 1)
    with torch.no_grad():
        before, after = conv(x, seen), conv(changed, seen)
    assert torch.allclose(before[:, :, inside], after[:, :, inside], atol=1e-6)
    assert not torch.allclose(before[:, :, ~inside], after[:, :, ~inside], atol=1e-3)


@pytest.mark.parametrize(
    "changed",
    [
        {"width": 8, "border": "same"},
        {"scaling": "root"},
        {"resolution": 64, "upsampling": "more", "vae": True, "z": 5},
        {"panoptic_conv": False},
        {"panoptic_upsampling": False, "edges": False},
        {"panoptic_conv": False, "panoptic_upsampling": False, "vae": True, "z": 5},
    ],
)
def test_production_is_the_network(changed: dict[str, Any]) -> None:
    """The fast form gives the network's images, in float32 up to rounding, and near them in
    bfloat16.
    """
    config = replace(SMALL, **changed)
    torch.manual_seed(0)
    own = panoptic_system.build(config, 3).eval()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.normal_(std=0.2)
    for name, value in own.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            value.normal_(std=0.1)
    with torch.no_grad():
        own.conv_img.weight.mul_(0.1)
    seen = seen_by(config, maps_of(7, 2, config.resolution))
    z = torch.randn(2, config.z, generator=torch.Generator().manual_seed(0)) if config.vae else None
    with torch.inference_mode():
        expected = own(seen, z)
        assert expected.std() > 0.05
        assert torch.allclose(FastPanoptic(own)(seen, z), expected, atol=1e-5)
        assert (FastPanoptic(own, torch.bfloat16)(seen, z) - expected).abs().mean() < 0.05
        assert torch.equal(own(seen, z), expected)


def test_every_parameter_learns() -> None:
    own, _ = pair(SMALL)
    maps = maps_of(4)
    own.train()(seen_by(SMALL, maps)).square().mean().backward()
    for name, value in own.named_parameters():
        assert value.grad is not None and value.grad.abs().max() > 0, name


STYLED = replace(SMALL, vae=True, z=5)


def test_a_latent_code_is_an_option_that_changes_nothing_else() -> None:
    """Without it weights and images are as before.

    With it the same weights, and a style that is 0, give the same image.
    """
    torch.manual_seed(0)
    plain = panoptic_system.build(SMALL, 3)
    torch.manual_seed(0)
    styled = panoptic_system.build(STYLED, 3)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, styled.state_dict()[name]), name
    assert styled.state_dict().keys() - plain.state_dict().keys() == {"style.weight", "style.bias"}
    seen = seen_by(SMALL, maps_of(2))
    with torch.no_grad():
        for value in styled.style.parameters():
            value.zero_()
        assert torch.equal(plain.eval()(seen), styled.eval()(seen, torch.randn(2, 5)))


def test_seeds_are_styles() -> None:
    own, _ = pair(replace(STYLED, panoptic_conv=False, panoptic_upsampling=False))
    assert isinstance(own.fc, torch.nn.Linear) and not hasattr(
        own, "style"
    )  # SPADE's, weight for weight
    torch.manual_seed(1)
    network = panoptic_system.build(STYLED, 3)
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(std=0.1)
    sampler = panoptic_system.sampler(network, SamplerOptions())
    one = maps_of(4, 1)
    both = Maps(one.labels.repeat(3, 1, 1), one.instances.repeat(3, 1, 1), 3)
    made = sampler.sample(both, [7, 8, 7]).images
    assert (made[0] == made[2]).all() and (made[0] != made[1]).mean() > 0.02
    assert (
        sampler.sample(one, [8]).images[0] == made[1]
    ).mean() > 0.99  # whatever else is in the batch


def test_holes_have_the_style_of_their_own_image() -> None:
    """A code changes what holes are filled with, in its own image alone."""
    torch.manual_seed(1)
    network = panoptic_system.build(STYLED, 3).eval()
    maps = seen_by(STYLED, maps_of(5))
    style = network.embed(torch.randn(2, 5))
    assert style is not None
    other = torch.stack([style[0], style[1] + 1])
    holes = maps.neighbourhood(STYLED.neighbourhood).upsampling.holes
    assert len(holes) and {0, 1} == set((holes // (32 * 32)).tolist())
    x = torch.randn(2, 4, 16, 16)
    before, after = (network.upsample(x, maps, code) for code in (style, other))
    changed = (before != after).any(1)
    assert not changed[0].any()
    assert changed[1].flatten().nonzero()[:, 0].tolist() == sorted(
        (holes[holes >= 32 * 32] - 32 * 32).tolist()
    )


def test_the_encoder_learns_with_the_generator() -> None:
    config = replace(STYLED, lambda_kl=0.05)
    training = panoptic_system.training(config, TrainingConfig(lr_d=4e-4), 3, 2, 0)
    objective = training.objective
    assert set(objective.networks) == {"G", "D", "E"}
    batch = MapBatch(torch.rand(2, 3, 32, 32) * 2 - 1, maps_of(5))
    before = {name: value.clone() for name, value in objective.networks["E"].named_parameters()}
    told = training.step(0, batch)
    assert told["g_kl_sum"] > 0
    moved = [
        name
        for name, value in objective.networks["E"].named_parameters()
        if not torch.equal(before[name], value)
    ]
    assert len(moved) == len(before)
    objective.networks["G"].zero_grad()
    objective.networks["E"].zero_grad()
    fakes = objective.generate(batch, torch.Generator().manual_seed(0))
    fakes.images.square().mean().backward()  # without the KL term
    assert all(value.grad.abs().max() > 0 for value in objective.networks["E"].fc_mu.parameters())


def test_parameters_are_the_papers() -> None:
    """Section 3.3 at full width: three 1 x 1 convolutions from 1024 channels.

    Parameters on a device that holds none.
    """
    with torch.device("meta"):
        own = panoptic_system.build(panoptic.Config(), 182)
    assert (
        sum(p.numel() for p in own.fill.parameters()) == 1024 * (512 + 256 + 128) + 512 + 256 + 128
    )


def test_it_trains_and_comes_back_from_its_file(tmp_path: Path) -> None:
    training = panoptic_system.training(SMALL, TrainingConfig(lr_d=4e-4), 3, 2, 0)
    before = {name: value.clone() for name, value in training.modules["G"].named_parameters()}
    batch = MapBatch(torch.rand(2, 3, 32, 32) * 2 - 1, maps_of(5))
    for step in range(2):
        told = training.step(step, batch)
        assert all(torch.isfinite(value).all() for value in told.values())
    network = training.generator()
    assert any(not torch.equal(before[name], value) for name, value in network.named_parameters())
    path = tmp_path / "g.safetensors"
    checkpoint.save(path, network, "panoptic", SMALL, ["a", "b", "c"], {})
    system, loaded, _ = checkpoint.load(path)
    maps = maps_of(6)
    first = panoptic_system.sampler(network, SamplerOptions()).sample(maps, [0, 1]).images
    assert first.shape == (2, 32, 32, 3) and first.std() > 0
    again = system.sampler(loaded, SamplerOptions()).sample(maps, [5, 6]).images
    assert (again == first).all()


@pytest.mark.parametrize(
    ("change", "said"), [({"z": 0}, "z: 0"), ({"resolution": 33}, "resolution: 33")]
)
def test_a_mistake_is_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as told:
        panoptic.Config(**change)  # type: ignore[arg-type]
    assert "\n" not in str(told.value)
