"""The report's curves.

One chart per network that left a log, evaluations beside the losses, and what was chosen by them.
"""

from __future__ import annotations

import re

from synthaug.pipeline.report import curves as report_curves

LOSSES = [
    {"step": k, "steps": 8, "steps_per_s": 2.0, "class": 1 / k, "total": 2 / k}
    for k in (2, 4, 6, 8)
]
GAN = [
    {"step": k, "steps": 8, "steps_per_s": 2.0, "d_object": 1.0, "g_object": 0.5, "g_l1": 0.2}
    for k in (4, 8)
]
MEASURED = [
    {"step": 2, "AP50": 0.1, "AP": None, "images": 9},
    {"step": 4, "AP50": 0.3, "AP": 0.1, "images": 9},
    {"step": 8, "AP50": 0.2, "AP": 0.2, "images": 9},
]


def lines(svg: str) -> list[int]:
    """Points of each line."""
    return [len(points.split()) for points in re.findall(r'<polyline points="([^"]*)"', svg)]


def test_each_network_has_its_chart_and_each_number_its_line() -> None:
    drawn = report_curves.charts(
        {"train_detector": LOSSES, "evaluation": MEASURED, "train_generator": GAN}
    )
    titles = [re.search(r"<title>([^<]*)", svg).group(1) for svg in drawn]
    assert titles == ["Detector", "Detector on validation images", "Discriminator", "Generator"]
    assert [lines(svg) for svg in drawn] == [[4, 4], [3, 2], [2], [2, 2]]
    assert "average precision" in drawn[1]
    assert ">l1<" in drawn[3]


def test_a_mean_teacher_has_its_losses_and_how_much_it_was_sure_of() -> None:
    row = {
        "box": 0.5,
        "unsupervised_box": 0.4,
        "total": 0.9,
        "pseudo_boxes": 2.5,
        "pseudo_images": 0.8,
    }
    drawn = report_curves.charts({"self_train": [{"step": k, **row} for k in (1, 2)]})
    assert [lines(svg) for svg in drawn] == [[2, 2], [2]]
    assert "per unlabelled image" in drawn[1]


def test_what_left_no_log_has_no_chart() -> None:
    assert report_curves.charts({}) == []
    assert len(report_curves.charts({"train_detector": LOSSES, "evaluation": []})) == 1


def test_a_measurement_without_truth_is_no_point() -> None:
    svg = report_curves.charts(
        {"evaluation": [{"step": 6, "AP50": None, "AP": None, "images": 3}]}
    )[0]
    assert "no data" in svg


def test_what_was_chosen_on_the_validation_images_is_said() -> None:
    told = {"keep": "best", "measured": MEASURED[1], "evaluations": 3, "step": "train_detector"}
    assert "after step 4, the best of 3 by AP50" in report_curves.chosen(told)
    assert "its score is a little too good" in report_curves.chosen(told)
    assert report_curves.chosen({**told, "keep": "last"}) == ""
    assert report_curves.chosen({}) == ""


def test_a_detector_that_learnt_along_has_its_losses_its_labels_and_a_sentence() -> None:
    row = {"g_object": 0.5, "detector_box": 0.2, "pseudo_images": 0.9, "pseudo_objects": 4.0}
    drawn = report_curves.charts({"train_generator": [{"step": k, **row} for k in (1, 2)]})
    assert [lines(svg) for svg in drawn] == [[2], [2], [2, 2]]
    assert ">box<" in drawn[1]
    assert "per unlabelled image" in drawn[2]
    measured = {"before": {"AP50": 0.5, "AP": None}, "after": {"AP50": 0.6, "AP": 0.3}}
    told = report_curves.learnt_along({"joint": measured})
    assert "AP50 0.500 before, AP50 0.600 after, AP unknown before, AP 0.300 after" in told
    assert report_curves.learnt_along({}) == ""
