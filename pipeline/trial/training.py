"""The training of one arm with one seed, and its measurement.

Each is done once, under a name that is all that decides it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.json_values import Json, json_digest
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.inference import detect_rows
from synthaug.pipeline.detection.store import write_rows
from synthaug.pipeline.execution.training import device, train
from synthaug.pipeline.trial.arms import EXTERNAL, Arm, RealEnd, arm_batches, real_draw
from synthaug.pipeline.trial.evaluation import evaluate, without_limits
from synthaug.pipeline.trial.recipe import Recipe
from synthaug.pipeline.trial.stages import Stage
from synthaug.pipeline.trial.tables import EMPTIES, EVALUATION, MORE, STEP_OF, Sources

if TYPE_CHECKING:
    from synthaug.detectors.base import Detector

# Raised when training or measuring an arm gives something else; trained arms outlive the step's own
# output.
VERSION = 5
BATCH = 16  # images per detector call


@dataclass(frozen=True)
class Training:
    """One training: an arm, the stage it belongs to, its seed and its steps."""

    arm: Arm
    stage: Stage
    number: int  # of the seed
    steps: int  # optimizer steps

    def seed(self, job: Job) -> int:
        """Return the seed of start, order and augmentation."""
        return self.stage.seed(job.seed, self.number)


class ArmTrainer:
    """Runs in a worker: trains an arm and measures it on the images of its stage."""

    def __init__(self, sources: Sources) -> None:
        import torch

        torch.set_num_threads(1)
        self._sources = sources
        self._measured: dict[Stage, Dataset] = {}

    def __call__(self, name: str, item: tuple[Training, range]) -> Json:
        """Train, measure the images in the range, and keep the detections as `name`.

        Returns the values of the run.
        """
        training, images = item
        folder = Folder.at(self._sources.folder)
        began = time.monotonic()
        detector, start = self._train(training, folder.sub(name))
        trained = time.monotonic()
        table = self._table(training.stage)
        rows = list(detect_rows(detector, table, images, BATCH))
        detected = time.monotonic()
        write_rows(folder, name, rows)
        folder.sub(name).delete("state.safetensors")
        values = evaluate(rows, table.categories, self._sources.job.detector.config)
        return {
            "rows": len(rows),
            "arm": training.arm.name,
            "stage": training.stage.name,
            "seed": training.number,
            "steps": training.steps,
            "resumed_from": start,
            "seconds": round(trained - began, 1),
            "looking": round(detected - trained, 1),
            **values,
        }

    def _table(self, stage: Stage) -> Dataset:
        if stage not in self._measured:
            self._measured[stage] = self._sources.measured(stage)
        return self._measured[stage]

    def _train(self, training: Training, folder: Folder) -> tuple[Detector, int]:
        """Return the trained detector, and the step at which its training was resumed."""
        from synthaug.detectors import DETECTORS

        sources = self._sources
        arm = training.arm
        steps = training.steps
        job = sources.job
        plan = job.detector.training
        seed = training.seed(job)
        real = sources.real(arm)
        added = sources.added(arm, steps)
        recipe = Recipe.of(job.trial, dict(arm.recipe))
        count = round(recipe.share * plan.batch) if added else 0
        draw = real_draw(real, plan.batch - count, seed, arm.sampling, arm.threshold)
        last = real_draw(real, count, seed_for(seed, "last"), arm.sampling, arm.threshold)
        end = RealEnd(recipe.real_from(steps), last)
        batches = arm_batches(real, draw, added, count, seed, recipe, end)

        backend = importlib.import_module(DETECTORS[job.detector.backend])
        config = without_limits(replace(job.detector.config, **dict(arm.detector)))
        num_classes = len(real.categories)
        detector: Detector = backend.build(config, num_classes, seed=seed % 2**31, device=device())
        loop = detector.training(steps, seed % 2**31)
        start = train(loop, batches, steps, plan.save_every, folder)
        loop.finish()
        return detector, start


def run_key(
    job: Job, training: Training, inputs: Mapping[str, str], digests: Mapping[str, str]
) -> str:
    """Name a training by all that decides its result.

    So nothing is trained twice and nothing stale is taken. `inputs` has the folder name of each
    step's output, `digests` those of the data sets that only the trial reads.
    """
    arm = training.arm
    trial = job.trial
    recipe = asdict(arm)
    for name in ("name", "role", "description", "steps"):  # the steps themselves are in `training`
        del recipe[name]
    keys = [f"trial.external.{name.removeprefix(EXTERNAL)}" for name in arm.added]
    if training.stage.images == "evaluation":
        keys.append(EVALUATION)
    if "more" in arm.real:
        keys.append(MORE)
    if "empties" in arm.added:
        keys.append(EMPTIES)
    steps = {"ingest", *(STEP_OF[name] for name in arm.added if name in STEP_OF)}
    settings = None
    soft = None
    copy_paste = None
    if arm.added:
        settings = asdict(Recipe.of(trial, dict(arm.recipe)))
    if "soft" in arm.added:
        soft = trial.soft_resolution
    if "copy_paste" in arm.added:
        copy_paste = asdict(trial.copy_paste)
    content = {
        "arm": recipe,
        "detector": section_dict(job, "detector"),
        "training": [training.stage.name, training.number, training.steps],
        "recipe": settings,
        "soft": soft,
        "data": {key: digests[key] for key in sorted(keys) if key in digests},
        "inputs": {name: inputs[name] for name in sorted(steps)},
        "copy_paste": copy_paste,
        "seed": job.seed,
        "version": VERSION,
    }
    return json_digest(content)[:12]
