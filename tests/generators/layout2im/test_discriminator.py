"""The discriminators of Layout2Im: sizes and the published quirk of their skips."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from synthaug.generators.layout2im.discriminator import (
    Block,
    Discriminators,
    FirstBlock,
    ImageDiscriminator,
    ObjectDiscriminator,
    summed,
)
from synthaug.generators.layout2im.network import CROP
from synthaug.generators.nn.crops import crop_boxes
from tests.generators.layout2im.scenes import LABELS, inputs_of, network_of


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        image, objects = ImageDiscriminator(64), ObjectDiscriminator(64, 184)
    assert sum(p.numel() for p in image.parameters()) == 10_141_440
    assert sum(p.numel() for p in objects.parameters()) == 10_330_041


def test_the_skip_sees_what_is_positive() -> None:
    torch.manual_seed(0)
    block, x = Block(3, 5).eval(), torch.randn(2, 3, 8, 8)
    expected = F.avg_pool2d(block.resi(x) + block.sc(x.clamp_min(0)), 2)
    torch.testing.assert_close(block(x), expected)
    assert (block(x) - F.avg_pool2d(block.resi(x) + block.sc(x), 2)).abs().max() > 1e-3


def test_the_first_block_of_the_object_discriminator_keeps_the_side() -> None:
    x = torch.randn(1, 3, 8, 8)
    assert FirstBlock(4, pools=False)(x).shape == (1, 4, 8, 8)
    pooling = FirstBlock(4, pools=True).eval()
    expected = F.avg_pool2d(pooling.resi(x) + pooling.sc(x), 2)  # pooling commutes with the skip
    torch.testing.assert_close(pooling(x), expected, rtol=1e-5, atol=1e-6)


def test_objects_are_judged_by_their_crops() -> None:
    torch.manual_seed(0)
    both = Discriminators(2, LABELS).eval()
    rows, _ = inputs_of(network_of(), (1, 3))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        scores, logits = both.objects(images, rows)
        crops = crop_boxes(images, rows.boxes, rows.image_of, CROP)
        expected, _ = both.object(crops)
    assert logits.shape == (4, LABELS)
    assert torch.equal(scores, expected)
    assert summed(torch.tensor([[[[1.0, -2.0]]]])).tolist() == [[1.0]]
