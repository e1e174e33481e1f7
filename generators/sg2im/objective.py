"""The losses of sg2im, and its training: G first, D on the same fakes.

Johnson et al. 2018, section 3 and the published code (docs/sg2im.md).

Legend as in network.py; R relations drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.nn.imagenet import to_imagenet
from synthaug.generators.sg2im.config import Config
from synthaug.generators.sg2im.discriminator import Discriminators
from synthaug.generators.sg2im.graphs import SceneGraphs, scene_graphs
from synthaug.generators.sg2im.network import Painted, Sg2ImGenerator
from synthaug.generators.training import adversarial
from synthaug.generators.training.adversarial import Fakes
from synthaug.generators.training.losses import (
    Loss,
    class_loss,
    cross_entropy_fake,
    cross_entropy_real,
)


@dataclass(frozen=True)
class Loop(adversarial.Config):
    """Optimiser settings; the defaults are the published ones."""

    beta1: float = 0.9
    # step from which G learns with its batch norms frozen and a fresh optimiser; -1 = never
    freeze_from: int = 100_000


class Sg2ImObjective:
    """G, D and their losses."""

    def __init__(self, config: Config, labels: int) -> None:
        self.config = config
        generator = Sg2ImGenerator(config, labels)
        discriminators = Discriminators(config.width_d, labels)
        self.networks: Mapping[str, nn.Module] = {"G": generator, "D": discriminators}

    def draw(self, layouts: Layouts, rng: torch.Generator) -> tuple[SceneGraphs, Tensor]:
        """Return scene graphs of layouts and noise [B, N, S, S], on the CPU."""
        config = self.config
        noise = torch.randn(
            len(layouts), config.noise, config.resolution, config.resolution, generator=rng
        )
        graphs = scene_graphs(layouts, lambda _, count: torch.rand(count, 2, generator=rng))
        return graphs, noise

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        """Return fakes in the boxes of the batch, and losses of predicted boxes, masks."""
        config = self.config
        device = batch.images.device
        graphs, noise = self.draw(batch.layouts, rng)
        masks = graphs.masks if config.given_masks else None
        painted: Painted = self.networks["G"](graphs, noise.to(device), graphs.boxes, masks)
        losses = {}
        box_error = F.mse_loss(painted.boxes.float(), graphs.boxes)
        losses["g_box"] = Loss(config.lambda_box * box_error, mean_over="objects")
        if config.lambda_mask and painted.mask_logits is not None and graphs.masks is not None:
            mask_error = mask_loss(painted.mask_logits, graphs.masks)
            losses["g_mask"] = Loss(config.lambda_mask * mask_error, mean_over="objects")
        return Fakes(painted.images, losses)

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of D's loss.

        Those of objects are weighed by the scores of pseudo-labelled objects.
        """
        discriminators = self._discriminators()
        graphs = scene_graphs(batch.layouts)
        weights = graphs.scores if self.config.weigh_scores else None
        real = to_imagenet(batch.images)
        fake_objects, fake_logits = discriminators.object(fake, graphs)
        real_objects, real_logits = discriminators.object(real, graphs)
        fake_term = cross_entropy_fake(fake_objects, weights)
        real_term = cross_entropy_real(real_objects, weights)
        real_class = class_loss(real_logits, graphs.labels, weights)
        fake_class = class_loss(fake_logits, graphs.labels, weights)
        fake_image = cross_entropy_fake(discriminators.image(fake))
        real_image = cross_entropy_real(discriminators.image(real))
        return {
            "d_object": Loss(fake_term + real_term, mean_over="objects"),
            "d_class": Loss(real_class + fake_class, mean_over="objects"),
            "d_image": Loss(fake_image + real_image),
        }

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of G's loss that ask D or the real image."""
        config = self.config
        discriminators = self._discriminators()
        graphs = scene_graphs(batch.layouts)
        scores, logits = discriminators.object(fake, graphs)
        of_class = config.lambda_class * class_loss(logits, graphs.labels)
        of_objects = config.lambda_object * cross_entropy_real(scores)
        of_image = config.lambda_image * cross_entropy_real(discriminators.image(fake))
        l1 = F.l1_loss(fake.float(), to_imagenet(batch.images))
        return {
            "g_l1": Loss(config.lambda_l1 * l1),
            "g_class": Loss(of_class, mean_over="objects"),
            "g_object": Loss(of_objects, mean_over="objects"),
            "g_image": Loss(of_image),
        }

    def _discriminators(self) -> Discriminators:
        networks = self.networks["D"]
        assert isinstance(networks, Discriminators)
        return networks


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits [n, M, M] for known masks."""
    known = ~masks.isnan()
    if not known.any():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[known].float(), masks[known])


class Sg2ImTraining(adversarial.AdversarialTraining[TrainingBatch]):
    """The adversarial training in which G's batch norms freeze at a step."""

    def __init__(self, objective: Sg2ImObjective, loop: Loop, steps: int, seed: int) -> None:
        super().__init__(objective, loop, steps, seed, generator_first=True, same_fakes=True)
        self.freeze_from = loop.freeze_from

    def step(self, index: int, batch: TrainingBatch) -> dict[str, Tensor]:
        """Do step `index`; the first one with frozen norms has a fresh optimiser."""
        generator = self.modules["G"]
        assert isinstance(generator, Sg2ImGenerator)
        generator.freeze_norms(0 <= self.freeze_from <= index)
        if index == self.freeze_from:
            self.optimizers["G"].state.clear()
        return super().step(index, batch)
