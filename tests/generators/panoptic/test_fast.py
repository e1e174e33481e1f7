"""The fast form's convolution.

Each map of a batch of calls is its own, in both ways of computing.
"""

from __future__ import annotations

import pytest
import torch

from synthaug.generators.base import Maps
from synthaug.generators.nn.panoptic.neighbourhood import NeighbourhoodSettings
from synthaug.generators.nn.panoptic.reference import panoptic_conv_reference
from synthaug.generators.panoptic.fast import AwareConv
from synthaug.generators.spade.semantics import Semantics, semantics
from tests.panoptic_maps import blobs, randn


def maps_of(seed: int, cell: int) -> Semantics:
    """Maps of 12 x 8 pixels whose identities are cells of about so many pixels."""
    labels = blobs(2, 12, 8, seed, cell=cell, ids=4)
    return semantics(Maps(labels, torch.zeros_like(labels), 4), True, True)


@pytest.mark.parametrize("border", ["hole", "same"])
@pytest.mark.parametrize("scaling", ["mean", "root"])
@pytest.mark.parametrize("tile", [1, 2])
def test_it_is_the_definition_on_one_map_after_another(border, scaling, tile) -> None:
    """The same layer on maps with few mixed windows, with many, and on the first again."""
    settings = NeighbourhoodSettings(border=border, scaling=scaling)
    weight, bias = randn(5, 3, 3, 3), randn(5)
    conv = AwareConv(weight, bias, tile, settings)
    x = randn(2, 3, 12, 8)
    for seed, cell in ((0, 12), (1, 1), (0, 12)):
        maps = maps_of(seed, cell)
        identity = maps.neighbourhood(settings).identity
        expected = panoptic_conv_reference(x, weight, bias, identity, border, scaling)
        made = conv(x.permute(0, 2, 3, 1).contiguous(), maps).permute(0, 3, 1, 2)
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-11)
