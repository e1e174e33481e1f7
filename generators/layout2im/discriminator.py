"""The discriminators of Layout2Im (section 3.4): of images, and of crops.

Parameter names are those of the official checkpoints.

Legend: B images, n objects of all images, C base channels.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.layout2im.network import CROP
from synthaug.generators.layout2im.rows import ObjectRows
from synthaug.generators.nn.crops import crop_boxes
from synthaug.generators.nn.layers import SNConv2d, SNLinear, default_init

EPSILON = 1e-12  # of the spectral norms
MULTIPLES = (1, 2, 4, 8, 16)  # channels of the blocks' outputs


class FirstBlock(nn.Module):
    """Residual block on pixels."""

    def __init__(self, width: int, pools: bool) -> None:
        super().__init__()
        self.pools = pools
        first = SNConv2d(3, width, 3, eps=EPSILON)
        second = SNConv2d(width, width, 3, eps=EPSILON)
        self.resi = nn.Sequential(first, nn.ReLU(), second)
        self.sc = SNConv2d(3, width, 1, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, 3, H, W] to [B, C, H/2, W/2], or to the same side."""
        main = self.resi(x)
        if self.pools:
            main = F.avg_pool2d(main, 2)
            x = F.avg_pool2d(x, 2)
        out: Tensor = main + self.sc(x)
        return out


class Block(nn.Module):
    """Residual block that halves the side; its skip sees ReLU(x), as published."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.resi = nn.Sequential(
            nn.ReLU(),
            SNConv2d(width_in, width_in, 3, eps=EPSILON),
            nn.ReLU(),
            SNConv2d(width_in, width_out, 3, eps=EPSILON),
        )
        self.sc = SNConv2d(width_in, width_out, 1, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H/2, W/2]."""
        main = self.resi(x)
        skip = self.sc(F.relu(x))
        return F.avg_pool2d(main + skip, 2)


def trunk(width: int, first_pools: bool) -> nn.Sequential:
    """Return the blocks of a discriminator, [B, 3, H, W] to [B, 16 C, h, w]."""
    blocks: list[nn.Module] = [FirstBlock(width, first_pools)]
    for before, after in itertools.pairwise(MULTIPLES):
        blocks.append(Block(before * width, after * width))
    return nn.Sequential(*blocks)


def summed(features: Tensor) -> Tensor:
    """Return the sum over pixels of what is positive in features [B, C, H, W]: [B, C]."""
    return F.relu(features).sum((2, 3))


class ImageDiscriminator(nn.Module):
    """A score per image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = trunk(width, first_pools=True)
        self.classifier = SNLinear(MULTIPLES[-1] * width, 1, EPSILON, bias=False)
        default_init(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] -> scores [B]."""
        scores: Tensor = self.classifier(summed(self.main(images)))
        return scores[:, 0]


class ObjectDiscriminator(nn.Module):
    """Real or painted, and of which class: both of a crop of an object."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.main = trunk(width, first_pools=False)
        self.classifier_src = SNLinear(MULTIPLES[-1] * width, 1, EPSILON)
        self.classifier_cls = SNLinear(MULTIPLES[-1] * width, labels, EPSILON)
        default_init(self)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Crops [n, 3, c, c] -> scores [n] and logits of labels [n, labels]."""
        features = summed(self.main(crops))
        scores: Tensor = self.classifier_src(features)
        return scores[:, 0], self.classifier_cls(features)


class Discriminators(nn.Module):
    """Both, as the one network that learns against the generator."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.image = ImageDiscriminator(width)
        self.object = ObjectDiscriminator(width, labels)

    def objects(self, images: Tensor, rows: ObjectRows) -> tuple[Tensor, Tensor]:
        """Return scores [n] and logits [n, labels] of objects in images."""
        scores: Tensor
        scores, logits = self.object(crop_boxes(images, rows.boxes, rows.image_of, CROP))
        return scores, logits
