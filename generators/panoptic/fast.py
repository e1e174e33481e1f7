"""The panoptic-aware generator for sampling on a CPU, equal up to rounding.

It is SPADE's fast form (spade/fast.py) with the convolutions of blocks panoptic-aware: the plain
one, by tiles where that is faster, whose mixed windows are then computed anew from their matching
taps, or a product per tap where most windows are mixed. A tile's sums touch neighbours, so
rounding, and nothing more, may pass from one identity to another here. First convolution and
doublings are the network's own.

Legend as in nn/panoptic/conv.py. Maps are [B, H, W, C].
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from synthaug.generators.nn.panoptic.conv import aware_by_taps, correct_windows, mostly_mixed
from synthaug.generators.nn.panoptic.neighbourhood import NeighbourhoodSettings
from synthaug.generators.nn.winograd import SameConv, channels_first, channels_last
from synthaug.generators.panoptic.network import PanopticGenerator
from synthaug.generators.spade.fast import Folded, PlainConv, fast_blocks, to_images
from synthaug.generators.spade.semantics import Semantics


class AwareConv(nn.Module):
    """Panoptic-aware 3 x 3 convolution (equations 1 and 2) for inference.

    weight [D, C, 3, 3], bias [D]; outputs per side of a `tile` of the plain convolution, 1 or 2.
    """

    taps: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        tile: int,
        settings: NeighbourhoodSettings,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.plain = SameConv(weight, bias, tile=tile)
        by_tap = weight.permute(2, 3, 1, 0)
        taps = by_tap.flatten(0, 1).contiguous()  # [9, C, D]
        self.register_buffer("taps", taps, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor, maps: Semantics) -> Tensor:
        """Map [B, H, W, C] to [B, H, W, D]; maps are of the size of x."""
        windows = maps.neighbourhood(self.settings).windows(3)
        taps = list(self.taps)
        wide = torch.promote_types(x.dtype, torch.float32)
        shift = self.bias.to(wide)
        batch, height, width, channels = x.shape
        rows = x.reshape(-1, channels)
        if mostly_mixed(windows):
            aware = aware_by_taps(rows, taps, shift, windows)
            return aware.view(batch, height, width, -1)
        out: Tensor = self.plain(x).contiguous()
        flat = out.view(-1, out.shape[3])
        correct_windows(flat, rows, taps, shift, windows)
        return out


class FastPanoptic(nn.Module):
    """A trained PanopticGenerator's forward, inside `torch.inference_mode()`.

    Weights of blocks are copied as they are at construction, to `dtype`; the others are the
    network's, in their own type.
    """

    def __init__(self, network: PanopticGenerator, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        config = network.config
        self.config = config
        self.dtype = dtype
        self.network = network
        channels = network.num_classes + int(config.dont_care)
        folded = Folded(network.state_dict(), channels)
        conv = (
            partial(AwareConv, settings=config.neighbourhood) if config.panoptic_conv else PlainConv
        )
        doubling = not config.panoptic_upsampling
        self.blocks = fast_blocks(network, folded, tiles=True, doubling=doubling, conv=conv)
        self.blocks.to(dtype)
        to_rgb = SameConv(folded["conv_img.weight"], folded["conv_img.bias"])
        self.to_rgb = to_rgb.to(dtype)

    def forward(self, maps: Semantics, z: Tensor | None = None) -> Tensor:
        """Return PanopticGenerator's images, float32."""
        network = self.network
        code = network.embed(z)
        current = maps.at(self.config.start)
        first = network.first_map(current, code)
        x = channels_last(first.to(self.dtype))
        for block, stage in zip(self.blocks, network.stages, strict=True):
            if stage.doubled:
                height, width = current.size
                current = maps.at((2 * height, 2 * width))
                if self.config.panoptic_upsampling:
                    x = channels_last(network.upsample(channels_first(x), current, code))
            x = block(x, current)
        return to_images(x, self.to_rgb)
