"""What the report shows is chosen by position and size, and every picture is of the image it is
named after.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import (
    Category,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps import report, verify
from synthaug.pipeline.steps.report import Spec, first_instances, read_logs
from tests.paths import JOBS

CLASSES = (Category(1, "kite"), Category(2, "house"))


@cache
def smoke_job() -> Job:
    return load_job(JOBS / "smoke.yaml", ["cluster.executor=serial"])


def scene_of(name: str, objects: list[tuple[int, int]], **columns: Any) -> Scene:
    """A scene of 40 x 30 pixels; objects are (class, side) squares."""
    pixels = np.full((30, 40, 3), sum(name.encode()) % 256, np.uint8)
    boxes = [[0, 0, side, side] for _, side in objects]
    found = Objects.build([label for label, _ in objects], boxes, **columns)
    return Scene(name, 30, 40, ImageRef(encode(pixels, "png")), found)


def table_of(*scenes: Scene) -> SceneList:
    return SceneList(CLASSES, list(scenes))


def spec_of(root: Path, *steps: str, **manifests: dict[str, Any]) -> Spec:
    folders = {step: str(root / step) for step in steps}
    return Spec(smoke_job(), manifests, folders, str(root / "report"))


# ---- Examples of a class ----


def test_the_largest_object_of_a_class_stands_for_its_image() -> None:
    table = table_of(scene_of("a", [(0, 4), (0, 9), (1, 3), (0, 8)]))
    assert {0: [(0, 1)], 1: [(0, 2)]} == first_instances(table, [0, 1], 6)


def test_a_crowd_is_no_example_however_large() -> None:
    table = table_of(scene_of("a", [(0, 4), (0, 20)], iscrowd=[False, True]))
    assert {0: [(0, 0)]} == first_instances(table, [0], 6)
    alone = table_of(scene_of("a", [(0, 20)], iscrowd=[True]))
    assert {0: []} == first_instances(alone, [0], 6)


def test_size_is_the_area_of_the_mask_and_not_of_the_box() -> None:
    table = table_of(scene_of("a", [(0, 20), (0, 9)], area=[10, 81]))
    assert {0: [(0, 1)]} == first_instances(table, [0], 6)


def test_only_the_first_images_are_taken_in_table_order() -> None:
    scenes = [scene_of(name, [(0, 5)]) for name in "abcd"]
    assert {0: [(0, 0), (1, 0)]} == first_instances(table_of(*scenes), [0], 2)


def test_classes_that_were_not_asked_for_are_left_out() -> None:
    table = table_of(scene_of("a", [(0, 5), (1, 6)]))
    assert {1: [(0, 1)]} == first_instances(table, [1], 6)


def test_a_class_that_is_full_takes_no_more_while_another_still_misses_some() -> None:
    scenes = [scene_of("a", [(0, 5)]), scene_of("b", [(0, 5)]), scene_of("c", [(1, 5)])]
    assert {0: [(0, 0)], 1: [(2, 0)]} == first_instances(table_of(*scenes), [0, 1], 1)


def test_no_more_than_one_image_is_read_after_the_last_that_is_needed() -> None:
    class Short(SceneList):
        def __getitem__(self, index: int) -> Scene:
            assert index <= 2, "an image was read for nothing"
            return super().__getitem__(index)

    scenes = [scene_of(name, [(0, 5)]) for name in "abcd"]
    first_instances(Short(CLASSES, scenes), [0], 2)


# ---- Drawing ----


def test_pictures_are_drawn_once_each_in_the_order_of_the_table() -> None:
    drawn: list[tuple[str, int]] = []

    def draw(scene: Scene, number: int) -> Any:
        drawn.append((scene.image_id, number))
        return f"{scene.image_id}{number}"

    table = table_of(*(scene_of(name, [(0, 5), (1, 5)]) for name in "abc"))
    pictures = report._draw(table, [(2, 0), (0, 1), (2, 0), (0, 0)], draw)
    assert [("a", 0), ("a", 1), ("c", 0)] == drawn
    assert {(0, 0): "a0", (0, 1): "a1", (2, 0): "c0"} == pictures


def pairs_of(root: Path, sources: list[str], most: int) -> list[Any]:
    """Pairs of as many synthetic images as there are sources; the real table holds r0, r1, r2."""
    real = [scene_of(f"r{number}", [(0, 5)]) for number in range(3)]
    planned, made = [], []
    for number, source in enumerate(sources):
        origin = Provenance(number, "boxes", "", source, f"reason {number}")
        layout = scene_of(f"s{number}", [(0, 5), (1, 6)])
        planned.append(replace(layout, provenance=origin))
        finished = layout.with_objects(layout.objects.select([0]))
        made.append(replace(finished, provenance=origin))
    tables = {"ingest/labelled": real, "plan": planned, "synthesize": made}
    for name, scenes in tables.items():
        parquet.write(table_of(*scenes), Folder.at(root / name))
    return report._pairs(spec_of(root, "ingest", "plan", "synthesize"), most)


def test_an_image_stands_beside_its_own_source_with_its_own_reason(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, ["r2", "r0", "r2"], 12)
    assert ["s0", "s1", "s2"] == [pair.image_id for pair in pairs]
    assert ["r2", "r0", "r2"] == [pair.source for pair in pairs]
    assert ["reason 0", "reason 1", "reason 2"] == [pair.reason for pair in pairs]
    assert pairs[0].real == pairs[2].real
    assert pairs[0].real != pairs[1].real


def test_pairs_count_what_was_planned_and_what_is_visible(tmp_path: Path) -> None:
    (pair,) = pairs_of(tmp_path, ["r1"], 12)
    assert (2, 1) == (pair.planned, pair.visible)


def test_pairs_are_spread_through_the_set(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, ["r0", "r1", "r2", "r0", "r1", "r2"], 3)
    assert ["s0", "s2", "s4"] == [pair.image_id for pair in pairs]


def test_a_source_that_is_not_in_the_table_leaves_its_half_empty(tmp_path: Path) -> None:
    (pair,) = pairs_of(tmp_path, ["elsewhere"], 12)
    assert pair.real is None
    assert "elsewhere" == pair.source


# ---- Verdicts ----


def test_verdicts_come_from_kept_and_rejected_objects_of_the_shown_images(tmp_path: Path) -> None:
    def judged(name: str, number: int, verdict: str, score: float) -> Scene:
        columns = {"id": [number], "verdict": [verdict], "verdict_score": [score]}
        return scene_of(name, [(0, 5)], **columns)

    kept = [judged("a", 1, "verified", 0.75), judged("b", 2, "verified", 0.5)]
    rejected = [judged("a", 3, "missing", 0.125)]
    parquet.write(table_of(*kept), Folder.at(tmp_path / "verify"))
    parquet.write(table_of(*rejected), Folder.at(tmp_path / "verify" / verify.REJECTED))
    spec = spec_of(tmp_path, "verify")
    assert {1: ("verified", 0.75), 3: ("missing", 0.125)} == report._verdicts(spec, {"a"})
    assert {2: ("verified", 0.5)} == report._verdicts(spec, {"b"})


# ---- What is there and what is not ----


def test_steps_without_a_folder_are_missing_and_the_others_are_not(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "ingest", "plan", ingest={"splits": {}})
    own_run = spec.run()
    missing = [name for name in report.NEEDS if name not in ("ingest", "plan")]
    assert missing == list(own_run.missing)
    assert {"splits": {}} == own_run.manifests["ingest"]


def test_logs_are_read_from_the_folder_of_their_own_step(tmp_path: Path) -> None:
    for number, name in enumerate(report.LOGS):
        row = f'{{"step": {number}}}\n'.encode()
        Folder.at(tmp_path / name).write_bytes("log.jsonl", row)
    Folder.at(tmp_path / "train_detector").write_bytes(report.EVALUATION, b'{"AP50": 0.5}\n')
    logs = read_logs({name: str(tmp_path / name) for name in report.LOGS})
    for number, name in enumerate(report.LOGS):
        assert [{"step": number}] == logs[name]
    assert [{"AP50": 0.5}] == logs["evaluation"]


def test_a_training_that_is_not_there_has_an_empty_log() -> None:
    logs = read_logs({})
    assert {"train_detector", "self_train", "train_generator", "evaluation"} == set(logs)
    assert [] == [row for rows in logs.values() for row in rows]


def test_without_samples_no_table_is_opened(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    job = smoke_job()
    quiet = replace(spec, job=replace(job, report=replace(job.report, samples=0)))
    pictures = report.pictures(quiet, quiet.run())
    assert not pictures.pairs
    assert not pictures.classes


@pytest.mark.parametrize(("key", "value"), [("samples", 3), ("title", "Kites")])
def test_settings_follow_the_section_and_the_name_but_not_the_rest(key: str, value: Any) -> None:
    job = smoke_job()
    usual = report.settings(job)
    section = replace(job.report, **{key: value})
    assert usual != report.settings(replace(job, report=section))
    assert usual != report.settings(replace(job, name="other"))
    assert usual == report.settings(replace(job, seed=job.seed + 1))
