"""The bench that trains arms on a run's workers, where they are not trained yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.trial.arms import Arm
from synthaug.pipeline.trial.stages import Stage
from synthaug.pipeline.trial.tables import Sources, fingerprints
from synthaug.pipeline.trial.training import ArmTrainer, Training, run_key

# Beside the step's own folder: an arm trained once serves every later trial of the run.
ARMS_FOLDER = "arms"


@dataclass(frozen=True)
class Bench:
    """Workers, tables and trained arms of a run."""

    context: Context
    sources: Sources
    inputs: Mapping[str, str]  # folder name of each step's output
    digests: Mapping[str, str]  # of the data sets that only the trial reads

    @classmethod
    def of(cls, context: Context) -> Bench:
        """Return the bench of a run."""
        steps = context.inputs
        tables = {
            "real": steps["ingest"].folder.sub("labelled").uri,
            "validation": steps["ingest"].folder.sub("validation").uri,
            "pseudo": steps["pseudo_label"].folder.uri,
            "synthetic": steps["synthesize"].folder.uri,
            "verified": steps["verify"].folder.uri,
        }
        folder = Folder.at(context.job.output).sub("steps").sub(ARMS_FOLDER)
        inputs = {}
        for name, output in steps.items():
            _, _, inputs[name] = output.folder.path.rpartition("/")
        sources = Sources(context.job, tables, folder.uri)
        return cls(context, sources, inputs, fingerprints(context.job))

    def num_images(self, stage: Stage) -> int:
        """Return the number of images that a stage is measured on."""
        return len(self.sources.measured(stage))

    def train(self, arms: Sequence[Arm], stage: Stage, seeds: range, steps: int) -> list[Json]:
        """Return the runs of some arms, each with every seed.

        `steps` are those of an arm that takes the usual ones. Seed by seed, so that a trial cut
        short has complete pairs. Trainings that are the same by all that decides them are done
        once, whatever their arms are called.
        """
        images = range(self.num_images(stage))
        trainings = []
        for number in seeds:
            for arm in arms:
                own_steps = round(steps * arm.steps)
                trainings.append(Training(arm, stage, number, own_steps))
        names = [f"{self.key(training)}-{training.number}" for training in trainings]
        items: dict[str, tuple[Training, range]] = {}
        for name, training in zip(names, trainings, strict=True):
            items.setdefault(name, (training, images))
        folder = Folder.at(self.sources.folder)
        make = partial(ArmTrainer, self.sources)
        rows = self.context.shards(make, list(items.items()), folder, "evaluated images", gpu=True)
        by_name = dict(zip(items, rows, strict=True))
        runs = []
        for name, training in zip(names, trainings, strict=True):
            runs.append({**by_name[name], "arm": training.arm.name})
        return runs

    def key(self, training: Training) -> str:
        """Return the name of a training by all that decides it."""
        return run_key(self.context.job, training, self.inputs, self.digests)
