"""Images put into two splits.

The steps find, report and refuse them, and every later step records the splits.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline import run
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import ImageRef, Provenance, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.report import leaks as report_leaks
from synthaug.pipeline.run import Console
from synthaug.pipeline.steps import STEPS, copies, leaks
from tests import paths

BASE = paths.JOBS / "base.yaml"
TOY = toy.read(toy.Config("train", 40), Path())


def scene(index, name, change=None):
    """Toy scene `index` under another name; `change` stores the picture in another way."""
    found = TOY[index]
    if change is None:
        return replace(found, image_id=name)
    out = io.BytesIO()
    Image.fromarray(change(decode(found))).save(out, "JPEG", quality=80)
    return replace(
        found, image_id=name, image=ImageRef(out.getvalue(), f"{name}.jpg"), panoptic=None
    )


def table(root, name, scenes):
    parquet.write(SceneList(toy.CATEGORIES, scenes), Folder.at(root / name))
    return f"parquet:{root / name}"


def mirrored(image):
    return np.ascontiguousarray(image[:, ::-1])


def job_of(root, *overrides, validation=()):
    own = [scene(i, f"val{i}") for i in range(20, 26)]
    data = {
        "labelled": table(root, "labelled", [scene(i, f"train{i}") for i in range(10)]),
        "unlabelled": table(root, "unlabelled", [scene(i, f"more{i}") for i in range(10, 20)]),
        "validation": table(root, "validation", [*own, *validation]),
    }
    given = [f"data.{key}={value}" for key, value in data.items()]
    return load_job(
        BASE, ["name=t", "cluster.executor=serial", *given, *overrides], str(root / "run")
    )


def screen(lines):
    return Console(lines.append, lambda *_: None)


def test_another_content_of_a_data_set_that_only_the_trial_reads_is_looked_at_anew(tmp_path):
    """Of the splits that ingest reads the step of that name has the key."""
    settings = []
    for name in ("other0", "other1"):
        told = table(tmp_path, "evaluation", [scene(30, name)])
        job = job_of(tmp_path, "trial.seeds=2", f"trial.evaluation={told}")
        settings.append(leaks.settings(job))
    assert settings[0] != settings[1]
    assert settings[1] == leaks.settings(job)


def test_splits_that_share_no_image_pass_and_every_later_step_records_their_digest(tmp_path):
    lines = []
    done = run.run_some(job_of(tmp_path), screen(lines), ("ingest", "leaks", "plan"))
    told = done["leaks"].manifest
    assert told["pairs"] == {}
    assert "  no image is in two splits" in lines
    assert done["plan"].manifest["splits_sha256"] == told["sha256"]
    assert "splits_sha256" not in done["ingest"].manifest, "which comes before it"
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert splits["sha256"] == told["sha256"]
    assert [row[0] for row in splits["splits"]["validation"]["images"]] == [
        f"val{i}" for i in range(20, 26)
    ]
    assert {name: entry["count"] for name, entry in splits["splits"].items()} == {
        "labelled": 10,
        "validation": 6,
        "unlabelled": 10,
    }


@pytest.mark.parametrize(
    ("number", "change", "how"),
    [
        (3, None, "is 'train3' (toy-train-00000003.png) of data.labelled"),
        (13, mirrored, "is a near copy of 'more13' ("),
    ],
)
def test_a_leak_stops_the_run_with_one_line_before_anything_is_trained(
    tmp_path, number, change, how
):
    job = job_of(tmp_path, validation=[scene(number, "twin", change)])
    with pytest.raises(JobError) as refused:
        run.run_some(job, screen([]), tuple(STEPS))
    line = str(refused.value)
    assert line.startswith("data.validation: image 'twin'")
    assert ", on which results are measured, " in line
    assert how in line
    assert "data.leaks=report" in line
    assert "\n" not in line
    listed = json.loads(Path(line.rsplit("(", 1)[1].split(")")[0]).read_text())
    assert [pair["kind"] for pair in listed["pairs"]] == ["leak"]
    assert not list((tmp_path / "run" / "steps").glob("train_detector-*"))


def test_told_to_report_the_run_goes_on_and_says_so_and_stop_is_never_taken_from_an_earlier_report(
    tmp_path,
):
    leaking = [scene(3, "twin"), scene(4, "other", mirrored)]
    lines = []
    job = job_of(tmp_path, "data.leaks=report", validation=leaking)
    done = run.run_some(job, screen(lines), ("ingest", "leaks"))
    assert any(
        "WARNING data.validation: image 'other'" in line or "image 'twin'" in line for line in lines
    )
    assert done["leaks"].manifest["pairs"] == {"leak: labelled and validation": 2}
    html = report_leaks.splits(done["leaks"].manifest)
    assert "2 pairs of images are both trained on and measured on" in html
    with pytest.raises(JobError, match=r"data\.validation"):
        run.run_some(job_of(tmp_path, validation=leaking), screen([]), ("ingest", "leaks"))


def test_ingest_is_not_done_again_for_another_answer_to_leaks(tmp_path):
    run.run_some(job_of(tmp_path), screen([]), ("ingest", "leaks"))
    lines = []
    run.run_some(job_of(tmp_path, "data.leaks=report"), screen(lines), ("ingest", "leaks"))
    assert lines[0].endswith("ingest: finished earlier")


def test_the_trials_own_data_sets_are_compared_too(tmp_path):
    evaluation = table(tmp_path, "evaluation", [scene(30, "test30"), scene(5, "test5", mirrored)])
    extra = table(tmp_path, "extra", [scene(i, f"extra{i}") for i in (21, 31)])
    trial = [
        "trial.seeds=2",
        f"trial.evaluation={evaluation}",
        f"+trial.external.bought={extra}".lstrip("+"),
    ]
    done = run.run_some(
        job_of(tmp_path, "data.leaks=report", *trial), screen([]), ("ingest", "leaks")
    )
    assert done["leaks"].manifest["pairs"] == {
        "leak: labelled and trial.evaluation": 1,
        "leak: validation and trial.external.bought": 1,
    }
    plain = run.run_some(job_of(tmp_path, "data.leaks=report"), screen([]), ("ingest", "leaks"))
    assert plain["leaks"].manifest["sha256"] == done["leaks"].manifest["sha256"], (
        "what all steps share is the same"
    )


def made(tmp_path, *overrides, scenes):
    """Run `copies` on synthetic images of our choice."""
    job = job_of(tmp_path, *overrides)
    done = run.run_some(job, screen([]), ("ingest", "leaks"))
    synthetic = [replace(s, provenance=Provenance(1, "t", "", "", "")) for s in scenes]
    parquet.write(SceneList(toy.CATEGORIES, synthetic), Folder.at(tmp_path / "made"))
    inputs = {
        "leaks": done["leaks"],
        "synthesize": Output(Folder.at(tmp_path / "made"), {"images": len(synthetic)}),
    }
    lines = []
    context = Context(
        job, Folder.at(tmp_path / "copies"), inputs, SerialExecutor(), lines.append, lambda *_: None
    )
    return copies.run(context), lines


def test_memorised_training_images_are_reported_and_pass(tmp_path):
    told, lines = made(
        tmp_path, scenes=[scene(2, "s0", mirrored), scene(14, "s1"), scene(33, "s2")]
    )
    assert told["copies"] == 2
    assert told["pairs"] == {
        "memorised: labelled and synthetic": 1,
        "memorised: unlabelled and synthetic": 1,
    }
    assert len(lines) == 1
    assert "2 of 3 synthetic images are near copies" in report_leaks.copies(told)


def test_a_synthetic_copy_of_a_measured_image_is_refused(tmp_path):
    with pytest.raises(
        JobError, match=r"^data\.validation: image 'val22' .* 's0' of the synthetic images"
    ) as refused:
        made(tmp_path, scenes=[scene(22, "s0", mirrored), scene(33, "s1")])
    assert "another seed" in str(refused.value)


def test_the_steps_stand_where_they_can_stop_what_depends_on_them():
    names = list(STEPS)
    assert names.index("leaks") == 1
    assert (
        names.index("synthesize")
        < names.index("copies")
        < names.index("score")
        < names.index("trial")
    )
    assert leaks.NEEDS == ("ingest",)
