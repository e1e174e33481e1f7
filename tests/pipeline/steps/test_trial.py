"""The trial step refuses keys that cannot be, and data sets that it must not take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.steps.inputs import Inputs, open_inputs
from synthaug.pipeline.steps.trial import check, check_data
from tests.fake_run import fake_run


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": 1},
        {"confirm_seeds": 1},
        {"confirm_seeds": -2},
        {"arms": ("synthetic",)},
        {"arms": ("real", "real")},
        {"curve": (1.0,)},
        {"steps": -1},
        {"plateau": 0.0},
        {"doublings": 0},
        {"tune_seeds": 0},
        {"repeat_thresholds": ()},
        {"repeat_thresholds": (0.1, 0.0)},
    ],
)
def test_trial_keys_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
        Trial(**{"seeds": 5, **wrong})


@dataclass(frozen=True)
class Plain:
    """The Config of a detector that cannot zoom."""

    flip: bool = True


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return fake_run(tmp_path_factory.mktemp("run"), labelled=4, images=2)


def with_trial(context: Context, **keys: object) -> Context:
    paste = context.job.trial.copy_paste
    trial = Trial(**{"seeds": 2, "copy_paste": paste, **keys})
    return replace(context, job=replace(context.job, trial=trial))


def test_a_class_to_paste_that_the_data_has_not_is_told(context: Context) -> None:
    paste = replace(context.job.trial.copy_paste, classes=("rare", "treee"))
    job = with_trial(context, copy_paste=paste).job
    table = open_dataset("toy:train?count=1", Path())
    with pytest.raises(JobError, match=r"^trial\.copy_paste\.classes: .*'treee'.*'tree'\?"):
        check_data(job, Inputs({"labelled": table}))


def test_arms_that_the_job_has_no_images_for_are_refused_in_one_line(context: Context) -> None:
    for name in ("sinthetic", "real_half"):
        with pytest.raises(JobError, match=rf"^trial\.arms: '{name}' is no arm"):
            check(with_trial(context, arms=("real", name)).job)
    job = with_trial(context, arms=("real", "pseudo")).job
    with pytest.raises(JobError, match=r"^trial\.arms: 'pseudo' needs unlabelled images"):
        check(replace(job, data=replace(job.data, unlabelled="")))
    job = with_trial(context, arms=("real", "verified")).job
    with pytest.raises(JobError, match=r"^trial\.arms: 'verified' needs verified images"):
        check(replace(job, verify=replace(job.verify, enabled=False)))
    check(replace(job, trial=Trial(seeds=0, arms=("real", "verified"))))


def test_an_arm_that_the_detector_cannot_do_is_refused(context: Context) -> None:
    job = with_trial(context, arms=("real", "lsj")).job
    check(job)
    plain = replace(job.detector, config=Plain())
    with pytest.raises(JobError, match=r"^trial\.arms: 'lsj' changes detector\.scale_jitter"):
        check(replace(job, detector=plain))


def test_validation_images_are_not_there_to_confirm_on(context: Context) -> None:
    job = with_trial(context, evaluation="toy:val").job
    with pytest.raises(JobError, match=r"^trial\.evaluation: these are the validation images"):
        check_data(job, open_inputs(job))
    inputs = open_inputs(job)
    check_data(with_trial(context, evaluation="toy:test").job, inputs)
    check_data(with_trial(context, seeds=0, evaluation="toy:val").job, inputs)
