"""The U-Net: shapes, a silent start, and which inputs it listens to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from synthaug.generators.fill.config import Config
from synthaug.generators.fill.network import FillNetwork
from tests.generators.fill.fill_windows import CLASSES, SMALL, random_network, random_windows


@pytest.mark.parametrize("side", [16, 24, 32])
def test_the_velocity_has_the_shape_of_the_pixels(side: int) -> None:
    windows = random_windows(2, side)
    velocity = random_network()(windows.pixels, torch.rand(2), windows)
    assert velocity.shape == (2, 3, side, side)
    assert bool(velocity.isfinite().all())


def test_a_fresh_network_predicts_no_velocity() -> None:
    windows = random_windows(1)
    velocity = FillNetwork(SMALL, CLASSES)(windows.pixels, torch.rand(1), windows)
    assert not velocity.any()


@pytest.mark.parametrize(
    "field",
    ["labels", "sizes", "augmentations", "neighbours", "region", "box", "pixels", "example"],
)
def test_every_input_matters(field: str) -> None:
    network, windows, other = random_network(), random_windows(1), random_windows(1, seed=1)
    if field == "labels":
        changed = replace(windows, labels=torch.tensor([CLASSES + 1]))
    elif field in ("region", "box"):
        changed = replace(windows, **{field: 1 - windows.region})
    elif field == "augmentations":
        changed = replace(windows, augmentations=torch.ones_like(windows.augmentations))
    else:
        changed = replace(windows, **{field: getattr(other, field)})
    noisy, time = windows.pixels, torch.tensor([0.5])
    assert not torch.allclose(network(noisy, time, windows), network(noisy, time, changed))


def test_time_matters() -> None:
    network, windows = random_network(), random_windows(1)
    early, late = (network(windows.pixels, torch.tensor([t]), windows) for t in (0.1, 0.9))
    assert not torch.allclose(early, late)


def test_windows_of_a_batch_do_not_see_each_other() -> None:
    network, windows = random_network(), random_windows(3)
    time = torch.tensor([0.2, 0.5, 0.8])
    together = network(windows.pixels, time, windows)
    for row in range(3):
        one = windows.select(slice(row, row + 1))
        alone = network(one.pixels, time[row : row + 1], one)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=0)


def test_rows_and_columns_are_not_swapped() -> None:
    """A window turned about its diagonal has another velocity than the turned one.

    Coordinates differ.
    """
    network, windows = random_network(), random_windows(1)
    turned = replace(
        windows,
        pixels=windows.pixels.transpose(2, 3),
        neighbours=windows.neighbours.transpose(1, 2),
    )
    time = torch.tensor([0.5])
    velocity = network(windows.pixels, time, windows)
    of_turned = network(turned.pixels, time, turned)
    assert not torch.allclose(velocity.transpose(2, 3), of_turned)


def test_the_usual_network_has_about_four_million_parameters() -> None:
    network = FillNetwork(Config(), 3)
    assert 3e6 < sum(parameter.numel() for parameter in network.parameters()) < 5e6
