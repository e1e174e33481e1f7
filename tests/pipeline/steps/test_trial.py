"""The trial step refuses keys that cannot be, and names arms by all that decides them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.steps.inputs import Inputs
from synthaug.pipeline.steps.trial import arm_key, check, check_data
from synthaug.pipeline.trial.arms import ARMS, arm_named
from tests.fake_run import fake_run


def test_trial_keys_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"seeds": 1},
        {"arms": ("synthetic",)},
        {"curve": (1.0,)},
        {"arms": ("real", "real")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Trial(**{"seeds": 5, **wrong})


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return fake_run(tmp_path_factory.mktemp("run"), labelled=4, images=2)


def with_trial(context: Context, **keys: object) -> Context:
    return replace(context, job=replace(context.job, trial=Trial(**{"seeds": 2, **keys})))


def test_an_arm_is_known_by_all_that_decides_it_and_not_by_its_name(context: Context) -> None:
    context = with_trial(context)
    real = ARMS["real"]
    key = arm_key(context, real, {})
    assert arm_key(context, replace(real, name="other", description="x", role="control"), {}) == key
    others = [
        arm_key(context, arm, {}) for arm in (ARMS["rfs"], ARMS["real_2x"], ARMS["synthetic"])
    ]
    assert len({key, *others}) == 4
    part = replace(ARMS["synthetic"], fraction=0.5)
    assert arm_key(context, part, {}) != arm_key(context, ARMS["synthetic"], {})


def test_an_arm_is_trained_again_when_the_images_it_adds_are_others(context: Context) -> None:
    context = with_trial(context)
    made = context.inputs["verify"]
    moved = replace(made, folder=Folder.at("/elsewhere/verify-123"))
    other = replace(context, inputs={**context.inputs, "verify": moved})
    for name in ("real", "synthetic", "placebo"):
        assert arm_key(context, ARMS[name], {}) == arm_key(other, ARMS[name], {})
    assert arm_key(context, ARMS["verified"], {}) != arm_key(other, ARMS["verified"], {})


def test_an_arm_depends_on_its_own_external_data_and_on_the_evaluation_images(
    context: Context,
) -> None:
    context = with_trial(context)
    bought, given = arm_named("external:bought"), arm_named("external:given")
    one = {"trial.external:bought": "1", "trial.external:given": "1", "trial.evaluation": "1"}
    other = {**one, "trial.external:bought": "2"}
    assert arm_key(context, bought, one) != arm_key(context, bought, other)
    assert arm_key(context, given, one) == arm_key(context, given, other)
    measured = {**one, "trial.evaluation": "2"}
    assert arm_key(context, given, one) != arm_key(context, given, measured)


def test_settings_of_copy_paste_matter_to_arms_that_paste(context: Context) -> None:
    paste = context.job.trial.copy_paste
    one = with_trial(context, copy_paste=paste)
    other = with_trial(context, copy_paste=replace(paste, most=7))
    assert arm_key(one, ARMS["real"], {}) == arm_key(other, ARMS["real"], {})
    assert arm_key(one, ARMS["copy_paste"], {}) != arm_key(other, ARMS["copy_paste"], {})


def test_a_class_to_paste_that_the_data_has_not_is_told(context: Context) -> None:
    paste = replace(context.job.trial.copy_paste, classes=("rare", "treee"))
    job = with_trial(context, copy_paste=paste).job
    table = open_dataset("toy:train?count=1", Path())
    inputs = Inputs({"labelled": table})
    with pytest.raises(JobError, match=r"^trial\.copy_paste\.classes: .*'treee'.*'tree'\?"):
        check_data(job, inputs)


def test_arms_that_the_job_has_no_images_for_are_refused_in_one_line(context: Context) -> None:
    with pytest.raises(JobError, match=r"^trial\.arms: 'sinthetic' is no arm.*synthetic"):
        check(with_trial(context, arms=("real", "sinthetic")).job)
    job = with_trial(context, arms=("real", "pseudo")).job
    with pytest.raises(JobError, match=r"^trial\.arms: 'pseudo' needs unlabelled images"):
        check(replace(job, data=replace(job.data, unlabelled="")))
    job = with_trial(context, arms=("real", "verified")).job
    with pytest.raises(JobError, match=r"^trial\.arms: 'verified' needs verified images"):
        check(replace(job, verify=replace(job.verify, enabled=False)))
    check(replace(job, trial=Trial(seeds=0, arms=("real", "verified"))))
