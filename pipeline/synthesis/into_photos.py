"""Objects that a generator of layouts paints, laid into real images.

They are cut out by their own masks.

The generator is trained on layouts, as always. The plan is one of edits; the generator makes an
image of a photo's layout together with the objects to be added, and of that image these objects
alone are taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from synthaug.generators.copy_paste import Config as PasteConfig
from synthaug.generators.copy_paste import blur
from synthaug.pipeline.core.arrays import Bytes, Flags, Floats
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.planning.edit_planner import EditPlanner
from synthaug.pipeline.planning.planner import Source
from synthaug.pipeline.synthesis.base import NO_CROWDS, Synthesizer, sources_of
from synthaug.pipeline.synthesis.edits import EditSynthesizer, Request
from synthaug.pipeline.synthesis.layouts import LayoutConditioning, resized_sample, sample_layouts
from synthaug.pipeline.synthesis.masks_from_levels import resolve
from synthaug.pipeline.synthesis.object_bank import Bank
from synthaug.pipeline.synthesis.real_images import edit_planner, edit_settings, real_images

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import EditedPhoto, LayoutSampler

EDGE = 1.0  # pixels, standard deviation of the soft edge with which an object is laid into a photo


class IntoPhotosConditioning(LayoutConditioning):
    """Trained like every generator of layouts, used to add objects to photos."""

    plans_edits = True
    uses: ClassVar[tuple[str, ...]] = ("insert",)

    @property
    def only_adds(self) -> bool:
        """Objects of photos stay."""
        return True

    def check(self) -> None:
        """Refuse a size that the photos have not."""
        super().check()
        if self.job.synthesize.size != "source":
            raise JobError(
                "synthesize.size: plan.into photos makes images of the size of its real ones; set "
                "it to source"
            )

    def layouts(self, table: Dataset) -> list[Source]:
        """Return the layouts of all photos, however many objects they have."""
        return sources_of(table, NO_CROWDS.select)

    def planner(self, table: Dataset, weights: Floats | None = None) -> EditPlanner:
        """Return the planner of edits.

        DatasetError where the generator has nothing to learn from.
        """
        if not len(self.select(table)):
            raise self.nothing_selected()
        return edit_planner(self.job, self.layouts(table), table, weights)

    def plan_settings(self) -> Json:
        """Return the keys that plans of edits depend on."""
        settings = super().plan_settings()
        return {**settings, "edits": edit_settings(self.job)}

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer that lays objects into the images beside the checkpoint."""
        table, bare = real_images(trained)
        any_sampler = self.system.sampler(network, self.sampler_options(device))
        sampler = cast("LayoutSampler", any_sampler)
        bank = Bank.of(table, bare, PasteConfig())
        plan = self.job.plan
        paint = partial(paint_layouts, sampler)
        options = self.job.synthesize
        return EditSynthesizer(bank, paint, options, plan.flip, plan.uses, repaints=False)


def paint_layouts(
    sampler: LayoutSampler, planned: Sequence[Scene], requests: Sequence[Request]
) -> list[EditedPhoto]:
    """Return photos with the new objects of planned scenes.

    The objects look as in samples of the whole layouts.
    """
    from synthaug.generators.base import EditedPhoto

    scenes = []
    for scene in planned:
        objects = scene.objects.without_crowds()
        scenes.append(scene.with_objects(objects))
    samples = sample_layouts(sampler, scenes)
    edited = []
    pairs = zip(scenes, requests, strict=True)
    for number, (scene, request) in enumerate(pairs):
        objects = scene.objects
        image, soft = resized_sample(samples, number, len(objects), scene.size)
        added = np.isin(objects.id, request.new.id)
        new = objects.select(added)
        masks = resolve(soft[added], new.boxes, new.isthing)
        covered: Flags = np.asarray(masks.any(0))
        picture = laid_over(request.canvas.image, image, covered)
        edited.append(EditedPhoto(picture, masks.astype(np.float32)))
    return edited


def laid_over(photo: Bytes, image: Bytes, mask: Flags) -> Bytes:
    """Return a photo [H, W, 3] with the pixels of an image inside a mask [H, W].

    The edge of the mask is softened.
    """
    soft = blur(mask.astype(np.float32), EDGE)
    alpha = soft[..., None]
    mixed = photo + alpha * (image.astype(np.float32) - photo)
    rounded = np.rint(mixed).clip(0, 255)
    return rounded.astype(np.uint8)
