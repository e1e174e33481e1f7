"""The whole path on tiny real runs.

Files, same bytes for any number of workers, kills, finished work kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import psutil
import pytest

from synthaug.pipeline.commands.status import lines as status_lines
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.steps import STEPS
from tests import faulty_s3, paths

ROOT = paths.ROOT
SMOKE = ROOT / "jobs" / "smoke.yaml"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start(output: Path | str, *overrides: str, job: Path = SMOKE) -> subprocess.Popen[str]:
    """Start `synthaug run` on a job in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "synthaug.pipeline.cli",
        "run",
        str(job),
        "--output",
        str(output),
        *overrides,
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 500.0) -> str:
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, out
    return out


def digests(output: Path) -> dict[str, str]:
    """What must be the same bytes: the synthetic shards, both checkpoints and the pseudo-labels."""
    kept = ("data/*.parquet", "checkpoints/*", "pseudo/*")
    found = sorted(path for pattern in kept for path in output.glob(pattern))
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    output = tmp_path_factory.mktemp("one") / "run"
    finish(start(output, "cluster.executor=serial"))
    return output


def test_a_run_leaves_what_the_design_promises(reference: Path) -> None:
    pseudo = [f"pseudo/{name}.json" for name in ("calibration", "detections", "instances")]
    for name in ("job.yaml", "metrics.json", "report.html", "coco/instances.json", *pseudo):
        assert (reference / name).stat().st_size > 0, name
    coco = json.loads((reference / "coco" / "instances.json").read_text())
    assert len(coco["images"]) == 32
    assert all(
        (reference / "coco" / "images" / image["file_name"]).is_file() for image in coco["images"]
    )
    assert {p.name for p in (reference / "checkpoints").iterdir()} == {
        f"{name}.safetensors" for name in ("detector", "labeller", "generator")
    }
    assert len(list((reference / "data").glob("*.parquet"))) == 4
    assert len(list((reference / "steps").glob("*/manifest.json"))) == len(STEPS)
    scores = json.loads((reference / "metrics.json").read_text())["scores"]
    assert {"real", "shuffled"} <= set(scores["dap"]["controls"])
    assert (
        scores["cas"]["card"]["generator_sha256"]
        == digests(reference)["checkpoints/generator.safetensors"]
    )


def test_exported_coco_loads_and_agrees_with_the_table(reference: Path) -> None:
    """pycocotools, torchvision and the Parquet table tell of the same objects.

    Masks are tight in their boxes.
    """
    from pycocotools.coco import COCO
    from torchvision.datasets import CocoDetection

    from synthaug.pipeline.core import masks
    from synthaug.pipeline.formats.parquet import read as parquet

    table = parquet.open_table(reference / "data")
    coco = COCO(str(reference / "coco" / "instances.json"))
    dataset = CocoDetection(
        str(reference / "coco" / "images"), str(reference / "coco" / "instances.json")
    )
    assert len(dataset) == len(table) == 32
    by_name = {image["file_name"]: image["id"] for image in coco.imgs.values()}
    for i in range(len(table)):
        scene = table[i]
        annotations = coco.loadAnns(coco.getAnnIds([by_name[str(scene.image.path)]]))
        assert len(annotations) == len(scene.objects)
        assert min([a["id"] for a in annotations], default=1) >= 1
        shown = masks.decode_all(scene.objects, (scene.height, scene.width))
        assert shown.sum(0).max(initial=0) <= 1, "masks overlap"
        assert masks.tight_boxes(shown).tolist() == scene.objects.boxes.tolist()
        assert scene.provenance is not None
        assert scene.provenance.generator == "lostgan"


def test_a_run_is_handed_over_with_its_real_images_and_a_card(
    reference: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from synthaug.pipeline.cli import main
    from synthaug.pipeline.formats.reference import open_dataset

    told = CliRunner().invoke(
        main, ["export", str(reference), "--to", "yolo", "--out", str(tmp_path / "out")]
    )
    assert told.exit_code == 0, told.output
    train, val = (
        open_dataset(f"yolo:{tmp_path}/out?split={split}", Path()) for split in ("train", "val")
    )
    manifest = json.loads(next((reference / "steps").glob("ingest-*/manifest.json")).read_text())[
        "splits"
    ]
    assert len(train) == manifest["labelled"]["images"] + 32
    assert len(val) == manifest["validation"]["images"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**DAP**" in card
    assert json.loads((reference / "metrics.json").read_text())["job_sha256"] in card


def test_exported_coco_trains_in_detectron2(reference: Path) -> None:
    """Its reader and mapper take the export as it is; boxes are the tight boxes of masks."""
    pytest.importorskip(
        "detectron2", reason="detectron2 is on no registry; install it from its repository"
    )
    from detectron2.data import DatasetMapper
    from detectron2.data.datasets import load_coco_json

    coco = reference / "coco"
    records = load_coco_json(str(coco / "instances.json"), str(coco / "images"), "export")
    assert len(records) == 32
    mapper = DatasetMapper(
        True,
        augmentations=[],
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    written = json.loads((coco / "instances.json").read_text())["annotations"]
    seen = [mapper(record)["instances"] for record in records]
    assert sum(len(found) for found in seen) == len(written)
    for found in seen:
        assert (found.gt_masks.get_bounding_boxes().tensor == found.gt_boxes.tensor).all()


def wait_for(
    process: subprocess.Popen[str], ready: Callable[[], bool], seconds: float = 300.0
) -> None:
    """Wait until `ready`; the run must still be going on."""
    began = time.monotonic()
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() - began < seconds
        time.sleep(0.02)


def files(output: Path, pattern: str) -> list[Path]:
    return list((output / "steps").glob(pattern)) if (output / "steps").exists() else []


def scores_of(run: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((run / "metrics.json").read_text())["scores"]
    return scores


def workers_of(process: subprocess.Popen[str], title: str) -> list[psutil.Process]:
    """Ray's worker processes that work on a task of this title now (its own agents have titles of
    that form too).
    """
    titles = [
        (p, " ".join(p.cmdline())) for p in psutil.Process(process.pid).children(recursive=True)
    ]
    return [p for p, found in titles if found.startswith(title)]


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL the driver; then what it leaves behind, as a machine that goes down would."""
    orphans = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for orphan in orphans:
        if orphan.is_running():
            os.kill(orphan.pid, signal.SIGKILL)


def test_two_workers_killed_at_three_moments_make_the_same_bytes_and_lose_nothing(
    reference: Path, tmp_path: Path
) -> None:
    """A worker dies in the detector's training, the driver in the generator's and in the
    production.

    What one process made without a break is the same, the scores too, whoever looked at the images.
    """
    output = tmp_path / "run"
    process = start(output, "cluster.workers=2")
    wait_for(process, lambda: bool(files(output, "train_detector-*/state.safetensors")))
    victims = workers_of(process, "ray::_Worker.call")
    assert victims, "no worker to kill"
    for victim in victims:
        victim.kill()
    wait_for(process, lambda: bool(files(output, "train_generator-*/state.safetensors")))
    kill_all(process)
    assert files(output, "train_detector-*/manifest.json")
    assert not files(output, "train_generator-*/manifest.json")

    process = start(output, "cluster.workers=2")
    wait_for(process, lambda: bool(files(output, "synthesize-*/part-*.json")))
    kill_all(process)
    finished = {
        p: p.stat().st_mtime_ns
        for p in files(output, "synthesize-*/part-*.parquet")
        if p.with_suffix(".json").exists()
    }

    told = finish(start(output, "cluster.workers=2"))
    for name in (
        "ingest",
        "train_detector",
        "self_train",
        "calibrate",
        "pseudo_label",
        "train_generator",
        "plan",
    ):
        assert f"{name}: finished earlier" in told
    assert finished
    assert all(p.stat().st_mtime_ns == when for p, when in finished.items()), (
        "a finished shard was made again"
    )
    assert digests(reference) == digests(output)
    assert {"dap", "cas", "mask_iou", "detector_features", "nearest"} <= set(scores_of(reference))
    assert scores_of(reference) == scores_of(output)
    assert not list(output.rglob("*.tmp"))


def holds(run: Folder, step: str, file: str) -> bool:
    """Return whether a folder of this step, on any store, has a file of this pattern."""
    steps = run.sub("steps")
    found = [steps.sub(name).names() for name in steps.folders() if name.startswith(f"{step}-")]
    return any(fnmatch(name, file) for names in found for name in names)


def digests_of(run: Folder) -> dict[str, str]:
    """Return what `digests` does of a run on any store."""
    found = {}
    for name in ("data", "checkpoints", "pseudo"):
        folder = run.sub(name)
        for file in folder.names():
            if name != "data" or file.endswith(".parquet"):
                found[f"{name}/{file}"] = folder.sha256(file)
    return found


@pytest.mark.timeout(3600)
def test_a_store_that_fails_at_times_holds_the_same_bytes(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request in twenty fails, twice the store is away for 20 s, the driver is killed once.

    Half of the run is made in one process, half by Ray's workers.
    """
    pytest.importorskip("moto.server", reason="moto is not installed")
    for name, value in faulty_s3.KEYS.items():
        monkeypatch.setenv(name, value)
    faults = faulty_s3.Faults(share=0.05)
    with faulty_s3.served(faults) as address_of:
        uri = address_of("runs/mine")
        run = Folder.at(uri)
        process = start(uri, "cluster.executor=serial")
        wait_for(process, lambda: holds(run, "train_generator", "state.safetensors"), 900)
        kill_all(process)
        assert not holds(run, "train_generator", "manifest.json")

        process = start(uri, "cluster.workers=2")
        wait_for(process, lambda: holds(run, "train_generator", "manifest.json"), 900)
        faults.go_down(20.0)
        wait_for(process, lambda: holds(run, "synthesize", "part-*.json"), 900)
        faults.go_down(20.0)
        told = finish(process, 900)
        assert "self_train: finished earlier" in told
        assert digests_of(run) == digests(reference)
        assert run.read_json("metrics.json")["scores"] == scores_of(reference)
        status = [line.split(maxsplit=1) for line in status_lines(uri)]
    assert {state.split()[0] for _, state in status} == {"done"}
    failures = {kind: count for kind, count in faults.seen.items() if kind}
    assert set(failures) == set(faults.kinds), failures


def test_a_killed_trial_goes_on_and_trains_nothing_twice(reference: Path, tmp_path: Path) -> None:
    """The worker dies in the first training, the driver and all with it in the second.

    Then the trial is run to its end.
    """
    output = tmp_path / "run"
    shutil.copytree(reference, output)
    trial = [
        "trial.seeds=2",
        "trial.steps=36",
        "trial.headroom=off",
        "cluster.workers=1",
    ]
    two = [*trial, "trial.arms=[real,synthetic]"]
    process = start(output, *two)
    wait_for(process, lambda: bool(files(output, "arms/*/state.safetensors")))
    victims = workers_of(process, "ray::_Worker")
    assert len(victims) == 1, "no worker to kill"
    victims[0].kill()
    wait_for(
        process,
        lambda: (
            bool(files(output, "arms/*.json")) and bool(files(output, "arms/*/state.safetensors"))
        ),
    )
    kill_all(process)
    done = {
        p: p.stat().st_mtime_ns
        for p in files(output, "arms/*.parquet")
        if p.with_suffix(".json").exists()
    }
    told = finish(start(output, *two))
    rows = {p: json.loads(p.read_text()) for p in files(output, "arms/*.json")}
    assert {(row["arm"], row["seed"]) for row in rows.values()} == {
        (a, s) for a in ("real", "synthetic") for s in (0, 1)
    }
    assert len(rows) == 4 and done and all(p.stat().st_mtime_ns == when for p, when in done.items())
    resumed = [row["resumed_from"] for row in rows.values()]
    assert sum(start > 0 for start in resumed) >= 2, (
        f"both killed trainings go on where they were: {resumed}"
    )
    assert "of 2 shards were finished earlier" in told
    assert (output / "trial.md").read_text().count("\n| synthetic | ") == 1
    again = {p: p.stat().st_mtime_ns for p in files(output, "arms/*")}
    told = finish(
        start(
            output, *trial, "trial.arms=[real,synthetic,synthetic_best]", "cluster.executor=serial"
        )
    )
    assert {p: p.stat().st_mtime_ns for p in files(output, "arms/*")} == again, (
        "no control is there to be stacked: the same arm"
    )
    assert "synthetic_best" in (output / "metrics.json").read_text()


def test_a_second_run_does_nothing_and_a_changed_key_only_what_depends_on_it(
    reference: Path,
) -> None:
    told = finish(start(reference, "cluster.executor=serial"))
    assert told.count("finished earlier") == len(STEPS)
    told = finish(start(reference, "cluster.executor=serial", "report.samples=3"))
    assert told.count("finished earlier") == len(STEPS) - 1
    assert "report: finished earlier" not in told


def test_the_demo_runs_from_its_data_to_a_report_that_begins_with_a_verdict(tmp_path: Path) -> None:
    """jobs/demo.yaml as it ships, but for sizes: its steps, its use of the tail, its screening."""
    small = [
        *("checks=report", "cluster.executor=serial", "data.labelled=toy:train?count=60"),
        *("data.unlabelled=toy:unlabelled?count=12", "data.validation=toy:val?count=16"),
        *("detector.steps=4", "detector.batch=4", "detector.image_size=64", "detector.width=16"),
        *("generator.steps=4", "generator.batch=4", "generator.width=8", "generator.threads=1"),
        *("generator.flow_steps=2", "plan.count=8", "plan.shard=8", "verify.steps=2"),
        *("score.dap.resamples=0", "score.cas.steps=4", "score.real_or_made.objects_per_class=8"),
        *("score.memorizing.objects_per_class=8", "trial.steps=2", "report.samples=4"),
    ]
    finish(start(tmp_path / "run", *small, job=ROOT / "jobs" / "demo.yaml"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"dap", "cas", "real_or_made", "spectrum", "memorizing"} == set(metrics["scores"])
    classes = metrics["plan"]
    assert classes["windmill"]["target"] > 2 * classes["windmill"]["natural"]
    assert classes["tree"]["target"] < classes["tree"]["natural"]
    page = (tmp_path / "run" / "report.html").read_text()
    told = page.index('<p class="verdict"')
    assert told < page.index('<dl class="tiles">')
    assert page[told:].index("screening") < 400
