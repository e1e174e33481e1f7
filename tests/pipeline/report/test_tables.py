"""The counts of the report: each class its own, and nothing that was lost is left out."""

from dataclasses import replace

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.report.tables import (
    ENDS,
    LONG,
    UNDONE,
    ClassRow,
    Run,
    class_rows,
    fold,
    losses,
    misses,
    provenance,
)
from tests.fake_run import BASE

CLASSES = [
    {"name": "car", "isthing": True},
    {"name": "sky", "isthing": False},
    {"name": "kite", "isthing": True},
    {"name": "emu", "isthing": True},
]
INGEST = {
    "classes": CLASSES,
    "splits": {"labelled": {"objects": {"car": 100, "kite": 3, "sky": 50}, "skipped": {}}},
}


@pytest.fixture(scope="module")
def job():
    return load_job(BASE, ["name=t", "cluster.workers=3"], "/tmp/secret-folder")


def run_of(job, **manifests):
    return Run(job, {**UNDONE, "ingest": INGEST, **manifests}, {})


def test_each_class_has_its_own_counts_from_every_step(job):
    run = run_of(
        job,
        pseudo_label={"images": 1, "objects": {"kite": 4}},
        plan={"images": 1, "classes": {"kite": {"target": 19.6, "planned": 18}}},
        synthesize={"images": 1, "objects": {"kite": 17}, "dropped": {"kite": 1}},
        verify={"enabled": True, "objects": {"kite": 12}},
        score={"scores": {"dap": {"per_class": {"kite": {"AP50": 0.4, "real_AP50": 0.6}}}}},
    )
    rows = class_rows(run)
    assert [row.name for row in rows] == ["car", "kite", "emu", "sky"], "things first, by labels"
    kite = rows[1]
    assert kite == ClassRow(2, "kite", True, "tail", 3, 4, 20, 18, 17, 1, 12, 0.4, 0.6)
    assert kite.yields == "71 %"
    assert kite.gain == "6.7×"
    assert (rows[0].group, rows[2].group) == ("head", "unseen")


def test_before_any_step_but_the_first_every_class_has_its_labels(job):
    rows = class_rows(run_of(job))
    assert [(row.labelled, row.made, row.left) for row in rows] == [
        (100, 0, None),
        (3, 0, None),
        (0, 0, None),
        (50, 0, None),
    ]
    assert {row.yields for row in rows} == {"–"}
    assert [row.gain for row in rows] == ["1.0×", "1.0×", "–", "1.0×"]
    assert replace(rows[2], made=4).gain == "new"


def test_verification_that_left_nothing_of_a_class_is_not_unknown(job):
    verify = {"enabled": True, "objects": {}}
    run = run_of(job, verify=verify, synthesize={"objects": {"car": 4}, "dropped": {}})
    car = class_rows(run)[0]
    assert (car.left, car.yields) == (0, "0 %")


def test_all_that_was_lost_is_listed_with_where_and_how_many(job):
    splits = {
        "labelled": {"objects": {}, "skipped": {"unreadable": 2, "none": 0}},
        "validation": {"objects": {}, "skipped": {"no size": 1}},
    }
    run = run_of(
        job,
        ingest={**INGEST, "splits": splits},
        train_generator={"left_out": {"pseudo_labelled": 5, "labelled": 0}},
        score={"validation": {"left_out": 7}},
    )
    rule = "images outside generator.min_objects, max_objects or min_area"
    lost = losses(run, [replace(class_rows(run)[0], name="kite", dropped=3)])
    assert lost == [
        ("labelled set", "unreadable", 2),
        ("validation set", "no size", 1),
        ("generator training, pseudo-labelled", rule, 5),
        ("scores, validation", rule, 7),
        ("synthesis", "“kite” without a visible mask", 3),
    ]
    assert losses(run_of(job), []) == []


def test_a_class_misses_its_target_by_more_than_a_tenth_and_two_objects():
    def row(target, planned):
        return ClassRow(0, "a", True, "head", 1, 0, target, planned, 0, 0)

    near = [row(100, 110), row(100, 90), row(5, 7), row(0, 2)]
    far = [row(100, 111), row(100, 89), row(5, 8), row(0, 3)]
    assert misses([*near, *far]) == far


def test_a_long_table_shows_its_ends_and_has_all_rows():
    table = fold(range(LONG + 1))
    assert list(table.first) == list(range(ENDS))
    assert list(table.last) == list(range(LONG + 1 - ENDS, LONG + 1))
    assert len(table.all) == LONG + 1
    assert table.hidden == LONG + 1 - 2 * ENDS


def test_tables_of_up_to_a_page_are_whole():
    assert list(range(LONG)) == list(fold(range(LONG)).first)
    assert 0 == fold(range(LONG)).hidden


def test_the_job_is_shown_without_where_it_ran(job):
    steps = {
        "train_detector": {
            "key": "k1",
            "seconds": 2.5,
            "sha256": "d" * 64,
            "versions": {"torch": "2"},
        },
        "plan": {"key": "k2", "versions": {"torch": "3", "numpy": "1"}},
    }
    shown = provenance(run_of(job, **steps))
    assert "secret-folder" not in shown["yaml"]
    assert "cluster" not in shown["yaml"]
    assert "name: t" in shown["yaml"]
    assert shown["steps"] == [("train_detector", 2.5, "k1", "d" * 64), ("plan", None, "k2", "")]
    assert shown["versions"] == {"numpy": "1", "torch": "2, 3"}, "both, where steps ran with both"


def test_scores_of_any_step_are_scores_of_the_run(job):
    run = run_of(job, score={"scores": {"a": {"value": 1}}}, export={"scores": {"b": {"value": 2}}})
    assert set(run.scores) == {"a", "b"}
    assert run.score("c") is None
