"""The tables that arms of a trial are trained and measured on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.datasets import Concatenation, ShuffledLabels, Subset
from synthaug.pipeline.core.images import read_file
from synthaug.pipeline.core.scene import Dataset, SceneList
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable
from synthaug.pipeline.synthesis.soft import soft_table
from synthaug.pipeline.trial.arms import EXTERNAL, Arm, first_part, fixed_part
from synthaug.pipeline.trial.stages import Stage

EVALUATION, MORE, EMPTIES = "trial.evaluation", "trial.more", "trial.empties"
# Step that writes the images of an added table.
STEP_OF = {
    "pseudo": "pseudo_label",
    "synthetic": "synthesize",
    "placebo": "synthesize",
    "verified": "verify",
}


def references(job: Job) -> dict[str, str]:
    """Return the data sets that only the trial reads, by their keys."""
    trial = job.trial
    if not trial.seeds:
        return {}
    data_sets = {f"trial.external.{name}": text for name, text in trial.external.items()}
    named = {
        EVALUATION: trial.evaluation,
        MORE: trial.more,
        EMPTIES: trial.empties,
    }
    for key, text in named.items():
        if text:
            data_sets[key] = text
    return data_sets


def own_tables(job: Job) -> dict[str, Dataset]:
    """Open the data sets that only the trial reads, by their keys."""
    root = Path(job.data.root)
    return {key: open_dataset(text, root, key=key) for key, text in references(job).items()}


def fingerprints(job: Job) -> dict[str, str]:
    """Return the digests of the data sets that only the trial reads, by their keys."""
    return {key: table.fingerprint() for key, table in own_tables(job).items()}


@dataclass(frozen=True)
class Sources:
    """The job and its tables, from which a worker trains arms."""

    job: Job
    tables: dict[str, str]  # "real", "validation", "pseudo", "synthetic", "verified" -> URI
    folder: str

    def table(self, name: str) -> Dataset:
        """Open a table of the run."""
        return parquet.open_table(self.tables[name])

    def measured(self, stage: Stage) -> Dataset:
        """Open the images that the arms of a stage are measured on.

        Screening never opens those of confirmation.
        """
        if stage.images == "evaluation":
            return self._own(EVALUATION, self.job.trial.evaluation)
        return self.table("validation")

    def real(self, arm: Arm) -> Dataset:
        """Open the real images of an arm."""
        labelled = self.table("real")
        if "more" in arm.real:
            return Concatenation([labelled, self._more(labelled)])
        return fixed_part(labelled, arm.labelled, seed_for(self.job.seed, "labelled"))

    def added(self, arm: Arm, steps: int) -> list[Dataset]:
        """Open the tables that an arm adds, for a training of so many steps."""
        seed = seed_for(self.job.seed, "part")
        return [first_part(self._added(name, steps), arm.fraction, seed) for name in arm.added]

    def _added(self, name: str, steps: int) -> Dataset:
        job = self.job
        if name.startswith(EXTERNAL):
            data_set = name.removeprefix(EXTERNAL)
            return self._own(f"trial.external.{data_set}", job.trial.external[data_set])
        if name == "copy_paste":
            # Never two equal images: as many as the arm can draw.
            size = job.detector.training.batch * steps
            bare = parquet.open_table(self.tables["real"], pixels=False)
            seed = seed_for(job.seed, name)
            return CopyPasteTable(self.table("real"), job.trial.copy_paste, seed, size, bare)
        if name == "soft":
            return soft_table(self.table("real"), job.trial.soft_resolution)
        if name == "nothing":
            return SceneList(self.table("real").categories, [])
        if name == "empties":
            return self._own(EMPTIES, job.trial.empties)
        if name == "placebo":
            return ShuffledLabels(self.table("synthetic"), seed_for(job.seed, name))
        return self.table(name)

    def _more(self, labelled: Dataset) -> Dataset:
        """Open the further labelled images without those that are labelled already.

        Images are the same where the bytes of their files are.
        """
        more = self._own(MORE, self.job.trial.more)
        known = {_digest(labelled, index) for index in range(len(labelled))}
        fresh = [index for index in range(len(more)) if _digest(more, index) not in known]
        return Subset(more, fresh)

    def _own(self, key: str, reference: str) -> Dataset:
        return open_dataset(reference, Path(self.job.data.root), key=key)


def _digest(table: Dataset, index: int) -> str:
    return hashlib.sha256(read_file(table[index].image)).hexdigest()
