"""The detector's training step.

Measured along the way, killed and resumed to the same files, by one worker or two.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.detectors.base import Prediction
from synthaug.detectors.weights import read_header
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Cluster, Job
from synthaug.pipeline.core.errors import JobError, WeakLinkError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import evaluation
from synthaug.pipeline.detection.evaluation import Validation, best_of
from synthaug.pipeline.execution.executor import Executor
from synthaug.pipeline.execution.ray_executor import open_executor
from synthaug.pipeline.execution.training import EVALUATION, read_log
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.run import Console, run_some
from synthaug.pipeline.steps.train_detector import BEST, WEIGHTS, Spec, fit, links
from tests import paths

SMOKE = paths.JOBS / "smoke.yaml"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables that the step reads.

    12 toy images to learn from, 10 to be measured on, and 2 without objects.
    """
    root = tmp_path_factory.mktemp("ingest")
    for split, source, scenes in (
        ("labelled", "train", range(12)),
        ("validation", "val", range(10)),
        ("none", "val", range(2)),
    ):
        table = toy.read(toy.Config(source), Path())
        found = [table[i] for i in scenes]
        if split == "none":
            found = [
                scene.with_objects(scene.objects.select(scene.objects.category < 0))
                for scene in found
            ]
        with parquet.ShardWriter(
            Folder.at(root / split), "part-00000.parquet", table.categories
        ) as writer:
            writer.write(found)
    return root


def job(*overrides: str) -> Job:
    return load_job(
        SMOKE,
        [
            "detector.steps=6",
            "detector.batch=4",
            "detector.save_every=3",
            "detector.evaluate_every=2",
            *overrides,
        ],
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes()
        for name in (WEIGHTS, BEST, EVALUATION, "state.safetensors")
    }


def step_of(path: Path) -> int:
    return int(read_header(path)["step"])


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def uninterrupted(ingest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    told = fit(Spec(job("detector.keep=best"), str(ingest), str(folder)))
    assert told["evaluations"] == 3
    return folder


def test_it_is_measured_when_it_should_be_and_the_best_is_kept(uninterrupted: Path) -> None:
    rows = read_log(Folder.at(uninterrupted), EVALUATION)
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert [row["images"] for row in rows] == [10, 10, 10]
    assert (
        step_of(uninterrupted / WEIGHTS) == step_of(uninterrupted / BEST) == best_of(rows)["step"]
    )


def test_the_weights_kept_are_those_that_were_measured(uninterrupted: Path, ingest: Path) -> None:
    """Reading the file and measuring again gives the row's numbers.

    The averaged weights were meant, and saved.
    """
    from synthaug import detectors

    rows = read_log(Folder.at(uninterrupted), EVALUATION)
    table = parquet.open_table(ingest / "validation")
    again = Validation(table).measure(detectors.load(uninterrupted / BEST))
    assert {"step": best_of(rows)["step"], **again} == best_of(rows)


@pytest.mark.parametrize("dies_at", [3, 4, 6])
def test_killed_and_resumed_it_leaves_the_same_files(
    dies_at: int, uninterrupted: Path, ingest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after the evaluation of a step and before that step's state is saved, or between two
    states.
    """
    real = evaluation.Evaluated.step

    def dying(self: Any, index: int, batch: Any) -> Any:
        losses = real(self, index, batch)
        if index + 1 == dies_at:
            raise Killed
        return losses

    spec = Spec(job("detector.keep=best"), str(ingest), str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.Evaluated, "step", dying)
        with pytest.raises(Killed):
            fit(spec)
    assert fit(spec)["resumed_from"] == (0 if dies_at == 3 else 3)
    assert contents(tmp_path) == contents(uninterrupted)
    # once more: nothing is left to do, and nothing changes
    assert fit(spec)["resumed_from"] == 6
    assert contents(tmp_path) == contents(uninterrupted)


def test_looking_does_not_change_what_is_learnt(
    ingest: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """The last weights are the same bytes, measured three times or once.

    Without evaluate_every there is no best.
    """
    for name, every in (("often", 2), ("once", 0)):
        told = fit(Spec(job(f"detector.evaluate_every={every}"), str(ingest), str(tmp_path / name)))
        assert told["measured"]["step"] == 6
    assert (tmp_path / "often" / WEIGHTS).read_bytes() == (tmp_path / "once" / WEIGHTS).read_bytes()
    assert not (tmp_path / "once" / BEST).exists()
    assert (tmp_path / "often" / BEST).read_bytes() == (uninterrupted / BEST).read_bytes()


def test_the_best_needs_an_object_to_find(ingest: Path, tmp_path: Path) -> None:
    (tmp_path / "validation").symlink_to(ingest / "none")
    (tmp_path / "labelled").symlink_to(ingest / "labelled")
    with pytest.raises(JobError, match=r"detector\.keep: no validation image has an object"):
        fit(Spec(job("detector.keep=best"), str(tmp_path), str(tmp_path / "out")))
    assert fit(Spec(job(), str(tmp_path), str(tmp_path / "out")))["measured"]["AP50"] is None


def test_a_detector_of_one_step_stops_the_run_in_one_line(tmp_path: Path) -> None:
    """Nothing is published.

    The same command stops again without training; with checks=report the run goes on.
    """
    words = [
        "detector.steps=1",
        "data.labelled=toy:train?count=8",
        "data.unlabelled=",
        "data.validation=toy:val?count=8",
        "cluster.executor=serial",
    ]
    lines: list[str] = []
    console = Console(lines.append, lambda *_: None)
    names = ("ingest", "train_detector")
    strict = load_job(SMOKE, [*words, "checks=stop"], str(tmp_path / "run"))
    for _ in range(2):
        with pytest.raises(
            WeakLinkError, match=r"^step train_detector: detector: AP50 0\.0"
        ) as told:
            run_some(strict, console, names)
        message = str(told.value)
        assert told.value.exit_code == 2
        assert "\n" not in message
        assert "detector.steps" in message and "checks=report" in message
        assert not (tmp_path / "run" / "checkpoints").exists()
    assert "[2/2] train_detector: finished earlier" in lines
    lines.clear()
    lenient = load_job(SMOKE, words, str(tmp_path / "run"))
    done = run_some(lenient, console, names)
    assert [line for line in lines if line.startswith("  weak: detector: AP50 0.0")]
    assert (tmp_path / "run" / "checkpoints" / WEIGHTS).exists()
    assert done["train_detector"].manifest["floor"]["images"] == 8


def test_what_was_measured_says_whether_the_link_holds() -> None:
    measured = {
        "images": 60,
        "margin": 0.05,
        "AP50": 0.5,
        "constant": 0.1,
        "shuffled": 0.2,
        "floor": "shuffled",
        "gain": 0.3,
        "low": 0.2,
        "high": 0.4,
    }
    (link,) = links({"floor": measured})
    assert link.state == "ok"
    assert "+0.300 [+0.200, +0.400] over another image's detections (0.200)" in link.figure
    (link,) = links({"floor": {**measured, "low": 0.04}})
    assert (link.state, link.stops) == ("weak", True)
    (link,) = links({"floor": {**measured, "AP50": None}})
    assert "no validation image has an object" in link.figure
    assert links({"sha256": "of an earlier version"}) == []


def test_of_equals_the_first_is_best() -> None:
    rows = [
        {"step": k, "AP50": a, "AP": b}
        for k, (a, b) in enumerate([(None, None), (0.5, 0.1), (0.5, 0.2), (0.5, 0.2)])
    ]
    assert best_of(rows)["step"] == 2
    assert best_of(rows[:1])["step"] == 0


def test_a_limit_takes_evenly_spaced_images(ingest: Path) -> None:
    table = parquet.open_table(ingest / "validation")
    seen: list[int] = []

    class Nobody:
        def predict(self, images: list[Any]) -> list[Any]:
            seen.append(len(images))
            empty = Prediction(
                np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
            )
            return [empty for _ in images]

    assert Validation(table, 4).measure(Nobody())["images"] == 4
    assert Validation(table, 99).measure(Nobody())["images"] == 10
    assert seen == [4, 10]


@pytest.fixture(scope="module")
def ray() -> Iterator[Executor]:
    opened = open_executor(Cluster(workers=2, memory_mb=100))
    yield opened
    opened.close()


def dies_once(spec: Spec) -> dict[str, Any]:
    """The training, of which the second worker is killed once after the first checkpoint."""
    from pathlib import Path

    from synthaug.detectors.parallel import rank_and_world
    from synthaug.pipeline.detection import evaluation

    flag, real = Path(spec.folder) / "died", evaluation.Evaluated.step

    def step(self: Any, index: int, batch: Any) -> Any:
        if rank_and_world()[0] == 1 and index == 4 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, index, batch)

    evaluation.Evaluated.step = step  # type: ignore[method-assign]
    return fit(spec)


@pytest.mark.slow
def test_a_group_finishes_though_a_member_is_killed(
    ray: Executor, ingest: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """Two workers, one killed.

    They go on from the checkpoint and measure, as one worker does but for rounding.
    """
    spec = Spec(job("detector.workers=2"), str(ingest), str(tmp_path))
    told = ray.group(dies_once, 2, spec)
    assert (tmp_path / "died").exists()
    assert (told["resumed_from"], told["workers"], told["evaluations"]) == (3, 2, 3)
    alone, together = read_log(Folder.at(uninterrupted)), read_log(Folder.at(tmp_path))
    assert [row["total"] for row in together] == pytest.approx(
        [row["total"] for row in alone], rel=0.02
    )
