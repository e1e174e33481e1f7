"""sg2im: scene graph to layout to image.

Johnson, Gupta & Fei-Fei, "Image Generation from Scene Graphs", 2018.

Top to bottom: graph convolution, predictors of boxes and masks, cascaded refinement, generator.
Parameter names are those of the official checkpoints. Config, scene graphs, discriminators,
objective, sampler and fast form have files of their own.

Legend: B images, n objects of all images, T relations, D length of a vector, M side of a mask, S
side of a canvas, C channels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.crops import sum_masks
from synthaug.generators.nn.layers import BatchNorm2d, place_masks, upsample2
from synthaug.generators.nn.mask_net import mask_net
from synthaug.generators.sg2im.config import WIDTHS, Config
from synthaug.generators.sg2im.graphs import SceneGraphs

SLOPE = 0.2  # of every LeakyReLU
FILLED = 8  # side of the mask that fills a box where no mask is predicted: edges blur by its pixels


def mlp(*widths: int) -> nn.Sequential:
    """Return linear layers, each followed by a ReLU; the last one too, as published."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers)


class GraphConv(nn.Module):
    """One graph convolution (section 3, Fig. 3).

    Every relation makes candidates for its subject and its object and a new vector for itself; an
    object takes the mean of its candidates.
    """

    def __init__(self, width: int, hidden: int, attributes: int = 0) -> None:
        """Take vectors of a width; those of objects may have attributes behind them."""
        super().__init__()
        self.hidden = hidden
        self.net1 = mlp(3 * width + 2 * attributes, hidden, 2 * hidden + width)
        self.net2 = mlp(hidden, hidden, width)
        kaiming_init(self)

    def forward(self, objects: Tensor, relations: Tensor, triples: Tensor) -> tuple[Tensor, Tensor]:
        """Objects [n, D], relations [T, D], triples [T, 3] -> the same with new vectors."""
        subject = triples[:, 0]
        target = triples[:, 2]
        joined = torch.cat([objects[subject], relations, objects[target]], 1)
        of_relation = self.net1(joined)
        sizes = [self.hidden, of_relation.shape[1] - 2 * self.hidden, self.hidden]
        for_subject, new_relations, for_object = torch.split(of_relation, sizes, 1)
        sums = for_subject.new_zeros(len(objects), self.hidden)
        sums = sums.index_add(0, subject, for_subject).index_add(0, target, for_object)
        count = len(objects)
        roles = torch.bincount(subject, minlength=count) + torch.bincount(target, minlength=count)
        means = sums / roles.clamp_min(1)[:, None]
        return self.net2(means), new_relations


class GraphConvs(nn.Module):
    """Graph convolutions, one after the other."""

    def __init__(self, width: int, hidden: int, count: int) -> None:
        super().__init__()
        self.gconvs = nn.ModuleList(GraphConv(width, hidden) for _ in range(count))

    def forward(self, objects: Tensor, relations: Tensor, triples: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the last one returns."""
        for layer in self.gconvs:
            objects, relations = layer(objects, relations, triples)
        return objects, relations


class RefinementModule(nn.Module):
    """Two convolutions of the layout at a level and of what the coarser level made."""

    def __init__(self, layout: int, coarser: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(layout + coarser, width, 3, padding=1),
            BatchNorm2d(width),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1),
            BatchNorm2d(width),
            nn.LeakyReLU(SLOPE),
        )
        kaiming_init(self)

    def forward(self, layout: Tensor, coarser: Tensor) -> Tensor:
        """Layout [B, L, S', S'], averaged to the side of coarser [B, C, S, S]."""
        factor = layout.shape[-1] // coarser.shape[-1]
        if factor > 1:
            layout = F.avg_pool2d(layout, factor)
        out: Tensor = self.net(torch.cat([layout, coarser], 1))
        return out


class RefinementNetwork(nn.Module):
    """Cascaded refinement of a layout into an image (Chen & Koltun 2017)."""

    def __init__(self, layout: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.refinement_modules = nn.ModuleList()
        for coarser, width in zip((1, *widths), widths, strict=False):
            self.refinement_modules.append(RefinementModule(layout, coarser, width))
        self.output_conv = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(widths[-1], 3, 1),
        )
        kaiming_init(self.output_conv)

    def forward(self, layout: Tensor) -> Tensor:
        """Layout [B, L, S, S] -> images [B, 3, S, S] as networks of ImageNet see them."""
        side = layout.shape[-1] >> len(self.refinement_modules)
        out = layout.new_zeros(len(layout), 1, side, side)
        for module in self.refinement_modules:
            out = module(layout, upsample2(out))
        images: Tensor = self.output_conv(out)
        return images


@dataclass(frozen=True)
class Painted:
    """What the generator makes of scene graphs."""

    images: Tensor  # [B, 3, S, S] as networks of ImageNet see them
    boxes: Tensor  # [n, 4] predicted
    mask_logits: Tensor | None  # [n, M, M] predicted
    placed: Tensor  # [n, S, S]: the masks that were painted, in their boxes


class Sg2ImGenerator(nn.Module):
    """From scene graphs to images; `forward` is differentiable."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        self.config = config
        width = config.embedding
        hidden = config.hidden
        # one row more than there are labels, as published
        self.obj_embeddings = nn.Embedding(labels + 1, width)
        self.pred_embeddings = nn.Embedding(len(config.vocabulary), width)
        self.gconv: nn.Module = nn.Linear(width, width)
        if config.graph_layers:
            self.gconv = GraphConv(width, hidden)
        self.gconv_net = None
        if config.graph_layers > 1:
            self.gconv_net = GraphConvs(width, hidden, config.graph_layers - 1)
        self.box_net = mlp(width, hidden, 4)
        self.mask_net = None
        if config.mask_side:
            self.mask_net = mask_net(width, config.mask_side)
        widths = tuple(config.width * multiple for multiple in WIDTHS[config.resolution])
        self.refinement_net = RefinementNetwork(width + config.noise, widths)
        self.norms_frozen = False

    def train(self, mode: bool = True) -> Sg2ImGenerator:
        """Switch to training; norms that are frozen go on as in evaluation."""
        super().train(mode and not self.norms_frozen)
        return self

    def freeze_norms(self, frozen: bool) -> None:
        """Say whether batch norms use their running statistics in training, too."""
        self.norms_frozen = frozen

    def forward(
        self,
        graphs: SceneGraphs,
        noise: Tensor,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Painted:
        """Paint graphs with noise [B, N, S, S].

        boxes [n, 4] and masks [n, M, M] take the place of the predicted ones; masks that are NaN do
        not.
        """
        vectors = self.object_vectors(graphs)
        boxes_pred = self.box_net(vectors)
        if boxes is None:
            boxes = boxes_pred
        logits = self.predict_masks(vectors)
        shapes = shapes_of(logits, vectors)
        if masks is not None:
            shapes = torch.where(masks.isnan(), shapes, masks.to(shapes.dtype))
        placed = self.place(shapes, boxes)
        canvas = sum_masks(vectors, placed, graphs.is_row)
        layout = torch.cat([canvas, noise.to(canvas.dtype)], 1)
        images = self.refinement_net(layout)
        return Painted(images, boxes_pred, logits, placed)

    def object_vectors(self, graphs: SceneGraphs) -> Tensor:
        """Return a vector per object [n, D] that knows of the object's relations."""
        objects = self.obj_embeddings(graphs.labels)
        vectors: Tensor
        if isinstance(self.gconv, nn.Linear):
            vectors = self.gconv(objects)
            return vectors
        relations = self.pred_embeddings(graphs.triples[:, 1])
        vectors, relations = self.gconv(objects, relations, graphs.triples)
        if self.gconv_net is not None:
            vectors, _ = self.gconv_net(vectors, relations, graphs.triples)
        return vectors

    def predict_masks(self, vectors: Tensor) -> Tensor | None:
        """Return logits of masks [n, M, M] of vectors [n, D]; None for filled boxes."""
        if self.mask_net is None:
            return None
        logits: Tensor = self.mask_net(vectors[:, :, None, None])
        return logits[:, 0]

    def place(self, masks: Tensor, boxes: Tensor) -> Tensor:
        """Return masks [n, M, M] in their boxes [n, 4] on the canvas [n, S, S]."""
        same_type = masks.to(boxes.dtype)
        placed = place_masks(same_type[None], boxes[None], self.config.resolution, True)
        return placed[0]


def shapes_of(logits: Tensor | None, vectors: Tensor) -> Tensor:
    """Return masks [n, M, M] of logits; without them, masks that fill their boxes."""
    if logits is not None:
        return torch.sigmoid(logits)
    return vectors.new_ones(len(vectors), FILLED, FILLED)


def kaiming_init(module: nn.Module) -> None:
    """Draw the weights of layers as published (Kaiming, normal)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight)
