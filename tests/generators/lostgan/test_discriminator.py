"""D: scores of images and objects in their order, objects by size, initialisation, and images without objects."""

from __future__ import annotations

import pytest
import torch

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
