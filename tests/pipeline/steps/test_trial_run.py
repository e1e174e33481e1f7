"""A tiny trial from end to end: what is trained with which seeds, measured on what, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.detectors.base import Prediction
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.steps import trial as step
from synthaug.pipeline.trial import tables
from synthaug.pipeline.trial.training import ArmTrainer, Training
from tests.fake_run import fake_run

TRIAL = [
    *("trial.seeds=2", "trial.confirm_seeds=2", "trial.steps=2", "trial.headroom=report"),
    *("trial.arms=[real,irfs,synthetic,synthetic_best]", "trial.repeat_thresholds=[0.3,0.7]"),
    "trial.evaluation=toy:test?count=4",
]


def tiny(root: Path, *overrides: str) -> Context:
    """Return the surroundings of the step after a run of a few toy images."""
    settings = [*TRIAL, "detector.steps=4", "detector.batch=4", *overrides]
    context = fake_run(root, overrides=settings, labelled=6, images=4)
    validation = Folder.at(root / "ingest" / "validation")
    parquet.write(open_dataset("toy:val?count=4", Path()), validation)
    told: list[str] = []
    return replace(context, folder=Folder.at(root / "trial"), tell=told.append)


def rows_of(context: Context) -> list[dict[str, Any]]:
    """Return what was trained, from the files of the trained arms."""
    folder = Folder.at(context.job.output).sub("steps").sub("arms")
    return [folder.read_json(name) for name in folder.names() if name.endswith(".json")]


def always_better(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    """Let some arms come out ten points better than they did, in screening and confirmation."""
    real = step.with_goal

    def flattered(runs: Any, goal: str, classes: Any) -> list[Any]:
        out = []
        for run in real(runs, goal, classes):
            values = dict(run["values"])
            # nothing is found by anyone: the seed makes the differences vary
            bonus = 0.1 if run["arm"] in names else 0.0
            values["goal"] = (values["goal"] or 0.0) + bonus + 0.001 * run["seed"] * bonus
            out.append({**run, "values": values})
        return out

    monkeypatch.setattr(step, "with_goal", flattered)


class Blind:
    """A detector that finds nothing."""

    def predict(self, images: Any, scale: float = 1.0) -> list[Prediction]:
        boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return [Prediction(boxes, labels, np.zeros(0, np.float32)) for _ in images]


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_trained() -> Iterator[None]:
    """Tables are opened as they are for a training, which does not take place."""

    def train(self: ArmTrainer, training: Training, folder: Folder) -> tuple[Any, int]:
        assert len(self._sources.real(training.arm))
        assert all(map(len, self._sources.added(training.arm, training.steps)))
        return Blind(), 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ArmTrainer, "_train", train)
        yield


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, dict[str, Any]]:
    """Return a trial whose synthetic images look good in screening."""
    with pytest.MonkeyPatch.context() as patch:
        always_better(patch, ("synthetic",))
        context = tiny(tmp_path_factory.mktemp("run"), "trial.arms=[real,irfs,synthetic]")
        return context, step.run(context)


def test_one_recipe_is_confirmed_with_seeds_and_images_of_its_own(
    confirmed: tuple[Context, dict[str, Any]],
) -> None:
    context, manifest = confirmed
    assert manifest["recipe"] == "synthetic"
    assert manifest["verdict"]["stage"] == "confirmation"
    assert manifest["verdict"]["word"] == "helps"
    assert manifest["says"][0] == manifest["verdict"]["sentence"]
    confirmation = manifest["confirmation"]
    assert (confirmation["seeds"], confirmation["images"]) == (2, 4)
    assert [arm["name"] for arm in confirmation["arms"]] == ["real", "synthetic"]
    assert confirmation["before"] == []
    trained = Counter((row["stage"], row["arm"]) for row in rows_of(context))
    # an arm that is `real` by another name is not trained again
    assert trained == {
        ("screening", "real"): 2,
        ("screening", "real_half"): 2,
        ("screening", "irfs at 0.3"): 2,
        ("screening", "irfs at 0.7"): 2,
        ("screening", "synthetic"): 2,
        ("confirmation", "real"): 2,
        ("confirmation", "synthetic"): 2,
    }
    text = context.folder.read_bytes("trial.md").decode()
    assert text.startswith("**synthetic helps: ")


def test_confirming_another_recipe_on_the_same_images_is_told(
    confirmed: tuple[Context, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = confirmed
    always_better(monkeypatch, ("external:more",))
    job = context.job
    trial = replace(
        job.trial, arms=("real",), external={"more": "toy:train?count=5&seed=1"}, headroom="off"
    )
    manifest = step.run(replace(context, job=replace(job, trial=trial)))
    assert [entry["recipe"] for entry in manifest["confirmation"]["before"]] == ["synthetic"]
    assert any("used to confirm once before (synthetic)" in line for line in manifest["says"])
    again = step.run(replace(context, job=replace(job, trial=trial)))
    assert again["confirmation"]["before"] == manifest["confirmation"]["before"]


class Unreadable(Dataset):
    """Images of which nobody may read one."""

    def __init__(self, table: Dataset) -> None:
        self._table = table
        self.categories = table.categories
        self.skipped = table.skipped

    def __len__(self) -> int:
        raise AssertionError("the images of confirmation were counted")

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("the images of confirmation were read")

    def fingerprint(self) -> str:
        return self._table.fingerprint()


def test_screening_reads_no_image_of_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything up to the choice of the recipe; then the images are read, which raises here."""
    real_open = tables.open_dataset

    def closed(reference: str, root: Path, *, key: str) -> Dataset:
        table = real_open(reference, root, key=key)
        return Unreadable(table) if key == "trial.evaluation" else table

    monkeypatch.setattr(tables, "open_dataset", closed)
    context = tiny(tmp_path)
    always_better(monkeypatch, ("synthetic", "synthetic_best"))
    with pytest.raises(AssertionError, match="the images of confirmation were"):
        step.run(context)
    stages = Counter(row["stage"] for row in rows_of(context))
    assert set(stages) == {"screening"}
    job = replace(context.job, trial=replace(context.job.trial, confirm_seeds=0))
    manifest = step.run(replace(context, job=job))
    assert manifest["verdict"]["stage"] == "screening"
    assert "nothing is confirmed, because trial.confirm_seeds is 0" in manifest["says"][0]
    assert "helps" not in " ".join(manifest["says"])


def test_a_recipe_that_is_not_above_the_stack_is_not_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_better(monkeypatch, ("real", "irfs", "stack"))
    context = tiny(tmp_path, "trial.arms=[real,synthetic]", "trial.headroom=off")
    manifest = step.run(context)
    assert manifest["verdict"]["word"] == "no gain"
    assert manifest["confirmation"] is None
    assert not Folder.at(context.job.output).exists("confirmations.json")


def test_without_headroom_nothing_is_judged(tmp_path: Path) -> None:
    context = tiny(
        tmp_path,
        "trial.headroom=stop",
        "trial.more=toy:train?count=9&seed=0",
        "trial.steps=plateau",
        "trial.doublings=1",
    )
    manifest = step.run(context)
    assert manifest["verdict"]["word"] == "no headroom"
    assert manifest["says"][0].startswith("no headroom: no added data would show here")
    assert [arm["name"] for arm in manifest["arms"]] == ["real", "real_half", "real_more"]
    assert manifest["comparisons"] == {}
    assert manifest["budget"]["found"] == "limit"
    assert [row["steps"] for row in manifest["budget"]["curve"]] == [1, 2]
    assert {row["arm"] for row in rows_of(context)} == {"real", "real_half", "real_more"}
    assert "| real_more |" in context.folder.read_bytes("trial.md").decode()


def test_more_images_are_those_that_are_not_labelled_already(tmp_path: Path) -> None:
    context = tiny(tmp_path, "trial.more=toy:train?count=9")
    uris = {"real": context.inputs["ingest"].folder.sub("labelled").uri}
    sources = tables.Sources(context.job, uris, "")
    table = sources.real(step.ARMS["real_more"])
    assert len(table) == 9
    assert len(sources.real(step.ARMS["real_half"])) == 3
    assert len(sources.real(step.ARMS["real"])) == 6


def test_the_trial_is_over_at_once_without_seeds(tmp_path: Path) -> None:
    context = tiny(tmp_path, "trial.seeds=0")
    moved = {**context.inputs, "ingest": Output(Folder.at(tmp_path / "nowhere"), {})}
    assert step.run(replace(context, inputs=moved)) == {"seeds": 0}
