"""The conditioning of a generator on scenes, as an interface.

And images of planned scenes, encoded and named.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.layouts import LayoutFilter
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.arrays import Bytes, Floats
from synthaug.pipeline.core.boxes import relative_boxes
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import SUFFIX, encode
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene, class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.planner import Config as PlanConfig
from synthaug.pipeline.planning.planner import LayoutPlanner, Planner, Source

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators import System
    from synthaug.generators.base import MapBatch, SamplerOptions, TrainingInput

C = TypeVar("C")
NO_CROWDS = LayoutFilter(0.0, 0, 2**31)  # all objects but crowds, however many


@dataclass(frozen=True)
class Finished:
    """A synthetic scene, and the objects per class that it lost.

    Lost because too little of them is visible.
    """

    scene: Scene
    lost: Counter[str]


class Synthesizer(Protocol):
    """Makes synthetic scenes of planned ones.

    Each depends on its own plan and seed only.
    """

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        """Return the finished scenes.

        `checkpoint` is the sha256 of the generator's checkpoint.
        """
        ...


class Conditioning(ABC):
    """The way in which scenes condition the generator of a job.

    It selects the scenes of a table that count, makes batches, plans and a synthesizer, and checks
    the job for all these.
    """

    plans_maps: ClassVar[bool] = False  # whether plans are panoptic maps, not layouts
    plans_edits: ClassVar[bool] = False  # whether plans are edits of real images
    uses: ClassVar[tuple[str, ...]] = ()  # of plan.uses, where real images are edited

    def __init__(self, job: Job, system: System) -> None:
        self.job = job
        self.system = system

    @property
    def only_adds(self) -> bool:
        """Return whether objects of real images are added to and never taken away."""
        return self.system.ADDS_ONLY

    # --- checks

    def check(self) -> None:
        """Raise JobError for settings of no use here."""
        rearrange = self.job.plan.rearrange
        if rearrange and not self.plans_maps:
            raise JobError(
                f"plan.rearrange: {rearrange:g} is for generators driven by maps, not for "
                f"{self.job.generator.system}; set it to 0; plan.jitter moves boxes"
            )
        uses = self.job.plan.uses
        if set(uses) - set(self.uses):
            kinds = ", ".join(self.uses) or "none: it makes whole images"
            raise JobError(
                f"plan.uses: {', '.join(uses)} for generator.system {self.job.generator.system}, "
                f"whose uses are {kinds}; leave out the others"
            )
        if self.job.synthesize.examples != "labelled" and not shows_examples(self.job):
            raise JobError(
                f"synthesize.examples: generator.system {self.job.generator.system} paints after "
                "no examples; set it to labelled"
            )
        if self.job.plan.empties and "empty" not in self.uses:
            raise JobError(
                f"plan.empties: generator.system {self.job.generator.system} paints no background; "
                "set it to 0"
            )

    @abstractmethod
    def check_data(self, labelled: Dataset) -> None:
        """Raise DatasetError when no labelled image is of use.

        As far as that is quickly seen.
        """

    # --- scenes

    @property
    def layout_filter(self) -> LayoutFilter:
        """Return the filter of objects that count.

        Where nothing else is said, all but crowds.
        """
        return NO_CROWDS

    def objects(self, scene: Scene) -> Objects:
        """Return the objects of a scene that count."""
        return self.layout_filter.select(scene)

    def drawn_for(self, scene: Scene) -> Objects:
        """Return the objects of a scene for whose classes it is drawn in training."""
        return self.objects(scene)

    @abstractmethod
    def select(self, table: Dataset) -> Subset:
        """Return the scenes that the generator may learn from.

        Plans are made from them too.
        """

    @abstractmethod
    def nothing_selected(self) -> DatasetError:
        """Return the error that tells that `select` leaves nothing."""

    def scored(self, table: Dataset) -> Dataset:
        """Return the scenes that generated images may be compared with.

        They show what the generator is told of them.
        """
        return self.select(table)

    def condition(self, scene: Scene) -> Scene:
        """Return a real scene without what the generator is not told of it."""
        return scene

    # --- training

    @property
    def untrained_note(self) -> str:
        """Return a line for the user of a generator that is not trained.

        Empty where there is nothing to tell.
        """
        return ""

    @abstractmethod
    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], TrainingInput]:
        """Return step -> real images of selected scenes with their conditions.

        For process `rank` of `world`.
        """

    def memory(self, table: Dataset) -> Iterable[MapBatch]:
        """Return the labelled images for a training that keeps parts of them.

        Only systems of maps have such a one (generators.base.Remembers).
        """
        raise AssertionError(f"{self.job.generator.system} keeps no images")

    def files(self, tables: Sequence[str]) -> Json:
        """Return the JSON files, by name, that synthesis needs beside the network.

        `tables` are the URIs of what the training was given, the labelled table first.
        """
        return {}

    # --- plans

    def layouts(self, table: Dataset) -> list[Source]:
        """Return the layouts of the selected scenes."""
        return sources_of(self.select(table), self.objects)

    def planner(self, table: Dataset, weights: Floats | None = None) -> Planner:
        """Return the planner for labelled scenes, whose pixels are not needed.

        `weights` are those of an earlier planner. Raises DatasetError when no scene is selected,
        JobError for a plan that cannot be.
        """
        sources = self.layouts(table)
        if not sources:
            raise self.nothing_selected()
        most = self.job.generator.training.max_objects
        config = plan_config(PlanConfig, self.job, max_objects=most)
        labelled = class_counts(table, len(table.categories))
        return LayoutPlanner(sources, table.categories, labelled, config, weights)

    def plan_settings(self) -> Json:
        """Return what a plan depends on besides plan, seed and the job's name.

        `plan` is the section.
        """
        return {"filter": vars(self.layout_filter), "system": self.job.generator.system}

    # --- synthesis

    @abstractmethod
    def synthesizer(
        self, network: nn.Module, device: torch.device | str, trained: Folder
    ) -> Synthesizer:
        """Return the synthesizer with a network.

        `trained` is the folder its training left.
        """

    def sampler_options(self, device: torch.device | str) -> SamplerOptions:
        """Return the job's options of a sampler."""
        from synthaug.generators.base import SamplerOptions

        options = self.job.synthesize
        return SamplerOptions(device, options.truncation, options.precision, options.compiled)


def sources_of(scenes: Iterable[Scene], objects_of: Callable[[Scene], Objects]) -> list[Source]:
    """Return the layouts of some objects of scenes, with the images they are of."""
    sources = []
    for scene in scenes:
        objects = objects_of(scene)
        boxes = relative_boxes(objects.boxes, scene.size)
        layout = Layout(objects.category, boxes)
        sources.append(Source(scene.image_id, scene.size, layout))
    return sources


def plan_config(config: Callable[..., C], job: Job, **own: Any) -> C:
    """Return a planner's Config: what all have of a job, and `own` of this one."""
    plan = job.plan
    return config(
        count=plan.count,
        target=plan.target,
        counts=plan.counts,
        weakness=plan.weakness,
        objects_per_class=plan.objects_per_class,
        placement=plan.placement,
        jitter=plan.jitter,
        flip=plan.flip,
        seed=job.seed,
        name=job.name,
        generator=job.generator.system,
        **own,
    )


def seeds_of(scenes: Sequence[Scene]) -> list[int]:
    """Return the seed of each planned scene."""
    seeds = []
    for scene in scenes:
        assert scene.provenance is not None, f"{scene.image_id} is not planned"
        seeds.append(scene.provenance.seed)
    return seeds


def with_image(planned: Scene, image: Bytes, file_format: str, checkpoint: str) -> Scene:
    """Return a planned scene with its image [H, W, 3], encoded.

    And the checkpoint it was made with.
    """
    assert planned.provenance is not None
    name = planned.image_id + SUFFIX[file_format]
    provenance = replace(planned.provenance, checkpoint=checkpoint)
    stored = ImageRef(encode(image, file_format), name)
    return replace(planned, image=stored, provenance=provenance)


def shows_examples(job: Job) -> bool:
    """Return whether a job's system paints objects after real ones."""
    from synthaug.generators.base import ToldOfExamples

    config = job.generator.config
    return isinstance(config, ToldOfExamples) and config.examples
