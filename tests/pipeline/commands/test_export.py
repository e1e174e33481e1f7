"""`synthaug export`.

A run or a data set in every format, merged, whole or not at all, and every mistake one line.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from synthaug.pipeline.cli import main
from synthaug.pipeline.core.scene import Category, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.source_files import is_ours
from tests import paths
from tests.hard_scenes import CATEGORIES, boxed, masked, perfect

OPENED = {
    "coco": "coco:{out}/{split}/instances.json",
    "hf": "hf:{out}?split={split}",
    "lvis": "lvis:{out}/lvis_{split}.json",
    "parquet": "parquet:{out}/{split}",
    "voc": "voc:{out}?split={split}",
    "yolo": "yolo:{out}?split={split}",
}


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["export", *words], prog_name="synthaug")


def error_of(result: Result) -> str:
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two COCO sets, `a` with masks and `b` with boxes, and a run folder as far as an export reads
    one.
    """
    coco.write(masked(), Folder.at(tmp_path / "a"))
    coco.write(boxed(), Folder.at(tmp_path / "b"))
    made = SceneList(CATEGORIES, [s for s in masked() if s.provenance])
    parquet.write(made, Folder.at(tmp_path / "run" / "data"))
    for part, table in (("labelled", boxed()), ("validation", masked())):
        parquet.write(table, Folder.at(tmp_path / "run" / "steps" / "ingest-0" / part))
    (tmp_path / "run" / "steps" / "ingest-0" / "manifest.json").write_text("{}")
    (tmp_path / "run" / "job.yaml").write_text("name: x\nseed: 5\n")
    metrics = {"job": "x", "job_sha256": "ab", "scores": {}, "steps": {"ingest": "ingest-0"}}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


@pytest.mark.parametrize("name", OPENED)
def test_a_run_is_merged_and_its_validation_images_stay_apart(sets: Path, name: str) -> None:
    out = sets / "out"
    result = run(str(sets / "run"), "--to", name, "--out", str(out))
    assert result.exit_code == 0, (result.output, result.exception)
    train, val = (
        open_dataset(OPENED[name].format(out=out, split=s), sets) for s in ("train", "val")
    )
    assert (
        [c.name for c in train.categories]
        == [c.name for c in val.categories]
        == [c.name for c in CATEGORIES]
    )
    ids = [{table[i].image_id for i in range(len(table))} for table in (train, val)]
    assert {i.split("-")[0] for i in ids[0]} == {"real", "synthetic"}
    assert {i.split("-")[0] for i in ids[1]} == {"validation"}
    assert (len(train), len(val)) == (7, 6)
    assert "train: 3 images of synthetic" in result.output
    assert is_ours(out)
    card = (out / "README.md").read_text()
    assert "seed 5" in card
    assert "| train | real | 4 | 4 | 0 |" in card
    assert "| val | validation | 6 | 8 | 2 |" in card


def test_one_coco_of_real_and_synthetic_says_which_is_which(sets: Path) -> None:
    out = sets / "out"
    run(
        "coco:a/instances.json",
        "--with",
        "coco:b/instances.json",
        "--to",
        "coco",
        "--out",
        str(out),
        "--root",
        str(sets),
    )
    document = json.loads((out / "train" / "instances.json").read_text())
    assert [a["id"] for a in document["annotations"]] == list(
        range(1, len(document["annotations"]) + 1)
    )
    assert {a["iscrowd"] for a in document["annotations"]} == {0, 1}
    assert all("counts" in a["segmentation"] for a in document["annotations"] if a["iscrowd"])
    sources = {a["source"] for a in document["annotations"]}
    assert sources == {"human", "synthetic"}
    made = [i for i in document["images"] if "provenance" in i]
    assert len(made) == 3
    assert made[0]["provenance"]["seed"] == 2**63 - 1


def test_a_perfect_detector_scores_one_on_the_merged_set(sets: Path) -> None:
    from faster_coco_eval import COCO, COCOeval_faster

    out = sets / "out"
    run(
        "coco:a/instances.json",
        "--with",
        "coco:b/instances.json",
        "--to",
        "coco",
        "--out",
        str(out),
        "--root",
        str(sets),
    )
    union = SceneList(CATEGORIES, [*masked().scenes, *boxed().scenes])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(out / "train" / "instances.json"))
        evaluation = COCOeval_faster(truth, truth.loadRes(perfect(union)), "bbox")
        evaluation.run()
    assert evaluation.stats[0] == 1.0


def test_a_single_set_keeps_its_ids_and_the_same_export_is_not_made_twice(sets: Path) -> None:
    words = (
        "coco:a/instances.json",
        "--to",
        "coco",
        "--out",
        str(sets / "out"),
        "--root",
        str(sets),
    )
    assert "no validation images" in run(*words).output
    made = (sets / "out" / "train" / "instances.json").read_bytes()
    assert made == (sets / "a" / "instances.json").read_bytes()
    when = (sets / "out" / "export.json").stat().st_mtime_ns
    assert "there already, the same" in run(*words).output
    assert (sets / "out" / "export.json").stat().st_mtime_ns == when


def test_a_class_whose_id_is_taken_gets_another_and_it_is_told(sets: Path) -> None:
    other = SceneList((Category(2, "yes"),), [s for s in boxed() if not len(s.objects)])
    coco.write(other, Folder.at(sets / "c"))
    words = ("--to", "yolo", "--out", str(sets / "out"), "--root", str(sets))
    result = run("coco:a/instances.json", "--with", "coco:c/instances.json", *words)
    assert "class 'yes' has the new id 92" in result.output


def test_images_that_are_in_both_splits_are_told(sets: Path) -> None:
    words = ("--to", "coco", "--out", str(sets / "out"), "--root", str(sets))
    result = run("coco:a/instances.json", "--val", "coco:a/instances.json", *words)
    told = "6 image files are training and validation images at once"
    assert told in result.output
    assert told.removeprefix("6 ") in (sets / "out" / "README.md").read_text()


WRONG = {
    "no format": (("coco:a/instances.json", "--out", "out"), "--to: names no format"),
    "unknown format": (
        ("coco:a/instances.json", "--to", "yoló", "--out", "out"),
        "did you mean 'yolo'?",
    ),
    "read only": (("coco:a/instances.json", "--to", "toy", "--out", "out"), "is read only; use"),
    "no folder": (("coco:a/instances.json", "--to", "coco"), "--out: names no folder"),
    "no set": (("nothing", "--to", "coco", "--out", "out"), "neither a run folder"),
    "no file": (("coco:none.json", "--to", "coco", "--out", "out"), "none.json"),
    "s3": (
        ("coco:a/instances.json", "--to", "coco", "--out", "s3://bucket/x"),
        "is no local folder",
    ),
    "parts of a set": (
        ("coco:a/instances.json", "--to", "coco", "--out", "out", "--parts", "pseudo"),
        "only a run has parts",
    ),
    "unknown part": (
        ("run", "--to", "coco", "--out", "out", "--parts", "synthetik"),
        "did you mean 'synthetic'?",
    ),
    "part not made": (
        ("run", "--to", "coco", "--out", "out", "--parts", "pseudo"),
        "has no pseudo images",
    ),
    "classes of another": (
        ("coco:a/instances.json", "--with", "coco:d.json", "--to", "hf", "--out", "out"),
        "spelt",
    ),
    "no cityscapes": (
        ("coco:a/instances.json", "--to", "cityscapes", "--out", "out"),
        "is none of Cityscapes'",
    ),
    "not empty": (("coco:a/instances.json", "--to", "coco", "--out", "b"), "not empty"),
    "a file": (("coco:a/instances.json", "--to", "coco", "--out", "run/job.yaml"), "is there"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_mistake_is_one_line_and_leaves_nothing(sets: Path, fault: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(sets)
    document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "No"}]}
    (sets / "d.json").write_text(json.dumps(document))
    before = sorted(p.relative_to(sets) for p in sets.rglob("*"))
    words, told = WRONG[fault]
    assert told in error_of(run(*words))
    assert sorted(p.relative_to(sets) for p in sets.rglob("*")) == before


def test_another_export_is_not_overwritten(sets: Path) -> None:
    words = ("--to", "hf", "--out", str(sets / "out"), "--root", str(sets))
    run("coco:a/instances.json", *words)
    before = (sets / "out" / "README.md").read_bytes()
    assert "holds another export" in error_of(run("coco:b/instances.json", *words))
    assert (sets / "out" / "README.md").read_bytes() == before


def test_a_folder_that_another_export_wrote_meanwhile_is_named(
    sets: Path, monkeypatch: Any
) -> None:
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        (target / "theirs").mkdir(parents=True)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    words = ("--to", "coco", "--out", str(sets / "out"), "--root", str(sets))
    message = error_of(run("coco:a/instances.json", *words))
    assert "was written by another command meanwhile; name another folder" in message
    assert ["theirs"] == [path.name for path in (sets / "out").iterdir()]


@pytest.mark.parametrize("name", OPENED)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    sets: Path, name: str, monkeypatch: Any
) -> None:
    """The disk is full when the second file is begun."""
    written = [0]
    real = Path.open

    def opened(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        written[0] += "w" in mode
        if "w" in mode and written[0] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", opened)
    words = ("coco:a/instances.json", "--val", "coco:b/instances.json", "--to", name)
    message = error_of(run(*words, "--out", str(sets / "out"), "--root", str(sets)))
    assert "No space left on device" in message
    assert "--out" in message
    assert sorted(p.name for p in sets.iterdir()) == ["a", "b", "run"]


def test_a_missing_image_in_the_middle_is_one_line_and_leaves_nothing(sets: Path) -> None:
    table = open_dataset("coco:a/instances.json", sets)
    Path(str(table[3].image.path)).write_bytes(b"no image")
    message = error_of(
        run("coco:a/instances.json", "--to", "voc", "--out", str(sets / "out"), "--root", str(sets))
    )
    assert "image-3" in message
    assert not (sets / "out").exists()


def test_a_kill_in_the_middle_leaves_no_target_and_the_next_export_cleans_up(sets: Path) -> None:
    code = (
        "import sys, time\n"
        "from synthaug.pipeline.cli import main\n"
        "from synthaug.pipeline.formats.coco.write import CocoWriter\n"
        "real = CocoWriter.add\n"
        "def slow(self, *words, **options):\n"
        "    name = real(self, *words, **options); print(name, flush=True)\n"
        "    time.sleep(60 if '3' in name else 0); return name\n"
        "CocoWriter.add = slow; main()"
    )
    words = [
        "export",
        "coco:a/instances.json",
        "--to",
        "yolo",
        "--out",
        str(sets / "out"),
        "--root",
        str(sets),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "image-3" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (sets / "out").exists()
    assert len(list(sets.glob(".out.*.tmp"))) == 1
    assert run(*words[1:]).exit_code == 0
    assert sorted(p.name for p in sets.iterdir()) == ["a", "b", "out", "run"]


def test_jpegs_are_stored_upright_as_their_boxes_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "a.jpg", exif=exif)
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 10]}
    image = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 20}
    document = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "t.json").write_text(json.dumps(document))
    result = run(
        "coco:t.json", "--to", "yolo", "--out", str(tmp_path / "out"), "--root", str(tmp_path)
    )
    assert "1 images that an EXIF tag turned" in result.output
    with (
        Image.open(tmp_path / "images" / "a.jpg") as old,
        Image.open(tmp_path / "out" / "images" / "train" / "a.jpg") as new,
    ):
        assert new.getexif().get(0x0112) == 1
        assert np.array_equal(np.asarray(old), np.asarray(new))
    table = open_dataset("yolo:out", tmp_path)
    np.testing.assert_allclose(table[0].objects.boxes, [[1, 2, 31, 12]], atol=1e-4)


# --- the recipes of docs/handover.md
# ----------------------------------------------------------------------------------


def blocks(name: str) -> list[str]:
    """The recipes of a section, taken from the page itself."""
    text = (paths.ROOT / "docs" / "handover.md").read_text()
    section = text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
    return [part.split("```", 1)[0] for part in section.split("```python\n")[1:]]


def recipe(name: str) -> str:
    """The lines of the first recipe of a section."""
    lines = blocks(name)[0]
    assert len(lines.strip().splitlines()) <= 6
    return lines


@pytest.fixture
def exported(sets: Path, monkeypatch: Any) -> Path:
    monkeypatch.chdir(sets)
    assert run("run", "--to", "coco", "--out", "handover").exit_code == 0
    return sets


def test_the_pycocotools_recipe_runs(exported: Path) -> None:
    truth = json.loads((exported / "handover" / "val" / "instances.json").read_text())
    found = [
        {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]
    (exported / "detections.json").write_text(json.dumps(found))
    space: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(recipe("pycocotools"), "recipe", "exec"), space)
    assert space["evaluation"].stats[0] == 1.0


def test_the_torchvision_recipe_runs(exported: Path) -> None:
    space: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(recipe("torchvision"), "recipe", "exec"), space)
    image, target = space["train"][2]
    assert len(space["train"]) == 7
    assert target["boxes"].shape == (2, 4)
    np.testing.assert_allclose(target["boxes"], boxed()[2].objects.boxes, atol=1e-5)
    assert image.size == (40, 24)


def test_the_torchvision_recipe_of_weights_and_box_losses_runs(exported: Path) -> None:
    space: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for lines in blocks("torchvision"):
            exec(compile(lines, "recipe", "exec"), space)
    weights = json.loads((exported / "handover" / "recipe.json").read_text())["weights"]
    assert {"real", "synthetic"} == set(weights)
    assert {weights[name] for name in space["sets"]} == set(space["sampler"].weights.tolist())
    made = sum(name == "synthetic" for name in space["sets"])
    assert int(space["real_only"].weights.sum()) == len(space["sets"]) - made > 0 < made

    def model(images: list[Any], targets: list[Any]) -> dict[str, float]:
        return {"loss_classifier": 1.0, "loss_objectness": 2.0, "loss_box_reg": 40.0}

    batch = [(0, 0, False), (0, 0, True), (0, 0, True), (0, 0, True)]
    assert 0.25 * 43 + 0.75 * 3 == space["loss_of"](model, batch)


def test_the_ultralytics_recipe_lists_images_by_their_weights(sets: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(sets)
    assert run("run", "--to", "yolo", "--out", "handover").exit_code == 0
    exec(compile(blocks("Ultralytics")[1], "recipe", "exec"), {})
    mixed = (sets / "handover" / "mixed.txt").read_text().splitlines()
    real = (sets / "handover" / "real.txt").read_text().splitlines()
    files = list((sets / "handover" / "images" / "train").iterdir())
    assert {str(file.resolve()) for file in files} == set(mixed)
    assert {str(f.resolve()) for f in files if f.name.startswith("real-")} == set(real)
    assert "train: mixed.txt" in (sets / "handover" / "mixed.yaml").read_text()


def test_the_hugging_face_recipe_runs(sets: Path, monkeypatch: Any) -> None:
    pytest.importorskip("datasets", reason="Hugging Face datasets is no dependency")
    monkeypatch.chdir(sets)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(sets / "cache"))
    assert run("run", "--to", "hf", "--out", "handover").exit_code == 0
    space: dict[str, Any] = {}
    exec(compile(recipe("Hugging Face datasets"), "recipe", "exec"), space)
    train = space["train"]
    assert len(train) == 7
    assert train[0]["image"].size == (40, 24)
    assert train.features["objects"]["category"].feature.names == [c.name for c in CATEGORIES]
    assert train[4]["provenance"]["seed"] == 2**63 - 1


@pytest.mark.parametrize("polygons", [True, False])
def test_ultralytics_reads_every_label(tmp_path: Path, monkeypatch: Any, polygons: bool) -> None:
    """Its data set class finds each object that is no ignore region, with its box.

    With polygons where there are masks.
    """
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    pytest.importorskip("ultralytics", reason="Ultralytics is no dependency")
    from ultralytics.data import utils
    from ultralytics.data.dataset import YOLODataset

    from synthaug.pipeline.formats.yolo import read as yolo

    monkeypatch.setattr(utils, "check_font", lambda *_: None)  # it would download one
    table = masked() if polygons else SceneList(CATEGORIES, [*masked().scenes, *boxed().scenes])
    yolo.write_splits({"train": table, "val": table}, Folder.at(tmp_path / "out"))
    data = utils.check_det_dataset(str(tmp_path / "out" / "data.yaml"))
    assert list(data["names"].values()) == [c.name for c in CATEGORIES]
    read = YOLODataset(
        img_path=data["train"], data=data, task="detect", imgsz=64, augment=False, batch_size=4
    )
    found = {Path(label["im_file"]).stem: label for label in read.labels}
    assert len(found) == len(table)
    for scene in table:
        objects, label = scene.objects.select(~scene.objects.iscrowd), found[scene.image_id]
        centre, half = (
            label["bboxes"][:, :2].astype(float),
            label["bboxes"][:, 2:].astype(float) / 2,
        )
        boxes = np.concatenate([centre - half, centre + half], 1) * (
            [scene.width, scene.height] * 2
        )
        rows = [
            np.round(np.column_stack([c, b]), 3)
            for c, b in ((label["cls"], boxes), (objects.category, objects.boxes))
        ]
        assert sorted(map(tuple, rows[0].tolist())) == sorted(map(tuple, rows[1].tolist()))
        assert len(label["segments"]) == (len(objects) if polygons else 0)
