"""Conditioning on real images to be edited: a planned layout's own image, and the objects to be added to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.layouts import layout_batches
from synthaug.pipeline.config.schema import Synthesize
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import PAIRED_SAMPLE, Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.planner import is_mirrored
from synthaug.pipeline.synthesis.base import Conditioning, Finished, Synthesizer, with_image
from synthaug.pipeline.synthesis.object_bank import Bank, pasteable
from synthaug.pipeline.synthesis.pasting import paste_layout, paste_plan

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import Batch
    from synthaug.generators.copy_paste import PasteSampler

# beside the checkpoint: the table of the real images, relative to the folder of all steps
REAL_IMAGES = "bank.json"


class EditConditioning(Conditioning):
    """All scenes: each can be a background, and what a person labelled in it can be pasted elsewhere."""

    def check(self) -> None:
        """Refuse settings that pasting has no use for."""
        super().check()
        options, system = self.job.synthesize, self.job.generator.system
        if options.size != "source":
            raise JobError(
                f"synthesize.size: {system} makes images of the size of its real ones; set it to source"
            )
        if options.compiled:
            raise JobError(
                f"synthesize.compiled: generator.system {system} is not compiled; set it to false"
            )

    def check_data(self, labelled: Dataset) -> None:
        """Look for the first object that can be cut out."""
        if not any(pasteable(scene.objects) for scene in labelled):
            raise self.nothing_selected()

    def select(self, table: Dataset) -> Subset:
        """Return all scenes."""
        return Subset(table, range(len(table)))

    def nothing_selected(self) -> DatasetError:
        """Name the data."""
        return DatasetError(
            f"data.labelled: no image has a thing that generator.system {self.job.generator.system} could cut out; "
            "name a data set with labelled objects"
        )

    @property
    def untrained_note(self) -> str:
        """Return when objects are cut out."""
        return f"{self.job.generator.system} cuts out labelled objects when images are made"

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], Batch]:
        """Return step -> real images with the layouts of their objects, for a system that learns to fill these in."""
        size = self.job.generator.config.size
        flip = self.job.generator.training.flip
        return layout_batches(tables, draw, size, self.layout_filter, flip, rank, world)

    def files(self, labelled: str) -> dict[str, Any]:
        """Return where the real images are, such that a run's folder can be moved."""
        step, table = labelled.rstrip("/").split("/")[-2:]
        return {REAL_IMAGES: {"table": f"{step}/{table}"}}

    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer that pastes objects of the table beside the checkpoint."""
        config = parquet.Config(_real_images(trained).uri)
        sampler = cast("PasteSampler", self.system.sampler(network, self.sampler_options(device)))
        bank = Bank.of(parquet.read(config), parquet.read(config, pixels=False), sampler.config)
        return PasteSynthesizer(bank, self.job.synthesize, self.job.plan.flip)


def _real_images(trained: Folder) -> Folder:
    """Return the folder of the table that the training was given."""
    name = trained.read_json(REAL_IMAGES)["table"]
    steps = trained.path.rstrip("/").rpartition("/")[0]
    return replace(trained, path=steps).sub(name)


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
