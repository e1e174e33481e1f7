"""Conditioning on real images.

Plans of edits, and what pasting and painting have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synthaug.pipeline.config.schema import EDIT_KEYS, Job
from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.planning.edit_planner import Config as PlanConfig
from synthaug.pipeline.planning.edit_planner import EditPlanner
from synthaug.pipeline.planning.planner import Source
from synthaug.pipeline.planning.surfaces import Surfaces
from synthaug.pipeline.planning.targets import ALL
from synthaug.pipeline.synthesis.base import Conditioning, plan_config
from synthaug.pipeline.synthesis.object_bank import pasteable

# beside the checkpoint: the tables of the real images, relative to the folder of all steps
REAL_IMAGES = "bank.json"
LABELLED, PSEUDO_LABELLED = "table", "pseudo_labelled"


class RealImageConditioning(Conditioning):
    """All scenes, since each can be a background.

    Each object that a person labelled can come to another one.
    """

    plans_edits = True

    @property
    def added_classes(self) -> tuple[str, ...]:
        """Return the classes of which objects are added (targets.chosen_classes)."""
        return (ALL,)

    def check(self) -> None:
        """Refuse settings that real images have no use for."""
        super().check()
        options = self.job.synthesize
        system = self.job.generator.system
        if options.size != "source":
            raise JobError(
                f"synthesize.size: {system} makes images of the size of its real ones; set it to "
                "source"
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
            "data.labelled: no image has a thing that generator.system "
            f"{self.job.generator.system} could cut out; name a data set with labelled objects"
        )

    def planner(self, table: Dataset, weights: Floats | None = None) -> EditPlanner:
        """Return the planner of edits for labelled scenes, whose pixels are not needed.

        Raises DatasetError where there is no scene, JobError for a plan that cannot be.
        """
        sources = self.layouts(table)
        if not sources:
            raise self.nothing_selected()
        return edit_planner(self.job, sources, table, weights, self.added_classes)

    def plan_settings(self) -> Json:
        """Return the keys of the section plan that only plans of edits depend on."""
        settings = super().plan_settings()
        return {**settings, "edits": edit_settings(self.job)}

    def files(self, tables: Sequence[str]) -> Json:
        """Return where the real images are, such that a run's folder can be moved."""
        return bank_file(tables)


def bank_file(tables: Sequence[str]) -> Json:
    """Return, by name, the file that says where the tables of these URIs are.

    The labelled one, and the pseudo-labelled one where there is one. A run can be moved with it.
    """
    labelled = tables[0].rstrip("/").split("/")
    steps = labelled[:-2]
    names = {LABELLED: "/".join(labelled[-2:])}
    for other in tables[1:]:
        parts = other.rstrip("/").split("/")
        if parts[: len(steps)] == steps:
            names[PSEUDO_LABELLED] = "/".join(parts[len(steps) :])
    return {REAL_IMAGES: names}


def edit_settings(job: Job) -> Json:
    """Return the keys of the section plan that only plans of edits depend on."""
    return {key: getattr(job.plan, key) for key in EDIT_KEYS}


def edit_planner(
    job: Job,
    sources: Sequence[Source],
    table: Dataset,
    weights: Floats | None,
    classes: tuple[str, ...] = (ALL,),
) -> EditPlanner:
    """Return the planner of a job's edits of the images of a table.

    It is given the layouts of all of them, in order, and the classes to be added.
    """
    plan = job.plan
    config = plan_config(
        PlanConfig,
        job,
        most=plan.most_edits,
        natural_share=plan.natural_share,
        classes=classes,
        uses=plan.uses,
        empties=plan.empties,
    )
    labelled = class_counts(table, len(table.categories))
    surfaces = Surfaces(table) if plan.surface == "seen" else None
    return EditPlanner(sources, table.categories, labelled, config, weights, surfaces)


def real_images(trained: Folder) -> tuple[Dataset, Dataset]:
    """Return the table that the training was given, with and without pixels."""
    if not trained.exists(REAL_IMAGES):
        raise DatasetError(
            f"{trained.uri}: the training has left no {REAL_IMAGES}, which names the real images; "
            "train again"
        )
    return _table(trained, trained.read_json(REAL_IMAGES)[LABELLED])


def pseudo_labelled_images(trained: Folder) -> tuple[Dataset, Dataset]:
    """Return the pseudo-labelled table of the training, with and without pixels."""
    names = trained.read_json(REAL_IMAGES) if trained.exists(REAL_IMAGES) else {}
    if PSEUDO_LABELLED not in names:
        raise DatasetError(
            f"{trained.uri}: the training knew no pseudo-labelled images; set synthesize.examples "
            "to labelled, or name data.unlabelled and train again"
        )
    return _table(trained, names[PSEUDO_LABELLED])


def _table(trained: Folder, name: str) -> tuple[Dataset, Dataset]:
    steps = trained.path.rstrip("/").rpartition("/")[0]
    folder = replace(trained, path=steps).sub(name)
    return parquet.open_table(folder), parquet.open_table(folder, pixels=False)
