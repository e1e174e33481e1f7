"""SPADE's multi-scale PatchGAN discriminator and its image encoder.

Both are stacks of strided convolutions, spectrally normalized and followed by instance norm.
Parameter names are those of the official checkpoints.

Legend: B images, H W pixels, S channels of the semantic tensor, Z length of the latent code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.layers import SpectralNormed

ENCODED_SIDE = 256  # pixels; the encoder resizes every image to this side
MAX_GROWTH = 8  # widths stop growing at this multiple of the base width
ENCODER_LAYERS = 6


class StridedConv(SpectralNormed):
    """Convolution without bias, spectrally normalized."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        padding: int,
    ) -> None:
        super().__init__((out_channels, in_channels, kernel, kernel), 1e-12, default_init)
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H', W']."""
        return F.conv2d(x, self.weight(), None, self.stride, self.padding)


def default_init(weight: Tensor) -> None:
    """Draw uniformly in 1 / sqrt(fan-in), where the published code does nothing.

    See docs/spade.md.
    """
    fan_in = weight[0].numel()
    bound = fan_in**-0.5
    nn.init.uniform_(weight, -bound, bound)


def xavier_init(network: nn.Module) -> None:
    """Draw Xavier normal, gain 0.02, without spectral norm; zero every bias."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_normal_(layer.weight, 0.02)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)


class PatchDiscriminator(nn.Module):
    """Discriminator of one scale: 4 x 4 convolutions, the last two of stride 1.

    All but the first and the last have instance norm.
    """

    def __init__(self, in_channels: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        first = nn.Conv2d(in_channels, width, 4, stride=2, padding=2)
        self.model0 = nn.Sequential(first, nn.LeakyReLU(0.2))
        channels = width
        for i in range(1, num_layers):
            doubled = min(channels * 2, MAX_GROWTH * width)
            stride = 1 if i == num_layers - 1 else 2
            conv = StridedConv(channels, doubled, 4, stride, 2)
            normed = nn.Sequential(conv, nn.InstanceNorm2d(doubled))
            stage = nn.Sequential(normed, nn.LeakyReLU(0.2))
            self.add_module(f"model{i}", stage)
            channels = doubled
        last = nn.Conv2d(channels, 1, 4, stride=1, padding=2)
        self.add_module(f"model{num_layers}", nn.Sequential(last))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, S + 3, H, W] to the features after each layer and, last, the scores.

        The scores are [B, 1, H', W'].
        """
        outputs = []
        for i in range(self.num_layers + 1):
            x = self.get_submodule(f"model{i}")(x)
            outputs.append(x)
        return outputs


class Discriminator(nn.Module):
    """Discriminators of one form at several scales, without shared weights.

    Each sees half the resolution of the last.
    """

    def __init__(
        self,
        semantic_channels: int,
        width: int,
        num_scales: int = 2,
        num_layers: int = 4,
    ) -> None:
        super().__init__()
        self.num_scales = num_scales
        for k in range(num_scales):
            patches = PatchDiscriminator(semantic_channels + 3, width, num_layers)
            self.add_module(f"discriminator_{k}", patches)
        xavier_init(self)

    def forward(self, semantic: Tensor, images: Tensor) -> list[list[Tensor]]:
        """Return per scale its features and, last, its scores.

        semantic [B, S, H, W], images [B, 3, H, W] in [-1, 1].
        """
        maps = semantic.to(images.dtype)
        x = torch.cat([maps, images], 1)
        outputs = []
        for k in range(self.num_scales):
            outputs.append(self.get_submodule(f"discriminator_{k}")(x))
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return outputs


class Encoder(nn.Module):
    """Maps an image to the mean and the logarithm of the variance of its latent code."""

    def __init__(self, width: int, z: int) -> None:
        super().__init__()
        self.num_layers = ENCODER_LAYERS
        in_channels = 3
        for i in range(ENCODER_LAYERS):
            channels = width * min(2**i, MAX_GROWTH)
            conv = StridedConv(in_channels, channels, 3, 2, 1)
            norm = nn.InstanceNorm2d(channels)
            self.add_module(f"layer{i + 1}", nn.Sequential(conv, norm))
            in_channels = channels
        side = ENCODED_SIDE >> ENCODER_LAYERS
        features = in_channels * side**2
        self.fc_mu = nn.Linear(features, z)
        self.fc_var = nn.Linear(features, z)
        xavier_init(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, 3, H, W] in [-1, 1] to mu and logvar, [B, Z] each."""
        side = (ENCODED_SIDE, ENCODED_SIDE)
        x = images
        if images.shape[-2:] != side:
            x = F.interpolate(images, side, mode="bilinear", align_corners=False)
        for i in range(self.num_layers):
            x = self.get_submodule(f"layer{i + 1}")(x)
            x = F.leaky_relu(x, 0.2)
        features = x.flatten(1)
        return self.fc_mu(features), self.fc_var(features)
