"""The three networks of SIMS (Qi et al., CVPR 2018).

"Semi-parametric Image Synthesis". Segments of real images are retrieved for the segments of a map,
one network moves each of them to its place, one says which of two lies in front, and one makes an
image of the canvas that they are pasted on. Facts of the published code that the paper does not
tell are in docs/sims.md.

Legend: B images, N segments or pairs of them, C channels of the map, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.crn.network import SLOPE, LayerNorm, Level

BASE_ROWS = 256  # of images whose networks have no finer level
CONVOLUTIONS = (2, 2, 3, 3, 3, 3)  # of the stages of a trunk, fine to coarse
TRUNK_STAGES = 5  # of the transform and the order network
SEGMENT_CHANNELS = 4  # of the transform network's input beside the map: colors and a mask
CANVAS_CHANNELS = 4  # of the synthesis network's input beside the map: colors and coverage
PAIR_CHANNELS = 6  # of the order network: colors of the classes of two segments, and of all
HIDDEN = 1024  # channels of the order network's head
HEAD_COLUMNS = 0.75  # share of the columns that it sees (published code; 12 of 16)
DROPOUT = 0.5


class Stage(nn.Module):
    """Convolutions with norm and leaky ReLU each."""

    def __init__(self, channels_in: int, channels: int, count: int) -> None:
        super().__init__()
        convs = []
        norms = []
        before = channels_in
        for _ in range(count):
            convs.append(nn.Conv2d(before, channels, 3, padding=1, bias=False))
            norms.append(LayerNorm(channels))
            before = channels
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(norms)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C', H, W] to [B, C, H, W]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), SLOPE)
        return x


class Trunk(nn.Module):
    """Stages like VGG's with pooling between them.

    `averages`: stages from the finest on whose features are averaged; of the others the largest
    counts.
    """

    def __init__(self, channels_in: int, widths: Sequence[int], averages: int) -> None:
        super().__init__()
        stages = []
        before = channels_in
        for width, count in zip(widths, CONVOLUTIONS, strict=False):
            stages.append(Stage(before, width, count))
            before = width
        self.stages = nn.ModuleList(stages)
        self.averages = averages

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return what each stage leaves of [B, C, H, W], fine to coarse."""
        outputs = []
        for number, stage in enumerate(self.stages):
            x = halve(stage(x), number < self.averages)
            outputs.append(x)
        return outputs


def halve(x: Tensor, average: bool) -> Tensor:
    """Pool windows of 3 x 3 at every other pixel, padded right and below only.

    The average does not count the padding.
    """
    rows = x.shape[2] % 2
    columns = x.shape[3] % 2
    padding = (columns, 1, rows, 1)
    if not average:
        padded = F.pad(x, padding, value=-torch.inf)
        return F.max_pool2d(padded, 3, 2)
    inside = F.pad(torch.ones_like(x[:1, :1]), padding)
    sums = F.avg_pool2d(F.pad(x, padding), 3, 2)
    return sums / F.avg_pool2d(inside, 3, 2)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [B, C, H, W] linearly between the corners."""
    if size == (x.shape[2], x.shape[3]):
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def base_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (H, W) halved until it has no more than BASE_ROWS rows."""
    height, width = size
    while height > BASE_ROWS:
        height, width = height // 2, width // 2
    return height, width


class TransformNetwork(nn.Module):
    """Tells an affine map for each segment (paper, section 4.2)."""

    def __init__(self, map_channels: int, width: int) -> None:
        super().__init__()
        widths = trunk_widths(width, TRUNK_STAGES)
        self.trunk = Trunk(SEGMENT_CHANNELS + map_channels, widths, averages=1)
        self.head = nn.Linear(widths[-1], 6)
        initialize(self)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(torch.eye(2, 3).flatten())

    def forward(self, segments: Tensor, targets: Tensor, maps: Tensor) -> Tensor:
        """Return theta [N, 6] of segments.

        segments [N, 3, H, W]: colors in [0, 1] where the segment is; targets [N, 1, H, W]: 1 where
        it is to be; maps [N, C, H, W].
        """
        seen = torch.cat([segments, targets, maps], 1)
        seen = resize(seen, base_size((seen.shape[2], seen.shape[3])))
        features = self.trunk(seen)[-1]
        theta: Tensor = self.head(features.mean((2, 3)))
        return theta


def move(x: Tensor, theta: Tensor) -> Tensor:
    """Move [N, C, H, W] by affine maps theta [N, 6], in pixels about the middle.

    A pixel is that of its mapped place, linear between four; places at or beyond the last row or
    column, and above or left of the first, are 0 (published code).
    """
    height, width = x.shape[2:]
    middle_row, middle_column = height // 2, width // 2
    rows = torch.arange(height, device=x.device, dtype=torch.float32) - middle_row
    columns = torch.arange(width, device=x.device, dtype=torch.float32) - middle_column
    grid_rows, grid_columns = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([grid_columns, grid_rows, torch.ones_like(grid_rows)])  # [3, H, W]
    matrices = theta.float().view(-1, 2, 3)
    sources = torch.einsum("nij,jhw->nihw", matrices, places)
    source_columns = sources[:, 0] + middle_column
    source_rows = sources[:, 1] + middle_row
    inside = (source_columns >= 0) & (source_columns < width - 1)
    inside &= (source_rows >= 0) & (source_rows < height - 1)
    scale_columns = 2 / max(1, width - 1)
    scale_rows = 2 / max(1, height - 1)
    grid = torch.stack([source_columns * scale_columns - 1, source_rows * scale_rows - 1], -1)
    moved = F.grid_sample(x.float(), grid, align_corners=True, padding_mode="zeros")
    return moved * inside[:, None]


class OrderNetwork(nn.Module):
    """Tells which of two segments is in front, by its class (paper, section 4.2)."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        widths = trunk_widths(width, TRUNK_STAGES)
        hidden = HIDDEN * width // 64
        self.trunk = Trunk(PAIR_CHANNELS, widths, averages=1)
        self.hidden = nn.Conv2d(widths[-1], hidden, 1, bias=False)
        self.norm = LayerNorm(hidden)
        self.scores = nn.Conv2d(hidden, labels, 1)
        initialize(self)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the scores [N, labels] of pairs [N, 6, H, W] (`paint_pairs`)."""
        features = self.trunk(pairs)[-1]
        columns = -int(-HEAD_COLUMNS * features.shape[3] // 1)
        mean = features[..., :columns].mean((2, 3), keepdim=True)
        hidden = F.leaky_relu(self.norm(self.hidden(mean)), SLOPE)
        hidden = F.dropout(hidden, DROPOUT, self.training)
        scores: Tensor = self.scores(hidden)
        return scores.flatten(1)


def paint_pairs(labels: Tensor, pairs: Tensor, palette: Tensor) -> Tensor:
    """Return what the order network sees of pairs [N, H, W] bool in a map.

    labels [H, W]: class indices, the last of the palette's rows is no class. The colors of the
    pair's pixels alone, then those of all: [N, 6, H, W].
    """
    colors = palette[labels].permute(2, 0, 1)  # [3, H, W]
    alone = colors[None] * pairs[:, None]
    together = colors.expand(len(pairs), *colors.shape)
    return torch.cat([alone, together], 1)


class Synthesis(NamedTuple):
    """An image as the synthesis network makes it, and its own idea of the map."""

    images: Tensor  # [B, 3, H, W]: [-1, 1] are all colors; nothing holds the values inside
    logits: Tensor  # [B, C, H, W]


class SynthesisNetwork(nn.Module):
    """Makes an image of a map and a canvas (paper, section 4.3)."""

    def __init__(self, map_channels: int, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        inputs = map_channels + CANVAS_CHANNELS
        widths = trunk_widths(width, len(CONVOLUTIONS))
        self.encoder = Trunk(inputs, widths, averages=len(widths))
        levels = []
        before = 0
        for number in reversed(range(len(widths))):
            channels = decoder_width(width, number)
            levels.append(Level(inputs + widths[number] + before, channels))
            before = channels
        self.levels = nn.ModuleList(levels)
        self.full = Level(inputs + before, before)
        finer = []
        rows = size[0]
        base_rows, _ = base_size(size)
        while base_rows < rows:
            base_rows *= 2
            finer.append(Level(inputs + before, 2 * width))
            before = 2 * width
        self.finer = nn.ModuleList(finer)
        self.colors = nn.Conv2d(before, 3, 1)
        self.logits = nn.Conv2d(before, map_channels, 1)
        initialize(self)

    def forward(self, maps: Tensor, canvas: Tensor) -> Synthesis:
        """Return images of maps [B, C, H, W] and of canvases [B, 3, H, W] in [0, 1].

        Black pixels of a canvas are not covered (published code).
        """
        covered = canvas.sum(1, keepdim=True) > 0
        seen = torch.cat([maps, canvas, covered.to(canvas.dtype)], 1)
        size = (seen.shape[2], seen.shape[3])
        base = resize(seen, base_size(size))
        features = self.encoder(base)
        x: Tensor | None = None
        for level, skipped in zip(self.levels, reversed(features), strict=True):
            x = level(with_skips(base, skipped, x))
        assert x is not None
        x = self.full(with_skips(base, None, x))
        for finer, halvings in zip(self.finer, reversed(range(len(self.finer))), strict=True):
            at_level = resize(seen, (size[0] >> halvings, size[1] >> halvings))
            x = finer(with_skips(at_level, None, x))
        return Synthesis(self.colors(x), self.logits(x))


def with_skips(inputs: Tensor, skipped: Tensor | None, before: Tensor | None) -> Tensor:
    """Return a level's input: network's input, encoder's features, features before."""
    parts = [inputs]
    if skipped is not None:
        size = (skipped.shape[2], skipped.shape[3])
        parts = [resize(inputs, size), skipped]
    size = (parts[0].shape[2], parts[0].shape[3])
    if before is not None:
        parts.append(resize(before, size))
    return torch.cat(parts, 1)


def trunk_widths(width: int, stages: int) -> list[int]:
    """Return the channels of a trunk's stages, fine to coarse: doubled thrice."""
    return [width << min(number, 3) for number in range(stages)]


def decoder_width(width: int, number: int) -> int:
    """Return the channels of the decoder beside a stage of the encoder."""
    if number == 0:
        return 4 * width
    return 8 * width


def initialize(network: nn.Module) -> None:
    """Draw convolutions as TensorFlow's layers do (Glorot & Bengio 2010)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
