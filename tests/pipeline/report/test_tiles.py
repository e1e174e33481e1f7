"""The key numbers: each with its own ceiling and floor, and words where there is no number."""

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.report.tables import UNDONE, ClassRow, Run
from synthaug.pipeline.report.tiles import Gauge, summary, tiles
from tests.fake_run import BASE

INGEST = {"classes": [], "splits": {"labelled": {"images": 1200, "objects": {}}}}
DAP = {
    "value": 0.4,
    "values": {"AP50": 0.4, "AP50_low": 0.35, "AP50_high": 0.45, "AP50_tail": 0.1},
    "controls": {
        "real": {"AP50": 0.8, "AP50_tail": 0.3},
        "shuffled": {"AP50": 0.02, "AP50_tail": 0.01},
    },
}
CAS = {
    "value": 0.5,
    "values": {"top1": 0.5, "chance": 0.125},
    "controls": {"real": {"top1": 0.75}},
}
TAIL = [
    ClassRow(0, "emu", True, "tail", 3, 0, 0, 0, made=9, dropped=1),
    ClassRow(1, "sky", False, "tail", 5, 0, 0, 0, made=90, dropped=0),
]


@pytest.fixture(scope="module")
def job():
    return load_job(BASE, ["name=t"], "out")


def run_of(job, **manifests):
    return Run(job, {**UNDONE, "ingest": INGEST, **manifests}, {})


def by_label(run, rows=()):
    return {tile.label.split(":")[0]: tile for tile in tiles(run, rows)}


def test_each_number_is_compared_with_its_own_ceiling_and_floor(job):
    own = by_label(run_of(job, score={"scores": {"dap": DAP, "cas": CAS}}), TAIL)
    assert own["DAP"].gauge == Gauge(0.4, 0.8, 0.02)
    assert own["DAP"].notes == [
        "50 % of the ceiling 0.800",
        "shuffled floor 0.020",
        "95 % interval 0.350 – 0.450",
    ]
    assert own["CAS"].gauge == Gauge(0.5, 0.75, 0.125)
    assert own["Tail classes"].gauge == Gauge(0.1, 0.3, 0.01)
    assert own["Tail classes"].notes[1] == "1 class: 3 labelled, 9 synthetic objects"
    real = own["Detector AP50 on real images"]
    assert (real.value, real.real) == ("0.800", True)
    assert [tile.label for tile in own.values() if tile.real] == [real.label]


def test_what_was_not_measured_is_no_number(job):
    own = by_label(run_of(job))
    assert [tile.value for tile in own.values()] == ["n/a", "n/a", "n/a", "none", "none", "n/a"]
    assert all(tile.gauge is None or tile.gauge.value is None for tile in own.values())
    assert own["CAS"].notes == ["CAS was not measured"]
    assert own["Pseudo-labels"].notes == ["no unlabelled images"]


def test_a_score_without_controls_has_no_ceiling(job):
    bare = {"value": 0.4, "values": {"AP50": 0.4}, "controls": {}}
    own = by_label(run_of(job, score={"scores": {"dap": bare}}))
    assert own["DAP"].gauge == Gauge(0.4, None, None)
    assert own["DAP"].notes == ["n/a of the ceiling n/a", "shuffled floor n/a"]


def test_pseudo_labels_without_known_truth_say_so(job):
    pseudo = {"images": 9, "objects": {"car": 1500}, "quality": None}
    tile = by_label(run_of(job, pseudo_label=pseudo))["Pseudo-labels"]
    assert (tile.value, tile.notes[0]) == ("n/a", "the truth is not known")
    assert tile.notes[1].startswith("1,500 objects")
    quality = {"all": {"precision": 0.9, "recall": 0.5}}
    tile = by_label(run_of(job, pseudo_label={**pseudo, "quality": quality}))["Pseudo-labels"]
    assert tile.value == "0.900 / 0.500"


def test_visible_objects_are_a_share_of_the_planned_ones(job):
    tile = by_label(run_of(job), TAIL)["Planned objects that became visible"]
    assert tile.value == "99 %"
    assert tile.gauge == Gauge(0.99)
    assert tile.notes == ["99 kept", "1 dropped without a visible mask"]


def test_the_summary_counts_images_objects_and_classes(job):
    synthetic = {"images": 10, "objects": {"car": 24, "emu": 1, "kite": 0}, "dropped": {}}
    text = summary(run_of(job, synthesize=synthetic))
    assert text.startswith("From 1,200 labelled images, the generator “lostgan” made 10 synthetic")
    assert "with 25 objects (2.5 per image) of 2 classes" in text


def test_before_synthesis_the_summary_says_that_there_is_nothing_yet(job):
    splits = {**INGEST["splits"], "unlabelled": {"images": 34}}
    text = summary(run_of(job, ingest={**INGEST, "splits": splits}))
    assert text == (
        "1,200 labelled and 34 unlabelled images went in; no synthetic images have been made of "
        "them yet."
    )
