"""Lists of pixels of one identity, by loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.generators.nn.panoptic.neighbourhood import (
    Neighbourhood,
    Upsampling,
    Windows,
    matching_taps,
)
from tests.panoptic_maps import blobs


def neighbours(identity: torch.Tensor, kernel: int) -> np.ndarray:
    """Per tap and pixel: 1 matches, 0 another identity, -1 outside the image."""
    images, height, width = identity.shape
    reach = kernel // 2
    table = np.full((kernel * kernel, images, height, width), -1)
    for image, y, x in np.ndindex(images, height, width):
        for tap in range(kernel * kernel):
            row, column = y + tap // kernel - reach, x + tap % kernel - reach
            if 0 <= row < height and 0 <= column < width:
                table[tap, image, y, x] = identity[image, row, column] == identity[image, y, x]
    return table


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(6, 9), (1, 4), (2, 2)])
def test_taps_match_where_the_loop_says(kernel: int, size: tuple[int, int]) -> None:
    """Also kernels that reach over the whole image."""
    identity = blobs(2, *size)
    expected = torch.from_numpy(neighbours(identity, kernel) == 1)
    assert torch.equal(matching_taps(identity, kernel), expected)


@pytest.mark.parametrize("border", ["hole", "same"])
def test_mixed_windows_edges_and_ratios_are_those_of_the_loop(border) -> None:
    identity = blobs(2, 7, 8)
    table = neighbours(identity, 3).reshape(9, -1)
    windows = Windows(identity, 3, border)
    mixed = (table == 0).any(0)
    outside = (table == -1).any(0)
    assert windows.mixed.tolist() == np.flatnonzero(mixed).tolist()
    expected_edge = np.flatnonzero(outside & ~mixed) if border == "hole" else []
    assert windows.edge.tolist() == list(expected_edge)
    counted = (table == 1).sum(0)
    if border == "same":
        counted = counted + (table == -1).sum(0)
    ratio = windows.ratio(None, torch.float64)[:, 0]
    np.testing.assert_allclose(ratio.numpy(), 9 / counted)
    root = Windows(identity, 3, border, "root").ratio(None, torch.float64)
    torch.testing.assert_close(root.square()[:, 0], ratio)
    assert (windows.pure_scale == 0).nonzero()[:, 0].tolist() == windows.mixed.tolist()


def test_pairs_unmatched_and_bits_tell_the_same_taps() -> None:
    identity = blobs(2, 5, 6)
    windows = Windows(identity, 3, "hole")
    same = windows.same
    for tap, (index, source) in enumerate(windows.pairs):
        chosen = windows.mixed[same[tap, windows.mixed]]
        assert windows.mixed[index].tolist() == chosen.tolist()
        assert source.tolist() == (chosen + windows.steps[tap]).tolist()
        assert windows.unmatched[tap].tolist() == (~same[tap]).nonzero()[:, 0].tolist()
        assert torch.equal((windows.bits >> tap) & 1 == 1, same[tap])
    products = sum(len(index) for index, _ in windows.pairs)
    assert windows.work == pytest.approx(products / (9 * windows.size))


@pytest.mark.parametrize("order", ["xy", "yx"])
def test_upsampling_copies_from_the_first_matching_neighbour(order) -> None:
    coarse, fine = blobs(2, 4, 5, seed=1), blobs(2, 8, 10, seed=2)
    plan = Upsampling.between(coarse, fine, order)
    tried = {"xy": [(0, 1), (1, 0), (1, 1)], "yx": [(1, 0), (0, 1), (1, 1)]}[order]
    moved, holes = {}, []
    for image, y, x in np.ndindex(2, 8, 10):
        index = (image * 8 + y) * 10 + x
        if fine[image, y, x] == coarse[image, y // 2, x // 2]:
            continue
        for down, right in tried:
            row, column = y // 2 + down, x // 2 + right
            if row < 4 and column < 5 and coarse[image, row, column] == fine[image, y, x]:
                moved[index] = (image * 4 + row) * 5 + column
                break
        else:
            holes.append(index)
    assert dict(zip(plan.moved.tolist(), plan.source.tolist(), strict=True)) == moved
    assert plan.holes.tolist() == holes
    changed = {*moved, *holes}
    for parent, children, copied in zip(plan.parents, plan.children, plan.copied, strict=True):
        image, rest = divmod(int(parent), 20)
        row, column = divmod(rest, 5)
        expected = [
            (image * 8 + 2 * row + down) * 10 + 2 * column + right
            for down in (0, 1)
            for right in (0, 1)
        ]
        assert children.tolist() == expected
        assert copied.tolist() == [child not in changed for child in expected]
    assert {int(child) for child in plan.children[~plan.copied]} == changed


def test_upsampling_between_sizes_that_do_not_double_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gives \[1, 8, 8\], not \[1, 8, 9\]"):
        Upsampling.between(blobs(1, 4, 4), blobs(1, 8, 9))


def test_lists_are_made_once_and_start_from_every_second_pixel() -> None:
    identity = blobs(1, 8, 8)
    maps = Neighbourhood(identity, identity)
    assert maps.windows(3) is maps.windows(3)
    assert maps.hole_table(3, 9) is maps.hole_table(3, 9)
    expected = Upsampling.between(identity[:, ::2, ::2], identity)
    assert torch.equal(maps.upsampling.holes, expected.holes)
