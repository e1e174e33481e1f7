"""Grid2Im: scene graph, location grid and appearance to layout to image.

Ashual & Wolf, "Specifying Object Attributes and Relations in Interactive Scene Generation", 2019.

Top to bottom: attributes, front-most pooling, network from layouts to images, generator. Parameter
names are those of the official checkpoints.

Legend: B images, n objects of all images, D length of a vector, A of an appearance code, L labels,
M side of a mask, S image side, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.grid2im.config import ATTRIBUTES, CELLS, SIZE_BINS, Config
from synthaug.generators.nn.crops import crop_boxes, sum_masks
from synthaug.generators.nn.layers import place_masks
from synthaug.generators.nn.mask_net import mask_net
from synthaug.generators.sg2im.discriminator import MeanOfPixels, trunk
from synthaug.generators.sg2im.graphs import SceneGraphs, centers
from synthaug.generators.sg2im.network import GraphConv, GraphConvs, mlp

CROP = 64  # side of the crops that appearance is read from
ENCODER_WIDTH = 64  # base number of channels of the appearance encoder
HIDDEN_APPEARANCE = 64  # channels between encoder and appearance code


def attributes_of(graphs: SceneGraphs) -> Tensor:
    """Return the size bin and the grid cell of objects [n, 35], one-hot each.

    The bin of a box's share of the image, and the cell of the middle of its mask.
    """
    boxes = graphs.boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    area = (sides[:, 0] * sides[:, 1]).clamp(0, 1)
    bins = (area * (SIZE_BINS - 1)).round().long()
    sizes = F.one_hot(bins, SIZE_BINS)

    found = centers(boxes, graphs.masks)
    middles = torch.tensor(found, device=boxes.device).view(-1, 2)
    in_grid = middles.clamp(0, 1) * (CELLS - 1)
    columns, rows = in_grid.round().long().unbind(1)
    cells = F.one_hot(columns + CELLS * rows, CELLS * CELLS)
    return torch.cat([sizes, cells], 1).to(boxes.dtype)


def front_masks(mass: Tensor, masks: Tensor, is_row: Tensor) -> Tensor:
    """Return masks [n, S, S] in which each pixel belongs to one object.

    Of the objects whose mask is over a half at a pixel the one of the least mass [n] is in front.
    """
    image_of = is_row.nonzero()[:, 0]
    shown = torch.zeros_like(masks)
    for image in range(len(is_row)):
        own = (image_of == image).nonzero()[:, 0]
        free = torch.ones_like(masks[0])
        for row in own[mass[own].argsort(stable=True)].tolist():
            claimed = free * (masks[row] > 0.5)
            shown[row] = claimed * masks[row]
            free = free - claimed
    return shown


def masses(vectors: Tensor, masks: Tensor) -> Tensor:
    """Return sums [n] over pixels and channels of vectors [n, D] in masks [n, S, S]."""
    return vectors.sum(1) * masks.sum((1, 2))


class ResidualBlock(nn.Module):
    """Two convolutions of reflected maps that change a map by what they add."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            activation,
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same."""
        out: Tensor = x + self.conv_block(x)
        return out


class LayoutToImage(nn.Module):
    """The global generator of pix2pixHD (Wang et al. 2018): layouts to images."""

    def __init__(self, channels: int, width: int, halvings: int, blocks: int) -> None:
        super().__init__()
        activation = nn.ReLU()
        first = nn.Conv2d(channels, width, 7)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            first,
            nn.InstanceNorm2d(width),
            activation,
        ]
        for _ in range(halvings):
            conv = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
            layers += [conv, nn.InstanceNorm2d(2 * width), activation]
            width = 2 * width
        layers += [ResidualBlock(width, activation) for _ in range(blocks)]
        for _ in range(halvings):
            half = width // 2
            doubling = nn.ConvTranspose2d(width, half, 3, stride=2, padding=1, output_padding=1)
            layers += [doubling, nn.InstanceNorm2d(half), activation]
            width = half
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(layer.weight, 0, 0.02)

    def forward(self, layout: Tensor) -> Tensor:
        """Layouts [B, L + A, S, S] -> images [B, 3, S, S] in [-1, 1]."""
        images: Tensor = self.model(layout)
        return images


class AppearanceEncoder(nn.Module):
    """From the crop of an object to what its appearance is made of."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        linear = nn.Linear(4 * width, length)
        self.cnn = nn.Sequential(trunk(width), MeanOfPixels(), linear)

    def forward(self, crops: Tensor) -> Tensor:
        """Crops [n, 3, c, c] -> [n, length]."""
        out: Tensor = self.cnn(crops)
        return out


@dataclass(frozen=True)
class Placed:
    """What the generator knows of objects before it paints them."""

    vectors: Tensor  # [n, D] of the scene graph
    boxes: Tensor  # [n, 4] predicted
    masks: Tensor  # [n, M, M] predicted, in [0, 1]


class Grid2ImGenerator(nn.Module):
    """From scene graphs with attributes and appearance to images."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        self.config = config
        self.labels = labels
        width = config.embedding
        hidden = config.hidden
        self.obj_embeddings = nn.Embedding(labels, width)
        self.pred_embeddings = nn.Embedding(7, width)
        self.gconv = GraphConv(width, hidden, ATTRIBUTES)
        self.gconv_net = None
        if config.graph_layers > 1:
            self.gconv_net = GraphConvs(width, hidden, config.graph_layers - 1)
        self.box_net = mlp(width, hidden, 4)
        joint = width + config.mask_noise
        self.mask_net = mask_net(joint, config.mask_side, norm_first=False)
        self.repr_net = mlp(joint, HIDDEN_APPEARANCE, config.appearance)
        self.image_encoder = AppearanceEncoder(ENCODER_WIDTH, joint)
        self.layout_to_image = LayoutToImage(
            labels + config.appearance, config.width, config.halvings, config.residual_blocks
        )

    def place(self, graphs: SceneGraphs, attributes: Tensor, noise: Tensor) -> Placed:
        """Predict boxes and masks of objects with attributes [n, 35].

        noise [n, N] or [1, N], the same for all.
        """
        objects = torch.cat([self.obj_embeddings(graphs.labels), attributes], 1)
        relations = self.pred_embeddings(graphs.triples[:, 1])
        vectors, relations = self.gconv(objects, relations, graphs.triples)
        if self.gconv_net is not None:
            vectors, _ = self.gconv_net(vectors, relations, graphs.triples)
        joint = self.with_noise(vectors, noise)
        logits = self.mask_net(joint[:, :, None, None])[:, 0]
        return Placed(vectors, self.box_net(vectors), torch.sigmoid(logits))

    def with_noise(self, vectors: Tensor, noise: Tensor) -> Tensor:
        """Return vectors [n, D] with noise behind them."""
        return torch.cat([vectors, noise.expand(len(vectors), -1)], 1)

    def read_appearance(self, images: Tensor, graphs: SceneGraphs) -> Tensor:
        """Return the appearance codes [n, A] of objects in images [B, 3, S, S]."""
        crops = crop_boxes(images, graphs.boxes, graphs.image_of, CROP)
        codes: Tensor = self.repr_net(self.image_encoder(crops))
        return codes

    def invent_appearance(self, vectors: Tensor, noise: Tensor) -> Tensor:
        """Return appearance codes [n, A] of vectors of the scene graph and noise."""
        codes: Tensor = self.repr_net(self.with_noise(vectors, noise))
        return codes

    def layout(
        self,
        graphs: SceneGraphs,
        appearance: Tensor,
        boxes: Tensor,
        masks: Tensor,
        in_front: bool = False,
    ) -> Tensor:
        """Return layouts [B, L + A, S, S] of masks [n, M, M] in boxes [n, 4].

        A sum over the objects, or the front-most one of each pixel.
        """
        classes = F.one_hot(graphs.labels, self.labels).to(appearance.dtype)
        vectors = torch.cat([classes, appearance], 1)
        side = self.config.resolution
        placed = place_masks(masks[None].to(boxes.dtype), boxes[None], side, True)[0]
        if in_front:
            placed = front_masks(masses(vectors, placed), placed, graphs.is_row)
        return sum_masks(vectors, placed, graphs.is_row)
