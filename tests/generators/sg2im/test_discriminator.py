"""The discriminators of sg2im: sizes, and what they look at."""

from __future__ import annotations

import torch

from synthaug.generators.nn.crops import crop_boxes
from synthaug.generators.sg2im.discriminator import (
    CROP,
    Discriminators,
    ImageDiscriminator,
    ObjectDiscriminator,
)
from tests.generators.sg2im.scenes import LABELS, graphs_of


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    """The classifier that is never applied is left out of the image discriminator."""
    with torch.device("meta"):
        image, objects = ImageDiscriminator(64), ObjectDiscriminator(64, 184)
    assert sum(p.numel() for p in image.parameters()) == 659_264
    assert sum(p.numel() for p in objects.parameters()) == 1_112_057


def test_all_channels_of_the_patches_are_scores() -> None:
    scores = ImageDiscriminator(4)(torch.rand(2, 3, 64, 64))
    assert scores.shape == (2, 16, 6, 6)


def test_objects_are_judged_by_their_crops_and_the_whole_image_too() -> None:
    torch.manual_seed(0)
    network, graphs = Discriminators(4, LABELS).object.eval(), graphs_of()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        scores, logits = network(images, graphs)
        crops = crop_boxes(images, graphs.boxes, graphs.image_of, CROP)
        trunk, mean, linear = network.cnn
        vectors = linear(trunk(crops).mean((2, 3)))
    assert scores.shape == (7,)
    assert logits.shape == (7, LABELS)
    torch.testing.assert_close(scores, network.real_classifier(vectors)[:, 0])
    torch.testing.assert_close(mean(crops), crops.mean((2, 3)))
