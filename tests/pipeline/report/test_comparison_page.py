"""The comparison.

Numbers that were measured differently are marked, differences and classes are each run's own.
"""

import re

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.report.comparison_page import (
    ComparedRun,
    card_differences,
    compared_classes,
    compared_metrics,
    flatten,
    job_differences,
    render,
    run_conclusions,
    warnings,
)
from synthaug.pipeline.report.tables import UNDONE, Run
from synthaug.pipeline.verification.verdicts import FAILED
from tests.fake_run import BASE

SPLITS = {"labelled": {"images": 4, "objects": {"car": 9, "emu": 1}, "skipped": {}}}
INGEST = {"key": "k", "splits": SPLITS, "classes": [{"name": "car", "isthing": True}]}


def run_of(*overrides, missing=(), notes=(), **manifests):
    job = load_job(BASE, ["name=t", *overrides], "out")
    return Run(job, {**UNDONE, "ingest": INGEST, **manifests}, {}, missing, notes)


def metric(value, **card):
    values = {"AP50": value}
    return {"name": "dap", "value": value, "values": values, "controls": {}, "card": card}


def scored(value, **card):
    return run_of(score={"scores": {"dap": metric(value, **card)}})


def test_metric_cards_differ_in_how_numbers_were_made_and_not_in_what_came_out():
    one = {"card": {"images": 5, "generator_sha256": "a", "protocol": "x"}}
    other = {"card": {"images": 6, "generator_sha256": "b", "protocol": "x", "seed": 1}}
    rows = card_differences([one, other])
    assert rows == [("images", ["5", "6"]), ("seed", ["–", "1"])]
    assert card_differences([one, one]) == []
    assert card_differences([{}, {}]) == []


def test_lines_of_one_metric_have_one_scale_and_a_run_without_it_has_none():
    (dap,) = compared_metrics([scored(10.0), run_of(), scored(20.0)])
    first, missing, last = dap.cards
    assert missing is None
    assert last.line.value == pytest.approx(2 * first.line.value, abs=0.1)
    assert dap.differs == []
    (dap,) = compared_metrics([scored(1.0, images=5), scored(1.0, images=6)])
    assert dap.differs == [("images", ["5", "6"])]


def test_jobs_differ_by_key_and_by_version():
    one = run_of("plan.count=7", plan={"images": 1, "classes": {}, "versions": {"torch": "1"}})
    other = run_of("plan.count=8", plan={"images": 1, "classes": {}, "versions": {"torch": "2"}})
    assert job_differences([one, other]) == [
        ("plan.count", ["7", "8"]),
        ("version of torch", ["1", "2"]),
    ]
    named = run_of("name=other", "cluster.workers=3")
    assert job_differences([run_of(), named]) == [], "these change no number"


def test_a_job_is_flat_with_dotted_keys():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1, 2]}) == {
        "a.b": "1",
        "a.c": "none",
        "d": "1, 2",
    }
    assert flatten({}) == {"": "none"}


def test_classes_are_known_by_their_names():
    classes = [{"name": "emu", "isthing": True}, {"name": "car", "isthing": True}]
    (car, emu) = compared_classes([run_of(), run_of(ingest={**INGEST, "classes": classes})])
    assert car[0] == "car"
    assert [row.labelled for row in car[1]] == [9, 9]
    assert emu[0] == "emu"
    assert emu[1][0] is None
    assert emu[1][1].labelled == 1


def test_what_a_reader_must_know_comes_first():
    other = run_of(ingest={**INGEST, "key": "other"}, missing=("trial", "score"), notes=("<old>",))
    texts = warnings([run_of(), other])
    assert texts[0].startswith("The runs were given different data")
    assert texts[1:] == ["B is not finished: trial, score not done.", "B: <old>"]
    assert warnings([run_of(), run_of()]) == []


def test_conclusions_are_the_trial_s_and_the_share_of_labels_left():
    verify = {
        "enabled": True,
        "images": {"verified": 1200},
        **{verdict: {} for verdict in FAILED},
        "kept": {"car": 3},
        "missing": {"car": 1},
        "not_judged": {"emu": 5},
    }
    synthetic = {"images": 9, "objects": {"car": 4}, "dropped": {}}
    run = run_of(verify=verify, synthesize=synthetic, trial={"seeds": 2, "says": ["it helps"]})
    own = run_conclusions(run)
    assert own.trial == ["it helps"]
    assert own.verified == "3 of 4 judged objects recognised (75 %), 5 not judged, 1,200 images"
    assert run_conclusions(run_of()).verified == "not verified"


def test_runs_that_did_nothing_are_compared_without_numbers():
    page = render(
        [ComparedRun("<a>", "f", run_of()), ComparedRun("b", "g", run_of())], "T<"
    ).decode()
    assert "None of the runs has been scored." in page
    assert "Nowhere: every key that can change a number is the same" in page
    assert "no images yet" in page
    assert "<a>" not in page
    assert page.count("&lt;a&gt;") >= 2


def test_the_same_plan_is_said_so_only_when_it_is():
    def page(*keys):
        runs = [run_of(plan={"images": 1, "classes": {}, "key": key}) for key in keys]
        return render([ComparedRun("a", "f", run) for run in runs], "t").decode()

    words = "images above each other show one layout"
    assert words in page("k", "k")
    assert words not in page("k", "l")


def test_numbers_measured_in_other_ways_are_marked_on_the_page():
    runs = [scored(0.5, images="<5>"), scored(0.6, images="6")]
    page = render([ComparedRun("a", "f", run) for run in runs], "t").decode()
    assert "Not measured in the same way" in page
    assert "&lt;5&gt;" in page
    text = re.sub(r"<[^>]*>", " ", page)
    assert "0.500" in text and "0.600" in text
