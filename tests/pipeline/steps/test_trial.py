"""A trial's arms, its conclusions from planted runs, and its section of the report."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.detectors.torchvision_rcnn import Config as RcnnConfig
from synthaug.generators.copy_paste import Config
from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.report import trial as report_trial
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.steps.trial import seeing_everything, usual
from synthaug.pipeline.synthesis.pasting import Pasted
from synthaug.pipeline.trial.arms import (
    ARMS,
    arm_batches,
    arm_named,
    first_part,
    instance_aware_factors,
    on_top_of,
    real_draw,
)
from synthaug.pipeline.trial.conclusions import (
    Classes,
    _group_says,
    best_control,
    conclude,
    values_of,
)
from synthaug.pipeline.trial.paired_tests import paired


def toy_table(count: int, split: str = "train") -> Dataset:
    return open_dataset(f"toy:{split}?count={count}", Path())


CLASSES = {"cat": 900, "dog": 300, "<b>emu</b>": 40}


def planted(gains: dict[str, float], seeds: int = 5, noise: float = 0.004) -> list[dict[str, Any]]:
    """Runs of arms with known gains; `emu` gains twice as much, `cat` nothing."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.02, seeds)
    runs = []
    for name, gain in gains.items():
        for seed in range(seeds):
            per = [0.6, 0.5 + gain, 0.3 + 2 * gain] + shared[seed] + rng.normal(0, noise, 3)
            per_class = {
                str(c): {"AP": ap, "AP50": ap + 0.2, "AP75": ap - 0.1, "AP_fixed": ap + 0.01}
                for c, ap in enumerate(per.tolist())
            }
            values = {
                key: float(np.mean([row[key] for row in per_class.values()]))
                for key in per_class["0"]
            }
            run = {
                "arm": name,
                "seed": seed,
                "seconds": 10.0,
                "looking": 2.0,
                "values": values,
                "per_class": per_class,
            }
            runs.append(run)
    return runs


def concluded(gains: dict[str, float], **trial: Any) -> dict[str, Any]:
    runs = planted(gains)
    arms = [arm_named(name) if name in ARMS else on_top_of(ARMS["rfs"]) for name in gains]
    classes = Classes(list(CLASSES), [0, 1, 2], list(CLASSES.values()), [400, 100, 10])
    return conclude(runs, arms, Trial(seeds=5, **trial), classes, 1000)


def test_planted_runs_give_the_planted_verdicts() -> None:
    told = concluded({"real": 0.0, "rfs": 0.0, "synthetic": 0.06, "placebo": -0.05})
    assert told["comparisons"]["synthetic"]["word"] == "helps"
    assert told["comparisons"]["placebo"]["word"] == "hurts"
    assert told["says"][0].startswith("5 seeds per arm: a true difference of")
    assert 0.001 < told["detectable"] < 0.02
    synthetic = told["comparisons"]["synthetic"]
    assert synthetic["frequent_not_worse"] is True
    emu, cat = (synthetic["classes"][name] for name in ("<b>emu</b>", "cat"))
    assert emu["p_holm"] < 0.01 < cat["p_holm"] and emu["p_holm"] >= emu["p"]
    assert told["groups"] == {"frequent": ["cat"], "common": ["dog"], "rare": ["<b>emu</b>"]}
    assert math.isclose(synthetic["groups"]["rare"]["mean"], 0.12, abs_tol=0.015)


def test_the_best_control_is_chosen_by_its_mean_and_real_data_may_be_it() -> None:
    arms = [arm_named(name) for name in ("real", "rfs", "irfs", "synthetic")]
    runs = planted({"real": 0.0, "rfs": -0.05, "irfs": 0.05, "synthetic": 0.2})
    assert best_control(runs, arms).name == "irfs"
    assert best_control(planted({"real": 0.0, "rfs": -0.05}), arms[:2]).name == "real"
    combined = on_top_of(ARMS["copy_paste"])
    assert combined.added == ("copy_paste", "synthetic") and combined.role == "candidate"


def test_values_come_in_the_order_of_the_seeds() -> None:
    runs = planted({"real": 0.0})
    assert values_of(list(reversed(runs)), "real") == values_of(runs, "real")


def test_the_section_escapes_names_and_is_empty_without_a_trial() -> None:
    told = {**concluded({"real": 0.0, "rfs": 0.01, "synthetic": 0.06}), "images": 87}
    page = report_trial.section(told)
    assert "<b>emu</b>" not in page and "&lt;b&gt;emu&lt;/b&gt;" in page
    assert "synthetic helps" in page and "87 real images" in page
    assert len(re.findall(r"<svg", page)) == 1 and page.count("<circle") == 2, (
        "rfs and synthetic against real"
    )
    assert page.index("synthetic helps") < page.index("5 seeds per arm") < page.index("<svg")
    assert report_trial.section({"seeds": 0}) == ""


def test_the_same_as_markdown() -> None:
    told = {**concluded({"real": 0.0, "rfs": 0.01, "synthetic": 0.06}, curve=()), "images": 87}
    text = report_trial.markdown(told)
    assert text.startswith("- synthetic helps: ") and "\\<b\\>emu" in text and "<b>" not in text
    tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert tables[:5] == [tables[0]] * 5 and tables[0] == 10
    assert (
        re.search(r"^\| real \| 4\d\.\d ± \d\.\d \|.* – \| 12 \|$", text, re.M)
        and "p <0.001" in text
    )


def test_groups_follow_lvis_where_the_job_or_the_data_says_so() -> None:
    names, objects, images = ["a", "b", "c", "d"], [500, 500, 500, 0], [101, 100, 10, 0]
    assert Classes(names, [0, 2, 5, 6], objects, images, "lvis").groups() == {
        "frequent": [0],
        "common": [2],
        "rare": [5],
    }
    assert Classes(names, [0, 2, 5, 6], objects, images).groups()["frequent"] == [0, 2, 5]


def test_a_line_tells_whether_frequent_classes_lose() -> None:
    told = concluded({"real": 0.0, "synthetic": 0.06}, margin=0.01)
    assert "frequent classes: synthetic is shown not to lose 1 points of AP" in told["says"]
    told = concluded({"real": 0.0, "synthetic": 0.06}, margin=0.0)
    assert "frequent classes: synthetic is not shown not to lose 0 points of AP" in told["says"]


def test_a_line_tells_which_classes_gain_and_which_lose() -> None:
    """Also where nothing is shown over all classes; never on differences that seeds alone would make."""

    def line(rare: float, frequent: float) -> list[str]:
        groups = {
            "frequent": paired(
                [frequent + noise for noise in (0.0, 0.01, -0.01)], [0.0] * 3
            ).to_json(),
            "rare": paired([rare + noise for noise in (0.01, 0.0, -0.01)], [0.0] * 3).to_json(),
        }
        return _group_says({"synthetic": {"groups": groups}}, ["synthetic"])

    (told,) = line(0.1, -0.2)
    assert told.startswith(
        "synthetic against real data alone: frequent classes lose 20.0 points [-22.5, -17.5], rare"
    )
    assert "rare classes gain 10.0 points [+7.5, +12.5]" in told
    assert line(0.0, 0.005) == []


def test_what_the_detector_would_have_returned() -> None:
    """Its floor and its limit, applied afterwards, in the order it returned them."""
    scores = np.array([0.3, 0.9, 0.05, 0.04, 0.8], np.float32)
    boxes, none = np.zeros((5, 4), np.float32), np.zeros((0, 4), np.float32)
    empty = np.zeros(0, np.int64)
    row = DetectionRow(0, 9, 9, none, empty, empty.astype(bool), boxes, np.arange(5), scores)
    config = RcnnConfig(score_floor=0.05, detections_per_image=2)
    assert usual(row, config).pred_labels.tolist() == [1, 4]
    assert usual(row, replace(config, detections_per_image=9)).pred_labels.tolist() == [0, 1, 4]
    assert seeing_everything(config).detections_per_image == 1000


def test_trial_keys_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"seeds": 1},
        {"arms": ("synthetic",)},
        {"curve": (1.0,)},
        {"arms": ("real", "real")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Trial(**{"seeds": 5, **wrong})


def test_a_smaller_part_is_contained_in_a_larger_one() -> None:
    table = toy_table(20)
    small, large = (
        {s.image_id for s in map(first_part(table, f, 5).__getitem__, range(n))}
        for f, n in ((0.2, 4), (0.6, 12))
    )
    assert small < large and len(first_part(table, 1.0, 5)) == 20


def test_instance_aware_factors_repeat_what_is_rare_in_images_or_in_instances() -> None:
    present = np.array(
        [[9, 1, 0]] * 9 + [[9, 0, 1]]
    )  # class 1 is in nearly all images, but a tenth of the instances
    factors = instance_aware_factors(present, 0.5)
    rare_class = math.sqrt(0.5 / math.sqrt(0.9 * 9 / 100))
    rarest = math.sqrt(0.5 / math.sqrt(0.1 * 1 / 100))
    np.testing.assert_allclose(factors, [rare_class] * 9 + [rarest])


def test_tables_that_an_arm_adds_share_its_part_equally() -> None:
    """However many images each has; pictures of the pasted one are drawn when they are needed."""
    real, few, many = toy_table(10), toy_table(3, "val"), Pasted(toy_table(10), Config(), 1, 500)
    batches = arm_batches(real, real_draw(real, 4, 7, "uniform", 0.1), [few, many], 3, 7)
    pixels = {decode(few[i]).tobytes() for i in range(3)}
    known = pixels | {decode(real[i]).tobytes() for i in range(10)}
    kinds = [
        (s.image.tobytes() in pixels, s.image.tobytes() not in known)
        for k in range(6)
        for s in batches(k)
    ]
    assert len(kinds) == 42 and [sum(kind) for kind in zip(*kinds, strict=True)] == [9, 9]


def test_batches_hold_the_share_of_added_images_and_are_a_function_of_the_step() -> None:
    real, added = toy_table(10), toy_table(6, "val")
    draw = real_draw(real, 6, 7, "uniform", 0.1)
    batches = arm_batches(real, draw, [added], 2, 7)
    one, again = batches(3), arm_batches(real, draw, [added], 2, 7)(3)
    assert len(one) == 8
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    pixels = {decode(added[i]).tobytes() for i in range(6)}
    for step in range(5):
        assert sum(sample.image.tobytes() in pixels for sample in batches(step)) == 2
