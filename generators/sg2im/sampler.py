"""Sampling from a trained sg2im: noise and relations from seeds.

Legend: B images, O object slots, K = O + 1 with the whole image's, n rows, S image side, N channels
of noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.base import Layouts, SamplerOptions, Samples
from synthaug.generators.nn.crops import as_slots
from synthaug.generators.nn.imagenet import imagenet_pixels
from synthaug.generators.nn.precision import uses_bfloat16
from synthaug.generators.sg2im.fast import FastGenerator
from synthaug.generators.sg2im.graphs import SceneGraphs, scene_graphs
from synthaug.generators.sg2im.network import Sg2ImGenerator


class Sg2ImSampler:
    """A trained generator, ready to be sampled (generators.base.LayoutSampler)."""

    def __init__(self, network: Sg2ImGenerator, options: SamplerOptions) -> None:
        on_device = network.eval().to(options.device)
        dtype = torch.float32
        if uses_bfloat16(options.precision, options.device):
            dtype = torch.bfloat16
        self.network = FastGenerator(on_device, dtype, options.compiled)
        self.config = network.config
        self.size = network.config.size  # (H, W)
        self.device = options.device

    def draw(self, layouts: Layouts, seeds: Sequence[int]) -> tuple[SceneGraphs, Tensor]:
        """Return scene graphs and noise [B, N, S, S]: of each image by its own seed."""
        config = self.config
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = []
        for rng in streams:
            shape = (config.noise, config.resolution, config.resolution)
            noise.append(torch.randn(shape, generator=rng))
        graphs = scene_graphs(
            layouts, lambda image, count: torch.rand(count, 2, generator=streams[image])
        )
        return graphs, torch.stack(noise)

    @torch.inference_mode()
    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return one image per layout, and one soft mask per object slot.

        The masks are those that were painted: those of the layouts where the network is to use
        them, else its own. Boxes come with them where it is to place the objects by itself.
        """
        config = self.config
        graphs, noise = self.draw(conditions, seeds)
        graphs = graphs.to(self.device)
        masks = graphs.masks if config.given_masks else None
        boxes = graphs.boxes if config.given_boxes else None
        painted = self.network(graphs, noise.to(self.device), boxes, masks)
        placed = as_slots(painted.placed, graphs.is_row)[:, :-1].float()
        predicted = None
        if not config.given_boxes:
            in_image = painted.boxes.float().clamp(0, 1)
            predicted = as_slots(in_image, graphs.is_row)[:, :-1].cpu().numpy()
        images = imagenet_pixels(painted.images, config.stretch)
        channels_last = images.permute(0, 2, 3, 1).cpu().numpy()
        return Samples(
            np.ascontiguousarray(channels_last), placed.clamp(0, 1).cpu().numpy(), predicted
        )
