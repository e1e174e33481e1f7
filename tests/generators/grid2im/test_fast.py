"""The form for production against the network."""

from __future__ import annotations

import copy

import pytest
import torch

from synthaug.generators.grid2im.fast import FastGenerator, FastResiduals
from synthaug.generators.grid2im.network import attributes_of
from tests.generators.grid2im.scenes import network_of
from tests.generators.sg2im.scenes import graphs_of


@pytest.mark.parametrize(("masks", "width"), [(0, 4), (8, 4), (8, 16)])
def test_images_are_the_networks(masks: int, width: int) -> None:
    # a layout of one value is only rounding to instance norms, so every image has objects
    network, graphs = network_of(width=width), graphs_of((3, 2, 1), masks=masks)
    noise = torch.randn(len(graphs.labels), 5, generator=torch.Generator().manual_seed(0))
    attributes = attributes_of(graphs)
    with torch.inference_mode():
        placed = network.place(graphs, attributes, noise)
        codes = network.invent_appearance(placed.vectors, noise)
        shapes = placed.masks if graphs.masks is None else graphs.masks
        layout = network.layout(graphs, codes, graphs.boxes, shapes, in_front=True)
        # instance norms enlarge what either form rounds, so both are compared with float64
        exact = copy.deepcopy(network.layout_to_image).double()
        expected = exact(layout.double())
        fast = FastGenerator(network)
        made, _ = fast(graphs, attributes, noise)
    by_tiles = any(isinstance(layer, FastResiduals) for layer in fast.others)
    assert by_tiles == (width >= 16), "four times as many channels, 64, are worth tiles"
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=1e-5)


def test_half_precision_differs_by_its_rounding_only() -> None:
    network, graphs = network_of(), graphs_of((2,), masks=8)
    noise, attributes = torch.zeros(3, 5), attributes_of(graphs)
    with torch.inference_mode():
        expected, _ = FastGenerator(network)(graphs, attributes, noise)
        made, _ = FastGenerator(network, torch.bfloat16)(graphs, attributes, noise)
    assert 0 < float((made - expected).abs().mean()) < 0.1
