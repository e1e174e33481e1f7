"""The form for production is the network in evaluation, up to rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.base import Layouts
from synthaug.generators.pix2pix.config import Config
from synthaug.generators.pix2pix.fast import BoxStem, FastUNet, MapStem
from synthaug.generators.pix2pix.network import UNet
from synthaug.generators.pix2pix.painting import class_boxes
from synthaug.generators.pix2pix.sampler import first_weight
from synthaug.generators.spade.semantics import semantics
from tests.generators.spade.networks import maps_of


def settled(config: Config, channels: int) -> UNet:
    """A network whose norms have statistics of their own."""
    torch.manual_seed(3)
    network = UNet(config, channels, channels)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.add_(torch.randn_like(value) * 0.1)
    return network.eval()


@pytest.mark.parametrize("statistics", ["image", "batch"])
def test_images_are_the_networks(statistics: str) -> None:
    config = Config(resolution=32, width=4, statistics=statistics, num_layers=1)
    network = settled(config, 6)
    condition = torch.rand(2, 6, 32, 32)
    with torch.inference_mode():
        expected = network(condition)
        first = F.conv2d(condition, first_weight(network), stride=2, padding=1)
        made = FastUNet(network)(first)
    assert expected.std() > 0.05
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_the_first_convolution_of_layouts_needs_only_their_classes() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 9, 4, 4)
    labels = torch.tensor([[3, 9, 3], [0, 0, 0]])
    boxes = torch.tensor([[0.1, 0.0, 0.6, 0.9], [0.5, 0.2, 1.0, 1.0], [0.0, 0.4, 0.3, 0.7]])
    layouts = Layouts(labels, boxes.expand(2, 3, 4), torch.ones(2, 3))
    expected = F.conv2d(class_boxes(layouts, 9, (8, 16)), weight, stride=2, padding=1)
    torch.testing.assert_close(BoxStem(weight, (8, 16))(layouts), expected, rtol=0, atol=1e-5)
    assert expected[1].eq(0).all()


@pytest.mark.parametrize("edges", [False, True])
def test_the_first_convolution_of_maps_is_a_sum_of_rows(edges: bool) -> None:
    torch.manual_seed(0)
    maps = semantics(maps_of(8, 16, 4, seed=2, count=2), True, edges)
    weight = torch.randn(3, 5 + edges, 4, 4)
    expected = F.conv2d(maps.dense, weight, stride=2, padding=1)
    torch.testing.assert_close(MapStem(weight, 5)(maps), expected, rtol=0, atol=1e-5)


def test_dropout_in_production_is_a_matter_of_an_images_own_seed() -> None:
    network = settled(Config(width=2, noise=True), 3)
    first = torch.randn(2, 2, 32, 32).repeat(2, 1, 1, 1)
    fast = FastUNet(network)
    with torch.inference_mode():
        made = fast(first, [1, 2, 1, 3])
        quiet = fast(first)
        alone = fast(first[1:2], [2])
    torch.testing.assert_close(made[0], made[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(made[1:2], alone, rtol=0, atol=1e-6)
    assert (made[1] - made[3]).abs().max() > 1e-4
    assert (made[1] - quiet[1]).abs().max() > 1e-4


def test_dropout_leaves_out_as_many_features_as_it_is_told() -> None:
    """Of next to none left out the image stays as it is, of nearly all hardly one is kept."""
    first = torch.randn(2, 2, 32, 32)
    lost = {}
    for share in (1e-6, 0.9):
        fast = FastUNet(settled(Config(width=2, noise=True, dropout=share), 3))
        with torch.inference_mode():
            lost[share] = float((fast(first, [1, 2]) - fast(first)).abs().max())
    assert lost[1e-6] < 1e-4 < 1e-2 < lost[0.9]
