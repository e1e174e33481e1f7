"""Sampling from a trained Layout2Im: codes of objects from seeds.

Legend as in network.py, and: O object slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synthaug.generators.base import Layouts, SamplerOptions, Samples
from synthaug.generators.layout2im.fast import FastGenerator
from synthaug.generators.layout2im.network import Layout2ImGenerator
from synthaug.generators.layout2im.rows import rows_of
from synthaug.generators.nn.crops import as_slots
from synthaug.generators.nn.imagenet import imagenet_pixels
from synthaug.generators.nn.latents import truncated_normal
from synthaug.generators.nn.pixels import as_array
from synthaug.generators.nn.precision import dtype_of


class Layout2ImSampler:
    """A trained generator, ready to be sampled (generators.base.LayoutSampler)."""

    def __init__(self, network: Layout2ImGenerator, options: SamplerOptions) -> None:
        on_device = network.eval().to(options.device)
        dtype = dtype_of(options.precision, options.device)
        self.network = FastGenerator(on_device, dtype, options.compiled)
        self.config = network.config
        self.size = network.config.size  # (H, W)
        self.truncation = options.truncation
        self.device = options.device

    def draw(self, slots: int, seeds: Sequence[int]) -> Tensor:
        """Return z_obj [B, O, Z] of the images with these seeds.

        A slot draws the same whatever slots come after it.
        """
        codes = []
        for seed in seeds:
            rng = torch.Generator().manual_seed(seed)
            own = []
            for _ in range(slots):
                own.append(truncated_normal(self.config.z_object, self.truncation, rng))
            codes.append(torch.stack(own))
        return torch.stack(codes)

    @torch.inference_mode()
    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return one image per layout, and what each object filled: its box, or a mask."""
        z = self.draw(conditions.labels.shape[1], seeds).to(self.device)
        rows = rows_of(conditions.to(self.device))
        painted = self.network(rows, z[rows.is_row])
        pixels = imagenet_pixels(painted.images, self.config.stretch)
        masks = as_slots(painted.masks.float(), rows.is_row)
        masks = masks.clamp(0, 1)
        return Samples(as_array(pixels), masks.cpu().numpy())
