"""Sampling from a trained sg2im: noise and relations from seeds.

Legend: B images, O object slots, K = O + 1 with the whole image's, n rows, S image side, N channels
of noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synthaug.generators.base import Layouts, SamplerOptions, Samples
from synthaug.generators.nn.crops import as_slots
from synthaug.generators.nn.imagenet import imagenet_pixels
from synthaug.generators.nn.pixels import as_array
from synthaug.generators.nn.precision import dtype_of
from synthaug.generators.sg2im.fast import FastGenerator
from synthaug.generators.sg2im.graphs import SceneGraphs, scene_graphs
from synthaug.generators.sg2im.network import Sg2ImGenerator


class Sg2ImSampler:
    """A trained generator, ready to be sampled (generators.base.LayoutSampler)."""

    def __init__(self, network: Sg2ImGenerator, options: SamplerOptions) -> None:
        on_device = network.eval().to(options.device)
        dtype = dtype_of(options.precision, options.device)
        self.network = FastGenerator(on_device, dtype, options.compiled)
        self.config = network.config
        self.size = network.config.size  # (H, W)
        self.device = options.device

    def draw(self, layouts: Layouts, seeds: Sequence[int]) -> tuple[SceneGraphs, Tensor]:
        """Return scene graphs and noise [B, N, S, S]: of each image by its own seed."""
        config = self.config
        shape = (config.noise, config.resolution, config.resolution)
        streams = []
        noise = []
        for seed in seeds:
            rng = torch.Generator().manual_seed(seed)
            noise.append(torch.randn(shape, generator=rng))
            streams.append(rng)

        def points(image: int, count: int) -> Tensor:
            return torch.rand(count, 2, generator=streams[image])

        if not config.geometric:
            return scene_graphs(layouts), torch.stack(noise)
        return scene_graphs(layouts, points), torch.stack(noise)

    @torch.inference_mode()
    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return one image per layout, and one soft mask per object slot.

        The masks are those that were painted: those of the layouts where the network is to use
        them, else its own. Boxes come with them where it is to place the objects by itself.
        """
        config = self.config
        graphs, noise = self.draw(conditions, seeds)
        graphs = graphs.to(self.device)
        masks = None
        boxes = None
        if config.given_masks:
            masks = graphs.masks
        if config.given_boxes:
            boxes = graphs.boxes
        painted = self.network(graphs, noise.to(self.device), boxes, masks)
        pixels = imagenet_pixels(painted.images, config.stretch)
        # without the whole image's slot
        placed = as_slots(painted.placed, graphs.is_row)[:, :-1]
        placed = placed.float().clamp(0, 1)
        predicted = None
        if not config.given_boxes:
            in_image = painted.boxes.float().clamp(0, 1)
            in_slots = as_slots(in_image, graphs.is_row)
            predicted = in_slots[:, :-1].cpu().numpy()
        return Samples(as_array(pixels), placed.cpu().numpy(), predicted)
