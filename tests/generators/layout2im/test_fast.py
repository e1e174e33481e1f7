"""The form for production against the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from synthaug.generators.layout2im.fast import FastGenerator
from tests.generators.layout2im.scenes import inputs_of, network_of

COUNTS = {"ragged": (1, 3, 0), "one": (1,), "none": (0, 0), "sorted": (3, 2, 1)}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=list(COUNTS))
@pytest.mark.parametrize("settings", [{}, {"owa": True}, {"lstm_layers": 1}, {"width": 16}])
def test_images_and_masks_are_the_networks(
    settings: dict[str, Any], counts: tuple[int, ...]
) -> None:
    network = network_of(**settings)
    rows, z = inputs_of(network, counts)
    with torch.inference_mode():
        expected = network(rows, z)
        fast = FastGenerator(network)
        made = fast(rows, z)
    is_wide = network.config.width == 16
    assert (fast.cells[0].by_tiles is not None) == is_wide
    scale = max(1.0, float(expected.images.abs().max()))
    assert float((made.images - expected.images).abs().max()) / scale < 1e-5
    assert torch.equal(made.masks, expected.masks)


def test_half_precision_differs_by_its_rounding_only() -> None:
    network = network_of()
    rows, z = inputs_of(network, (2, 1))
    with torch.inference_mode():
        expected = network(rows, z).images
        made = FastGenerator(network, torch.bfloat16)(rows, z).images
    error = float((made - expected).abs().max() / expected.abs().max())
    assert 0 < error < 0.1
