"""The form for production against the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from synthaug.generators.sg2im.fast import FastGenerator
from tests.generators.sg2im.scenes import graphs_of, network_of, noise_of

FORMS: dict[str, dict[str, Any]] = {
    "as published": {"mask_side": 8},
    "without graph": {"mask_side": 4, "graph_layers": 0},
    "one graph layer": {"mask_side": 4, "graph_layers": 1},
    "filled boxes": {"mask_side": 0},
    "without noise": {"mask_side": 4, "noise": 0},
    "wide": {"mask_side": 8, "width": 32},  # wide enough for tiles
    "large": {"mask_side": 4, "resolution": 128},
}


@pytest.mark.parametrize("form", FORMS)
def test_images_boxes_and_masks_are_the_networks(form: str) -> None:
    network = network_of(**FORMS[form])
    fast = FastGenerator(network)
    side = network.config.mask_side
    graphs, noise = graphs_of(masks=side), noise_of(network, 3)
    with torch.inference_mode():
        for boxes, masks in ((graphs.boxes, graphs.masks), (graphs.boxes, None), (None, None)):
            expected = network(graphs, noise, boxes, masks)
            made = fast(graphs, noise, boxes, masks)
            scale = max(1.0, float(expected.images.abs().max()))
            error = float((made.images - expected.images).abs().max()) / scale
            assert error < 1e-5
            torch.testing.assert_close(made.placed, expected.placed, rtol=0, atol=1e-5)
            if boxes is None:
                torch.testing.assert_close(made.boxes, expected.boxes, rtol=0, atol=1e-6)


def test_unknown_masks_are_predicted_for_them_alone() -> None:
    network = network_of(mask_side=4)
    graphs, noise = graphs_of(masks=4), noise_of(network, 3)
    assert graphs.masks is not None
    graphs.masks[0] = torch.nan
    with torch.inference_mode():
        expected = network(graphs, noise, graphs.boxes, graphs.masks)
        made = FastGenerator(network)(graphs, noise, graphs.boxes, graphs.masks)
    torch.testing.assert_close(made.placed, expected.placed, rtol=0, atol=1e-5)


def test_half_precision_differs_by_its_rounding_only() -> None:
    network = network_of(mask_side=4)
    graphs, noise = graphs_of(), noise_of(network, 3)
    with torch.inference_mode():
        expected = network(graphs, noise, graphs.boxes).images
        made = FastGenerator(network, torch.bfloat16)(graphs, noise, graphs.boxes).images
    error = float((made - expected).abs().max() / expected.abs().max())
    assert 0 < error < 0.1
