"""What a user sees: bad input is one line and exit code 2, before anything is trained.

Help is short.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from synthaug.pipeline.cli import main
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.storage import Folder
from tests import paths

SMOKE = paths.JOBS / "smoke.yaml"
COCO = "data.labelled=coco:train.json?images=images"


def run(*words: str) -> Result:
    return CliRunner().invoke(
        main, ["run", str(SMOKE), "cluster.executor=serial", *words], prog_name="synthaug"
    )


def error_of(result: Result) -> str:
    """The one line; asserts that it is one, that nothing else was said and that the code is 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Any]:
    """A COCO data set of eight images that is in order; `record` is its JSON, `root` its folder."""
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for i in range(8):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.jpg"), np.full((48, 64, 3), 20 * i, np.uint8))
        images.append({"id": i + 1, "file_name": f"{i}.jpg", "width": 64, "height": 48})
        box = [4, 4, 20 + i, 20]
        annotations.append(
            {
                "id": i + 1,
                "image_id": i + 1,
                "category_id": 3,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
    record = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cell"}],
    }
    return {"root": tmp_path, "record": record}


def dry_run(photos: dict[str, Any], *words: str) -> Result:
    (photos["root"] / "train.json").write_text(json.dumps(photos["record"]))
    keys = (f"data.root={photos['root']}", COCO, "data.unlabelled=", "data.validation=")
    output = str(photos["root"] / "out")
    return run(*keys, *words, "--output", output, "--dry-run")


def test_a_good_data_set_passes_and_nothing_is_left_behind(photos: dict[str, Any]) -> None:
    result = dry_run(photos)
    assert result.exit_code == 0, result.output
    assert "labelled: 7 images, 7 objects, 1 classes" in result.output
    assert "nothing was trained" in result.output
    assert not (photos["root"] / "out").exists()


def test_a_mistyped_key_suggests_the_nearest() -> None:
    message = error_of(run("detector.stepz=3", "--dry-run"))
    assert "detector.stepz" in message
    assert "did you mean 'steps'?" in message


def test_a_missing_job_file_suggests_the_nearest() -> None:
    result = CliRunner().invoke(main, ["run", str(SMOKE.with_name("smoky.yaml"))])
    assert "did you mean 'smoke.yaml'?" in error_of(result)


def test_a_target_is_refused(tmp_path: Path) -> None:
    job = tmp_path / "evil.yaml"
    job.write_text("detector:\n  _target_: os.system\n")
    message = error_of(CliRunner().invoke(main, ["run", str(job), "--dry-run"]))
    assert "_target_" in message
    assert "does not execute" in message


def test_a_missing_annotation_file_is_named(photos: dict[str, Any]) -> None:
    message = error_of(dry_run(photos, "data.labelled=coco:absent.json?images=images"))
    assert "absent.json" in message


def test_broken_json_is_named_with_its_line(photos: dict[str, Any]) -> None:
    (photos["root"] / "broken.json").write_text('{"images": [\n  oops')
    message = error_of(dry_run(photos, "data.labelled=coco:broken.json?images=images"))
    assert "broken.json" in message
    assert "line 2" in message


def test_a_box_outside_its_image_is_named(photos: dict[str, Any]) -> None:
    photos["record"]["annotations"][5]["bbox"] = [50, 4, 30, 20]
    message = error_of(dry_run(photos))
    assert "annotation 6" in message
    assert "outside" in message


def test_nothing_but_crowds_is_nothing_to_learn(photos: dict[str, Any]) -> None:
    for record in photos["record"]["annotations"]:
        record["iscrowd"] = 1
    message = error_of(dry_run(photos))
    assert "data.labelled" in message
    assert "not one object to be learnt" in message


def test_an_unknown_category_is_named(photos: dict[str, Any]) -> None:
    photos["record"]["annotations"][2]["category_id"] = 8
    message = error_of(dry_run(photos))
    assert "annotation 3" in message
    assert "8" in message


def test_a_truncated_image_is_named(photos: dict[str, Any]) -> None:
    path = photos["root"] / "images" / "4.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    message = error_of(dry_run(photos))
    assert "4.jpg" in message
    assert "replace the file" in message


def test_an_image_of_another_size_is_named(photos: dict[str, Any]) -> None:
    photos["record"]["images"][1]["width"] = 65
    assert "1.jpg" in error_of(dry_run(photos))


def test_bad_records_are_skipped_and_counted_when_asked(photos: dict[str, Any]) -> None:
    photos["record"]["annotations"][5]["bbox"] = [50, 4, 30, 20]
    assert dry_run(photos, "data.on_bad=skip").exit_code == 0


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = error_of(run("--output", str(tmp_path / "file" / "run")))
    assert str(tmp_path / "file") in message


def test_an_unreachable_ray_is_named(tmp_path: Path) -> None:
    words = (
        "cluster.executor=ray",
        "cluster.address=127.0.0.1:1",
        "--output",
        str(tmp_path / "run"),
    )
    for extra in ((), ("--dry-run",)):
        message = error_of(run(*words, *extra))
        assert "cluster.address" in message
        assert "127.0.0.1:1" in message


def test_a_class_that_does_not_exist_is_named_before_training(photos: dict[str, Any]) -> None:
    message = error_of(dry_run(photos, "plan.target=counts", "plan.counts={cel: 5}"))
    assert "plan.counts.cel" in message
    assert "did you mean 'cell'?" in message


def test_missing_detector_weights_are_named(photos: dict[str, Any]) -> None:
    message = error_of(dry_run(photos, "detector.weights=nowhere.pth"))
    assert "detector.weights" in message
    assert "nowhere.pth" in message


def test_a_back_end_that_is_not_installed_is_named_before_anything_runs(
    photos: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job itself is fine: it is loaded and shown; only running it, or a dry run, is refused."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert (
        load_job(SMOKE, ["detector.backend=detectron2", "detector.width=8"]).detector.backend
        == "detectron2"
    )
    output = str(photos["root"] / "out")
    for message in (
        error_of(dry_run(photos, "detector.backend=detectron2")),
        error_of(run("detector.backend=detectron2", "--output", output)),
    ):
        assert "detector.backend: detectron2 is not installed" in message
    assert "detector.widht" in error_of(
        run("detector.backend=detectron2", "detector.widht=3", "--dry-run")
    )


def test_missing_perceptual_weights_are_named_before_anything_runs(photos: dict[str, Any]) -> None:
    message = error_of(
        run("generator.perceptual_weights=nowhere.pth", "--output", str(photos["root"] / "out"))
    )
    assert "generator.perceptual_weights" in message
    assert "nowhere.pth" in message


def test_a_judge_of_other_classes_is_refused_before_anything_runs(
    photos: dict[str, Any], tmp_path: Path
) -> None:
    from synthaug import detectors

    path = tmp_path / "judge.safetensors"
    detectors.build("torchvision", {"width": 8, "fpn_channels": 16}, 5).save(path, {})
    line = error_of(dry_run(photos, f"score.detector={path}"))
    assert "score.detector" in line and "5 classes" in line and "has 1" in line
    path.write_bytes(b"no checkpoint")
    assert "score.detector" in error_of(dry_run(photos, f"score.detector={path}"))


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another run works in this folder" in error_of(run("--output", str(tmp_path)))


def test_no_command_has_more_than_six_flags_and_all_are_known() -> None:
    """Knobs live in the job; a new flag changes this list on purpose."""
    flags = {
        name: sorted(p.opts[0] for p in command.params if isinstance(p, click.Option))
        for name, command in main.commands.items()
    }
    assert flags == {
        "init": ["--images", "--labelled", "--minutes", "--out", "--unlabelled", "--validation"],
        "run": ["--dry-run", "--output", "--progress"],
        "trial": ["--confirm", "--output", "--progress", "--seeds"],
        "export": ["--out", "--parts", "--root", "--to", "--val", "--with"],
        "plan": ["--output"],
        "status": [],
        "studio": ["--port"],
        "report": ["--out"],
        "score": ["--detector", "--job", "--names", "--output", "--train", "--weights"],
        "validate": ["--fix", "--html", "--json", "--root", "--strict"],
        "generate": ["--count", "--edits", "--image", "--output", "--seed", "--sheet"],
        "import-checkpoint": ["--background", "--classes", "--out"],
        "doctor": ["--weights"],
        "list": [],
    }
    assert max(map(len, flags.values())) <= 6


def test_validate_counts_classes_and_list_names_components(photos: dict[str, Any]) -> None:
    (photos["root"] / "train.json").write_text(json.dumps(photos["record"]))
    result = CliRunner().invoke(
        main, ["validate", "coco:train.json?images=images", "--root", str(photos["root"])]
    )
    assert result.exit_code == 0, result.output
    assert "8 images, 8 objects, 1 classes: in order" in result.output
    listed = CliRunner().invoke(main, ["list"]).output
    assert all(
        word in listed for word in ("lostgan", "torchvision", "parquet", "dap", "synthesize")
    )


def test_status_of_something_else_is_one_line(tmp_path: Path) -> None:
    assert "not a run folder" in error_of(CliRunner().invoke(main, ["status", str(tmp_path)]))


def test_another_generator_takes_only_its_own_keys(tmp_path: Path) -> None:
    """The inherited keys of the usual generator do not stand in its way; a typo still does."""
    result = run("generator.system=boxes", "--dry-run", "--output", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "z_image" not in result.output
    assert "generator.widht" in error_of(
        run("generator.system=boxes", "generator.widht=3", "--dry-run")
    )


def imported(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["import-checkpoint", *map(str, words)], prog_name="synthaug")


def test_an_official_checkpoint_becomes_one_of_ours(tmp_path: Path) -> None:
    import torch

    from synthaug.generators import checkpoint
    from synthaug.generators import lostgan as lostgan_system
    from synthaug.generators.lostgan import network as lostgan

    config = lostgan.Config(
        resolution=64, width=1, z_image=2, z_object=2, embedding=2, mask_hidden=2
    )
    file, names = tmp_path / "netG.pth", tmp_path / "names.txt"
    torch.save(
        {f"module.{k}": v for k, v in lostgan_system.build(config, 2).state_dict().items()}, file
    )
    names.write_text("cat\ndog\n")
    result = imported(file, "--classes", names, "--background")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        "LostGAN version 2 at 64 pixels, width 1, 3 label rows: generator, 0.0 M parameters\n"
    )
    assert f"wrote {tmp_path / 'netG.safetensors'}" in result.output
    header = checkpoint.read_header(tmp_path / "netG.safetensors")
    assert header["classes"] == ["cat", "dog"]
    assert header["config"]["background"]

    assert "there already, the same" in imported(file, "--classes", names, "--background").output
    assert "another file" in error_of(imported(file))
    assert imported(file, "--out", tmp_path / "other.safetensors").exit_code == 0


def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "netG.pth"
    assert "no such file" in error_of(imported(file))
    file.write_bytes(b"\x80\x02}q\x00.")
    assert "netG.pth" in error_of(imported(file))
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted(SMOKE.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_job_that_is_shipped_loads(path: Path) -> None:
    assert load_job(path).name == path.stem


def test_weak_links_and_the_advice_are_told_in_the_last_lines_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [
        Link("detector", "ok", "AP50 0.9"),
        Link("generator", "weak", "3 % are recognised", "train longer", stops=True),
    ]
    folder = Folder.at(tmp_path / "out")
    verdict = {"stage": "screening", "word": "no gain", "sentence": "no gain"}
    trial = {"seeds": 4, "stack": "rfs", "verdict": verdict}
    content = {"links": [link.to_json() for link in links], "trial": trial}
    folder.write_json("metrics.json", content)
    monkeypatch.setattr("synthaug.pipeline.run.run", lambda *_: folder)
    result = run("--output", str(tmp_path / "out"))
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.output.splitlines()
    weak = lines.index("weak:    generator: 3 % are recognised; train longer")
    advice = "advice:  do not add them: no gain over the stack of controls was shown"
    assert lines[weak + 1] == advice
    assert f"next:    open {folder.uri}/report.html" in lines[-2]
    assert lines[-1].startswith("next:    synthaug studio ")
    assert "weak:    detector" not in result.output


# --- nothing is there ---


@pytest.mark.parametrize("command", ["validate", "export"])
def test_a_set_in_which_nothing_is_found_is_an_error(tmp_path: Path, command: str) -> None:
    document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cow"}]}
    (tmp_path / "t.json").write_text(json.dumps(document))
    words = [command, "coco:t.json", "--root", str(tmp_path)]
    if command == "export":
        words += ["--to", "coco", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "not one image is in the data set" in result.output
    assert not (tmp_path / "out").exists()


# --- what surrounds a command ---


def ended(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "synthaug.pipeline.cli", *words]
    return subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False, **more)


def test_without_a_stdout_nothing_breaks() -> None:
    done = ended("list", preexec_fn=lambda: os.close(1))
    assert (0, "") == (done.returncode, done.stderr)
