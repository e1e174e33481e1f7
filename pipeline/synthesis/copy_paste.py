"""Copy-paste as a way of driving a generator: a planned layout's own real image, and real objects pasted into it.

It takes nothing away, so a plan for it only adds objects; nothing is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.layouts import LayoutFilter
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import TWIN, Category, Dataset, ImageRef, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.synthesis.pasting import Bank, mirrored, paste_layout, paste_plan, pasteable

if TYPE_CHECKING:
    from synthaug.generators import System
    from synthaug.generators.base import Batch

BANK = "bank.json"  # beside the checkpoint: the table objects are cut from, relative to the folder of all steps


def remember(folder: Folder, table: str) -> None:
    """Write which table (URI) is cut from, so that a run's folder can be moved."""
    folder.write_json(BANK, {"table": "/".join(table.rstrip("/").split("/")[-2:])})


@dataclass(frozen=True)
class PasteGuide:
    """A background and the objects to be pasted, with class and box."""

    job: Job

    @property
    def keep(self) -> LayoutFilter:
        """All that are no crowd: a background shows its image whole."""
        return LayoutFilter(0.0, 0, 2**31)

    def check(self) -> None:
        """Refuse what pasting cannot do."""
        how, system = self.job.synthesize, self.job.generator.system
        if how.size != "source":
            raise JobError(
                f"synthesize.size: {system} makes images of the size of its real ones; set it to source"
            )
        if how.compiled:
            raise JobError(
                f"synthesize.compiled: generator.system {system} is not compiled; set it to false"
            )

    def check_data(self, labelled: Dataset) -> None:
        """Look for the first object that can be cut out."""
        if not any(pasteable(labelled[i].objects) for i in range(len(labelled))):
            raise self.none_left()

    def accepted(self, table: Dataset) -> Subset:
        """Return all scenes: each can be a background."""
        return Subset(table, list(range(len(table))))

    def none_left(self) -> DatasetError:
        """Name the data."""
        return DatasetError(
            f"data.labelled: no image has a thing that generator.system {self.job.generator.system} could cut out; "
            "name a data set with labelled objects"
        )

    def batches(
        self, tables: Sequence[Dataset], draw: Draw, rank: int, world: int
    ) -> Callable[[int], Batch]:
        """There is nothing to train."""
        raise NotImplementedError("copy-paste learns nothing")

    def sampler(self, system: System, network: Any, device: Any, trained: Folder) -> Bank:
        """Return the bank of objects of the table beside the checkpoint."""
        name = trained.read_json(BANK)["table"]
        steps = replace(trained, path=trained.path.rstrip("/").rpartition("/")[0])
        config = parquet.Config(steps.sub(name).uri)
        return Bank.of(parquet.read(config), parquet.read(config, pixels=False), network.config)

    def paint(self, generator: Bank, scenes: Sequence[Scene]) -> list[NDArray[np.uint8]]:
        """Return an image per layout, on a background that shows little else."""
        return [paste_layout(generator, scene, generator.pixels.categories)[0] for scene in scenes]

    def produce(
        self, generator: Bank, scenes: Sequence[Scene], categories: Sequence[Category], digest: str
    ) -> list[tuple[Scene, Counter[str]]]:
        """Return the planned scenes with pixels and with labels of what can be seen."""
        how, results = self.job.synthesize, []
        for planned in scenes:
            assert planned.provenance is not None
            if planned.provenance.reason == TWIN:  # its background shows what nobody asked for
                image, objects, lost = paste_layout(generator, planned, categories)
                objects = objects.select(objects.id > 0)
            else:
                mirror = mirrored(planned.provenance.seed, self.job.plan.flip)
                image, objects, lost = paste_plan(
                    generator, planned, mirror, how.min_mask_area, categories
                )
            name = f"{planned.image_id}.{'jpg' if how.format == 'jpeg' else 'png'}"
            provenance = replace(planned.provenance, checkpoint=digest)
            made = replace(
                planned,
                image=ImageRef(encode(image, how.format), name),
                objects=objects,
                provenance=provenance,
            )
            results.append((made, lost))
        return results
