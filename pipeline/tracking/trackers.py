"""TensorBoard, MLflow and Weights & Biases behind one small interface.

Each is opened in the process that leads a run; the libraries are imported when they are asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder

PROJECT = "synthaug"  # of experiments and projects
EVENTS = "tensorboard"  # the folder of event files in a run's
EVENT_FILES = "events.out.tfevents.*"
KEY = "report.track"
OFF = "off"

Settings = Mapping[str, str | int | float]  # what a run is found by


class Tracker(Protocol):
    """Takes numbers over steps."""

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Take numbers of a group, such as the losses of a training, at one of its steps."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


class TensorBoard:
    """Event files in a folder, by tensorboardX, which Ray brings along.

    Those of an earlier start are replaced: the logs of the run have all they had.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob(EVENT_FILES):
            file.unlink()
        self._writer = SummaryWriter(str(folder))

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Write a scalar for each number, under group/name."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is not written yet."""
        self._writer.close()


class MLflow:
    """A run of MLflow's experiment `synthaug`; MLFLOW_TRACKING_URI says where."""

    def __init__(self, name: str, settings: Settings) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        mlflow.set_experiment(PROJECT)
        mlflow.start_run(run_name=name)
        mlflow.log_params(dict(settings))

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Log a metric for each number, under group/name."""
        named = {f"{group}/{name}": value for name, value in values.items()}
        self._mlflow.log_metrics(named, step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class WeightsAndBiases:
    """A run of the project `synthaug`; WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, name: str, settings: Settings, folder: Path) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=PROJECT, name=name, config=dict(settings), dir=str(folder)
        )
        self._groups: set[str] = set()

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Log the numbers over the steps of their own group: trainings all begin at 1."""
        own_step = f"{group}/step"
        if group not in self._groups:
            self._groups.add(group)
            self._run.define_metric(own_step)
            self._run.define_metric(f"{group}/*", step_metric=own_step)
        named = {f"{group}/{name}": value for name, value in values.items()}
        self._run.log({own_step: step, **named})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


Open = Callable[[str, Settings, Folder], Tracker]  # name, settings and folder of a run


def _tensorboard(_name: str, _settings: Settings, output: Folder) -> Tracker:
    return TensorBoard(output.local_path(EVENTS))


def _mlflow(name: str, settings: Settings, _output: Folder) -> Tracker:
    return MLflow(name, settings)


def _wandb(name: str, settings: Settings, output: Folder) -> Tracker:
    return WeightsAndBiases(name, settings, output.local_path())


TRACKERS: dict[str, Open] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
LIBRARIES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
NEEDS_FOLDER = ("tensorboard", "wandb")  # write files beside the run


def open_tracker(name: str, job: str, settings: Settings, output: Folder) -> Tracker | None:
    """Open the tracker with a name for a run of a job; None for `off`."""
    if name == OFF:
        return None
    return TRACKERS[name](job, settings, output)


def check(name: str, output: str) -> None:
    """Raise JobError for a tracker that is not installed, or cannot write its files."""
    if name == OFF:
        return
    library = LIBRARIES[name]
    if importlib.util.find_spec(library) is None:
        raise JobError(
            f"{KEY}: {library} is not installed; pip install {library}, or set it to off"
        )
    if name in NEEDS_FOLDER and not Folder.at(output).is_local:
        raise JobError(
            f"{KEY}: {name} writes local files and the output is {output}; choose mlflow or off"
        )
