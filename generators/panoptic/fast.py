"""The panoptic-aware generator for production on a CPU: the network of panoptic.py, in evaluation, equal up to rounding.

It is SPADE's fast form (spade_fast.py) with the convolutions of blocks panoptic-aware: the plain one, by tiles where that is
faster, whose mixed windows are then computed anew from their matching taps, or a product per tap where most windows are
mixed. A tile's sums touch neighbours, so rounding, and nothing more, may pass from one identity to another here. First
convolution and doublings are the network's own.

Legend as in panoptic_ops.py. Maps are [B, H, W, C].
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.panoptic.conv import aware_by_taps, correct_windows, mostly_mixed
from synthaug.generators.nn.panoptic.neighbourhood import ScaleGuide
from synthaug.generators.nn.winograd import SameConv
from synthaug.generators.panoptic.network import PanopticGenerator, PanopticSemantics
from synthaug.generators.spade.fast import FastBlock, Folded, saves_products
from synthaug.generators.spade.network import SpadeBlock
from synthaug.generators.spade.semantics import Semantics


class AwareConv(nn.Module):
    """Panoptic-aware 3 x 3 convolution (equations 1 and 2) for inference."""

    taps: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, tile: int) -> None:
        """weight [D, C, 3, 3], bias [D]; outputs per side of a `tile` of the plain convolution, 1 or 2."""
        super().__init__()
        self.plain = SameConv(weight, bias, tile=tile)
        self.register_buffer(
            "taps", weight.permute(2, 3, 1, 0).flatten(0, 1).contiguous(), persistent=False
        )  # [9, C, D]
        self.register_buffer("bias", bias, persistent=False)
        self.guide: ScaleGuide | None = (
            None  # of the maps that the block is at, set before each pass
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, H, W, C] -> [B, H, W, D]."""
        assert self.guide is not None
        windows, taps = self.guide.windows(3), list(self.taps)
        wide = torch.promote_types(x.dtype, torch.float32)
        shift = self.bias.to(wide)
        rows = x.reshape(-1, x.shape[3])
        if mostly_mixed(windows):
            return aware_by_taps(rows, taps, shift, windows).view(*x.shape[:3], -1)
        out: Tensor = self.plain(x).contiguous()
        correct_windows(out.view(-1, out.shape[3]), rows, taps, shift, windows)
        return out


class FastPanoptic(nn.Module):
    """The forward of a trained PanopticGenerator in evaluation; call it inside `torch.inference_mode()`.

    Weights of blocks are copied as they are at construction, to `dtype`; the others are the network's.
    """

    def __init__(self, network: PanopticGenerator, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype, self.stages = network.config, dtype, network.stages
        self.aware = network.config.panoptic_upsampling
        self.own = [network]  # in a list: its weights keep their type
        folded = Folded(network.state_dict(), network.num_classes + int(network.config.dont_care))
        height, width = network.config.start
        self.blocks = nn.ModuleList()
        for name, _, _, doubled in network.stages:
            height, width = (2 * height, 2 * width) if doubled else (height, width)
            tiles = height % 2 == 0 and width % 2 == 0
            block = cast(SpadeBlock, network.get_submodule(name))
            fast = FastBlock(folded, name, block, doubled and not self.aware, tiles)
            for conv in ("conv_0", "conv_1") if network.config.panoptic_conv else ():
                weight, bias = folded.normed(f"{name}.{conv}"), folded[f"{name}.{conv}.bias"]
                setattr(
                    fast,
                    conv,
                    AwareConv(weight, bias, 2 if tiles and saves_products(weight) else 1),
                )
            self.blocks.append(fast)
        self.colours = SameConv(folded["conv_img.weight"], folded["conv_img.bias"])
        self.to(dtype)

    def forward(self, seen: Semantics, z: Tensor | None = None) -> Tensor:
        """What PanopticGenerator.forward returns, float32."""
        network = self.own[0]
        whole = PanopticSemantics.of(seen, self.config, network.style_of(z))
        now = whole.at(self.config.start)
        x = network.first_map(now, z).to(self.dtype).permute(0, 2, 3, 1).contiguous()
        for block, (_, _, _, doubled) in zip(self.blocks, self.stages, strict=True):
            if doubled:
                before, now = now, whole.at((2 * now.size[0], 2 * now.size[1]))
                if self.aware:
                    x = (
                        network.upsample(x.permute(0, 3, 1, 2), before, now)
                        .permute(0, 2, 3, 1)
                        .contiguous()
                    )
            for part in block.children():
                if isinstance(part, AwareConv):
                    part.guide = now.guide
            x = block(x, now.patterns)
        return torch.tanh(self.colours(F.leaky_relu_(x, 0.2))).permute(0, 3, 1, 2).float()
