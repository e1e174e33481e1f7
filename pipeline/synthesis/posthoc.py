"""Conditioning on layouts in two stages.

One generator infers masks, another samples the image of their map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import resize
from synthaug.pipeline.core.scene import Category, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.synthesis.base import Finished, Synthesizer, seeds_of
from synthaug.pipeline.synthesis.layouts import (
    LayoutConditioning,
    at_output_size,
    finish,
    resized_sample,
    sample_layouts,
)
from synthaug.pipeline.synthesis.masks_from_levels import resolve
from synthaug.pipeline.synthesis.pseudo_maps import maps_of_masks

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.posthoc import PosthocSampler

Masks = NDArray[np.bool_]  # [N, H, W] disjoint


class PosthocConditioning(LayoutConditioning):
    """Layouts for two trained generators (generators/posthoc.py)."""

    def check(self) -> None:
        """Look, besides, at what both checkpoints say of themselves."""
        from synthaug.generators import posthoc

        super().check()
        try:
            posthoc.read_headers(self.job.generator.config)
        except ValueError as err:
            raise JobError(f"generator.{err}") from err

    @property
    def untrained_note(self) -> str:
        """Return where the networks come from."""
        return "both generators come from their files"

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer of both networks."""
        sampler = self.system.sampler(network, self.sampler_options(device))
        return PosthocSynthesizer(cast("PosthocSampler", sampler), self.job.synthesize)


class PosthocSynthesizer:
    """Samples masks of layouts, and images of the maps made of these masks."""

    def __init__(self, sampler: PosthocSampler, options: Synthesize) -> None:
        self.sampler = sampler
        self._options = options

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        """Return the scenes with the images, masks and boxes of both networks."""
        size = self.sampler.size
        scenes = [at_output_size(scene, self._options, size) for scene in planned]
        masks = self._infer_masks(scenes)
        images = self._sample_images(scenes, masks)
        finished = []
        for scene, image, visible in zip(scenes, images, masks, strict=True):
            finished.append(finish(scene, image, visible, categories, self._options, checkpoint))
        return finished

    def _infer_masks(self, scenes: Sequence[Scene]) -> list[Masks]:
        """Return the disjoint masks [N, H, W] of each scene.

        Those too small to be kept are empty.
        """
        samples = sample_layouts(self.sampler.layouts, scenes)
        masks = []
        for number, scene in enumerate(scenes):
            objects = scene.objects
            _, soft = resized_sample(samples, number, len(objects), scene.size)
            visible = resolve(soft, objects.boxes, objects.isthing)
            large_enough = visible.sum((1, 2)) >= self._options.min_mask_area
            masks.append(visible & large_enough[:, None, None])
        return masks

    def _sample_images(self, scenes: Sequence[Scene], masks: Sequence[Masks]) -> list[Bytes]:
        """Return the image [H, W, 3] of the map of each scene's masks.

        At the scene's size.
        """
        from synthaug.generators.base import Maps

        sampler = self.sampler.maps
        labels = []
        instances = []
        for scene, visible in zip(scenes, masks, strict=True):
            maps = maps_of_masks(
                visible, scene.objects, sampler.num_classes, sampler.size, self.sampler.dont_care
            )
            labels.append(maps.labels)
            instances.append(maps.instances)
        conditions = Maps.collate(labels, instances, sampler.num_classes)
        images = sampler.sample(conditions, seeds_of(scenes)).images
        pairs = zip(images, scenes, strict=True)
        return [resize(image, scene.size) for image, scene in pairs]
