"""The scores' tables: each class and each group its own numbers, synthetic beside real."""

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.report import scores as report_scores
from synthaug.pipeline.report.tables import UNDONE, ClassRow, Run
from tests.fake_run import BASE


@pytest.fixture(scope="module")
def job():
    return load_job(BASE, ["name=t"], "out")


def row(name, group, isthing=True, index=0):
    return ClassRow(index, name, isthing, group, 5, 0, 0, 0, 0, 0)


ROWS = [row("tree", "head"), row("car", "tail"), row("bus", "tail"), row("sky", "head", False)]


def scored(job, **scores):
    return Run(job, {**UNDONE, "score": {"scores": scores}}, {})


def confused(job, names):
    """A run with a confusion matrix of which row k holds k + 1 crops, all answered with the first
    class.
    """
    matrix = [[k + 1] + [0] * (len(names) - 1) for k in range(len(names))]
    metric = {"per_class": {name: {} for name in sorted(names)}, "card": {"confusion": matrix}}
    classes = [{"name": name} for name in ["sky", *names]]
    return Run(job, {"score": {"scores": {"cas": metric}}, "ingest": {"classes": classes}}, {})


def test_confusion_matrix_keeps_the_order_of_the_classes(job):
    """A manifest's keys come back sorted by name, the matrix does not."""
    table = report_scores.confusion(confused(job, ["tree", "car", "bus"]))
    assert [("tree", [1, 0, 0]), ("car", [2, 0, 0]), ("bus", [3, 0, 0])] == [
        (n, [c for c, _ in row]) for n, row in table
    ]


def test_confusion_matrix_of_many_classes_is_left_out(job):
    run = confused(job, [f"c{k}" for k in range(report_scores.MOST_CONFUSED + 1)])
    assert [] == report_scores.confusion(run)


def test_shares_of_a_confusion_matrix_are_of_the_true_class(job):
    run = confused(job, ["tree", "car"])
    assert report_scores.confusion(run)[1] == ("car", [(2, 1.0), (0, 0.0)])


def test_a_class_without_crops_has_no_shares(job):
    run = confused(job, ["tree"])
    run.manifests["score"]["scores"]["cas"]["card"]["confusion"] = [[0]]
    assert report_scores.confusion(run) == [("tree", [(0, 0.0)])]


def test_groups_have_their_own_numbers_of_every_source(job):
    values = {"AP": 0.1, "AP50": 0.2, "AP_head": 0.3, "AP50_head": 0.4, "AP50_tail": 0.5}
    controls = {"real": {"AP_tail": 0.6}, "shuffled": {"AP50": 0.01}}
    table = report_scores.group_rows(
        scored(job, dap={"values": values, "controls": controls}), ROWS
    )
    assert [(group, size) for group, size, _ in table] == [
        ("all things", 3),
        ("head", 1),
        ("middle", 0),
        ("tail", 2),
    ]
    numbers = {group: own for group, _, own in table}
    assert numbers["all things"] == [
        {"AP": 0.1, "AP50": 0.2},
        {"AP": None, "AP50": None},
        {"AP": None, "AP50": 0.01},
    ]
    assert numbers["head"][0] == {"AP": 0.3, "AP50": 0.4}
    assert numbers["tail"][:2] == [{"AP": None, "AP50": 0.5}, {"AP": 0.6, "AP50": None}]


def test_means_of_groups_leave_out_what_is_not_known(job):
    per_class = {
        "tree": {"accuracy": 0.5, "real_accuracy": 0.9},
        "car": {"accuracy": 0.1, "real_accuracy": None},
        "bus": {"accuracy": None, "real_accuracy": 0.7},
    }
    table = report_scores.cas_groups(scored(job, cas={"per_class": per_class}), ROWS)
    assert table == [
        ("all", 2, pytest.approx(0.3), 0.9),
        ("head", 1, 0.5, 0.9),
        ("middle", 0, None, None),
        ("tail", 1, 0.1, None),
    ]


def test_only_measured_classes_have_rows_in_the_order_of_the_classes(job):
    run = scored(job, dap={"per_class": {"car": {"AP": 0.1}, "tree": {"AP": 0.2}}})
    assert [own.name for own, _ in report_scores.dap_rows(run, ROWS)] == ["tree", "car"]


def test_what_was_not_measured_has_no_table(job):
    run = scored(job)
    assert report_scores.dap_rows(run, ROWS) == report_scores.cas_rows(run, ROWS) == []
    assert report_scores.group_rows(run, ROWS) == []
    assert [size for _, size, *_ in report_scores.cas_groups(run, ROWS)] == [0] * 4
