"""The policy of each verdict does what the job says of it, and nothing vanishes on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.config.schema import Verify
from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.scene import Objects
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.verification.policy import (
    EXTRA_IDS,
    EXTRA_PER_IMAGE,
    VerifiedScene,
    apply_policy,
    count_objects,
    segments_only,
)
from synthaug.pipeline.verification.verdicts import EXTRA, FAILED, KEPT, Verdicts

SOURCE = toy.read(toy.Config("test", 2), Path())
CATEGORIES = toy.CATEGORIES


def case(names, index=7, found=((40, 40, 50.5, 50),), **policy):
    """Return a scene with one object per verdict, what is found besides, and the policy applied to
    both.
    """
    n = len(names)
    boxes = np.array([[4 * k, 4, 4 * k + 3.5, 12] for k in range(n)], np.float32).reshape(-1, 4)
    scene = replace(SOURCE[0], panoptic=None).with_objects(
        Objects.build([0] * n, boxes, rle=[None] * n)
    )
    row = DetectionRow(
        0,
        64,
        64,
        boxes,
        np.zeros(n, np.int64),
        np.zeros(n, bool),
        np.array(found, np.float32).reshape(-1, 4),
        np.ones(len(found), np.int64),
        np.full(len(found), 0.9, np.float32),
    )
    result = Verdicts(
        tuple(names),
        np.ones(n, np.float32),
        np.full(n, 0.9, np.float32),
        boxes,
        np.arange(len(found)),
    )
    return row, result, apply_policy(scene, row, result, Verify(**policy), index)


def verified(*arguments, **policy) -> VerifiedScene:
    return case(*arguments, **policy)[2]


def test_an_image_goes_when_too_much_failed_or_nothing_is_left():
    assert verified(["kept", "missing", "missing"]).dropped == "failed"
    assert verified(["kept", "missing"]).dropped == "", "half of them is not more than half"
    assert verified(["missing"], max_failed=1.0).dropped == "empty"
    assert verified(["swapped", None], max_failed=1.0).dropped == "empty", (
        "ignore regions alone teach nothing"
    )
    assert verified([None, None]).dropped == ""
    assert verified(["missing"], missing="keep", max_failed=1.0).dropped == ""
    gone = verified(["kept", "missing", "missing"])
    assert gone.scene is None
    assert gone.rejected.verdict == ("kept", "missing", "missing")


@pytest.mark.parametrize("name", FAILED)
@pytest.mark.parametrize("action", ["keep", "drop", "ignore"])
def test_each_verdict_follows_the_key_of_its_own_name(name, action):
    others = dict.fromkeys(FAILED, "keep")
    names = ["kept", *FAILED]
    done = verified(names, max_failed=1.0, extra="keep", **{**others, name: action})
    assert done.scene is not None
    left = dict(zip(done.scene.objects.verdict, done.scene.objects.iscrowd.tolist(), strict=True))
    assert left.get(name) == {"keep": False, "drop": None, "ignore": True}[action]
    assert not any(crowd for other, crowd in left.items() if other != name)
    assert len(left) == (6 if action == "drop" else 7)
    assert done.rejected.verdict == ((name,) if action == "drop" else ())


def test_policies_do_what_they_say():
    names = ["kept", "missing", "swapped", "misplaced"]
    done = verified(names, max_failed=1.0, misplaced="keep")
    assert done.scene is not None
    objects = done.scene.objects
    assert objects.verdict == ("kept", "swapped", "misplaced", "extra")
    assert objects.iscrowd.tolist() == [False, True, False, True]
    assert done.rejected.verdict == ("missing",)
    assert objects.boxes[1].tolist() == [8, 4, 12, 12], "a region is full pixels"
    assert masks.area(objects.rle[1] or "") == 32 == objects.area[1]
    assert objects.boxes[3].tolist() == [40, 40, 51, 50]
    assert len(set(objects.id.tolist())) == 4
    alone = verified(["kept"], extra="keep").scene
    assert alone is not None
    assert alone.objects.verdict == ("kept",)


def test_regions_stay_inside_the_image_and_have_a_pixel_at_least():
    found = [(-5, -5, 3, 3), (60.2, 60.2, 70, 70), (10.5, 20, 10.5, 20)]
    scene = verified([None], found=found).scene
    assert scene is not None
    regions = scene.objects.select(scene.objects.iscrowd)
    assert regions.boxes.tolist() == [[0, 0, 3, 3], [60, 60, 64, 64], [10, 20, 11, 21]]
    assert regions.area.tolist() == [9, 16, 1]


def test_ids_of_extra_regions_are_unique_over_images_and_exact_as_json_numbers():
    two = [(40, 40, 50, 50), (20, 40, 30, 50)]
    ids = []
    for index in (0, 1):
        scene = verified([None], index=index, found=two).scene
        assert scene is not None
        ids += scene.objects.id[scene.objects.iscrowd].tolist()
    assert ids == [EXTRA_IDS + k for k in (0, 1, EXTRA_PER_IMAGE, EXTRA_PER_IMAGE + 1)]
    assert all(int(float(number)) == number for number in ids)


def test_an_image_without_objects_and_without_extra_things_stays():
    done = verified([], found=())
    assert done.scene is not None
    assert len(done.scene.objects) == len(done.rejected) == 0


def test_counts_are_of_verdicts_before_the_policy_and_of_labels_after_it():
    names = ["kept", "missing", "swapped", None, None]
    row, result, done = case(names, max_failed=1.0)
    sources = ("synthetic",) * 4 + ("human",)
    counts = count_objects(done, result, row, CATEGORIES, sources)
    label, other = CATEGORIES[0].name, CATEGORIES[1].name
    assert {key: dict(counted) for key, counted in counts.items()} == {
        "kept": {label: 1},
        "missing": {label: 1},
        "swapped": {label: 1},
        "not_judged": {label: 1},
        "real": {label: 1},
        "extra": {other: 1},
        "objects": {label: 3},
    }
    row, result, done = case(["missing"], max_failed=1.0)
    assert done.scene is None
    assert not count_objects(done, result, row, CATEGORIES, ("synthetic",))["objects"]


def test_a_panoptic_map_loses_what_is_dropped_and_keeps_the_segments_of_what_is_ignored():
    scene = SOURCE[1]
    objects = scene.objects
    things = np.flatnonzero(objects.isthing)
    names: list[str | None] = [None] * len(objects)
    names[things[0]] = "missing"
    names[things[1]] = "swapped"
    row = DetectionRow(
        0, 64, 64, objects.boxes, objects.category.astype(np.int64), objects.iscrowd,
        objects.boxes[:1], np.array([1]), np.array([0.9], np.float32),
    )  # fmt: skip
    result = Verdicts(
        tuple(names),
        np.ones(len(objects), np.float32),
        np.full(len(objects), 0.9, np.float32),
        objects.boxes,
        np.array([0]),
    )
    how = Verify(max_failed=1.0, swapped="ignore", missing="drop")
    assert apply_policy(scene, row, result, how, 0).dropped == "empty"
    names[things[-1]] = KEPT
    done = apply_policy(scene, row, replace(result, verdict=tuple(names)), how, 0)
    assert done.scene is not None
    shown = np.unique(panoptic.map_of(done.scene))
    assert panoptic.segment_ids(done.rejected)[0] not in shown
    segments = segments_only(done.scene).objects
    assert EXTRA not in segments.verdict
    assert set(shown[shown > 0].tolist()) == set(panoptic.segment_ids(segments).tolist())
    ignored = done.scene.objects.verdict.index("swapped")
    assert done.scene.objects.rle[ignored] == objects.rle[things[1]]


def test_objects_that_were_not_judged_are_no_reason_to_keep_an_image():
    assert verified(["kept", "missing", "missing", None, None, None]).dropped == "failed"


def test_a_crowd_stays_one_and_a_region_holds_what_the_verdict_rests_on():
    boxes = np.array([[4, 4, 8, 12], [20, 4, 30, 12], [40, 4, 50, 12]], np.float32)
    objects = Objects.build([0] * 3, boxes, rle=[None] * 3, iscrowd=[False, False, True])
    scene = replace(SOURCE[0], panoptic=None).with_objects(objects)
    region = boxes.copy()
    region[1] = [18, 2, 34, 12]
    nothing = np.zeros((0, 4), np.float32)
    none = np.zeros(0, np.int64)
    row = DetectionRow(
        0, 64, 64, boxes, np.zeros(3, np.int64), objects.iscrowd, nothing, none,
        np.zeros(0, np.float32),
    )  # fmt: skip
    ones = np.ones(3, np.float32)
    result = Verdicts((KEPT, "misplaced", None), ones, ones, region, none)
    done = apply_policy(scene, row, result, Verify(max_failed=1.0), 0)
    assert done.scene is not None
    assert done.scene.objects.iscrowd.tolist() == [False, True, True]
    assert done.scene.objects.boxes[1].tolist() == [18, 2, 34, 12]
