"""CRN (Chen & Koltun, ICCV 2017): a cascade of refinements and its objective.

"Photographic Image Synthesis with Cascaded Refinement Networks". A cascade of levels from coarse to
fine, each of which sees the map at its own size. It learns by regression (losses.py): no
discriminator, no noise; where it makes several images of a map, the nearest to the real one learns.
Facts of the published code that the paper does not tell are in docs/crn.md.

Legend: B images, C channels of the map, K images per map, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import MapBatch
from synthaug.generators.crn.config import Config
from synthaug.generators.crn.losses import RegressionLoss
from synthaug.generators.spade.semantics import semantics
from synthaug.generators.training.losses import Loss

SLOPE = 0.2  # of the leaky ReLUs
NORM_EPS = 1e-12


class LayerNorm(nn.Module):
    """Norm over all channels and pixels of an image, with gain and bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same."""
        values = x.float()  # statistics of bfloat16 features are float32
        normed = F.group_norm(values, 1, self.weight.float(), self.bias.float(), NORM_EPS)
        return normed.to(x.dtype)


class Level(nn.Module):
    """One refinement: two convolutions with norm and leaky ReLU each."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm1 = LayerNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C', H, W] to [B, C, H, W]."""
        x = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(x)), SLOPE)


class CascadedRefinement(nn.Module):
    """G: `forward` is differentiable; the sampler is in sampler.py."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        channels = config.map_channels(num_classes)
        levels = []
        before = 0
        for width in config.level_widths:
            levels.append(Level(before + channels, width))
            before = width
        self.levels = nn.ModuleList(levels)
        self.head = nn.Conv2d(before, 3 * config.images, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Return images [B, K, 3, H, W] of maps [B, C, H, W]: [-1, 1] are all colors.

        Nothing holds the values inside.
        """
        x = self.levels[0](at_size(maps, self.config.start))
        for level in self.levels[1:]:
            x = double(x)
            seen = at_size(maps, (x.shape[2], x.shape[3]))
            x = level(torch.cat([x, seen.to(x.dtype)], 1))
        return as_images(self.head(x), self.config.images)


def at_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps [B, C, H, W] at a smaller (H, W): the mean of each block of pixels."""
    height, width = size
    factors = (maps.shape[2] // height, maps.shape[3] // width)
    if factors == (1, 1):
        return maps
    return F.avg_pool2d(maps, factors)


def double(x: Tensor) -> Tensor:
    """Double both sides of [B, C, H, W], linearly between the corners."""
    size = (2 * x.shape[2], 2 * x.shape[3])
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def as_images(x: Tensor, count: int) -> Tensor:
    """Return the head's channels [B, 3 K, H, W] as images [B, K, 3, H, W].

    All red ones come first, then all green ones.
    """
    batch, _, height, width = x.shape
    colors = x.view(batch, 3, count, height, width)
    return colors.transpose(1, 2)


class CrnObjective:
    """G and its loss (paper eqs. 1 and 3)."""

    def __init__(self, config: Config, num_classes: int) -> None:
        self.config = config
        self.networks: Mapping[str, nn.Module] = {"G": CascadedRefinement(config, num_classes)}
        self.loss = RegressionLoss(
            config.weights, config.images > 1, config.perceptual_weights, config.perceptual_input
        )

    def losses(self, batch: MapBatch, _rng: torch.Generator) -> dict[str, Loss]:
        """Return the loss of the images of a batch's maps."""
        config = self.config
        maps = semantics(batch.maps, config.dont_care, config.edges)
        images = self.networks["G"](maps.dense)
        weights = None
        if config.weigh_scores:
            weights = batch.weights
        loss = self.loss.to(batch.images.device)
        value = loss(images, batch.images, maps.dense[:, : maps.num_classes], weights)
        return {"regression": Loss(value)}
