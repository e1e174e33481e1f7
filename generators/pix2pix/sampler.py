"""Sampling from a trained pix2pix: pixels from layouts or maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synthaug.generators.base import Layouts, Maps, SamplerOptions, Samples
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.nn.precision import dtype_of
from synthaug.generators.pix2pix.config import MapConfig
from synthaug.generators.pix2pix.fast import BoxStem, FastUNet, MapStem
from synthaug.generators.pix2pix.network import UNet
from synthaug.generators.pix2pix.painting import visible_boxes
from synthaug.generators.spade.sampler import checked_semantics


class _Production:
    """The fast form of a network on a device."""

    def __init__(self, network: UNet, options: SamplerOptions) -> None:
        dtype = dtype_of(options.precision, options.device)
        on_device = network.eval().to(options.device)
        self.network = FastUNet(on_device, dtype)
        self.noise = network.config.noise

    def images(self, first: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return images [B, 3, H, W] of the first convolution's output."""
        streams = None
        if self.noise:
            streams = seeds
        made: Tensor = self.network(first, streams)
        return made


class BoxSampler:
    """A trained generator, ready to be sampled (generators.base.LayoutSampler)."""

    def __init__(self, network: UNet, options: SamplerOptions) -> None:
        self.size = network.config.size  # (H, W)
        self.device = options.device
        self.production = _Production(network, options)
        self.stem = BoxStem(first_weight(network), self.size)

    @torch.inference_mode()
    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return one image per layout, and as masks the visible parts of its boxes."""
        assert len(seeds) == len(conditions)
        layouts = conditions.to(self.device)
        images = self.production.images(self.stem(layouts), seeds)
        masks = visible_boxes(layouts, self.size)
        return Samples(to_pixels(images), masks.cpu().numpy())


class MapSampler:
    """A trained generator of maps, ready to be sampled (generators.base.MapSampler)."""

    def __init__(self, network: UNet, options: SamplerOptions) -> None:
        config = network.config
        assert isinstance(config, MapConfig)
        self.config = config
        self.size = config.size  # (H, W)
        self.num_classes = network.num_classes
        self.device = options.device
        self.production = _Production(network, options)
        class_channels = network.num_classes + int(config.dont_care)
        self.stem = MapStem(first_weight(network), class_channels)

    @torch.inference_mode()
    def sample(self, conditions: Maps, seeds: Sequence[int]) -> Samples:
        """Return one image per map.

        Raises ValueError when the maps have another size, another number of classes, or pixels of
        no class where the network knows none.
        """
        assert len(seeds) == len(conditions)
        config = self.config
        on_device = conditions.to(self.device)
        maps = checked_semantics(
            on_device, self.size, self.num_classes, config.dont_care, config.edges
        )
        images = self.production.images(self.stem(maps), seeds)
        return Samples(to_pixels(images))


def first_weight(network: UNet) -> Tensor:
    """Return the kernels of the first convolution [N, C, 4, 4]."""
    weight = network.model.model[0].weight
    assert isinstance(weight, Tensor)
    return weight
