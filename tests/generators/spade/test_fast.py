"""The fast form of SPADE gives the network's images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from synthaug.generators import spade as spade_system
from synthaug.generators.spade import fast
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.fast import FastGenerator
from synthaug.generators.spade.semantics import semantics
from tests.generators.spade.networks import FORMS, SMALL, maps_of, settled


@pytest.mark.parametrize(
    "config", FORMS, ids=["normal", "more", "most", "odd first map and latent code"]
)
def test_production_is_the_network(config: spade.Config) -> None:
    """Every depth, channel choice and start.

    A batch of unlike maps; float32 up to rounding, bfloat16 roughly.
    """
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


def test_stripes_cover_every_pixel_once_whatever_the_cache(monkeypatch) -> None:
    pixels = torch.arange(2 * 6 * 4).view(2, 6, 4)
    x = torch.randn(2, 3, 2, 5)
    for chunk in (1, 700, 2**20):
        monkeypatch.setattr(fast, "CHUNK_BYTES", chunk)
        out = torch.zeros(2, 6, 4, 5)
        counted = []
        for windows, x_part, out_part in fast.stripes(pixels, x, out, True, 10):
            counted += windows.flatten().tolist()
            out_part.copy_(x_part.expand(out_part.shape))
        assert sorted(counted) == list(range(2 * 6 * 4))
        doubled = x.repeat_interleave(2, 1).repeat_interleave(2, 2)
        assert torch.equal(out, doubled)


def test_weights_are_copied_and_the_network_keeps_its_type() -> None:
    network = settled(spade_system.build(SMALL, 4))
    maps = semantics(maps_of(32, 32, 4, seed=1), True, True)
    generator = FastGenerator(network, torch.bfloat16)
    with torch.inference_mode():
        before = generator(maps)
        for parameter in network.parameters():
            parameter.zero_()
        assert torch.equal(generator(maps), before)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert before.dtype == torch.float32


def test_tiles_are_for_wide_layers_of_even_sides_only() -> None:
    wide = spade_system.build(replace(SMALL, width=8), 3)
    folded = fast.Folded(wide.state_dict(), 4)
    tiles = [block.conv_0.tile for block in fast.fast_blocks(wide, folded, True, True)]
    assert tiles[0] == 1  # the first map has a side of 1
    assert tiles[1:] == [2, 2, 2, 1, 1, 1]
    assert {block.conv_0.tile for block in fast.fast_blocks(wide, folded, False, True)} == {1}
