"""Panoptic-based Image Synthesis (Dundar et al., CVPR 2020, section 3).

SPADE's generator, in which the first convolution, the convolutions of the residual blocks and every
doubling read the panoptic map: a window of a convolution reads only pixels of its centre's
identity, and a doubling copies only from pixels of the same identity. Pixels that find none (holes)
get the first convolution's features of the map at that resolution. SPADE's norms, discriminator and
losses are unchanged. docs/panoptic.md says how we read the points that the paper leaves open.

Legend: B images, H W pixels, C channels, Q holes, Z length of the latent code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.panoptic.conv import hole_features, panoptic_conv
from synthaug.generators.nn.panoptic.neighbourhood import (
    Border,
    NeighbourhoodSettings,
    Order,
    Scaling,
)
from synthaug.generators.nn.panoptic.upsample import panoptic_upsample
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.discriminator import xavier_init
from synthaug.generators.spade.network import (
    BlockConv,
    SpadeBlock,
    SpadeGenerator,
    SpadeNorm,
    SpadeObjective,
)
from synthaug.generators.spade.semantics import Semantics


@dataclass(frozen=True)
class Config(spade.Config):
    """SPADE's keys and the panoptic-aware ones; both switches off: SPADE."""

    panoptic_conv: bool = True  # the first convolution and those of the residual blocks
    panoptic_upsampling: bool = True  # every doubling, its holes filled with features of the map
    # outside of the image: hole (another identity) | same (zeros that match)
    border: Border = "hole"
    # neighbours tried first in a doubling: xy (right, below) | yx (below, right)
    upsampling_order: Order = "xy"
    # of windows at boundaries: mean (equation 2) | root (its root: variance is kept)
    scaling: Scaling = "mean"

    @property
    def aware(self) -> bool:
        """Return whether anything is panoptic-aware; if not, it is SPADE."""
        return self.panoptic_conv or self.panoptic_upsampling

    @property
    def neighbourhood(self) -> NeighbourhoodSettings:
        """Return the settings of the panoptic-aware operators."""
        return NeighbourhoodSettings(self.border, self.upsampling_order, self.scaling)


class PanopticBlockConv(BlockConv):
    """Convolution of a residual block within identities.

    The weight is spectrally normalized first, as in SPADE, and masked then.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        bias: bool,
        settings: NeighbourhoodSettings,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, bias)
        self.settings = settings

    def forward(self, x: Tensor, maps: Semantics) -> Tensor:
        """Map [B, in, H, W] to [B, out, H, W]; maps are of the size of x."""
        neighbourhood = maps.neighbourhood(self.settings)
        return panoptic_conv(x, self.weight(), self.bias, neighbourhood)


class PanopticGenerator(SpadeGenerator):
    """G; parameters are SPADE's, and `fill`, a 1 x 1 convolution per width.

    With a latent code (`vae`), which the paper leaves to the future, it starts from its map all the
    same: the code adds one vector, the same at every pixel (`style`), to the features of the first
    convolution, wherever they are used: in the first map and in holes. So a hole is painted in the
    image's style, and nothing passes from one identity to another.
    """

    config: Config

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__(config, num_classes)
        features = 16 * config.width
        self.fill = nn.ModuleDict()
        if config.panoptic_upsampling:
            widths = {stage.channels_in for stage in self.stages if stage.doubled}
            for width in sorted(widths - {features}, reverse=True):
                self.fill[str(width)] = nn.Conv2d(features, width, 1)
            xavier_init(self.fill)
        if config.vae and config.aware:
            self.style = nn.Linear(config.z, features)
            xavier_init(self.style)

    def first_layer(self, semantic_channels: int) -> nn.Module:
        """Return a convolution of the map, with a latent code too."""
        config = self.config
        if not config.aware:
            return super().first_layer(semantic_channels)
        return nn.Conv2d(semantic_channels, 16 * config.width, 3, padding=1)

    def block(self, channels_in: int, channels_out: int, semantic_channels: int) -> nn.Module:
        """Return a residual block."""
        config = self.config
        if not config.panoptic_conv:
            return super().block(channels_in, channels_out, semantic_channels)

        def norm(channels: int) -> nn.Module:
            return SpadeNorm(channels, semantic_channels, config.fast_modulation)

        conv = partial(PanopticBlockConv, settings=config.neighbourhood)
        return SpadeBlock(channels_in, channels_out, norm, conv)

    def embed(self, z: Tensor | None) -> Tensor | None:
        """Return the style [B, 16 width] of latent codes [B, Z]; None without codes."""
        code = super().embed(z)
        if code is None or not self.config.aware:
            return code
        style: Tensor = self.style(code)
        return style

    def first_map(self, maps: Semantics, code: Tensor | None) -> Tensor:
        """Return the map that the blocks start from [B, 16 width, H, W]."""
        config = self.config
        if not config.aware:
            return super().first_map(maps, code)
        weight, bias = self._first_convolution()
        if config.panoptic_conv:
            neighbourhood = maps.neighbourhood(config.neighbourhood)
            features = panoptic_conv(maps.dense, weight, bias, neighbourhood)
        else:
            features = F.conv2d(maps.dense, weight, bias, padding=1)
        if code is None:
            return features
        return features + code[:, :, None, None]

    def upsample(self, x: Tensor, maps: Semantics, code: Tensor | None) -> Tensor:
        """Double both sides of x [B, C, H, W] within identities.

        Holes get the features of the map at the doubled resolution (equation 3).
        """
        if not self.config.panoptic_upsampling:
            return super().upsample(x, maps, code)
        weight, bias = self._first_convolution()
        neighbourhood = maps.neighbourhood(self.config.neighbourhood)
        rows = hole_features(weight, bias, [neighbourhood])[0]  # [Q, 16 width]
        if code is not None:
            pixels_per_image = neighbourhood.identity[0].numel()
            image = neighbourhood.upsampling.holes // pixels_per_image
            rows = rows + code.to(rows.dtype)[image]
        channels = x.shape[1]
        if channels < rows.shape[1]:
            fill = self.fill[str(channels)]
            assert isinstance(fill, nn.Conv2d)
            matrix = fill.weight[:, :, 0, 0]
            rows = F.linear(rows, matrix, fill.bias)
        return panoptic_upsample(x, neighbourhood, rows)

    def _first_convolution(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of the convolution of the map."""
        assert isinstance(self.fc, nn.Conv2d)
        return self.fc.weight, self.fc.bias


class PanopticObjective(SpadeObjective):
    """SPADE's objective with this generator."""

    config: Config

    def build_networks(self, num_classes: int) -> dict[str, nn.Module]:
        """Return fresh networks by name."""
        networks = super().build_networks(num_classes)
        networks["G"] = PanopticGenerator(self.config, num_classes)
        return networks
