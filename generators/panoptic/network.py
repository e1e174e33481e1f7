"""Panoptic-aware image synthesis (Dundar et al., "Panoptic-based Image Synthesis", CVPR 2020, section 3).

SPADE's generator, in which the first convolution, the convolutions of the residual blocks and every doubling look at the
panoptic map: a window of a convolution reads only what has its centre's identity, and a doubling copies only from pixels of
the same identity. Pixels that find none (holes) get the first convolution's features of the map at that resolution. SPADE's
norms, discriminator and losses are unchanged. docs/panoptic.md says how we read what the paper leaves open.

Legend: B images, H W pixels, C channels, Q holes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.panoptic.conv import hole_features, panoptic_conv, panoptic_upsample
from synthaug.generators.nn.panoptic.neighbourhood import Border, Order, ScaleGuide, Scaling
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
    """SPADE's keys, and what is panoptic-aware; with both switches off it is SPADE (the paper's Table 4)."""

    panoptic_conv: bool = True  # the first convolution and those of the residual blocks
    panoptic_upsampling: bool = True  # every doubling, its holes filled with features of the map
    border: Border = (
        "hole"  # outside of the image: hole (another identity) | same (zeros that match)
    )
    upsampling_order: Order = (
        "xy"  # neighbours tried first in a doubling: xy (right, below) | yx (below, right)
    )
    scaling: Scaling = (
        "mean"  # of windows at boundaries: mean (equation 2) | root (its root: variance is kept)
    )

    @property
    def aware(self) -> bool:
        """Whether anything is panoptic-aware; if not, it is SPADE."""
        return self.panoptic_conv or self.panoptic_upsampling


@dataclass(frozen=True)
class PanopticSemantics(Semantics):
    """What the networks see of maps, with the identities of pixels; each resolution is made once."""

    config: Config
    style: Tensor | None = (
        None  # [B, 16 width]: what a latent code adds to the first convolution's features
    )
    scales: dict[tuple[int, int], PanopticSemantics] = field(default_factory=dict, compare=False)

    @staticmethod
    def of(seen: Semantics, config: Config, style: Tensor | None = None) -> PanopticSemantics:
        """Wrap what SPADE sees."""
        return PanopticSemantics(
            seen.channel, seen.instances, seen.edges, seen.num_classes, config, style
        )

    def at(self, size: tuple[int, int]) -> PanopticSemantics:
        """The same at another (H, W), the top-left pixel of each block."""
        if size == self.size:
            return self
        if size not in self.scales:
            self.scales[size] = PanopticSemantics.of(super().at(size), self.config, self.style)
        return self.scales[size]

    @cached_property
    def guide(self) -> ScaleGuide:
        """Who belongs to whom at this resolution; an identity is a pair of class and instance."""
        extra = None if self.edges is None else self.edges[:, None].float()
        identity = self.instances * self.num_classes + self.channel
        how = self.config
        order, scaling = how.upsampling_order, how.scaling
        return ScaleGuide(
            identity, self.channel, extra, border=how.border, order=order, scaling=scaling
        )


def _guide(seen: Semantics) -> ScaleGuide:
    assert isinstance(seen, PanopticSemantics)
    return seen.guide


def _style(seen: Semantics) -> Tensor | None:
    assert isinstance(seen, PanopticSemantics)
    return seen.style


class PanopticBlockConv(BlockConv):
    """Convolution of a residual block within identities; the weight is normalised first, as ever, and masked then."""

    def forward(self, x: Tensor, seen: Semantics) -> Tensor:
        """x [B, in, H, W], maps of the same size -> [B, out, H, W]."""
        return panoptic_conv(x, self.weight(), self.bias, _guide(seen))


class PanopticGenerator(SpadeGenerator):
    """G; parameters are SPADE's, and `fill`, a 1 x 1 convolution per width below the first map's.

    With a latent code (`vae`), which the paper leaves to the future, it starts from its map all the same: the code adds one
    vector, the same at every pixel (`style`), to the features of the first convolution, wherever they are used: in the first
    map and in holes. So a hole is painted in the image's style, and nothing passes from one identity to another.
    """

    config: Config

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__(config, num_classes)
        self.fill = nn.ModuleDict()
        if config.panoptic_upsampling:
            full = 16 * config.width
            widths = {wide for _, wide, _, doubled in self.stages if doubled and wide < full}
            for wide in sorted(widths, reverse=True):
                self.fill[str(wide)] = nn.Conv2d(full, wide, 1)
            xavier_init(self.fill)
        if config.vae and config.aware:
            self.style = nn.Linear(config.z, 16 * config.width)
            xavier_init(self.style)

    def first_layer(self, semantic_channels: int) -> nn.Module:
        """A convolution of the map, with a latent code too."""
        config = self.config
        if not config.aware:
            return super().first_layer(semantic_channels)
        return nn.Conv2d(semantic_channels, 16 * config.width, 3, padding=1)

    def block(self, channels_in: int, channels_out: int, semantic_channels: int) -> nn.Module:
        """Return a residual block."""
        fast = self.config.fast_modulation
        conv = PanopticBlockConv if self.config.panoptic_conv else BlockConv
        return SpadeBlock(
            channels_in, channels_out, lambda c: SpadeNorm(c, semantic_channels, fast), conv
        )

    def first_map(self, seen: Semantics, z: Tensor | None) -> Tensor:
        """The map that the blocks start from [B, 16 width, H, W]."""
        if not self.config.aware:
            return super().first_map(seen, z)
        weight, bias = self._first()
        if self.config.panoptic_conv:
            out = panoptic_conv(seen.dense, weight, bias, _guide(seen))
        else:
            out = F.conv2d(seen.dense, weight, bias, padding=1)
        style = _style(seen)
        return out if style is None else out + style[:, :, None, None]

    def upsample(self, x: Tensor, small: Semantics, large: Semantics) -> Tensor:
        """Double both sides of x [B, C, H, W] within identities; holes get the map's features (equation 3)."""
        if not self.config.panoptic_upsampling:
            return super().upsample(x, small, large)
        weight, bias = self._first()
        guide, style = _guide(large), _style(large)
        rows = hole_features(weight, bias, [guide])[0]  # [Q, 16 width]
        if style is not None:
            rows = rows + style.to(rows.dtype)[guide.upsampling.holes // guide.identity[0].numel()]
        if x.shape[1] < rows.shape[1]:
            fill = self.fill[str(x.shape[1])]
            assert isinstance(fill, nn.Conv2d)
            rows = F.linear(rows, fill.weight[:, :, 0, 0], fill.bias)
        return panoptic_upsample(x, guide, rows)

    def _first(self) -> tuple[Tensor, Tensor | None]:
        assert isinstance(self.fc, nn.Conv2d)
        return self.fc.weight, self.fc.bias

    def forward(self, seen: Semantics, z: Tensor | None = None) -> Tensor:
        """Maps of the size of the images, z [B, Z] with a latent code -> images [B, 3, H, W] in [-1, 1]."""
        return super().forward(PanopticSemantics.of(seen, self.config, self.style_of(z)), z)

    def style_of(self, z: Tensor | None) -> Tensor | None:
        """What latent codes [B, Z] add to the first convolution's features, [B, 16 width]; None without."""
        if not (self.config.vae and self.config.aware):
            return None
        assert z is not None, "a generator with a latent code needs one"
        style: Tensor = self.style(z)
        return style


class PanopticObjective(SpadeObjective):
    """SPADE's training with this generator."""

    config: Config

    def build_networks(self, num_classes: int) -> dict[str, nn.Module]:
        """Return fresh networks by name."""
        return super().build_networks(num_classes) | {
            "G": PanopticGenerator(self.config, num_classes)
        }
