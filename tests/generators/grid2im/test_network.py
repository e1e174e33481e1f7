"""Grid2Im's network: attributes, front-most objects, and a layout's channels."""

from __future__ import annotations

import torch

from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.network import (
    Grid2ImGenerator,
    attributes_of,
    front_masks,
    masses,
)
from tests.generators.grid2im.scenes import LABELS, network_of
from tests.generators.sg2im.scenes import graphs_of


def test_attributes_are_a_size_bin_and_a_cell_of_the_middle() -> None:
    graphs = graphs_of((3, 0))
    attributes = attributes_of(graphs)
    assert attributes.sum(1).tolist() == [2] * 5
    # a box of 0.4 x 0.5 around (0.3, 0.35), and whole images around (0.5, 0.5)
    assert attributes[0].nonzero()[:, 0].tolist() == [round(9 * 0.2), 10 + 1 + 5 * 1]
    # the lower half of an image, whose middle is in another row than column
    assert attributes[2].nonzero()[:, 0].tolist() == [4, 10 + 2 + 5 * 3]
    assert attributes[3].nonzero()[:, 0].tolist() == [9, 10 + 2 + 5 * 2]


def test_a_pixel_belongs_to_the_lightest_object_that_fills_it() -> None:
    masks = torch.zeros(3, 2, 2)
    masks[0, 0] = 1
    masks[1] = 0.9
    masks[2] = 1
    is_row = torch.tensor([[True, True], [True, False]])
    mass = masses(torch.ones(3, 1), masks)
    shown = front_masks(mass, masks, is_row)
    assert shown[0].tolist() == [[1, 1], [0, 0]]
    torch.testing.assert_close(shown[1], torch.tensor([[0.0, 0.0], [0.9, 0.9]]))
    assert shown[2].eq(1).all()  # another image's
    masks[0] *= 0.4  # under a half it claims nothing
    assert not front_masks(mass, masks, is_row)[0].any()


def test_a_layout_has_a_channel_per_class_and_the_appearance() -> None:
    network, graphs = network_of(), graphs_of((2,), masks=8)
    assert graphs.masks is not None
    codes = torch.rand(3, 3)
    layout = network.layout(graphs, codes, graphs.boxes, graphs.masks)
    assert layout.shape == (1, LABELS + 3, 64, 64)
    placed = layout[0, 1]  # the first object's class
    torch.testing.assert_close(layout[0, 0], torch.ones(64, 64))  # the whole image's
    expected = placed * codes[0, 0] + layout[0, 2] * codes[1, 0] + codes[2, 0]
    torch.testing.assert_close(layout[0, LABELS], expected)


def test_masks_vary_by_noise_and_boxes_do_not() -> None:
    network, graphs = network_of(), graphs_of((2,))
    attributes = attributes_of(graphs)
    with torch.no_grad():
        one = network.place(graphs, attributes, torch.zeros(1, 5))
        other = network.place(graphs, attributes, torch.ones(1, 5))
        bare = network.place(graphs, torch.zeros_like(attributes), torch.zeros(1, 5))
    assert torch.equal(one.boxes, other.boxes)
    assert (one.masks - other.masks).abs().max() > 1e-4
    assert (one.boxes - bare.boxes).abs().max() > 1e-6


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Grid2ImGenerator(Config(), 172)
    of_images = sum(p.numel() for p in network.layout_to_image.parameters())
    assert (191_167_528, 183_073_603) == (sum(p.numel() for p in network.parameters()), of_images)
