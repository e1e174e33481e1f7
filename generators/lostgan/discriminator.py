"""The discriminators of LostGAN (section 2.2.4, Fig. 4): one backbone, an image head and an object head.

The 64, 128 and 256 pixel networks are the published ones, with their parameter names; 512 extends their pattern and is ours.

Legend: B images, O object slots, n objects that are not padding, C channels, S side of a feature map, R image side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts
from synthaug.generators.nn.layers import (
    SNConv2d,
    SNEmbedding,
    SNLinear,
    orthogonal_init,
    roi_features,
)


class DiscriminatorBlock(nn.Module):
    """Residual block of D, optionally halving the side."""

    def __init__(
        self, channels_in: int, channels_out: int, pool: bool, first: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = SNConv2d(channels_in, channels_out, 3)
        self.conv2 = SNConv2d(channels_out, channels_out, 3)
        if pool or first or channels_in != channels_out:
            self.c_sc = SNConv2d(channels_in, channels_out, 1)
        self.pool, self.first = pool, first

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, C', S, S] or half of it."""
        main = F.relu(self.conv1(x if self.first else F.relu(x)))
        if not self.pool:
            main = self.conv2(main)
        elif merges(main):
            main = self.conv2.pooled(main)
        else:
            main = F.avg_pool2d(self.conv2(main), 2)
        # pooling and a 1 x 1 convolution commute; pooling first costs a quarter
        skip = F.avg_pool2d(x, 2) if self.pool else x
        return main + (self.c_sc(skip) if hasattr(self, "c_sc") else skip)


def merges(x: Tensor) -> bool:
    """Whether pooling inside the convolution is faster than after it: on large maps, on a CPU (measured).

    On small ones reading a kernel of sixteen taps, and summing its gradient, costs more than the products saved.
    """
    return x.shape[-1] >= 32 and x.device.type == "cpu"


class Discriminator(nn.Module):
    """D of eq. 10: an image score and a score per object, from RoI-aligned features and a label projection."""

    def __init__(
        self,
        resolution: int,
        width: int,
        labels: int,
        early_pool: bool = False,
        orthogonal: bool | None = None,
    ) -> None:
        """`labels` rows of the projection; `orthogonal` initialisation, None = as the published code has it."""
        super().__init__()
        self.resolution = resolution
        c = [3] + [width * m for m in _D_WIDTHS[resolution]]
        pools = (True, False, False, True, True) if early_pool else _D_POOLS[resolution]
        self.num_blocks = len(pools)
        for i, pool in enumerate(pools, start=1):
            self.add_module(f"block{i}", DiscriminatorBlock(c[i - 1], c[i], pool, first=i == 1))
        self.image_head = {64: "l_im", 128: "l7", 256: "l8", 512: "l9"}[resolution]
        self.add_module(self.image_head, SNLinear(c[-1], 1))
        self.tap, names, channels = _OBJECT_PATH[resolution]
        for name, (a, b, pool) in zip(names, channels, strict=True):
            self.add_module(name, DiscriminatorBlock(a * width, b * width, pool))
        self.object_blocks = names
        feature = channels[-1][1] * width
        self.l_obj = SNLinear(feature, 1)
        self.l_y = SNEmbedding(labels, feature)
        if orthogonal or (orthogonal is None and resolution == 64):
            orthogonal_init(self)
        else:
            _default_init(self)

    def forward(self, images: Tensor, layouts: Layouts) -> tuple[Tensor, Tensor]:
        """images [B, 3, R, R] -> image scores [B], scores [n] of the n objects with label > 0, in input order."""
        maps = []
        x = images
        for i in range(1, self.num_blocks + 1):
            x = self.get_submodule(f"block{i}")(x)
            maps.append(x)
        pooled = F.relu(x).sum((2, 3)) if self.resolution > 64 else F.relu(x).mean((2, 3))
        image_scores = self.get_submodule(self.image_head)(pooled)[:, 0]

        keep = layouts.labels > 0
        index = keep.nonzero()[:, :1].to(images.dtype)  # [n, 1] image of each object
        rois = torch.cat([index, layouts.boxes[keep] * self.resolution], 1)  # [n, 5] xyxy pixels
        features = F.relu(self._object_features(maps, rois)).sum((2, 3))  # [n, F]
        projection = (self.l_y(layouts.labels[keep]) * features).sum(1)
        return image_scores, self.l_obj(features)[:, 0] + projection

    def _object_features(self, maps: list[Tensor], rois: Tensor) -> Tensor:
        """RoI features [n, F, 4, 4]; above 64 pixels small objects are read from a finer map than large ones."""
        blocks = [self.get_submodule(name) for name in self.object_blocks]
        if self.resolution == 64:
            out: Tensor = blocks[0](roi_features(maps[self.tap], rois, 8, 1 / 2))
            return out
        finer, shared, last = blocks
        scale = maps[self.tap].shape[-1] / self.resolution
        size = rois[:, 3:] - rois[:, 1:3]
        small = (size < self.resolution // 2).all(1)
        near = roi_features(shared(finer(maps[self.tap])), rois[small], 8, scale)
        far = roi_features(shared(maps[self.tap + 1]), rois[~small], 8, scale / 2)
        both = near.new_empty(len(rois), *near.shape[1:])
        both[small], both[~small] = near, far.to(near.dtype)
        result: Tensor = last(both)
        return result


def _default_init(module: nn.Module) -> None:
    """What the published code leaves to its framework: uniform in 1 / sqrt(fan-in), normal for the embedding."""
    for layer in module.modules():
        if isinstance(layer, (SNConv2d, SNLinear)):
            bound = 1 / math.sqrt(layer.weight_orig[0].numel())
            nn.init.uniform_(layer.weight_orig, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)
        elif isinstance(layer, SNEmbedding):
            nn.init.normal_(layer.weight_orig)


_D_WIDTHS = {
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
    512: (1, 2, 4, 8, 8, 8, 16, 16),
}
_D_POOLS = {
    64: (False, False, True, True, True),
    128: (True, True, True, True, True, False),
    256: (True, True, True, True, True, True, False),
    512: (True, True, True, True, True, True, True, False),
}
# per resolution: index of the first tapped map, names of the object blocks, their (in, out, pool) in multiples of the width
_OBJECT_PATH: dict[int, tuple[int, tuple[str, ...], tuple[tuple[int, int, bool], ...]]] = {
    64: (2, ("block_obj4",), ((4, 8, True),)),
    128: (
        1,
        ("block_obj3", "block_obj4", "block_obj5"),
        ((2, 4, False), (4, 8, False), (8, 16, True)),
    ),
    256: (
        2,
        ("block_obj4", "block_obj5", "block_obj6"),
        ((4, 8, False), (8, 8, False), (8, 16, True)),
    ),
    512: (
        3,
        ("block_obj5", "block_obj6", "block_obj7"),
        ((8, 8, False), (8, 8, False), (8, 16, True)),
    ),
}
