"""`synthaug init` whole: the job that it writes passes a dry run as written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from synthaug.pipeline.cli import main
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from tests.paths import sample_data

WIDTH, HEIGHT = 160, 128
CLASSES = ("fish", "shark", "ray")
# class of each object of an image, repeated over the images: 9 fish to 3 sharks to 1 ray
SHOWN = ([0, 0, 0, 1], [0, 0, 1], [0, 0, 0, 0, 1, 2])


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="synthaug")


def error_of(result: Result) -> str:
    """Return the one line of an error in the user's words."""
    assert 2 == result.exit_code, result.output
    (line,) = result.stderr.strip().splitlines()
    return str(line)


def init(*words: str | Path) -> Result:
    result = call("init", *words)
    assert 0 == result.exit_code, result.output
    return result


def written(result: Result) -> tuple[Path, Job]:
    """Return the file that a call says it wrote, and the job in it."""
    (line,) = [line for line in result.output.splitlines() if line.startswith("wrote ")]
    file = Path(line.split()[1].rstrip(":"))
    return file, load_job(file)


def dry_run(result: Result) -> Result:
    """Run the command that a call names as the next one."""
    last = result.output.splitlines()[-1]
    assert last.startswith("next:    synthaug run ")
    done = call(*last.removeprefix("next:    synthaug ").split(), "--output", "dry")
    assert 0 == done.exit_code, done.output
    assert "the job and its data are in order" in done.output
    following = done.output.splitlines()[-1]
    assert following.startswith("next:    synthaug run ")
    assert "--dry-run" not in following
    return done


def picture(file: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    Image.fromarray(np.kron(coarse, np.ones((16, 16, 1), np.uint8))).save(file, quality=90)


def write_set(
    file: Path, images: Path, count: int = 6, first: int = 1, shown: tuple[list[int], ...] = SHOWN
) -> Path:
    """Write a COCO file and its pictures; classes that no object shows are listed too."""
    images.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(first, first + count):
        name = f"{number}.jpg"
        picture(images / name, number)
        listed.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for place, category in enumerate(shown[number % len(shown)] if shown else []):
            box = [10 + 20 * place, 10, 12 + 4 * category, 20]
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": category + 1}
            annotations.append({**one, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]})
    categories = [{"id": at + 1, "name": name} for at, name in enumerate(CLASSES)]
    document = {"images": listed, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(document))
    return file


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with a set of two splits in `reef`."""
    write_set(tmp_path / "reef" / "annotations" / "train.json", tmp_path / "reef" / "images")
    validation = tmp_path / "reef" / "annotations" / "val.json"
    write_set(validation, tmp_path / "reef" / "images", count=3, first=7)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_becomes_a_commented_job_that_passes_a_dry_run(place: Path) -> None:
    result = init("reef")
    assert "labelled:   coco:annotations/train.json (its name says train)" in result.output
    assert "rare:       ray 2, of 26 labelled objects" in result.output
    file, job = written(result)
    assert Path("reef.yaml") == file
    assert "next:    synthaug run reef.yaml --dry-run" == result.output.splitlines()[-1]
    assert ("reef", "coco:annotations/val.json", "") == (
        job.data.root,
        job.data.validation,
        job.data.unlabelled,
    )
    assert "fill" == job.generator.system
    assert ("balanced", "rare", "jpeg") == (job.plan.target, job.trial.goal, job.synthesize.format)
    text = file.read_text()
    for line in yaml.safe_dump(yaml.safe_load(text)["detector"]).splitlines():
        assert line.split(":")[0].strip("- ") in text
    assert "# each labelled image is seen" in text or "# what the time allows" in text
    dry_run(result)


def test_no_file_is_ever_overwritten(place: Path) -> None:
    (place / "reef.yaml").write_text("mine")
    assert "reef.yaml is there already; name another file with --out" in error_of(
        call("init", "reef")
    )
    assert "mine" == (place / "reef.yaml").read_text()
    result = init("reef", "--out", "other.yaml")
    assert Path("other.yaml") == written(result)[0]
    assert not (place / "base.yaml").exists()


def test_one_file_is_enough_and_a_part_of_it_is_held_out(place: Path) -> None:
    result = init("reef/annotations/train.json")
    assert "validation: none found: a part of the labelled images is held out" in result.output
    file, job = written(result)
    assert "reef.yaml" == file.name
    assert "" == job.data.validation
    assert "5 images" in file.read_text()  # of six, one is held out
    assert "# this part of them, fixed: 1 image" in file.read_text()
    dry_run(result)


def test_annotations_and_pictures_may_lie_apart(place: Path) -> None:
    shutil.move("reef/images", "photos")
    shutil.copy("reef/annotations/train.json", "labels.json")
    _, job = written(init("labels.json", "photos"))
    assert "coco:labels.json?images=photos" == job.data.labelled
    assert "" == job.data.unlabelled
    _, job = written(init("labels.json", "--images", "photos", "--out", "b.yaml"))
    assert "coco:labels.json?images=photos" == job.data.labelled


def test_pictures_of_no_file_are_the_unlabelled_ones(place: Path) -> None:
    (place / "more").mkdir()
    picture(place / "more" / "x.jpg", 99)
    result = init("reef", "more")
    _, job = written(result)
    assert ("coco:reef/annotations/train.json", "images:more") == (
        job.data.labelled,
        job.data.unlabelled,
    )
    dry_run(result)


def test_roles_are_those_that_the_user_tells(place: Path) -> None:
    words = ("--labelled", "val.json", "--validation", "train.json", "--out", "a.yaml")
    _, job = written(init("reef", *words))
    assert "coco:annotations/val.json" == job.data.labelled
    assert "coco:annotations/train.json" == job.data.validation
    words = ("--labelled", "coco:reef/annotations/train.json", "--validation", "")
    _, job = written(init(*words, "--out", "b.yaml"))
    assert "coco:reef/annotations/train.json" == job.data.labelled


def test_the_same_image_in_two_splits_is_told_and_the_job_says_so(place: Path) -> None:
    shutil.copy("reef/images/1.jpg", "reef/images/7.jpg")
    result = init("reef")
    assert "note:       images that are in two splits, or nearly so: 1 pair" in result.output
    assert "report" == written(result)[1].data.leaks


def test_a_wrong_record_is_left_out_and_told(place: Path) -> None:
    file = place / "reef" / "annotations" / "train.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"] = [5, 5, 0, 0]
    file.write_text(json.dumps(document))
    result = init("reef")
    assert "note:       records that are wrong and left out: 1, such as " in result.output
    assert "skip" == written(result)[1].data.on_bad
    dry_run(result)


def test_a_test_that_cannot_be_used_is_left_out_and_told(place: Path) -> None:
    test = write_set(place / "reef" / "annotations" / "test.json", place / "reef" / "images", 2, 20)
    assert "coco:annotations/test.json" == written(init("reef"))[1].trial.evaluation
    document = json.loads(test.read_text())
    document["categories"][0]["name"] = "whale"
    test.write_text(json.dumps(document))
    result = init("reef", "--out", "b.yaml")
    assert "note:       test: coco:annotations/test.json cannot be used: " in result.output
    assert "whale" in result.output
    assert "" == written(result)[1].trial.evaluation


def test_images_that_cannot_be_read_are_one_line(place: Path) -> None:
    for picture_file in (place / "reef" / "images").iterdir():
        picture_file.write_bytes(b"no picture")
    told = error_of(call("init", "reef"))
    assert "data.labelled: not one image can be read; the first: " in told
    assert "1.jpg" in told
    assert not (place / "reef.yaml").exists()


def test_one_class_has_no_tail(place: Path) -> None:
    write_set(place / "one" / "train.json", place / "one" / "images", shown=([0], [0, 0]))
    result = init("one")
    assert "rare:" not in result.output
    assert "natural" == written(result)[1].plan.target
    dry_run(result)


def test_the_time_decides_the_sizes(place: Path) -> None:
    _, short = written(init("reef", "--minutes", "12", "--out", "a.yaml"))
    _, long = written(init("reef", "--minutes", "600", "--out", "b.yaml"))
    assert short.detector.training.steps < long.detector.training.steps
    assert short.generator.training.steps < long.generator.training.steps


def test_bad_input_is_one_line_and_nothing_is_written(place: Path) -> None:
    write_set(place / "bare" / "train.json", place / "bare" / "images", shown=())
    crowds = write_set(place / "crowds" / "train.json", place / "crowds" / "images")
    document = json.loads(crowds.read_text())
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    crowds.write_text(json.dumps(document))
    (place / "empty").mkdir()
    cases = {
        ("nowhere",): "nowhere: no such file or folder",
        ("empty",): "no data set is recognized",
        ("bare",): "has no labels; name a labelled set too",
        ("crowds",): "hold not one object to be learnt",
        ("reef/images",): "has no labels",
        ("reef/annotations/nothing.json",): "no such file or folder",
        (): "DATASET: none is named",
        ("reef", "--minutes", "0"): "--minutes: 0 is no time",
        ("reef", "--out", "job.txt"): "its name must end in .yaml",
        ("reef", "--out", "no/job.yaml"): "there is no folder no",
        ("reef", "--labelled", "coco:none.json"): "none.json",
        ("reef", "--unlabelled", "nowhere"): "nowhere: no such file or folder",
        ("koco:reef/annotations/train.json",): "no such file or folder",
    }
    for words, told in cases.items():
        assert told in error_of(call("init", *words)), words
    assert [] == list(place.glob("*.yaml"))


# --- samples of real data sets: their first images, in their own files ---

FEW = 10  # images of each file


def shrink(source: Path, target: Path) -> Path:
    """Copy a COCO sample with the first images of each annotation file, and their maps."""
    (target / "images").mkdir(parents=True)
    (target / "annotations").mkdir()
    for file in sorted((source / "annotations").glob("*.json")):
        document = json.loads(file.read_text())
        document["images"] = document["images"][:FEW]
        kept = {image["id"] for image in document["images"]}
        annotations = document.get("annotations", [])
        document["annotations"] = [one for one in annotations if one["image_id"] in kept]
        (target / "annotations" / file.name).write_text(json.dumps(document))
        for image in document["images"]:
            shutil.copy(source / "images" / image["file_name"], target / "images")
        maps = source / file.stem
        if maps.is_dir():
            (target / file.stem).mkdir()
            for one in document["annotations"]:
                shutil.copy(maps / one["file_name"], target / file.stem)
    return target


SAMPLES = {  # folder -> the format of its labelled images, the generator
    "aquarium": ("coco:annotations/train_labelled.json", "fill"),
    "facade": ("coco:annotations/train_labelled.json", "fill"),
    "bccd": ("coco:annotations/train_labelled.json", "fill"),
    "camvid": ("coco_panoptic:annotations/panoptic_train.json", "panoptic"),
    "cityscapes_format_mini": ("cityscapes:.?split=train", "panoptic"),
    "vg_format_mini": ("visual_genome:.?split=train&min_count=2&min_predicate=2", "fill"),
    "vg_mini": ("visual_genome:.?split=all&min_count=2", "fill"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_job_of_each_sample_passes_a_dry_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sample_data(name)
    if (folder / "annotations").is_dir():
        folder = shrink(folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    result = init(folder)
    _, job = written(result)
    assert SAMPLES[name] == (job.data.labelled, job.generator.system)
    assert ("vg_mini" == name) == (not job.data.validation)
    dry_run(result)
