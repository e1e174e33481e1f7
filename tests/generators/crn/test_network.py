"""The cascade: published sizes, maps at every level's size, and images side by side."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synthaug.generators.base import MapBatch
from synthaug.generators.crn import Config, Loop, training
from synthaug.generators.crn.network import (
    CascadedRefinement,
    LayerNorm,
    as_images,
    at_size,
    double,
)
from tests.generators.spade.networks import maps_of

SMALL = Config(resolution=16, aspect_ratio=1.0, width=8, images=3)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_the_published_ones() -> None:
    configs = {
        Config(): 97_875_483,
        Config(images=1): 97_863_171,
        Config(resolution=1024, images=1): 98_622_851,
        Config(resolution=2048, images=1): 98_674_531,
    }
    for config, count in configs.items():
        with torch.device("meta"):
            assert parameters(CascadedRefinement(config, 19)) == count


def test_a_norm_is_over_channels_and_pixels_of_an_image() -> None:
    torch.manual_seed(0)
    norm = LayerNorm(3)
    x = torch.randn(2, 3, 4, 5) * 3 + 2
    out = norm(x)
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(out.var((1, 2, 3), correction=0), torch.ones(2))
    assert out.mean((2, 3)).abs().max() > 0.01  # not per channel


def test_labels_are_averaged_and_features_reach_from_corner_to_corner() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 0, :3] = 1
    assert at_size(maps, (2, 2)).flatten().tolist() == [0.5, 0.25, 0, 0]
    assert at_size(maps, (4, 4)) is maps
    x = torch.tensor([[[[0.0, 3.0]]]])
    torch.testing.assert_close(double(x)[0, 0, 0], torch.tensor([0.0, 1.0, 2.0, 3.0]))


def test_colors_of_one_image_are_a_third_of_the_channels_apart() -> None:
    channels = torch.arange(9.0).view(1, 9, 1, 1)
    assert as_images(channels, 3)[0, :, :, 0, 0].tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_images_of_a_map_differ_and_are_its_own() -> None:
    torch.manual_seed(0)
    network = CascadedRefinement(SMALL, 4).eval()
    maps = torch.rand(2, 5, 16, 16)
    with torch.inference_mode():
        images = network(maps)
        alone = network(maps[1:])
    assert images.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(images[1:], alone, rtol=1e-4, atol=1e-5)
    assert (images[:, 0] - images[:, 1]).abs().max() > 0.01


def batch_of(weights: torch.Tensor | None = None) -> MapBatch:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return MapBatch(images, maps_of(16, 16, 4, seed=0, count=2), weights)


def first_loss(config: Config, batch: MapBatch, **loop: float) -> float:
    own = training(config, Loop(**loop), 4, 5, seed=3)  # type: ignore[arg-type]
    losses = own.step(0, batch)
    assert losses.keys() == {"regression"}
    return float(losses["regression"])


@pytest.mark.parametrize("images", [1, 3])
def test_confidence_weighs_the_loss(images: int) -> None:
    config = Config(**{**vars(SMALL), "images": images})
    full = first_loss(config, batch_of())
    half = first_loss(config, batch_of(torch.full((2, 16, 16), 0.5)))
    assert half == pytest.approx(full / 2, rel=1e-4)
    trusting = Config(**{**vars(config), "weigh_scores": False})
    assert first_loss(trusting, batch_of(torch.full((2, 16, 16), 0.5))) == full


def test_steps_bring_the_image_nearer() -> None:
    own = training(SMALL, Loop(lr=1e-2), 4, 20, seed=3)
    losses = [float(own.step(i, batch_of())["regression"]) for i in range(20)]
    assert losses[-1] < 0.85 * losses[0]
