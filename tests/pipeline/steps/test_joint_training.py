"""The step train_generator with a detector that learns along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.joint import training
from synthaug.pipeline.steps import (
    calibrate,
    ingest,
    pseudo_label,
    self_train,
    train_detector,
    train_generator,
)
from tests import paths

SMOKE = paths.JOBS / "smoke.yaml"
SMALL = (
    *("data.labelled=toy:train?count=12", "data.unlabelled=toy:unlabelled?count=10"),
    *("data.validation=toy:val?count=8", "detector.steps=3", "detector.batch=2"),
    *("pseudo_label.rule=fixed", "pseudo_label.threshold=0.01", "detector.score_floor=0.01"),
    *("generator.steps=4", "generator.save_every=2", "generator.batch=2"),
    *("generator.max_objects=200", "generator.early_pool=true"),
    *("joint.enabled=true", "joint.batch=2", "joint.unlabelled_batch=2"),
    *("joint.synthetic=2", "joint.synthetic_from=0.5"),
)
APART = ("joint.relabel=false", "joint.recognition=0", "joint.synthetic=0")
STEPS = {
    "ingest": ingest,
    "train_detector": train_detector,
    "self_train": self_train,
    "calibrate": calibrate,
    "pseudo_label": pseudo_label,
}
FILES = (train_generator.WEIGHTS, train_generator.DETECTOR)


def job_with(*overrides: str) -> Job:
    return load_job(SMOKE, [*SMALL, *overrides])


def output(
    step: Any, job: Job, folder: Path, inputs: dict[str, Output], said: list[str] | None = None
) -> Output:
    tell = (said if said is not None else []).append
    place = Folder.at(folder)
    context = Context(job, place, inputs, SerialExecutor(), tell, lambda *_: None)
    return Output(place, step.run(context))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Output]:
    root = tmp_path_factory.mktemp("inputs")
    made: dict[str, Output] = {}
    for name, step in STEPS.items():
        made[name] = output(step, job_with(), root / name, made)
    return made


@pytest.fixture(scope="module")
def straight(inputs: dict[str, Output], tmp_path_factory: pytest.TempPathFactory) -> Output:
    return output(train_generator, job_with(), tmp_path_factory.mktemp("straight"), inputs)


def test_all_three_learn_and_the_detector_is_measured(
    inputs: dict[str, Output], straight: Output
) -> None:
    last = straight.manifest["last"]
    assert last["pseudo_images"] > 0, "the detector of three steps labels at this threshold"
    assert last["g_recognized"] > 0
    before = inputs["self_train"].folder.read_bytes(self_train.WEIGHTS)
    assert straight.folder.read_bytes(train_generator.DETECTOR) != before
    assert set(straight.manifest["joint"]) == {"before", "after"}
    assert train_generator.metrics(straight.manifest) == {"joint": straight.manifest["joint"]}


def test_a_killed_training_goes_on_bit_for_bit(
    inputs: dict[str, Output], straight: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.joint_batches

    def killed(*args: Any) -> Any:
        batches = whole(*args)

        def stop(step: int) -> Any:
            if step == 3:
                raise KeyboardInterrupt
            return batches(step)

        return stop

    monkeypatch.setattr(training, "joint_batches", killed)
    with pytest.raises(KeyboardInterrupt):
        output(train_generator, job_with(), tmp_path, inputs)
    monkeypatch.undo()
    said: list[str] = []
    resumed = output(train_generator, job_with(), tmp_path, inputs, said)
    assert "  went on from step 2" in said
    for name in FILES:
        assert resumed.folder.read_bytes(name) == straight.folder.read_bytes(name)


def test_without_lessons_neither_hears_of_the_other(
    inputs: dict[str, Output], straight: Output, tmp_path: Path
) -> None:
    apart = output(train_generator, job_with(*APART), tmp_path / "a", inputs)
    assert "g_recognized" not in apart.manifest["last"]
    for name in FILES:
        assert apart.folder.read_bytes(name) != straight.folder.read_bytes(name)
    # whatever the generator is, the detector comes out the same, and the other way round
    other = job_with(*APART, "generator.width=6")
    alone = output(train_generator, other, tmp_path / "b", inputs)
    detector = train_generator.DETECTOR
    assert alone.folder.read_bytes(detector) == apart.folder.read_bytes(detector)
    other = job_with(*APART, "joint.batch=3")
    alone = output(train_generator, other, tmp_path / "c", inputs)
    weights = train_generator.WEIGHTS
    assert alone.folder.read_bytes(weights) == apart.folder.read_bytes(weights)
    assert alone.folder.read_bytes(detector) != apart.folder.read_bytes(detector)


def test_without_labels_of_others_it_learns_from_the_labelled_images(
    inputs: dict[str, Output], tmp_path: Path
) -> None:
    made = output(train_generator, job_with("generator.use_pseudo=false"), tmp_path, inputs)
    assert made.manifest["last"]["pseudo_images"] == 0
    assert made.manifest["used"].keys() == {"labelled"}


def test_only_a_joint_training_depends_on_its_section() -> None:
    off = "joint.enabled=false"
    assert train_generator.settings(job_with(off)) == train_generator.settings(
        job_with(off, "joint.synthetic=9")
    )
    assert train_generator.settings(job_with()) != train_generator.settings(
        job_with("joint.synthetic=9")
    )
    assert train_generator.further_needs(job_with(off)) == ()
    assert train_generator.further_needs(job_with()) == ("self_train", "calibrate")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("generator.system=sg2im",), "joint.enabled: sg2im does not learn along"),
        (("train_generator.accumulate=2",), "joint.enabled: the images that get labels differ"),
        (("generator.workers=2",), "joint.enabled: the images that get labels differ"),
    ],
)
def test_what_cannot_learn_together_is_told_before(overrides: tuple[str, ...], said: str) -> None:
    without = [key for key in SMALL if "early_pool" not in key]
    with pytest.raises(JobError, match=said):
        train_generator.check(load_job(SMOKE, [*without, *overrides]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("joint.batch=0", "joint.batch: 0"),
        ("joint.recognition=-1", "joint.recognition: -1"),
        ("joint.synthetic_from=1.5", "joint.synthetic_from: 1.5"),
    ],
)
def test_mistakes_name_their_key(override: str, said: str) -> None:
    with pytest.raises(JobError, match=said.replace(".", r"\.")):
        job_with(override)
