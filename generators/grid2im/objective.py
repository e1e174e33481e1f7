"""The losses of Grid2Im, and its training: G first, D on the same fakes.

Ashual & Wolf 2019 and the published code (docs/grid2im.md), without the perceptual term.

Legend as in network.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.grid2im.appearance import AppearancePool
from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.discriminator import ImageDiscriminator, MaskDiscriminator
from synthaug.generators.grid2im.losses import feature_matching, squared_error
from synthaug.generators.grid2im.network import Grid2ImGenerator, attributes_of
from synthaug.generators.nn.perceptual import perceptual_loss
from synthaug.generators.sg2im.discriminator import ObjectDiscriminator
from synthaug.generators.sg2im.graphs import SceneGraphs, scene_graphs
from synthaug.generators.training import adversarial
from synthaug.generators.training.adversarial import Fakes
from synthaug.generators.training.losses import (
    Loss,
    class_loss,
    cross_entropy_fake,
    cross_entropy_real,
)

MASK_RATE = 0.1  # of the mask discriminator's learning rate relative to the others'


@dataclass(frozen=True)
class Loop(adversarial.Config):
    """Optimiser settings; the defaults are the published ones."""

    beta1: float = 0.5


@dataclass(frozen=True)
class Draw:
    """What a pass of the generator draws."""

    graphs: SceneGraphs
    attributes: Tensor  # [n, 35]; zero where it is not told of them
    told: bool  # of attributes; if not, boxes are not learned from either
    noise: Tensor  # [1, N] of masks
    choose: Callable[[int], int]  # which of so many earlier appearance codes


@dataclass(frozen=True)
class Pass:
    """What a pass of the generator made, for the discriminators."""

    graphs: SceneGraphs
    images: Tensor  # [B, 3, S, S] in [-1, 1], with graph
    layout: Tensor  # [B, L + A, S, S] of true boxes and masks
    wrong_layout: Tensor  # the same with other appearance
    true_masks: Tensor  # [n, M, M]
    masks: Tensor  # [n, M, M] predicted


class Discriminators(nn.Module):
    """All three, as the one network that learns against the generator."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        channels = labels + config.appearance + 3
        self.image = ImageDiscriminator(channels, config.width_d)
        self.mask = MaskDiscriminator(labels, config.width_d)
        self.object = ObjectDiscriminator(config.width_d, labels)


class Grid2ImObjective:
    """G, D and their losses.

    The passes of G wait here until D has seen them, in their order.
    """

    def __init__(self, config: Config, labels: int) -> None:
        self.config = config
        generator = Grid2ImGenerator(config, labels)
        pool = AppearancePool(labels, config.appearance)
        self.networks: Mapping[str, nn.Module] = {
            "G": generator,
            "D": Discriminators(config, labels),
            "pool": pool,
        }
        self.perceptual = perceptual_loss(config.perceptual_weights, config.lambda_perceptual)
        self.passes: list[Pass] = []

    def draw(self, layouts: Layouts, rng: torch.Generator) -> Draw:
        """Return scene graphs, attributes in every second step, and noise."""
        config = self.config
        noise = torch.randn(1, config.mask_noise, generator=rng).to(layouts.labels.device)
        told = bool(torch.rand(1, generator=rng) < 0.5)
        graphs = scene_graphs(layouts, lambda _, count: torch.rand(count, 2, generator=rng))
        attributes = attributes_of(graphs)
        if not told:
            attributes = torch.zeros_like(attributes)

        def choose(count: int) -> int:
            return int(torch.randint(count, (1,), generator=rng))

        return Draw(graphs, attributes, told, noise, choose)

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        """Return fakes of true boxes and masks, and the loss of predicted boxes."""
        generator = self.networks["G"]
        pool = self.networks["pool"]
        assert isinstance(generator, Grid2ImGenerator)
        assert isinstance(pool, AppearancePool)
        drawn = self.draw(batch.layouts, rng)
        graphs = drawn.graphs
        placed = generator.place(graphs, drawn.attributes, drawn.noise)
        codes = generator.read_appearance(batch.images, graphs)
        masks = known_masks(graphs, placed.masks)
        layout = generator.layout(graphs, codes, graphs.boxes, masks)
        others = pool.exchange(graphs.labels, codes, drawn.choose)
        wrong = generator.layout(graphs, others.to(codes.dtype), graphs.boxes, masks)
        images = generator.layout_to_image(layout)
        self.passes.append(Pass(graphs, images, layout, wrong.detach(), masks, placed.masks))
        losses = {}
        if drawn.told:
            error = F.mse_loss(placed.boxes.float(), graphs.boxes)
            losses["g_box"] = Loss(self.config.lambda_box * error, mean_over="objects")
        return Fakes(images, losses)

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of G's loss that ask D or the real image."""
        config = self.config
        discriminators = self._discriminators()
        made = self.passes[-1]
        graphs = made.graphs
        scores, logits = discriminators.object(fake, graphs)
        masks_seen = discriminators.mask(made.masks, graphs.labels)
        true_masks_seen = discriminators.mask(made.true_masks, graphs.labels)
        layout = made.layout.detach()  # D judges the image; what it says of layouts is not learned
        fake_seen = discriminators.image(layout, fake)
        real_seen = discriminators.image(layout, batch.images)
        of_class = config.lambda_class * class_loss(logits, graphs.labels)
        of_objects = config.lambda_object * cross_entropy_real(scores)
        of_masks = config.lambda_mask * squared_error(masks_seen, 1)
        like_masks = config.lambda_mask_features * feature_matching(masks_seen, true_masks_seen)
        of_image = config.lambda_image * squared_error(fake_seen, 1)
        like_image = config.lambda_image_features * feature_matching(fake_seen, real_seen)
        losses = {
            "g_class": Loss(of_class, mean_over="objects"),
            "g_object": Loss(of_objects, mean_over="objects"),
            "g_mask": Loss(of_masks, mean_over="objects"),
            "g_mask_features": Loss(like_masks, mean_over="objects"),
            "g_image": Loss(of_image),
            "g_image_features": Loss(like_image),
        }
        if self.perceptual is not None:
            perceptual = self.perceptual.to(fake.device)
            distance = perceptual(fake, batch.images)
            losses["g_perceptual"] = Loss(config.lambda_perceptual * distance)
        return losses

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of D's loss on the first pass that waits.

        Those of crops are weighed by the scores of pseudo-labelled objects.
        """
        discriminators = self._discriminators()
        made = self.passes.pop(0)
        graphs = made.graphs
        layout = made.layout.detach()
        weights = graphs.scores if self.config.weigh_scores else None
        fake_masks = discriminators.mask(made.masks.detach(), graphs.labels)
        true_masks = discriminators.mask(made.true_masks.detach(), graphs.labels)
        fake_objects, fake_logits = discriminators.object(fake, graphs)
        real_objects, real_logits = discriminators.object(batch.images, graphs)
        of_objects = cross_entropy_fake(fake_objects, weights)
        of_objects = of_objects + cross_entropy_real(real_objects, weights)
        fake_image = discriminators.image(layout, fake)
        wrong_image = discriminators.image(made.wrong_layout, batch.images)
        real_image = discriminators.image(layout, batch.images)
        fake_class = class_loss(fake_logits, graphs.labels, weights)
        real_class = class_loss(real_logits, graphs.labels, weights)
        return {
            "d_mask_fake": Loss(0.5 * squared_error(fake_masks, 0), mean_over="objects"),
            "d_mask_real": Loss(0.5 * squared_error(true_masks, 1), mean_over="objects"),
            "d_object": Loss(0.5 * of_objects, mean_over="objects"),
            "d_class": Loss(real_class + fake_class, mean_over="objects"),
            "d_image_fake": Loss(0.25 * squared_error(fake_image, 0)),
            "d_image_wrong": Loss(0.25 * squared_error(wrong_image, 0)),
            "d_image_real": Loss(0.5 * squared_error(real_image, 1)),
        }

    def _discriminators(self) -> Discriminators:
        networks = self.networks["D"]
        assert isinstance(networks, Discriminators)
        return networks


def known_masks(graphs: SceneGraphs, predicted: Tensor) -> Tensor:
    """Return true masks [n, M, M]; predicted ones, without graph, where none is known."""
    masks = predicted.detach()
    if graphs.masks is None:
        return masks
    return torch.where(graphs.masks.isnan(), masks, graphs.masks.to(masks.dtype))


class Grid2ImTraining(adversarial.AdversarialTraining[TrainingBatch]):
    """The adversarial training in which the mask discriminator learns slower."""

    def __init__(self, objective: Grid2ImObjective, loop: Loop, steps: int, seed: int) -> None:
        super().__init__(objective, loop, steps, seed, generator_first=True, same_fakes=True)
        discriminators = objective.networks["D"]
        assert isinstance(discriminators, Discriminators)
        others = [*discriminators.image.parameters(), *discriminators.object.parameters()]
        masks = list(discriminators.mask.parameters())
        groups = [{"params": others, "share": 1.0}, {"params": masks, "share": MASK_RATE}]
        self.optimizers["D"] = torch.optim.Adam(
            groups, lr=loop.lr_d, betas=(loop.beta1, loop.beta2), fused=True
        )
