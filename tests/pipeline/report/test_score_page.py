"""The page of `synthaug score`.

Sets by their names, what was not measured and why, every text escaped.
"""

import base64
from pathlib import Path

from synthaug.pipeline.core.scene import SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.report.score_page import NUM_PICTURES, ScoredSet, render, scored_set

TOY = toy.read(toy.Config("val", 20), Path())
METRIC = {
    "name": "fid",
    "value": 12.5,
    "values": {"fid": 12.5},
    "controls": {},
    "card": {"n": "<5>"},
}


def test_a_set_shows_images_from_evenly_spaced_positions():
    own = scored_set("real", "toy:val", TOY)
    assert (own.name, own.images, len(own.pictures)) == ("real", 20, NUM_PICTURES)
    ids = [TOY[k * 20 // NUM_PICTURES].image_id for k in range(NUM_PICTURES)]
    assert [picture.alt.split(":")[0] for picture in own.pictures] == [
        f"Real image {image_id}" for image_id in ids
    ]


def test_a_set_without_images_has_no_pictures():
    assert scored_set("train", "x", SceneList(toy.CATEGORIES, [])).pictures == []


def test_the_title_is_the_synthetic_set_wherever_it_stands():
    sets = [ScoredSet("synthetic", "coco:<x>", 1, []), ScoredSet("real", "toy:val", 2, [])]
    page = render(sets, {}, {}, {}, {}).decode()
    assert "<title>coco:&lt;x&gt;" in page
    assert "Nothing could be measured." in page


def test_scores_reasons_and_sheets_stand_on_the_page_escaped():
    sheets = {"nearest.png": b"a png", "<other>": b"bytes"}
    reasons = {"kid": "needs <w>; give --weights"}
    page = render([], {"fid": METRIC}, reasons, sheets, {"torch": "<2>"}).decode()
    assert "12.500" in page
    assert "&lt;5&gt;" in page
    assert "needs &lt;w&gt;; give --weights" in page
    assert f"data:image/png;base64,{base64.b64encode(b'a png').decode()}" in page
    assert f"data:image/jpeg;base64,{base64.b64encode(b'bytes').decode()}" in page
    assert "<other>" not in page
    assert "torch &lt;2&gt;" in page
