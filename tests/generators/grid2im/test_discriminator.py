"""The discriminators of Grid2Im: sizes and layers."""

from __future__ import annotations

import torch

from synthaug.generators.grid2im.discriminator import ImageDiscriminator, MaskDiscriminator


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        image, masks = ImageDiscriminator(207, 64), MaskDiscriminator(172, 64)
    assert sum(p.numel() for p in image.parameters()) == 5_947_266
    assert sum(p.numel() for p in masks.parameters()) == 768_257


def test_all_features_of_both_scales_are_returned_the_larger_first() -> None:
    features = ImageDiscriminator(5, 2)(torch.rand(1, 2, 64, 64), torch.rand(1, 3, 64, 64))
    sides = [[maps.shape[-1] for maps in scale] for scale in features]
    assert sides == [[33, 17, 9, 10, 11], [17, 9, 5, 6, 7]]


def test_masks_are_judged_with_their_class() -> None:
    torch.manual_seed(0)
    network, masks = MaskDiscriminator(4, 2), torch.rand(2, 16, 16)
    (one,) = network(masks, torch.tensor([1, 2]))
    (other,) = network(masks, torch.tensor([1, 3]))
    assert torch.equal(one[-1][0], other[-1][0])
    assert not torch.equal(one[-1][1], other[-1][1])
