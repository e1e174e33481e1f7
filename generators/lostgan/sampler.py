"""Sampling from a trained LostGAN.

Latent codes from seeds, pixels and masks from layouts.

Legend: B images, O object slots, R image side, S side of a mask stack, Z width of a latent code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthaug.generators.base import Layouts, SamplerOptions, Samples
from synthaug.generators.lostgan.config import Config
from synthaug.generators.lostgan.fast import FastGenerator
from synthaug.generators.lostgan.network import LostGanGenerator, with_background
from synthaug.generators.nn.latents import truncated_normal
from synthaug.generators.nn.layers import resize
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.nn.precision import dtype_of


class LostGanSampler:
    """A trained generator, ready to be sampled (generators.base.LayoutSampler)."""

    def __init__(self, network: LostGanGenerator, options: SamplerOptions) -> None:
        on_device = network.eval().to(options.device)
        self.network = _fast_form(on_device, options)
        self.config = network.config
        self.size = network.config.size  # (H, W)
        self.num_stages = 1 + len(network.refined)  # of the masks: m_0, m_1, ...
        self.truncation = options.truncation
        self.device = options.device

    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return one image per layout, and one soft mask per object slot."""
        slots = conditions.labels.shape[1]
        z_image, z_objects = self.draw(slots, seeds)
        images, stacks = self.generate(conditions, z_image, z_objects)
        return Samples(images, self.at_full_size(stacks[-1]))

    def draw(self, slots: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return z_img [B, Z] and z_obj [B, O, Z] of the images with these seeds.

        O = slots; with a background slots + 1, the last of which is the background's. It is drawn
        first, so that it does not depend on the number of objects.
        """
        z_images = []
        z_objects = []
        for seed in seeds:
            if self.config.background:
                z_image, z_object = draw_latents(self.config, slots + 1, seed, self.truncation)
                z_object = z_object.roll(-1, 0)
            else:
                z_image, z_object = draw_latents(self.config, slots, seed, self.truncation)
            z_images.append(z_image)
            z_objects.append(z_object)
        return torch.stack(z_images), torch.stack(z_objects)

    @torch.inference_mode()
    def generate(
        self, layouts: Layouts, z_image: Tensor, z_objects: Tensor
    ) -> tuple[NDArray[np.uint8], tuple[Tensor, ...]]:
        """Return images [B, R, R, 3] and the mask stack of every stage [B, O, S, S].

        The initial one first (Fig. 13).

        z_image [B, Z] and z_objects [B, O, Z] as `draw` returns them; any of their rows may be
        changed.
        """
        slots = layouts.labels.shape[1]
        layouts = layouts.to(self.device)
        if self.config.background:
            layouts = with_background(layouts)
        z_image = z_image.to(self.device)
        z_objects = z_objects.to(self.device)
        images, stacks = self.network(layouts, z_image, z_objects)
        without_background = tuple(stack[:, :slots] for stack in stacks)
        return to_pixels(images.float()), without_background

    @torch.inference_mode()
    def at_full_size(self, stack: Tensor) -> NDArray[np.float32]:
        """Return a mask stack [B, O, S, S] at the size of the images [B, O, R, R]."""
        enlarged = resize(stack.float(), self.config.resolution)
        full: NDArray[np.float32] = enlarged.cpu().numpy()
        return full


def _fast_form(network: LostGanGenerator, options: SamplerOptions) -> nn.Module:
    """Return the fast form of a network.

    With SPADE in the place of ISLA-Norm the network itself, in float32.
    """
    if network.config.normalization != "isla":
        return network
    dtype = dtype_of(options.precision, options.device)
    return FastGenerator(network, dtype, options.compiled)


def draw_latents(config: Config, slots: int, seed: int, truncation: float) -> tuple[Tensor, Tensor]:
    """Return z_img [Z] and z_obj [slots, Z] of one image.

    Elements beyond `truncation` are drawn again (0 = none are).

    A slot draws the same whatever slots come after it.
    """
    rng = torch.Generator().manual_seed(seed)
    z_image = truncated_normal(config.z_image, truncation, rng)
    z_objects = []
    for _ in range(slots):
        z_objects.append(truncated_normal(config.z_object, truncation, rng))
    return z_image, torch.stack(z_objects)
