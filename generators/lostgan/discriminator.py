"""The discriminators of LostGAN (section 2.2.4, Fig. 4).

One backbone, an image head and an object head.

The 64, 128 and 256 pixel networks are the published ones, with their parameter names; 512 extends
their pattern and is ours.

Legend: B images, O object slots, n objects that are not padding, C channels, F features of an
object, S side of a feature map, R image side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts
from synthaug.generators.nn.layers import (
    SNConv2d,
    SNEmbedding,
    SNLinear,
    default_init,
    orthogonal_init,
    roi_features,
)


@dataclass(frozen=True)
class Plan:
    """The blocks of a discriminator; channels are multiples of the base width."""

    widths: tuple[int, ...]  # of the blocks' outputs
    pools: tuple[bool, ...]  # whether a block halves the side
    image_head: str  # name of the image head
    tap: int  # index of the first map that objects are read from
    object_blocks: dict[str, tuple[int, int, bool]]  # name -> channels in and out, whether it pools


PLANS = {  # by resolution
    64: Plan(
        widths=(1, 2, 4, 8, 16),
        pools=(False, False, True, True, True),
        image_head="l_im",
        tap=2,
        object_blocks={"block_obj4": (4, 8, True)},
    ),
    128: Plan(
        widths=(1, 2, 4, 8, 16, 16),
        pools=(True, True, True, True, True, False),
        image_head="l7",
        tap=1,
        object_blocks={
            "block_obj3": (2, 4, False),
            "block_obj4": (4, 8, False),
            "block_obj5": (8, 16, True),
        },
    ),
    256: Plan(
        widths=(1, 2, 4, 8, 8, 16, 16),
        pools=(True, True, True, True, True, True, False),
        image_head="l8",
        tap=2,
        object_blocks={
            "block_obj4": (4, 8, False),
            "block_obj5": (8, 8, False),
            "block_obj6": (8, 16, True),
        },
    ),
    512: Plan(
        widths=(1, 2, 4, 8, 8, 8, 16, 16),
        pools=(True, True, True, True, True, True, True, False),
        image_head="l9",
        tap=3,
        object_blocks={
            "block_obj5": (8, 8, False),
            "block_obj6": (8, 8, False),
            "block_obj7": (8, 16, True),
        },
    ),
}
EARLY_POOLS = (True, False, False, True, True)  # at 64 pixels, ours


class DiscriminatorBlock(nn.Module):
    """Residual block of D, optionally halving the side."""

    def __init__(
        self, channels_in: int, channels_out: int, pool: bool, first: bool = False
    ) -> None:
        super().__init__()
        self.pool = pool
        self.first = first
        self.conv1 = SNConv2d(channels_in, channels_out, 3)
        self.conv2 = SNConv2d(channels_out, channels_out, 3)
        self.c_sc: nn.Module = nn.Identity()
        if pool or first or channels_in != channels_out:
            self.c_sc = SNConv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, C', S, S] or half of it."""
        main: Tensor = x if self.first else F.relu(x)
        main = F.relu(self.conv1(main))
        skip: Tensor
        if not self.pool:
            main = self.conv2(main)
            skip = self.c_sc(x)
            return main + skip
        # pooling and a 1 x 1 convolution commute; pooling first costs a quarter
        skip = self.c_sc(F.avg_pool2d(x, 2))
        if merges(main):
            main = self.conv2.pooled(main)
        else:
            main = F.avg_pool2d(self.conv2(main), 2)
        return main + skip


def merges(x: Tensor) -> bool:
    """Return whether pooling inside the convolution is faster than after it.

    On large maps, on a CPU (measured).

    On small ones reading a kernel of sixteen taps, and summing its gradient, costs more than the
    products saved.
    """
    return x.shape[-1] >= 32 and x.device.type == "cpu"


class Discriminator(nn.Module):
    """D of eq. 10: an image score and a score per object.

    From RoI-aligned features and a label projection.
    """

    def __init__(
        self,
        resolution: int,
        width: int,
        labels: int,
        early_pool: bool = False,
        orthogonal: bool | None = None,
    ) -> None:
        """`labels` rows of the projection.

        `orthogonal` initialisation, None = as the published code has it.
        """
        super().__init__()
        plan = PLANS[resolution]
        pools = EARLY_POOLS if early_pool else plan.pools
        self.resolution = resolution
        self.num_blocks = len(pools)
        channels = 3
        blocks = zip(plan.widths, pools, strict=True)
        for i, (multiple, pool) in enumerate(blocks, start=1):
            block = DiscriminatorBlock(channels, multiple * width, pool, first=i == 1)
            self.add_module(f"block{i}", block)
            channels = multiple * width
        self.image_head = plan.image_head
        self.add_module(self.image_head, SNLinear(channels, 1))
        self.tap = plan.tap
        self.object_blocks = tuple(plan.object_blocks)
        features = 0
        for name, (wide, narrow, pool) in plan.object_blocks.items():
            self.add_module(name, DiscriminatorBlock(wide * width, narrow * width, pool))
            features = narrow * width
        self.l_obj = SNLinear(features, 1)
        self.l_y = SNEmbedding(labels, features)
        if orthogonal is None:
            orthogonal = resolution == 64
        if orthogonal:
            orthogonal_init(self)
        else:
            default_init(self)

    def forward(self, images: Tensor, layouts: Layouts) -> tuple[Tensor, Tensor]:
        """Map images [B, 3, R, R] to image scores [B] and object scores [n].

        The n objects are those with label > 0, in input order.
        """
        maps = []
        x = images
        for i in range(1, self.num_blocks + 1):
            x = self.get_submodule(f"block{i}")(x)
            maps.append(x)
        x = F.relu(x)
        pooled = x.mean((2, 3))
        if self.resolution > 64:
            pooled = x.sum((2, 3))
        image_scores = self.get_submodule(self.image_head)(pooled)[:, 0]

        keep = layouts.labels > 0
        kept = keep.nonzero()
        index = kept[:, :1].to(images.dtype)  # [n, 1] image of each object
        boxes = layouts.boxes[keep] * self.resolution
        rois = torch.cat([index, boxes], 1)  # [n, 5] xyxy pixels
        of_objects = F.relu(self._object_features(maps, rois))
        features = of_objects.sum((2, 3))  # [n, F]
        rows = self.l_y(layouts.labels[keep])
        projection = (rows * features).sum(1)
        return image_scores, self.l_obj(features)[:, 0] + projection

    def _object_features(self, maps: list[Tensor], rois: Tensor) -> Tensor:
        """Return RoI features [n, F, 4, 4].

        Above 64 pixels small objects are read from a finer map than large ones.
        """
        blocks = [self.get_submodule(name) for name in self.object_blocks]
        if self.resolution == 64:
            out: Tensor = blocks[0](roi_features(maps[self.tap], rois, 8, 1 / 2))
            return out
        finer, shared, last = blocks
        scale = maps[self.tap].shape[-1] / self.resolution
        size = rois[:, 3:] - rois[:, 1:3]
        small = (size < self.resolution // 2).all(1)
        fine = shared(finer(maps[self.tap]))
        coarse = shared(maps[self.tap + 1])
        of_small = roi_features(fine, rois[small], 8, scale)
        of_large = roi_features(coarse, rois[~small], 8, scale / 2)
        shape = (len(rois), *of_small.shape[1:])
        features = of_small.new_empty(shape)
        features[small] = of_small
        features[~small] = of_large.to(features.dtype)
        result: Tensor = last(features)
        return result
