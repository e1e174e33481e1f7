"""The losses of Layout2Im: two ways from objects to images, read back.

Codes of the real objects are to give the real image back, random codes an image whose objects give
the codes back. D sees both images, the reconstruction first.

Legend as in network.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.layout2im.config import Config
from synthaug.generators.layout2im.discriminator import Discriminators
from synthaug.generators.layout2im.network import Layout2ImGenerator
from synthaug.generators.layout2im.rows import ObjectRows, rows_of, shuffled
from synthaug.generators.nn.imagenet import to_imagenet
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

    beta1: float = 0.5


@dataclass(frozen=True)
class Draw:
    """What a pass of the generator draws."""

    rows: ObjectRows
    noise: Tensor  # [n, Z] of the codes of real objects
    z: Tensor  # [n, Z] random codes
    pixels: Tensor | None = None  # [n, S, S] instead of the rasters of boxes


class Layout2ImObjective:
    """G, D and their losses."""

    def __init__(self, config: Config, labels: int) -> None:
        self.config = config
        generator = Layout2ImGenerator(config, labels)
        discriminators = Discriminators(config.width_d, labels)
        self.networks: Mapping[str, nn.Module] = {"G": generator, "D": discriminators}

    def draw(self, layouts: Layouts, rng: torch.Generator) -> Draw:
        """Return the objects in a random order, and noise for their codes."""
        rows = rows_of(shuffled(layouts, rng))
        shape = (len(rows.labels), self.config.z_object)
        noise = torch.randn(shape, generator=rng).to(layouts.labels.device)
        z = torch.randn(shape, generator=rng).to(layouts.labels.device)
        return Draw(rows, noise, z)

    def generate(self, batch: TrainingBatch, rng: torch.Generator) -> Fakes:
        """Return reconstructions and random images [2 B, ...], and what is read back."""
        config = self.config
        generator = self.networks["G"]
        assert isinstance(generator, Layout2ImGenerator)
        drawn = self.draw(batch.layouts, rng)
        rows = drawn.rows
        real = to_imagenet(batch.images)
        mean, log_variance = generator.read(real, rows)
        z_of_real = mean + drawn.noise * torch.exp(0.5 * log_variance)
        rebuilt = generator(rows, z_of_real, drawn.pixels).images
        random = generator(rows, drawn.z, drawn.pixels).images
        read_back, _ = generator.read(random, rows)
        l1 = F.l1_loss(rebuilt.float(), real)
        error = _mean((read_back.float() - drawn.z).abs())
        divergence = kl_divergence(mean.float(), log_variance.float())
        losses = {
            "g_l1": Loss(config.lambda_l1 * l1),
            "g_z": Loss(config.lambda_z * error, mean_over="objects"),
            "g_kl": Loss(config.lambda_kl * divergence, mean_over="sum"),
        }
        return Fakes(torch.cat([rebuilt, random]), losses)

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of D's loss; both kinds of fakes count half.

        Those of objects are weighed by the scores of pseudo-labelled objects.
        """
        config = self.config
        discriminators = self._discriminators()
        rows = rows_of(batch.layouts)
        weights = rows.scores if config.weigh_scores else None
        real = to_imagenet(batch.images)
        rebuilt, random = fake.chunk(2)
        image_terms = [cross_entropy_fake(discriminators.image(x)) for x in (rebuilt, random)]
        fake_images = torch.stack(image_terms).mean()
        image_term = cross_entropy_real(discriminators.image(real)) + fake_images
        object_terms = []
        for images in (rebuilt, random):
            scores, _ = discriminators.objects(images, rows)
            object_terms.append(cross_entropy_fake(scores, weights))
        scores, logits = discriminators.objects(real, rows)
        object_term = cross_entropy_real(scores, weights) + torch.stack(object_terms).mean()
        return {
            "d_image": Loss(image_term),
            "d_object": Loss(object_term, mean_over="objects"),
            "d_class": Loss(class_loss(logits, rows.labels, weights), mean_over="objects"),
        }

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Return the terms of G's loss that ask D; both kinds of fakes count half."""
        config = self.config
        discriminators = self._discriminators()
        rows = rows_of(batch.layouts)
        halves = fake.chunk(2)
        of_images = [cross_entropy_real(discriminators.image(images)) for images in halves]
        of_objects = []
        of_classes = []
        for images in halves:
            scores, logits = discriminators.objects(images, rows)
            of_objects.append(cross_entropy_real(scores))
            of_classes.append(class_loss(logits, rows.labels))
        image = torch.stack(of_images).mean()
        objects = torch.stack(of_objects).mean()
        classes = torch.stack(of_classes).mean()
        return {
            "g_image": Loss(config.lambda_image * image),
            "g_object": Loss(config.lambda_object * objects, mean_over="objects"),
            "g_class": Loss(config.lambda_class * classes, mean_over="objects"),
        }

    def _discriminators(self) -> Discriminators:
        networks = self.networks["D"]
        assert isinstance(networks, Discriminators)
        return networks


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of N(mean, variance) from N(0, I), summed over objects."""
    terms = 1 + log_variance - mean.square() - log_variance.exp()
    return -0.5 * terms.sum()


def _mean(values: Tensor) -> Tensor:
    """Return the mean of values, 0 when there are none."""
    if not values.numel():
        return values.sum()
    return values.mean()
