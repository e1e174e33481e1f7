"""The semantic tensor, its windows and boundaries, by loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.base import Maps
from synthaug.generators.nn.panoptic.neighbourhood import NeighbourhoodSettings
from synthaug.generators.spade.semantics import boundaries, semantics
from tests.generators.spade.networks import maps_of


@pytest.mark.parametrize(
    ("dont_care", "edges"), [(True, True), (False, True), (True, False), (False, False)]
)
def test_the_semantic_tensor_by_definition(dont_care: bool, edges: bool) -> None:
    """One-hot classes, then don't care, then boundaries, against loops over pixels.

    And its size.
    """
    maps = maps_of(7, 9, 4, seed=1, count=2)
    if dont_care:
        maps.labels[0, 2:4, 3:5] = 4
    dense = semantics(maps, dont_care, edges).dense
    expected = torch.zeros(2, 4 + dont_care + edges, 7, 9)
    for b, y, x in np.ndindex(2, 7, 9):
        expected[b, maps.labels[b, y, x], y, x] = 1
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        ids = [maps.instances[b, v, u] for v, u in around if 0 <= v < 7 and 0 <= u < 9]
        if edges and any(i != maps.instances[b, y, x] for i in ids):
            expected[b, -1, y, x] = 1
    assert torch.equal(expected, dense)


def test_smaller_maps_are_the_top_left_pixels() -> None:
    seen = semantics(maps_of(16, 24, 5, seed=2), True, True)
    assert torch.equal(seen.dense[..., ::4, ::4], seen.at((4, 6)).dense)
    assert torch.equal(F.interpolate(seen.dense, (8, 12)), seen.at((8, 12)).dense)


def test_patterns_number_the_windows_of_each_pixel() -> None:
    """Each pixel's 5 x 5 window, looked up through its taps, is what is around it in the map."""
    maps = semantics(maps_of(6, 7, 3, seed=5, count=2), True, True)
    patterns = maps.patterns
    outside = maps.num_classes
    channel = F.pad(maps.channel, (2, 2, 2, 2), value=outside)
    assert maps.edges is not None
    edges = F.pad(maps.edges, (2, 2, 2, 2), value=False)
    for image, y, x in np.ndindex(2, 6, 7):
        threes = patterns.taps[patterns.pixels[image, y, x]].tolist()
        for tap, three in enumerate(threes):
            down, right = divmod(tap, 3)
            rows = slice(y + down, y + down + 3)
            columns = slice(x + right, x + right + 3)
            centre_inside = 0 <= y + down - 1 < 6 and 0 <= x + right - 1 < 7
            if not centre_inside:
                assert three == len(patterns.classes)
                continue
            expected = channel[image, rows, columns].flatten()
            assert torch.equal(patterns.classes[three], expected)
            assert torch.equal(patterns.edges[three], edges[image, rows, columns].flatten())


def test_windows_that_are_equal_have_one_number() -> None:
    one = Maps(torch.ones(2, 9, 9, dtype=torch.int64), torch.zeros(2, 9, 9, dtype=torch.int64), 3)
    patterns = semantics(one, False, False).patterns
    assert len(patterns.classes) == 9  # corners, sides and the inside
    assert len(patterns.taps) == 25
    assert patterns.classes.unique(dim=0).shape == patterns.classes.shape


def test_the_images_border_is_no_boundary_and_each_change_marks_both_sides() -> None:
    instances = torch.tensor([[[1, 1, 2], [1, 1, 2], [3, 1, 2]]])
    expected = torch.tensor([[[0, 1, 1], [1, 1, 1], [1, 1, 1]]], dtype=torch.bool)
    assert torch.equal(boundaries(instances), expected)
    assert not boundaries(torch.full((1, 4, 5), 7)).any()
    assert not boundaries(torch.zeros(1, 1, 1, dtype=torch.int64)).any()


def test_a_neighbourhood_is_made_once_per_settings_and_joins_class_and_instance() -> None:
    maps = Maps(torch.tensor([[[0, 1], [0, 1]]]), torch.tensor([[[4, 4], [5, 4]]]), 2)
    own = semantics(maps, True, True)
    hole = NeighbourhoodSettings()
    assert own.neighbourhood(hole) is own.neighbourhood(NeighbourhoodSettings())
    assert own.neighbourhood(hole) is not own.neighbourhood(NeighbourhoodSettings(border="same"))
    identity = own.neighbourhood(hole).identity.flatten().tolist()
    assert len(set(identity)) == 3
    assert identity[1] == identity[3]
    extra = own.neighbourhood(hole).extra
    assert extra is not None
    assert torch.equal(extra[:, 0].bool(), own.edges)
    assert semantics(maps, True, False).neighbourhood(hole).extra is None


def test_labels_without_a_channel_are_one_line() -> None:
    maps = Maps(torch.tensor([[[0, 2]]]), torch.zeros(1, 1, 2, dtype=torch.int64), 2)
    assert semantics(maps, True, False).dense.shape == (1, 3, 1, 2)
    with pytest.raises(ValueError, match="labels: 2 is don't care") as caught:
        semantics(maps, False, False)
    assert "\n" not in str(caught.value)
    beyond = Maps(torch.tensor([[[0, 3]]]), torch.zeros(1, 1, 2, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="labels: 3 is no class"):
        semantics(beyond, True, False)


def test_sizes_are_height_then_width_and_rows_are_picked_apart_from_columns() -> None:
    labels = torch.arange(32).view(1, 4, 8)
    maps = semantics(Maps(labels, labels + 100, 40), False, False)
    assert maps.size == (4, 8)
    smaller = maps.at((2, 2))
    assert smaller.channel.tolist() == [[[0, 4], [16, 20]]]
    assert smaller.instances.tolist() == [[[100, 104], [116, 120]]]
    assert maps.at((4, 8)) is maps
    larger = maps.at((8, 8))
    assert larger.channel[0, :, 0].tolist() == [0, 0, 8, 8, 16, 16, 24, 24]


def test_boundaries_are_found_along_both_axes_and_not_along_diagonals() -> None:
    columns = torch.tensor([[[1, 1, 2, 2]]])
    assert boundaries(columns).tolist() == [[[False, True, True, False]]]
    rows = columns.transpose(1, 2).contiguous()
    assert boundaries(rows).flatten().tolist() == [False, True, True, False]
    corner = torch.tensor([[[2, 1, 1], [1, 1, 1], [1, 1, 1]]])
    assert not boundaries(corner)[0, 1, 1]
