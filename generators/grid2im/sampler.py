"""Sampling from a trained Grid2Im: noise and relations from seeds.

Legend as in network.py, and: O object slots, K = O + 1 with the whole image's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synthaug.generators.base import Layouts, SamplerOptions, Samples
from synthaug.generators.grid2im.fast import FastGenerator
from synthaug.generators.grid2im.network import Grid2ImGenerator, attributes_of
from synthaug.generators.nn.crops import as_slots
from synthaug.generators.nn.latents import truncated_normal
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.nn.precision import dtype_of
from synthaug.generators.sg2im.graphs import SceneGraphs, scene_graphs


class Grid2ImSampler:
    """A trained generator, ready to be sampled (generators.base.LayoutSampler).

    Appearance is invented from the scene graph and noise, as published for objects without a
    picture; noise is an image's own, the same for all its objects.
    """

    def __init__(self, network: Grid2ImGenerator, options: SamplerOptions) -> None:
        on_device = network.eval().to(options.device)
        dtype = dtype_of(options.precision, options.device)
        self.network = FastGenerator(on_device, dtype, options.compiled)
        self.config = network.config
        self.size = network.config.size  # (H, W)
        self.truncation = options.truncation
        self.device = options.device

    def draw(self, layouts: Layouts, seeds: Sequence[int]) -> tuple[SceneGraphs, Tensor]:
        """Return scene graphs and noise [n, N]: of each image by its own seed."""
        streams = []
        codes = []
        for seed in seeds:
            rng = torch.Generator().manual_seed(seed)
            code = truncated_normal(self.config.mask_noise, self.truncation, rng)
            streams.append(rng)
            codes.append(code)

        def points(image: int, count: int) -> Tensor:
            return torch.rand(count, 2, generator=streams[image])

        graphs = scene_graphs(layouts, points)
        of_images = torch.stack(codes)
        return graphs, of_images[graphs.image_of]

    @torch.inference_mode()
    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return one image per layout, and the masks painted: given or predicted."""
        graphs, noise = self.draw(conditions, seeds)
        graphs = graphs.to(self.device)
        noise = noise.to(self.device)
        attributes = attributes_of(graphs)
        images, placed = self.network(graphs, attributes, noise)
        in_slots = as_slots(placed.float(), graphs.is_row)
        masks = in_slots[:, :-1].clamp(0, 1)  # without the whole image's
        return Samples(to_pixels(images), masks.cpu().numpy())
