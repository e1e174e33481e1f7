"""Grid2Im for production, rewritten for speed.

The network of network.py in evaluation, equal to it up to rounding.

The layout is never made: it has a channel per class, and an object's vector does not vary inside
its mask, so the first convolution, which costs almost half of all, is one of the objects' masks by
kernels made of their vectors. The residual blocks, most of what is left, go by tiles of 2 x 2
pixels on a CPU. Predicted boxes are not needed.

Legend as in network.py, and: K objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.grid2im.network import (
    Grid2ImGenerator,
    ResidualBlock,
    front_masks,
    masses,
)
from synthaug.generators.nn.layers import place_masks
from synthaug.generators.nn.reflected_conv import ReflectedConv
from synthaug.generators.nn.winograd import channels_first, channels_last
from synthaug.generators.sg2im.graphs import SceneGraphs

BORDER = 3  # pixels that the first convolution sees beyond the image, reflected
MIN_TILE_CHANNELS = 64  # from which on tiles save more products than they cost sums, on CPUs
EPSILON = 1e-5  # of instance norms


class FastResiduals(nn.Module):
    """Residual blocks by tiles, in float32.

    Biases are left out: an instance norm takes the mean away.
    """

    def __init__(self, blocks: Sequence[ResidualBlock]) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for block in blocks:
            for conv in block.conv_block:
                if isinstance(conv, nn.Conv2d):
                    self.convs.append(ReflectedConv(conv.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same."""
        x = channels_last(x)
        for first, second in zip(self.convs[::2], self.convs[1::2], strict=True):
            hidden = _normed(first(x)).relu_()
            x = x + _normed(second(hidden))
        return channels_first(x).contiguous()


def _normed(x: Tensor) -> Tensor:
    """Return the instance norm of maps [B, H, W, C]; changes them."""
    variance, mean = torch.var_mean(x, (1, 2), correction=0, keepdim=True)
    return x.sub_(mean).mul_(torch.rsqrt(variance + EPSILON))


def with_tiles(layers: Sequence[nn.Module], side: int) -> list[nn.Module]:
    """Return layers, the residual blocks among them by tiles where these are faster.

    `side` is that of the blocks' maps. All blocks follow each other.
    """
    blocks = [layer for layer in layers if isinstance(layer, ResidualBlock)]
    if not blocks or side % 2:
        return list(layers)
    conv = blocks[0].conv_block[1]
    assert isinstance(conv, nn.Conv2d)
    if conv.out_channels < MIN_TILE_CHANNELS:
        return list(layers)
    first = list(layers).index(blocks[0])
    after = layers[first + len(blocks) :]
    return [*layers[:first], FastResiduals(blocks), *after]


class FastGenerator(nn.Module):
    """Images of a trained Grid2ImGenerator in evaluation, front-most objects painted.

    Call it inside `torch.inference_mode()`.

    `compiled` hands what follows the first convolution to torch.compile.
    """

    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def __init__(
        self,
        network: Grid2ImGenerator,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        _, first, *others = network.layout_to_image.model
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None
        self.width = first.out_channels
        weight = first.weight.permute(1, 0, 2, 3).flatten(1)  # [L + A, 49 C]
        self.register_buffer("weight", weight.contiguous(), persistent=False)
        self.register_buffer("bias", first.bias.clone(), persistent=False)
        on_cpu = first.weight.device.type == "cpu"
        if on_cpu and not compiled and dtype == torch.float32:
            config = network.config
            others = with_tiles(others, config.resolution >> config.halvings)
        self.others = nn.Sequential(*others)
        if compiled:
            self.others.compile()

    def forward(
        self, graphs: SceneGraphs, attributes: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return images [B, 3, S, S], float32, and the masks painted [n, S, S].

        Masks are those of the graphs where they are known; noise is [n, N].
        """
        network = self.network
        side = self.network.config.resolution
        placed = network.place(graphs, attributes, noise)
        masks = placed.masks
        if graphs.masks is not None:
            masks = torch.where(graphs.masks.isnan(), masks, graphs.masks)
        codes = network.invent_appearance(placed.vectors, noise)
        classes = F.one_hot(graphs.labels, network.labels).to(codes.dtype)
        vectors = torch.cat([classes, codes], 1)
        on_canvas = place_masks(masks[None], graphs.boxes[None], side, True)[0]
        shown = front_masks(masses(vectors, on_canvas), on_canvas, graphs.is_row)
        x = self._first(vectors, shown, graphs.is_row)
        device = x.device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32):
            images: Tensor = self.others(x)
        return images.float(), on_canvas

    def _first(self, vectors: Tensor, shown: Tensor, is_row: Tensor) -> Tensor:
        """Return the first convolution's output [B, C, S, S]."""
        kernels = (vectors @ self.weight).view(len(vectors), self.width, 7, 7)
        border = (BORDER,) * 4
        padded = F.pad(shown[:, None], border, mode="reflect")[:, 0]
        counts = is_row.sum(1).tolist()
        outs = []
        of_images = torch.split(padded, counts)
        for own, planes in zip(torch.split(kernels, counts), of_images, strict=True):
            outs.append(F.conv2d(planes[None], own.transpose(0, 1), self.bias))
        return torch.cat(outs)
