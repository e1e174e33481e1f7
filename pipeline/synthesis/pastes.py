"""Conditioning on pieces of real images.

A planned layout's own image, and real objects pasted into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import PAIRED_SAMPLE, Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.planning.planner import is_mirrored
from synthaug.pipeline.planning.targets import chosen_classes
from synthaug.pipeline.synthesis.base import Finished, Synthesizer, with_image
from synthaug.pipeline.synthesis.object_bank import Bank
from synthaug.pipeline.synthesis.pasting import paste_layout, paste_plan
from synthaug.pipeline.synthesis.real_images import RealImageConditioning, real_images

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import TrainingInput
    from synthaug.generators.copy_paste import PasteSampler


class PasteConditioning(RealImageConditioning):
    """Objects are cut out of real images when images are made; nothing is learned."""

    uses: ClassVar[tuple[str, ...]] = ("insert",)

    @property
    def untrained_note(self) -> str:
        """Return when objects are cut out."""
        return f"{self.job.generator.system} cuts out labelled objects when images are made"

    @property
    def added_classes(self) -> tuple[str, ...]:
        """Return the classes that are pasted."""
        classes: tuple[str, ...] = self.job.generator.config.classes
        return classes

    def check_data(self, labelled: Dataset) -> None:
        """Look for a class that is pasted and not there, and for a labelled object.

        The first one that a person labelled.
        """
        super().check_data(labelled)
        ones = np.ones(len(labelled.categories), np.int64)
        chosen_classes(self.added_classes, ones, labelled.categories, "generator.classes")

    def plan_settings(self) -> Json:
        """Return also which classes a plan adds."""
        return {**super().plan_settings(), "classes": self.added_classes}

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], TrainingInput]:
        """Refuse: no system of this conditioning learns."""
        raise AssertionError(f"{self.job.generator.system} learns nothing")

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer that pastes objects of the table beside the checkpoint."""
        bank = self.bank(network, device, trained)
        return PasteSynthesizer(bank, self.job.synthesize, self.job.plan.flip)

    def bank(self, network: nn.Module, device: torch.device | str, trained: Folder) -> Bank:
        """Return the objects that can be pasted, of the table beside the checkpoint."""
        table, bare = real_images(trained)
        any_sampler = self.system.sampler(network, self.sampler_options(device))
        sampler = cast("PasteSampler", any_sampler)
        return Bank.of(table, bare, sampler.config)


class PasteSynthesizer:
    """Pastes real objects into real images; labels are what can be seen."""

    def __init__(self, bank: Bank, options: Synthesize, flip: float) -> None:
        self._bank = bank
        self._options = options
        self._flip = flip  # probability by which the plan mirrored backgrounds

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        """Return the edited images with all objects, as far as they are visible."""
        return [self._finish(scene, categories, checkpoint) for scene in planned]

    def _finish(self, planned: Scene, categories: Sequence[Category], checkpoint: str) -> Finished:
        assert planned.provenance is not None
        if planned.provenance.reason == PAIRED_SAMPLE:
            picture = paste_layout(self._bank, planned, categories)
            # objects of the background were not asked for
            objects = picture.objects.select(picture.objects.id > 0)
        else:
            mirror = is_mirrored(planned.provenance.seed, self._flip)
            min_area = self._options.min_mask_area
            picture = paste_plan(self._bank, planned, mirror, min_area, categories)
            objects = picture.objects
        scene = planned.with_objects(objects)
        scene = with_image(scene, picture.image, self._options.format, checkpoint)
        return Finished(scene, picture.lost)
