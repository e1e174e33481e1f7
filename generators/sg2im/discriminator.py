"""The discriminators of sg2im (section 3): of patches, and of crops of objects.

Parameter names are those of the official checkpoints.

Legend: B images, n objects of all images, C base channels, c side of a crop.
"""

from __future__ import annotations

from torch import Tensor, nn

from synthaug.generators.nn.crops import crop_boxes
from synthaug.generators.nn.layers import BatchNorm2d
from synthaug.generators.sg2im.graphs import SceneGraphs
from synthaug.generators.sg2im.network import SLOPE

CROP = 32  # side of the crops of objects
HIDDEN = 1024  # length of the vector that an object is judged by


def trunk(width: int) -> nn.Sequential:
    """Return three convolutions that halve the side: [B, 3, H, W] to [B, 4 C, h, w]."""
    first = nn.Conv2d(3, width, 4, stride=2)
    second = nn.Conv2d(width, 2 * width, 4, stride=2)
    third = nn.Conv2d(2 * width, 4 * width, 4, stride=2)
    return nn.Sequential(
        first,
        BatchNorm2d(width),
        nn.LeakyReLU(SLOPE),
        second,
        BatchNorm2d(2 * width),
        nn.LeakyReLU(SLOPE),
        third,
    )


class ImageDiscriminator(nn.Module):
    """Scores of patches.

    All channels of the last convolution are scores: the published classifier after it is never
    applied.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cnn = trunk(width)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] -> scores [B, 4 C, h, w]."""
        scores: Tensor = self.cnn(images)
        return scores


class MeanOfPixels(nn.Module):
    """The mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W] to [n, C]."""
        return x.mean((2, 3))


class ObjectDiscriminator(nn.Module):
    """Real or painted, and of which class: both of a crop of an object."""

    def __init__(self, width: int, labels: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.cnn = nn.Sequential(trunk(width), MeanOfPixels(), nn.Linear(4 * width, hidden))
        self.real_classifier = nn.Linear(hidden, 1)
        self.obj_classifier = nn.Linear(hidden, labels)

    def forward(self, images: Tensor, graphs: SceneGraphs) -> tuple[Tensor, Tensor]:
        """Images [B, 3, S, S] -> scores [n] and logits of labels [n, labels]."""
        crops = crop_boxes(images, graphs.boxes, graphs.image_of, CROP)
        vectors = self.cnn(crops)
        scores: Tensor = self.real_classifier(vectors)
        return scores[:, 0], self.obj_classifier(vectors)


class Discriminators(nn.Module):
    """Both, as the one network that learns against the generator."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.image = ImageDiscriminator(width)
        self.object = ObjectDiscriminator(width, labels)
