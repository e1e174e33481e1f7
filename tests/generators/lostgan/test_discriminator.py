"""D.

Scores of images and objects in their order, objects by size, initialisation, and images without
objects.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from synthaug.generators.base import PAD_BOX, Layouts
from synthaug.generators.lostgan.discriminator import PLANS, Discriminator, DiscriminatorBlock
from synthaug.generators.nn.layers import SpectralNormed


def layouts_of(boxes: torch.Tensor, labels: torch.Tensor) -> Layouts:
    return Layouts(labels, boxes, torch.ones(labels.shape))


def discriminator(resolution: int, **settings: object) -> Discriminator:
    """A fresh one after some power iterations, so that its spectral norms know their weights."""
    torch.manual_seed(0)
    network = Discriminator(resolution, 2, 6, **settings).train()  # type: ignore[arg-type]
    for layer in network.modules():
        if isinstance(layer, SpectralNormed):
            for _ in range(10):
                layer.weight()
    return network.eval()


@pytest.mark.parametrize("resolution", PLANS)
def test_scores_are_those_of_the_objects_in_input_order(resolution: int) -> None:
    """Small and large ones, padding between them; each score is that of the object alone."""
    d = discriminator(resolution)
    images = torch.randn(2, 3, resolution, resolution)
    boxes = torch.tensor(
        [
            [[0.1, 0.1, 0.9, 0.9], list(PAD_BOX), [0.2, 0.3, 0.4, 0.5]],
            [[0.5, 0.5, 0.7, 0.6], [0, 0, 1, 0.8], list(PAD_BOX)],
        ]
    )
    labels = torch.tensor([[1, 0, 2], [3, 4, 0]])
    with torch.inference_mode():
        scores, objects = d(images, layouts_of(boxes, labels))
        assert scores.shape == (2,) and objects.shape == (4,)
        order = [(0, 0), (0, 2), (1, 0), (1, 1)]
        for score, (image, slot) in zip(objects, order, strict=True):
            own = layouts_of(boxes[image, slot].view(1, 1, 4), labels[image, slot].view(1, 1))
            _, alone = d(images[image : image + 1], own)
            torch.testing.assert_close(alone[0], score, rtol=1e-4, atol=1e-5)
    assert len(set(objects.tolist())) == 4


@pytest.mark.parametrize("resolution", PLANS)
def test_images_without_objects_have_image_scores_alone(resolution: int) -> None:
    d = discriminator(resolution)
    boxes = torch.tensor(PAD_BOX).view(1, 1, 4)
    empty = layouts_of(boxes, torch.zeros(1, 1, dtype=torch.int64))
    scores, objects = d(torch.randn(1, 3, resolution, resolution), empty)
    assert scores.shape == (1,) and objects.shape == (0,)


def test_a_label_is_told_from_another() -> None:
    d = discriminator(64)
    image = torch.randn(1, 3, 64, 64)
    box = torch.tensor([[[0.1, 0.1, 0.8, 0.8]]])
    with torch.inference_mode():
        _, one = d(image, layouts_of(box, torch.tensor([[1]])))
        _, other = d(image, layouts_of(box, torch.tensor([[2]])))
    assert one.item() != other.item()


def test_pooling_early_gives_smaller_maps_of_the_same_channels() -> None:
    plain, early = discriminator(64), discriminator(64, early_pool=True)
    assert plain.state_dict().keys() == early.state_dict().keys()
    x = torch.randn(1, 3, 64, 64)
    assert plain.get_submodule("block1")(x).shape == (1, 2, 64, 64)
    assert early.get_submodule("block1")(x).shape == (1, 2, 32, 32)


@pytest.mark.parametrize(
    ("channels", "pool", "has_skip"), [(4, False, False), (6, False, True), (4, True, True)]
)
def test_a_shortcut_is_learned_where_shapes_differ(
    channels: int, pool: bool, has_skip: bool
) -> None:
    block = DiscriminatorBlock(4, channels, pool)
    assert any(key.startswith("c_sc.") for key in block.state_dict()) == has_skip
    side = 4 if pool else 8
    assert block(torch.randn(1, 4, 8, 8)).shape == (1, channels, side, side)


def weights_of(layer: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight over its largest singular value, as the layer knows it, and bias."""
    assert isinstance(layer, SpectralNormed)
    return layer.weight().detach(), layer.get_parameter("bias").detach()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_a_block_is_two_convolutions_beside_a_shortcut(first: bool, pool: bool) -> None:
    """In float64.

    The first block reads the image itself, the others the positive part of their input.
    """
    torch.manual_seed(0)
    block = DiscriminatorBlock(3, 5, pool, first).double().eval()
    for name in ("conv1", "conv2", "c_sc"):
        torch.nn.init.normal_(block.get_submodule(name).get_parameter("bias"))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    source = x if first else x.clamp_min(0)
    hidden = F.conv2d(source, *weights_of(block.conv1), padding=1).clamp_min(0)
    expected = F.conv2d(hidden, *weights_of(block.conv2), padding=1)
    expected = expected + F.conv2d(x, *weights_of(block.c_sc))
    if pool:
        expected = expected.view(2, 5, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_without_a_learned_shortcut_the_input_itself_is_added() -> None:
    torch.manual_seed(0)
    block = DiscriminatorBlock(4, 4, pool=False).double().eval()
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    hidden = F.conv2d(x.clamp_min(0), *weights_of(block.conv1), padding=1).clamp_min(0)
    expected = x + F.conv2d(hidden, *weights_of(block.conv2), padding=1)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def last_map(d: Discriminator, images: torch.Tensor) -> list[torch.Tensor]:
    """Return the maps after every block."""
    maps = []
    x = images
    for number in range(1, d.num_blocks + 1):
        x = d.get_submodule(f"block{number}")(x)
        maps.append(x)
    return maps


@pytest.mark.parametrize("resolution", [64, 128])
def test_the_image_score_reads_the_sum_of_the_last_map_and_at_64_pixels_its_mean(
    resolution: int,
) -> None:
    d = discriminator(resolution)
    head = d.get_submodule(d.image_head)
    torch.nn.init.normal_(head.get_parameter("bias"))
    images = torch.randn(2, 3, resolution, resolution)
    boxes = torch.tensor([[[0.1, 0.1, 0.8, 0.8]], [[0.1, 0.1, 0.8, 0.8]]])
    with torch.inference_mode():
        scores, _ = d(images, layouts_of(boxes, torch.ones(2, 1, dtype=torch.int64)))
        values = last_map(d, images)[-1].clamp_min(0).flatten(2)
        pooled = values.mean(2) if resolution == 64 else values.sum(2)
        weight, bias = weights_of(head)
        expected = (pooled @ weight.t() + bias)[:, 0]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def by_projection(d: Discriminator, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the scores of objects with these RoI features.

    A linear layer plus a label projection.
    """
    summed = features.clamp_min(0).sum((2, 3))
    weight, bias = weights_of(d.l_obj)
    rows = d.l_y.weight().detach()[labels]
    return (summed @ weight.t() + bias)[:, 0] + (rows * summed).sum(1)


def test_at_64_pixels_objects_are_read_from_the_third_map_by_torchvisions_roi_align() -> None:
    """The third map has half the side of the image; the box is in pixels x0, y0, x1, y1."""
    d = discriminator(64)
    torch.nn.init.normal_(d.l_obj.bias)
    images = torch.randn(2, 3, 64, 64)
    boxes = torch.tensor([[[0.1, 0.2, 0.9, 0.5]], [[0.3, 0.1, 0.5, 0.9]]])
    labels = torch.tensor([[3], [5]])
    with torch.inference_mode():
        _, objects = d(images, layouts_of(boxes, labels))
        third = last_map(d, images)[2]
        assert third.shape[-1] == 32
        pixels = [row * 64 for row in boxes]
        rois = roi_align(third, pixels, 8, 1 / 2, sampling_ratio=0, aligned=False)
        expected = by_projection(d, d.get_submodule("block_obj4")(rois), labels.flatten())
    torch.testing.assert_close(objects, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "height", "small"),
    [(60, 60, True), (64, 60, False), (60, 64, False), (20, 90, False)],
)
def test_objects_with_both_sides_below_half_the_image_are_read_from_the_finer_map(
    width: int, height: int, small: bool
) -> None:
    d = discriminator(128)
    image = torch.randn(1, 3, 128, 128)
    box = torch.tensor([[[4.0, 8.0, 4.0 + width, 8.0 + height]]])
    finer = d.get_submodule("block_obj3")
    shared = d.get_submodule("block_obj4")
    last = d.get_submodule("block_obj5")
    with torch.inference_mode():
        _, objects = d(image, layouts_of(box / 128, torch.tensor([[2]])))
        maps = last_map(d, image)
        if small:
            source, scale = shared(finer(maps[1])), 1 / 4
        else:
            source, scale = shared(maps[2]), 1 / 8
        rois = roi_align(source, [box[0]], 8, scale, sampling_ratio=0, aligned=False)
        expected = by_projection(d, last(rois), torch.tensor([2]))
    torch.testing.assert_close(objects, expected, rtol=1e-4, atol=1e-5)


def test_boxes_are_read_as_x_then_y() -> None:
    """Of an image whose left half is black, a box on the left does not see what is on the right."""
    d = discriminator(64)
    dark = torch.zeros(1, 3, 64, 64)
    bright = dark.clone()
    bright[..., 40:] = 1
    left = torch.tensor([[[0.0, 0.0, 0.2, 1.0]]])
    top = torch.tensor([[[0.0, 0.0, 1.0, 0.2]]])
    label = torch.tensor([[1]])
    with torch.inference_mode():
        of_dark = d(dark, layouts_of(left, label))[1]
        assert torch.equal(d(bright, layouts_of(left, label))[1], of_dark)
        of_dark = d(dark, layouts_of(top, label))[1]
        assert not torch.equal(d(bright, layouts_of(top, label))[1], of_dark)


@pytest.mark.parametrize(
    ("resolution", "orthogonal", "expected"),
    [(64, None, True), (128, None, False), (64, False, False), (128, True, True)],
)
def test_a_start_is_orthogonal_at_64_pixels_or_when_asked(
    resolution: int, orthogonal: bool | None, expected: bool
) -> None:
    torch.manual_seed(0)
    d = Discriminator(resolution, 2, 6, orthogonal=orthogonal)
    rows = d.get_submodule("block2").get_parameter("conv1.weight_orig").detach().flatten(1)
    product = rows @ rows.t()
    assert torch.allclose(product, torch.eye(len(rows)), atol=1e-5) == expected
    bias = d.get_submodule("block2").get_parameter("conv1.bias")
    assert (bias.abs().max().item() == 0) == expected


def test_a_default_start_is_uniform_within_one_over_the_root_of_the_fan_in() -> None:
    torch.manual_seed(0)
    d = Discriminator(128, 8, 60)
    weight = d.get_submodule("block4").get_parameter("conv1.weight_orig").detach()
    bound = (32 * 9) ** -0.5
    assert 0.98 * bound < weight.max() <= bound
    assert -bound <= weight.min() < -0.98 * bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    table = d.l_y.weight_orig.detach()
    assert table.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("resolution", PLANS)
def test_the_channels_of_a_plan_fit_each_other(resolution: int) -> None:
    plan = PLANS[resolution]
    assert len(plan.widths) == len(plan.pools)
    side = resolution >> sum(plan.pools)
    assert side in (4, 8)
    blocks = list(plan.object_blocks.values())
    assert blocks[0][0] == plan.widths[plan.tap]
    for (_, before, _), (after, _, _) in pairwise(blocks):
        assert before == after
    if resolution > 64:
        assert blocks[1][0] == plan.widths[plan.tap + 1]
    assert [pool for _, _, pool in blocks] == [False] * (len(blocks) - 1) + [True]
