"""Networks that a job will train, built before a run on torch's meta device.

Without memory or random numbers. A mistake in their settings, or a file of weights that does not
fit, is told before the first step instead of in a later one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthaug.generators import load_system
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores import load_score


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Make the networks of the block without storage.

    Tensors that are read from files into them go nowhere.
    """
    import torch

    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter.*")
        yield


def check_detector_training(job: Job, num_classes: int) -> None:
    """Build the job's detector.

    Raises JobError for settings or weights that do not fit together.
    """
    from synthaug.detectors import backend

    section = job.detector
    try:
        with on_meta_device():
            build = backend(section.backend).build
            build(section.config, num_classes, seed=0, device="meta")
    except ValueError as err:
        raise JobError(f"detector.{err}") from err


def check_generator_training(job: Job, num_classes: int) -> None:
    """Build the networks of the job's generator.

    Raises JobError for settings or files that do not fit together.
    """
    section = job.generator
    system = load_system(section.system)
    steps = section.training.steps
    try:
        if not system.LEARNS:
            system.build(section.config, num_classes)
            return
        with on_meta_device():
            system.training(section.config, job.train_generator, num_classes, steps, 0, "meta")
    except ValueError as err:
        raise JobError(f"generator.{err}") from err


def check_detector_file(key: str, path: str, num_classes: int) -> None:
    """Raise JobError when a key names a file that is no whole detector.

    It has to be one of the data set's classes.
    """
    from synthaug.detectors import load
    from synthaug.detectors.weights import read_header

    if not path:
        return
    try:
        known = read_header(Path(path))["num_classes"]
        with on_meta_device():
            load(Path(path), device="meta")
    except ValueError as err:
        raise JobError(f"{key}: {err}") from err
    if known != num_classes:
        raise JobError(
            f"{key}: {path} knows {known} classes, the data set has {num_classes}; "
            "name a detector of the same classes"
        )


def check_score_networks(settings: Mapping[str, Any], categories: Sequence[Category]) -> None:
    """Build the networks that scores train.

    Raises JobError for settings or files that do not fit the classes.
    """
    for name, config in settings.items():
        try:
            with on_meta_device():
                load_score(name).check(config, categories)
        except ValueError as err:
            raise JobError(f"score.{name}.{err}") from err
