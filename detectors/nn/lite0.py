"""The body of EfficientNet-Lite0, which the backbone `lite0` stands on.

EfficientNet-B0 (Tan & Le 2019, table 1) as Google's Lite models change it: ReLU6 in place of swish
and no squeeze-and-excitation. The published network was trained by TensorFlow: its strided
convolutions pad behind the image only ("same"), and its batch norms divide by sqrt(variance +
0.001).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import FrozenBatchNorm2d

STEM_CHANNELS = 32
EPS = 1e-3
PARTS = 5  # at strides 2, 4, 8, 16 and 32, as a ResNet has five stages
# RGB in [0, 1]: the network wants (x - 127) / 128 of pixels in 0..255
MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them has the stride."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


STAGES = (  # table 1, stages 2 to 8
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class ConvNorm(nn.Module):
    """A convolution, a frozen batch norm and perhaps ReLU6.

    The norm is a factor and a shift per channel that never change, so the weights are multiplied by
    the factor: one pass over the map instead of three, in bfloat16 too.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu6: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, groups=groups, bias=False)
        self.norm = FrozenBatchNorm2d(channels, eps=EPS)
        self.relu6 = relu6
        padding = kernel - stride  # in all, of a map of an even number of rows
        self.before = padding // 2
        self.after = padding - self.before
        self.is_strided_depthwise = stride > 1 and groups > 1

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / stride, W / stride]; H and W are even."""
        if self.is_strided_depthwise and x.requires_grad and x.device.type == "cpu":
            # torch's gradient of these takes ten times as long in bfloat16 as in float32
            with torch.autocast("cpu", enabled=False):
                return self._convolve(x.float())
        return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        norm = self.norm
        factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * factor
        weight = self.conv.weight * factor[:, None, None, None]
        padding = self.before
        if self.before != self.after:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
            padding = 0
        y = F.conv2d(x, weight, shift, self.conv.stride, padding, 1, self.conv.groups)
        if self.relu6:
            return F.relu6(y, inplace=True)
        return y


class Block(nn.Module):
    """MBConv: widen, convolve each channel by itself, narrow (Sandler et al. 2018)."""

    def __init__(
        self, in_channels: int, channels: int, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = ConvNorm(in_channels, wide)
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, channels, relu6=False)
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / stride, W / stride]."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        if self.has_shortcut:
            return y + x
        return y


class Lite0Body(nn.Module):
    """Stem and 16 blocks; the last map at each of `strides` comes out, finest first.

    Strides are of 2, 4, 8, 16 and 32; blocks beyond the last of them are kept but not computed. The
    coarsest `learning_parts` of the five parts learn, but no batch norm and no depthwise kernel.
    """

    def __init__(self, strides: Sequence[int], learning_parts: int = PARTS) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList()
        last_of_stride = {}  # stride -> index of its last block
        channels_of_stride = {}
        channels = STEM_CHANNELS
        stride = 2
        for stage in STAGES:
            stride *= stage.stride
            for i in range(stage.blocks):
                block_stride = stage.stride if i == 0 else 1
                block = Block(channels, stage.channels, stage.expansion, stage.kernel, block_stride)
                block.requires_grad_(_part(stride) >= PARTS - learning_parts)
                # 5 % of the weights, and on CPUs half of a step's time
                block.depthwise.requires_grad_(False)
                self.blocks.append(block)
                channels = stage.channels
            last_of_stride[stride] = len(self.blocks) - 1
            channels_of_stride[stride] = channels
        self.stem.requires_grad_(learning_parts == PARTS)
        self.outputs = [last_of_stride[wanted] for wanted in strides]
        for unused in self.blocks[self.outputs[-1] + 1 :]:
            unused.requires_grad_(False)
        self.out_channels = [channels_of_stride[wanted] for wanted in strides]

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images [B, 3, H, W], sides multiples of 32, to maps "0", "1" ..."""
        x = self.stem(x)
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for i, block in enumerate(self.blocks[: self.outputs[-1] + 1]):
            x = block(x)
            if i in self.outputs:
                maps[str(len(maps))] = x
        return maps


def _part(stride: int) -> int:
    """Return the part, 0 to 4, of blocks at a stride."""
    return stride.bit_length() - 2
