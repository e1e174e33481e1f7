"""`synthaug report`: a page from what a run folder holds, and the comparison of several."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from synthaug.pipeline.cli import main
from synthaug.pipeline.commands import report as reporting
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST
from synthaug.pipeline.report import comparison_page as report_compare
from synthaug.pipeline.report.tables import UNDONE, Run
from synthaug.pipeline.steps import STEPS
from tests.fake_run import fake_run


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every step's output, under the names an older version would have given
    them.
    """
    root = tmp_path_factory.mktemp("runs") / "first"
    context = fake_run(root, overrides=["report.samples=3"], labelled=6, images=4)
    (root / "job.yaml").write_text(context.job.to_yaml())
    for number, (name, output) in enumerate(context.inputs.items()):
        target = root / "steps" / f"{name}-{output.manifest['key']}"
        target.parent.mkdir(exist_ok=True)
        shutil.move(root / name, target) if (root / name).exists() else target.mkdir()
        Folder.at(target).write_json(MANIFEST, dict(output.manifest))
        os.utime(target / MANIFEST, (number, number))
    return root


def copied(
    finished: Path, to: Path, job: dict[str, str] | None = None, **manifests: dict[str, Any]
) -> Path:
    """A copy with other lines in its job and other entries in its manifests."""
    shutil.copytree(finished, to)
    text = (to / "job.yaml").read_text()
    for old, new in (job or {}).items():
        assert old in text
        text = text.replace(old, new)
    (to / "job.yaml").write_text(text)
    for step, content in manifests.items():
        path = next(to.glob(f"steps/{step}-*/{MANIFEST}"))
        time = path.stat().st_mtime
        path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
        os.utime(path, (time, time))
    return to


def words(path: Path) -> str:
    body = path.read_text("utf-8").split("</style>")[1].split("<script")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_one_run_has_its_page_again(finished: Path, tmp_path: Path) -> None:
    result = call(finished, "--out", tmp_path / "page.html")
    assert 0 == result.exit_code, result.output
    assert "made with other settings than job.yaml says now" in result.output
    told = words(tmp_path / "page.html")
    assert "0.432" in told
    assert "is not finished" not in told
    assert "newest finished output is used" in told
    assert 0 == call(finished).exit_code
    assert (finished / "report.html").read_bytes() == (tmp_path / "page.html").read_bytes()


@pytest.mark.parametrize("last", ["ingest", "pseudo_label", "synthesize"])
def test_an_unfinished_run_says_what_is_missing(finished: Path, tmp_path: Path, last: str) -> None:
    run = copied(finished, tmp_path / "half")
    names = list(STEPS)
    for name in names[names.index(last) + 1 :]:
        for folder in run.glob(f"steps/{name}-*"):
            (folder / MANIFEST).unlink()
    assert 0 == call(run).exit_code
    told = words(run / "report.html")
    assert f"Not done yet: {', '.join(names[names.index(last) + 1 : -1])}." in told
    assert ("no synthetic images have been made" in told) == (last != "synthesize")


def test_outputs_of_the_job_itself_need_no_note(finished: Path, tmp_path: Path) -> None:
    """What lies where the job of today would put it is its own, however old.

    What only newer settings made is not.
    """
    run = copied(finished, tmp_path / "own")
    keys: dict[str, str] = {}
    job = reporting.load_job(run / "job.yaml")
    for name, step in reporting.load_steps().items():
        if name != "report":
            keys[name] = reporting.step_key(job, step, keys)
            next(run.glob(f"steps/{name}-*")).rename(run / "steps" / f"{name}-{keys[name]}")
    shutil.copytree(run / "steps" / f"score-{keys['score']}", run / "steps" / "score-newer")
    found = reporting.look(run)
    assert () == found.notes
    assert found.folders["score"].endswith(keys["score"])


def test_what_is_older_than_what_it_is_made_from_is_not_used(
    finished: Path, tmp_path: Path
) -> None:
    """A run that got another generator and failed before it was scored must not show the old one's
    numbers.
    """
    run = copied(finished, tmp_path / "again")
    made = next(run.glob(f"steps/train_generator-*/{MANIFEST}"))
    later = max(path.stat().st_mtime for path in run.glob(f"steps/*/{MANIFEST}")) + 10
    os.utime(made, (later, later))
    found = reporting.look(run)
    assert {"ingest", "calibrate", "plan", "train_generator"} <= found.folders.keys()
    assert not {"synthesize", "export", "score", "trial"} & found.folders.keys()
    assert 0 == call(run).exit_code
    assert "0.432" not in words(run / "report.html")


def test_what_is_no_run_is_said_in_one_line(tmp_path: Path, finished: Path) -> None:
    for arguments, said in (
        ([tmp_path], "it has no job.yaml"),
        (
            [
                copied(finished, tmp_path / "empty", ingest={"x": 1}),
                "--out",
                finished / "job.yaml" / "x",
            ],
            "cannot write",
        ),
        ([finished] * 9, "9 runs are too many"),
    ):
        result = call(*arguments)
        assert 2 == result.exit_code
        assert said in result.output
        assert 1 == result.output.count("\n")
    shutil.rmtree(tmp_path / "empty" / "steps")
    assert "ingest, is not finished" in call(tmp_path / "empty").output
    assert 2 == call().exit_code


def test_runs_are_compared_and_what_differs_is_said(finished: Path, tmp_path: Path) -> None:
    score = json.loads(next(finished.glob(f"steps/score-*/{MANIFEST}")).read_text())["scores"]
    score["dap"] |= {
        "value": 0.2468,
        "card": {**score["dap"]["card"], "detector_sha256": "abc", "generator_sha256": "x"},
    }
    score["dap"]["values"]["AP50"] = 0.2468
    score["news"] = {
        "name": "news",
        "value": 7.5,
        "values": {"news": 7.5},
        "card": {"warnings": ["<b>few</b>"]},
    }
    says = ["synthetic <i>helps</i>: +2.0 [+1.0, +3.0] AP points"]
    job = {"name: fake": "name: other", "width: 64": "width: 96"}
    other = copied(
        finished,
        tmp_path / "second",
        job,
        score={"scores": score},
        trial={"seeds": 0, "says": says},
    )
    result = call(finished, other, "--out", tmp_path / "both.html")
    assert 0 == result.exit_code, result.output
    told, page = words(tmp_path / "both.html"), (tmp_path / "both.html").read_text("utf-8")
    for text in (
        "0.432",
        "0.247",
        "7.500",
        "&lt;b&gt;few&lt;/b&gt;",
        "synthetic &lt;i&gt;helps",
        "generator.width 64 96",
    ):
        assert text in told, text
    assert "do not compare these numbers as they stand" in told
    assert "detector_sha256 – abc" in told
    assert "generator_sha256" not in told
    assert "different data" not in told
    assert "window.location" not in page
    assert page.count("<polyline") >= 8


def test_metric_cards_that_agree_may_be_compared() -> None:
    one = {"card": {"images": 5, "generator_sha256": "a", "predictions": 9, "resize": "none"}}
    assert [] == report_compare.card_differences(
        [one, {"card": {**one["card"], "generator_sha256": "b", "predictions": 8}}]
    )
    other = {"card": {"images": 6, "resize": "none", "seed": 1}}
    assert [("images", ["5", "6"]), ("seed", ["–", "1"])] == report_compare.card_differences(
        [one, other]
    )


def test_other_data_is_warned_of(finished: Path) -> None:
    found = reporting.look(finished)
    runs = [
        Run(
            found.job,
            {**UNDONE, **found.manifests, "ingest": {**found.manifests["ingest"], "key": k}},
            {},
        )
        for k in "ab"
    ]
    assert "must not be compared" in report_compare.warnings(runs)[0]
