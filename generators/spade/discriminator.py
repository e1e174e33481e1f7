"""SPADE's critics: the multi-scale PatchGAN discriminator and the image encoder of the multi-modal variant.

Both are stacks of strided convolutions, spectrally normalised and followed by instance norm. Parameter names are those of
the official checkpoints.

Legend: B images, H W pixels, S channels of the semantic tensor, C channels, Z length of the latent code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.layers import SpectralNormed

ENCODED_SIDE = 256  # pixels; the encoder resizes every image to this side
MOST = 8  # widths stop growing at this multiple of the base width


class StridedConv(SpectralNormed):
    """Convolution without bias, spectrally normalised."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
    ) -> None:
        super().__init__((out_channels, in_channels, kernel, kernel), 1e-12, default_init)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        return F.conv2d(x, self.weight(), None, self.stride, self.padding)


def default_init(weight: Tensor) -> None:
    """Uniform in 1 / sqrt(fan-in), where the published initialiser does not reach (docs/spade.md)."""
    bound = weight[0].numel() ** -0.5
    nn.init.uniform_(weight, -bound, bound)


def xavier_init(network: nn.Module) -> None:
    """Xavier normal with gain 0.02 for convolutions and linear layers without spectral norm; every bias is zero."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_normal_(layer.weight, 0.02)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)


class PatchDiscriminator(nn.Module):
    """One scale: a 4 x 4 convolution of stride 2, more with instance norm, the last two of stride 1, scores per patch."""

    def __init__(self, in_channels: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        first = nn.Conv2d(in_channels, width, 4, stride=2, padding=2)
        self.model0 = nn.Sequential(first, nn.LeakyReLU(0.2))
        narrow = width
        for i in range(1, num_layers):
            wide = min(narrow * 2, MOST * width)
            conv = StridedConv(narrow, wide, 4, 1 if i == num_layers - 1 else 2, 2)
            normed = nn.Sequential(conv, nn.InstanceNorm2d(wide))
            self.add_module(f"model{i}", nn.Sequential(normed, nn.LeakyReLU(0.2)))
            narrow = wide
        last = nn.Conv2d(narrow, 1, 4, stride=1, padding=2)
        self.add_module(f"model{num_layers}", nn.Sequential(last))

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, S + 3, H, W] -> the features after each layer, and last the scores [B, 1, H', W']."""
        found = []
        for i in range(self.num_layers + 1):
            x = self.get_submodule(f"model{i}")(x)
            found.append(x)
        return found


class Discriminator(nn.Module):
    """Discriminators of one form at several scales, without shared weights; each sees half the resolution of the last."""

    def __init__(
        self, semantic_channels: int, width: int, num_scales: int = 2, num_layers: int = 4
    ) -> None:
        super().__init__()
        self.num_scales = num_scales
        for k in range(num_scales):
            self.add_module(
                f"discriminator_{k}", PatchDiscriminator(semantic_channels + 3, width, num_layers)
            )
        xavier_init(self)

    def forward(self, semantic: Tensor, images: Tensor) -> list[list[Tensor]]:
        """semantic [B, S, H, W], images [B, 3, H, W] in [-1, 1] -> per scale its features, and last its scores."""
        x = torch.cat([semantic.to(images.dtype), images], 1)
        found = []
        for k in range(self.num_scales):
            found.append(self.get_submodule(f"discriminator_{k}")(x))
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return found


class Encoder(nn.Module):
    """An image to the mean and the logarithm of the variance of its latent code."""

    def __init__(self, width: int, z: int) -> None:
        super().__init__()
        widths = [3, *(width * min(2**i, MOST) for i in range(6))]
        self.num_layers = len(widths) - 1
        for i in range(self.num_layers):
            conv = StridedConv(widths[i], widths[i + 1], 3, 2, 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(conv, nn.InstanceNorm2d(widths[i + 1])))
        flat = widths[-1] * (ENCODED_SIDE >> self.num_layers) ** 2
        self.fc_mu = nn.Linear(flat, z)
        self.fc_var = nn.Linear(flat, z)
        xavier_init(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] in [-1, 1] -> mu and logvar, [B, Z] each."""
        side = (ENCODED_SIDE, ENCODED_SIDE)
        x = (
            images
            if images.shape[-2:] == side
            else F.interpolate(images, side, mode="bilinear", align_corners=False)
        )
        for i in range(self.num_layers):
            x = self.get_submodule(f"layer{i + 1}")(x)
            x = F.leaky_relu(x, 0.2)
        flat = x.flatten(1)
        return self.fc_mu(flat), self.fc_var(flat)
