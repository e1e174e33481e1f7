"""The bench trains each training once, seed by seed, and hands its run to every arm of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.trial import bench as module
from synthaug.pipeline.trial.arms import ARMS
from synthaug.pipeline.trial.bench import Bench
from synthaug.pipeline.trial.stages import CONFIRMATION, SCREENING
from tests.fake_run import fake_run


class Workers:
    """A context whose shards are not run: each run tells its own name."""

    def __init__(self, context: Context) -> None:
        self.job = context.job
        self.items: list[tuple[str, Any]] = []
        self.folder = ""
        self.gpu = False

    def shards(
        self,
        make: Callable[[], Any],
        items: Sequence[tuple[str, Any]],
        folder: Folder,
        unit: str,
        gpu: bool = False,
    ) -> list[dict[str, Any]]:
        self.gpu = gpu
        self.items = list(items)
        self.folder = folder.uri
        rows = []
        for name, (training, images) in items:
            rows.append({"name": name, "arm": "?", "steps": training.steps, "images": len(images)})
        return rows


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("run")
    return fake_run(folder, overrides=["trial.seeds=2"], labelled=4, images=2)


@pytest.fixture
def bench(context: Context, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module.Bench, "num_images", lambda _self, _stage: 7)
    workers = cast(Context, Workers(context))
    return replace(Bench.of(context), context=workers)


def workers_of(bench: Bench) -> Workers:
    return cast(Workers, bench.context)


def test_a_bench_reads_the_tables_of_the_run(context: Context) -> None:
    own = Bench.of(context)
    assert 4 == len(own.sources.table("real"))
    assert 2 == len(own.sources.table("synthetic"))
    assert {"real", "validation", "pseudo", "synthetic", "verified"} == set(own.sources.tables)
    assert set(context.inputs) == set(own.inputs)
    assert not any("/" in name for name in own.inputs.values())
    assert {} == own.digests, "the trial reads no data set of its own"


def test_trainings_go_seed_by_seed(bench: Bench) -> None:
    """A trial that is cut short has complete pairs."""
    arms = [ARMS["real"], ARMS["rfs"], ARMS["lsj"]]
    runs = bench.train(arms, SCREENING, range(2, 4), 100)
    order = [(item.arm.name, item.number) for _, (item, _) in workers_of(bench).items]
    assert [
        *(("real", 2), ("rfs", 2), ("lsj", 2)),
        *(("real", 3), ("rfs", 3), ("lsj", 3)),
    ] == order
    assert [name for name, _ in order] == [run["arm"] for run in runs]
    assert {7} == {run["images"] for run in runs}
    assert workers_of(bench).gpu, "trainings want the GPU where there is one"


def test_arms_that_train_alike_are_trained_once(bench: Bench) -> None:
    other = replace(ARMS["real"], name="stack", role="control", description="nothing gained")
    runs = bench.train([ARMS["real"], other, ARMS["rfs"]], SCREENING, range(2), 100)
    assert 4 == len(workers_of(bench).items)
    assert ["real", "stack", "rfs"] * 2 == [run["arm"] for run in runs]
    assert runs[0]["name"] == runs[1]["name"] != runs[3]["name"]


def test_an_arm_may_take_more_steps(bench: Bench) -> None:
    runs = bench.train([ARMS["real"], ARMS["real_2x"]], SCREENING, range(1), 75)
    assert [75, 150] == [run["steps"] for run in runs]


def test_trained_arms_lie_beside_the_steps_and_are_told_apart(bench: Bench) -> None:
    arms = [ARMS["real"]]
    first = bench.train(arms, SCREENING, range(1), 100)
    assert workers_of(bench).folder.endswith(f"steps/{module.ARMS_FOLDER}")
    others = [
        bench.train(arms, CONFIRMATION, range(1), 100),
        bench.train(arms, SCREENING, range(1, 2), 100),
        bench.train(arms, SCREENING, range(1), 101),
    ]
    names = {runs[0]["name"] for runs in (first, *others)}
    assert 4 == len(names)
