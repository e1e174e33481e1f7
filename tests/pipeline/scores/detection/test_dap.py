"""DAP of predictions whose quality is known by construction."""

import json
from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.card import Metric
from synthaug.pipeline.scores.detection import dap
from synthaug.pipeline.scores.detection.evaluator import DetectionRow

CATEGORIES = (
    Category(1, "cell"),
    Category(2, "platelet"),
    Category(9, "sky", isthing=False),
    Category(4, "absent"),
)
TRAIN_COUNTS = (900, 50, 300, 0)


def scattered(num, seed=0, samples=1):
    """Rows with one cell, one platelet and one sky each, somewhere; predictions equal the truth."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(num):
        corner = rng.uniform(0, 500, (3, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (3, 2))], axis=1).astype(
            np.float32
        )
        labels = np.arange(3)
        for sample in range(samples):
            scores = rng.uniform(0.5, 1, 3).astype(np.float32)
            rows.append(
                DetectionRow(
                    index, 600, 600, boxes, labels, np.zeros(3, bool), boxes, labels, scores, sample
                )
            )
    return rows


def blind(row, label):
    """The same row without any prediction of one class."""
    keep = row.pred_labels != label
    return replace(
        row,
        pred_boxes=row.pred_boxes[keep],
        pred_labels=row.pred_labels[keep],
        pred_scores=row.pred_scores[keep],
    )


def measured(rows, real=(), config=None, card=None):
    return dap.dap(rows, real, CATEGORIES, TRAIN_COUNTS, card or {}, config or dap.Config())


def test_perfect_images_score_one_and_shuffled_layouts_about_zero():
    metric = measured(scattered(60, samples=2), scattered(60))
    assert metric.value == pytest.approx(1.0)
    assert metric.values["AP"] == pytest.approx(1.0)
    assert metric.controls["real"]["AP50"] == pytest.approx(1.0)
    assert metric.controls["shuffled"]["AP50"] < 0.05
    assert metric.card["objects"] == 240


def test_stuff_never_touches_the_headline():
    rows, without_sky = scattered(20), [blind(row, 2) for row in scattered(20)]
    seen, unseen = measured(rows), measured(without_sky)
    assert seen.value == unseen.value
    assert {key: number for key, number in seen.values.items() if "stuff" not in key} == {
        key: number for key, number in unseen.values.items() if "stuff" not in key
    }
    assert seen.values["stuff_AP50"] == pytest.approx(1.0)
    assert unseen.values["stuff_AP50"] == 0.0
    assert "sky" not in seen.per_class


def test_the_tail_is_reported_apart_and_absent_classes_are_none():
    metric = measured([blind(row, 1) for row in scattered(20)], scattered(20))
    assert metric.value == pytest.approx(0.5)
    assert metric.values["AP50_head"] == pytest.approx(1.0)
    assert metric.values["AP50_tail"] == 0.0
    assert metric.values["AP50_middle"] is None  # only stuff is there
    assert metric.controls["real"]["AP50_tail"] == pytest.approx(1.0)
    assert metric.per_class["absent"]["AP50"] is None
    assert metric.per_class["platelet"]["AP50"] == 0.0
    assert metric.per_class["platelet"]["real_AP50"] == pytest.approx(1.0)
    assert metric.card["groups"] == {
        "head": ["cell"],
        "middle": [],
        "tail": ["platelet"],
        "unseen": ["absent"],
    }


def test_no_layout_meets_its_own_predictions_and_boxes_follow_the_size():
    rows = scattered(7, samples=2)
    wide = [
        replace(row, width=1200, boxes=row.boxes * np.float32([2, 1, 2, 1]))
        if row.index == 3
        else row
        for row in rows
    ]
    own = {row.index: row.boxes for row in wide}
    control = dap.shuffled(wide, seed=4)
    assert len(control) == 14
    for row in control:
        assert not np.array_equal(row.boxes, own[row.index])
    used = {row.boxes.tobytes() for row in control}
    assert used == {boxes.tobytes() for boxes in own.values()}
    taken = next(row for row in control if row.width == 1200)
    source = next(row for row in wide if (row.index, row.sample) == (taken.index, taken.sample))
    np.testing.assert_allclose(taken.pred_boxes, source.pred_boxes * np.float32([2, 1, 2, 1]))


def test_one_image_has_no_shuffled_control_and_no_images_no_value():
    assert set(measured(scattered(1), scattered(1)).controls) == {"real"}
    assert set(measured(scattered(2)).controls) == {"shuffled"}
    nothing = measured([])
    assert nothing.value is None
    assert not nothing.controls


def test_the_interval_is_optional_and_counts_layouts_not_samples():
    """Copies of the same layouts bring no new information: the interval may not shrink."""
    halves = [blind(row, 0) if row.index % 2 else row for row in scattered(30, samples=4)]
    assert "AP50_low" not in measured(halves, config=dap.Config(resamples=0)).values
    config = dap.Config(resamples=200)
    many, single = (
        measured(halves, config=config),
        measured([r for r in halves if r.sample == 0], config=config),
    )
    assert many.values["AP50_low"] < many.value < many.values["AP50_high"]
    for key in ("AP", "AP50", "AP75"):
        assert many.values[f"{key}_low"] < many.values[key] < many.values[f"{key}_high"]
        cell = many.per_class["cell"]
        assert cell[f"{key}_low"] < cell[key] < cell[f"{key}_high"]
    assert many.per_class["absent"]["AP_low"] is None
    width = [metric.values["AP50_high"] - metric.values["AP50_low"] for metric in (many, single)]
    assert width[0] == pytest.approx(width[1], rel=0.05)


def test_groups_of_classes_have_intervals_of_their_own():
    """A group of one class has the interval of that class; a group without a class has none."""
    halves = [blind(row, 0) if row.index % 2 else row for row in scattered(30)]
    metric = measured(halves, config=dap.Config(resamples=100))
    members = metric.card["groups"]
    alone = [
        part
        for part, names in members.items()
        if len(names) == 1 and f"AP50_{part}" in metric.values
    ]
    assert alone
    for part in alone:
        for key in ("AP", "AP50"):
            for side in ("low", "high"):
                own = metric.per_class[members[part][0]][f"{key}_{side}"]
                assert metric.values[f"{key}_{part}_{side}"] == own
    assert all(
        metric.values[f"AP_{part}_low"] is None
        for part, names in members.items()
        if part in dap.PARTS and not names
    )


def test_groups_are_told_by_class_where_stuff_comes_before_things():
    categories = (CATEGORIES[2], *CATEGORIES[:2], CATEGORIES[3])
    halves = [blind(row, 1) if row.index % 2 else row for row in scattered(30)]
    metric = dap.dap(halves, (), categories, (300, 900, 50, 0), {}, dap.Config(resamples=50))
    assert (metric.card["groups"]["head"], metric.card["groups"]["tail"]) == (
        ["cell"],
        ["platelet"],
    )
    for part, name in (("head", "cell"), ("tail", "platelet")):
        for side in ("low", "high"):
            own = metric.per_class[name][f"AP_{side}"]
            assert metric.values[f"AP_{part}_{side}"] == own is not None


def test_few_objects_are_warned_of_by_name():
    (warning,) = measured(scattered(29)).card["warnings"]
    assert "cell, platelet" in warning
    assert measured(scattered(30)).card["warnings"] == []


def test_the_callers_card_is_kept_and_everything_is_json():
    metric = measured(scattered(3), scattered(3), card={"detector_sha256": "ab", "files": "PNG"})
    assert metric.card["detector_sha256"] == "ab"
    assert metric == Metric(**json.loads(json.dumps(metric.to_json(), allow_nan=False)))
    assert metric == measured(
        scattered(3)[::-1], scattered(3)[::-1], card={"detector_sha256": "ab", "files": "PNG"}
    )


def test_bad_settings_name_the_key():
    with pytest.raises(ValueError, match=r"dap\.samples_per_layout is 0"):
        dap.Config(samples_per_layout=0)
    with pytest.raises(ValueError, match=r"dap\.resamples is 1"):
        dap.Config(resamples=1)


def test_the_headline_and_the_classes_are_the_jobs() -> None:
    rows = [blind(row, 1) for row in scattered(20)]
    strict = measured(rows, config=dap.Config(headline="AP", resamples=0))
    assert strict.value == strict.values["AP"] == pytest.approx(0.5)
    only_cells = measured(rows, config=dap.Config(classes=("cell",), resamples=0))
    assert 1.0 == pytest.approx(only_cells.value) and ["cell"] == list(only_cells.per_class)
    assert only_cells.values["stuff_AP"] == strict.values["stuff_AP"], (
        "things left out are no stuff"
    )
    assert "the classes cell" in only_cells.card["headline"]


def test_a_class_that_counts_must_be_a_thing_of_the_data() -> None:
    dap.check(dap.Config(classes=("cell",)), CATEGORIES)
    for name in ("sky", "sell"):
        with pytest.raises(ValueError, match=f"^classes: there is no class '{name}'"):
            dap.check(dap.Config(classes=(name,)), CATEGORIES)


def test_the_card_tells_what_differs_from_the_paper() -> None:
    told = measured(scattered(3)).card["comparability"]
    assert "dap.headline AP50 instead of AP" in told
    published = measured(scattered(3), config=dap.PUBLISHED).card["comparability"]
    assert "instead" not in published
