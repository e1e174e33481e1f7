"""The form for production is the network in evaluation, up to rounding."""

from __future__ import annotations

import torch

from synthaug.generators.crn.config import Config
from synthaug.generators.crn.fast import FastCascade, FastLevel
from synthaug.generators.crn.network import CascadedRefinement, Level


def settled(config: Config) -> CascadedRefinement:
    torch.manual_seed(3)
    network = CascadedRefinement(config, 4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


def test_images_are_the_networks() -> None:
    network = settled(Config(resolution=32, width=64, images=3))
    maps = torch.rand(2, 5, 16, 32)
    with torch.inference_mode():
        expected = network(maps)
        made = FastCascade(network)(maps, [2, 0])
    chosen = torch.stack([expected[0, 2], expected[1, 0]])
    scale = chosen.abs().max()
    torch.testing.assert_close(made / scale, chosen / scale, rtol=0, atol=1e-5)


def test_wide_levels_go_by_tiles_where_their_sides_allow() -> None:
    level = Level(64, 64)
    fast = [FastLevel(level, size, torch.float32) for size in ((8, 12), (6, 12), (5, 8))]
    assert [one.conv1.tile for one in fast] == [4, 2, 1]
    assert FastLevel(level, (8, 8), torch.bfloat16).conv1.tile == 2
    assert FastLevel(Level(9, 64), (8, 8), torch.float32).conv1.tile == 1
