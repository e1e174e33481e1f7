"""Conditioning on real images: what pasting into them and painting into them have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.synthesis.base import Conditioning
from synthaug.pipeline.synthesis.object_bank import pasteable

# beside the checkpoint: the table of the real images, relative to the folder of all steps
REAL_IMAGES = "bank.json"


class RealImageConditioning(Conditioning):
    """All scenes: each can be a background, and each object that a person labelled can come to another one."""

    def check(self) -> None:
        """Refuse settings that real images have no use for."""
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
        """Look for the first object that a person labelled."""
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

    def files(self, labelled: str) -> dict[str, Any]:
        """Return where the real images are, such that a run's folder can be moved."""
        step, table = labelled.rstrip("/").split("/")[-2:]
        return {REAL_IMAGES: {"table": f"{step}/{table}"}}


def real_images(trained: Folder) -> tuple[Dataset, Dataset]:
    """Return the table that the training was given, with and without pixels."""
    name = trained.read_json(REAL_IMAGES)["table"]
    steps = trained.path.rstrip("/").rpartition("/")[0]
    folder = replace(trained, path=steps).sub(name)
    return parquet.open_table(folder), parquet.open_table(folder, pixels=False)
