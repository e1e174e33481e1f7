"""The table look-up gives torchvision's RoIAlign, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import initLevelMapper

from synthaug.detectors.roi_pool import LookupRoIAlign


def boxes_around(count: int, reach: float, seed: int) -> torch.Tensor:
    """Boxes [count, 4] xyxy of all sizes, some partly or wholly outside, some below a cell."""
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=rng, dtype=torch.float64) * reach * 1.2 - 0.1 * reach
    size = torch.rand(count, 2, generator=rng, dtype=torch.float64) ** 2 * reach
    return torch.cat([corner, corner + size], 1)


@pytest.mark.parametrize("samples", [1, 2])
def test_one_level_equals_roi_align_with_its_gradient(samples):
    maps = torch.randn(
        2, 6, 13, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    boxes = [boxes_around(30, 60, 2), boxes_around(11, 60, 3)]
    ours_in, theirs_in = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    ours = LookupRoIAlign((4,), 5, samples, 32)({"0": ours_in}, boxes)
    theirs = roi_align(theirs_in, boxes, 5, 1 / 4, samples)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    (ours**2).sum().backward()
    (theirs**2).sum().backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, atol=1e-9, rtol=0)


def test_levels_are_chosen_as_in_the_fpn_paper():
    rng = torch.Generator().manual_seed(4)
    maps = {
        str(i): torch.randn(2, 4, 64 >> i, 48 >> i, dtype=torch.float64, generator=rng)
        for i in range(3)
    }
    boxes = [boxes_around(40, 300, 5), boxes_around(40, 300, 6)]
    theirs = MultiScaleRoIAlign(["0", "1", "2"], 3, 1, canonical_scale=50, canonical_level=4)
    theirs.scales, theirs.map_levels = [1 / 8, 1 / 16, 1 / 32], initLevelMapper(3, 5, 50, 4)
    expected = theirs(maps, boxes, [(512, 384)] * 2)
    torch.testing.assert_close(
        expected, LookupRoIAlign((8, 16, 32), 3, 1, 50)(maps, boxes), atol=1e-10, rtol=0
    )


def test_images_without_boxes_give_no_rows():
    pool = LookupRoIAlign((8,), 3, 1, 50)
    maps = {"0": torch.randn(2, 4, 8, 8)}
    assert tuple(pool(maps, [torch.zeros(0, 4), torch.zeros(0, 4)]).shape) == (0, 4, 3, 3)
    assert tuple(pool(maps, [torch.zeros(0, 4), torch.tensor([[0.0, 0, 9, 9]])]).shape) == (
        1,
        4,
        3,
        3,
    )
