"""Producing with a trained LostGAN: latent codes from seeds, pixels and masks from layouts.

Legend: B images, O object slots, R image side, Z width of a latent code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthaug.generators.base import Layouts, Synthesis
from synthaug.generators.lostgan.config import Config
from synthaug.generators.lostgan.fast import FastGenerator
from synthaug.generators.lostgan.network import LostGanGenerator, with_background
from synthaug.generators.nn.layers import resize
from synthaug.generators.training.adversarial import has_bf16


def draw_latents(config: Config, slots: int, seed: int, truncation: float) -> tuple[Tensor, Tensor]:
    """z_img [Z] and z_obj [slots, Z] of one image; elements over `truncation` are redrawn (0 = none are).

    Slot i draws the same whatever comes after it.
    """
    rng = torch.Generator().manual_seed(seed)

    def draw(width: int) -> Tensor:
        z = torch.randn(width, generator=rng)
        while truncation and bool((outside := z.abs() > truncation).any()):
            z[outside] = torch.randn(int(outside.sum()), generator=rng)
        return z

    z_image = draw(config.z_image)
    return z_image, torch.stack([draw(config.z_object) for _ in range(slots)])


class LostGan:
    """A trained generator, ready to produce (generators.base.Generator)."""

    def __init__(
        self,
        network: LostGanGenerator,
        device: torch.device | str,
        truncation: float,
        precision: str,
        compiled: bool,
    ) -> None:
        narrow = precision == "bfloat16" or (precision == "auto" and has_bf16(torch.device(device)))
        dtype = torch.bfloat16 if narrow else torch.float32
        self.network = FastGenerator(network.eval().to(device), dtype, compiled)
        self.stages = 1 + len(network.refined)  # of the masks: m_0, m_1, ...
        self.truncation = truncation
        self.config = network.config
        self.device = device
        self.resolution = (network.config.resolution, network.config.resolution)

    def __call__(self, layouts: Layouts, seeds: Sequence[int]) -> Synthesis:
        """One uint8 image and one soft mask per object slot."""
        images, stacks = self.paint(layouts, *self.draw(layouts.labels.shape[1], seeds))
        return Synthesis(images, self.at_full_size(stacks[-1]))

    def draw(self, slots: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """z_img [B, Z] and z_obj [B, O, Z] of the images with these seeds; O = slots, + 1 with a background, its the last.

        The background's is drawn first, so that it does not depend on how many objects there are.
        """
        extra = int(self.config.background)
        drawn = [draw_latents(self.config, slots + extra, seed, self.truncation) for seed in seeds]
        return torch.stack([z for z, _ in drawn]), torch.stack(
            [z.roll(-extra, 0) for _, z in drawn]
        )

    @torch.inference_mode()
    def paint(
        self, layouts: Layouts, z_image: Tensor, z_objects: Tensor
    ) -> tuple[NDArray[np.uint8], tuple[Tensor, ...]]:
        """Images [B, R, R, 3] and the mask stack of every stage [B, O, S, S], the initial one first (Fig. 13).

        z_image [B, Z] and z_objects [B, O, Z] as `draw` gives them; any of their rows may be changed.
        """
        slots = layouts.labels.shape[1]
        layouts = layouts.to(self.device)
        given = with_background(layouts) if self.config.background else layouts
        images, stacks = self.network(given, z_image.to(self.device), z_objects.to(self.device))
        pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        shown = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
        return shown, tuple(stack[:, :slots] for stack in stacks)  # without the background's own

    def at_full_size(self, stack: Tensor) -> NDArray[np.float32]:
        """A mask stack [B, O, S, S] at the resolution of the images [B, O, R, R]."""
        with torch.inference_mode():
            full: NDArray[np.float32] = resize(stack.float(), self.config.resolution).cpu().numpy()
        return full
