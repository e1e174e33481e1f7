from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.sims.network import (
    OrderNetwork,
    SynthesisNetwork,
    TransformNetwork,
    halve,
    move,
    paint_pairs,
)

IDENTITY = torch.eye(2, 3).flatten()


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (lambda: OrderNetwork(20, 64), 15_267_476),
        (lambda: TransformNetwork(20, 64), 14_734_086),
        (lambda: SynthesisNetwork(20, 64, (256, 512)), 55_671_319),
        (lambda: SynthesisNetwork(20, 64, (512, 1024)), 56_138_903),
    ],
)
def test_the_published_networks_have_the_published_number_of_parameters(
    network: object, parameters: int
) -> None:
    assert callable(network)
    with torch.device("meta"):
        made = network()
    assert sum(p.numel() for p in made.parameters()) == parameters


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_pooling_pads_right_and_below_and_counts_no_padding(size: tuple[int, int]) -> None:
    x = rand(1, 2, *size)
    largest = halve(x, average=False)
    mean = halve(x, average=True)
    rows, columns = (size[0] + 1) // 2, (size[1] + 1) // 2
    assert largest.shape[2:] == mean.shape[2:] == (rows, columns)
    first = size[0] % 2
    window = x[..., 2 - first : 5 - first, 2 - size[1] % 2 : 5 - size[1] % 2]
    torch.testing.assert_close(largest[..., 1, 1], window.amax((2, 3)))
    torch.testing.assert_close(mean[..., 1, 1], window.mean((2, 3)))
    torch.testing.assert_close(halve(torch.ones_like(x), True), torch.ones_like(mean))


def test_moving_shifts_by_pixels_and_clears_the_last_row_and_column() -> None:
    x = rand(1, 3, 6, 8)
    same = move(x, IDENTITY[None])
    torch.testing.assert_close(same[..., :5, :7], x[..., :5, :7])
    assert not same[..., 5, :].any() and not same[..., 7].any()
    shift = IDENTITY + torch.tensor([0, 0, 2.0, 0, 0, 1.0])
    moved = move(x, shift[None])
    torch.testing.assert_close(moved[..., :4, :5], x[..., 1:5, 2:7])
    assert not moved[..., 4:, :].any() and not moved[..., 5:].any()


def test_a_fresh_transform_moves_nothing() -> None:
    network = TransformNetwork(3, 2)
    theta = network(rand(2, 3, 32, 64), rand(2, 1, 32, 64), rand(2, 3, 32, 64))
    torch.testing.assert_close(theta, IDENTITY.expand(2, 6))


def test_pairs_show_their_own_pixels_and_then_all() -> None:
    labels = torch.tensor([[0, 1], [2, 0]])
    palette = torch.tensor([[0.2, 0.4, 0.6], [1, 0, 0], [0, 0, 0]])
    pair = torch.tensor([[[False, True], [True, False]]])
    painted = paint_pairs(labels, pair, palette)
    assert painted.shape == (1, 6, 2, 2)
    assert painted[0, :3, 0, 0].tolist() == [0, 0, 0]
    assert painted[0, :3, 0, 1].tolist() == [1, 0, 0]
    torch.testing.assert_close(painted[0, 3:, 0, 0], palette[0])


def test_scores_do_not_see_the_right_quarter() -> None:
    """The published head; a change on the far right reaches it by convolutions only."""
    network = OrderNetwork(4, 1).eval()
    features = rand(1, 8, 8, 16)
    other = features.clone()
    other[..., 12:] += 1
    network.trunk.forward = lambda x: [x]  # type: ignore[method-assign]
    torch.testing.assert_close(network(other), network(features))
    other[..., 11] += 1
    assert not torch.equal(network(other), network(features))


@pytest.mark.parametrize("size", [(64, 128), (512, 64), (48, 80)])
def test_images_have_the_size_of_their_maps_and_follow_the_canvas(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = SynthesisNetwork(3, 1, size)
    labels = torch.zeros(1, *size, dtype=torch.int64)
    maps = F.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    made = network(maps, rand(1, 3, *size))
    assert made.images.shape == (1, 3, *size) and made.logits.shape == (1, 3, *size)
    empty = network(maps, torch.zeros(1, 3, *size))
    assert not torch.allclose(made.images, empty.images)
