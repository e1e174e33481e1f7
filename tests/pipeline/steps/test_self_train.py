"""The step self_train: off, on, resumed bit for bit, and never worse without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.evaluation import average_precision, evaluate
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.steps import calibrate, ingest, pseudo_label, self_train, train_detector
from tests import paths

SMOKE = paths.JOBS / "smoke.yaml"
SMALL = (
    "data.labelled=toy:train?count=12",
    "data.unlabelled=toy:unlabelled?count=10",
    "data.validation=toy:val?count=8",
)
ON = (
    "self_train.steps=4",
    "self_train.batch=2",
    "self_train.unlabelled_batch=3",
    "self_train.save_every=2",
)
LOW = ("self_train.threshold=0.05", "self_train.ramp=0.0", "self_train.decay=0.5")


def job_with(*overrides: str) -> Job:
    return load_job(SMOKE, [*SMALL, "detector.steps=3", *overrides])


def output(
    step: Any, job: Job, folder: Path, inputs: dict[str, Output], said: list[str] | None = None
) -> Output:
    tell = (said if said is not None else []).append
    place = Folder.at(folder)
    return Output(
        place, step.run(Context(job, place, inputs, SerialExecutor(), tell, lambda *_: None))
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Output]:
    """Ingested toy images and a detector trained for three steps."""
    root, job = tmp_path_factory.mktemp("inputs"), job_with()
    made = {"ingest": output(ingest, job, root / "ingest", {})}
    return {**made, "train_detector": output(train_detector, job, root / "detector", made)}


def test_switched_off_the_labeller_is_the_detector_to_the_byte(
    inputs: dict[str, Output], tmp_path: Path
) -> None:
    made = output(self_train, job_with(), tmp_path, inputs)
    assert (made.manifest["steps"], made.manifest["kept"]) == (0, "supervised")
    trained = inputs["train_detector"].folder.read_bytes(train_detector.WEIGHTS)
    assert made.folder.read_bytes(self_train.WEIGHTS) == trained
    assert self_train.settings(job_with("self_train.lr=0.1")) == self_train.settings(job_with())
    assert self_train.settings(job_with(*ON)) != self_train.settings(
        job_with(*ON, "self_train.decay=0.5")
    )


def test_it_trains_and_goes_on_bit_for_bit_and_labels_with_the_result(
    inputs: dict[str, Output], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(*ON, *LOW, "self_train.keep=last")
    straight = output(self_train, job, tmp_path / "a", inputs)
    assert straight.manifest["last"]["pseudo_boxes"] > 0
    assert straight.manifest["last"]["unsupervised_class"] > 0
    assert straight.folder.read_bytes(self_train.WEIGHTS) != inputs[
        "train_detector"
    ].folder.read_bytes("detector.safetensors")

    whole = self_train.prepare

    def killed(*args: Any) -> Any:
        training, batches = whole(*args)

        def stop(step: int) -> Any:
            if step == 3:
                raise KeyboardInterrupt
            return batches(step)

        return training, stop

    monkeypatch.setattr(self_train, "prepare", killed)
    with pytest.raises(KeyboardInterrupt):
        output(self_train, job, tmp_path / "b", inputs)
    monkeypatch.undo()
    said: list[str] = []
    resumed = output(self_train, job, tmp_path / "b", inputs, said)
    assert "  went on from step 2" in said
    assert resumed.manifest["sha256"] == straight.manifest["sha256"]
    taught = {**inputs, "self_train": resumed}
    learnt = output(calibrate, job, tmp_path / "d", taught)
    labelled = output(pseudo_label, job, tmp_path / "c", {**taught, "calibrate": learnt})
    assert labelled.manifest["images"] == 10


@pytest.mark.parametrize(
    ("keep", "after", "kept"),
    [("better", 0.4, "supervised"), ("better", 0.5, "last"), ("last", 0.4, "last")],
)
def test_a_worse_detector_is_kept_only_where_asked_for_and_always_said(
    inputs: dict[str, Output],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
    after: float,
    kept: str,
) -> None:
    measured = iter([{"AP50": 0.5, "AP": 0.2}, {"AP50": after, "AP": None}])
    monkeypatch.setattr(self_train, "evaluate", lambda *_: None)
    monkeypatch.setattr(self_train, "average_precision", lambda _: next(measured))
    said: list[str] = []
    made = output(
        self_train,
        job_with("self_train.steps=1", *ON[1:], f"self_train.keep={keep}"),
        tmp_path,
        inputs,
        said,
    )
    assert made.manifest["kept"] == kept
    assert f"AP50 0.500 before and {after:.3f} after, AP 0.200 before and n/a after" in said[0]
    assert ("worse, so the detector trained on labels is kept" in said[-1]) == (
        kept == "supervised"
    )
    same = made.folder.read_bytes(self_train.WEIGHTS) == inputs["train_detector"].folder.read_bytes(
        "detector.safetensors"
    )
    assert same == (kept == "supervised")


def test_ap_of_the_truth_itself_is_one_and_of_nothing_zero(inputs: dict[str, Output]) -> None:
    import numpy as np

    from synthaug.detectors.base import Prediction
    from synthaug.pipeline.formats.parquet import read as parquet

    table = parquet.open_table(inputs["ingest"].folder.sub("validation"))

    class Oracle:
        def __init__(self, knows: bool) -> None:
            self.knows, self.place = knows, 0

        def predict(self, images: list[Any]) -> list[Prediction]:
            found = []
            for _ in images:
                objects = table[self.place].objects
                self.place += 1
                n = len(objects) if self.knows else 0
                found.append(
                    Prediction(
                        objects.boxes[:n],
                        objects.category[:n].astype(np.int64),
                        np.ones(n, np.float32),
                    )
                )
            return found

    perfect: Any = Oracle(True)
    blind: Any = Oracle(False)
    assert average_precision(evaluate(perfect, table, 3)) == {
        "AP50": pytest.approx(1.0),
        "AP": pytest.approx(1.0),
    }
    assert average_precision(evaluate(blind, table, 3)) == {"AP50": 0.0, "AP": 0.0}
    assert not self_train.worse({"AP50": None}, {"AP50": 0.5})


def test_batches_are_a_function_of_the_step(inputs: dict[str, Output]) -> None:
    spec = self_train.Spec(job_with(*ON), inputs["ingest"].folder.uri, "", "")
    first, second = (
        self_train.mixed_batches(spec.job, spec.table("labelled"), spec.table("unlabelled"), 5)
        for _ in "ab"
    )
    for step in (3, 0):
        assert len(first(step).labelled) == 2
        for one, other in zip(first(step).unlabelled, second(step).unlabelled, strict=True):
            assert (one == other).all()
    drawn = [image.tobytes() for step in range(3) for image in first(step).unlabelled]
    assert len(set(drawn)) == 9, "an epoch of 10 images repeats none"


def test_mistakes_are_one_sentence(inputs: dict[str, Output]) -> None:
    categories = (
        self_train.Spec(job_with(), inputs["ingest"].folder.uri, "", "")
        .table("labelled")
        .categories
    )
    name = categories[1].name
    right = self_train.thresholds(job_with(f"self_train.thresholds={{{name}: 0.25}}"), categories)
    assert right.tolist() == pytest.approx([0.25 if c.name == name else 0.7 for c in categories])
    with pytest.raises(JobError, match=r"self_train.thresholds: there is no class 'tre'.*tree"):
        self_train.thresholds(job_with("self_train.thresholds={tre: 0.5}"), categories)
    for override, said in {
        "self_train.steps=-1": "steps: -1",
        "self_train.decay=1.0": "self_train.decay: 1.0",
        "self_train.strong.hole=1.5": "self_train.strong.hole: 1.5",
        "self_train.strong.hue=1.5": "self_train.strong.hue: unknown key",
        "self_train.keep=best": "'best' is not one of better, last",
        "self_train.thresholds={cow: 2.0}": "thresholds.cow: 2.0",
    }.items():
        with pytest.raises(JobError, match=said.replace(".", r"\.")):
            job_with(override)
    with pytest.raises(JobError, match=r"self_train\.steps: there are no unlabelled images"):
        job_with("self_train.steps=5", "data.unlabelled=")
