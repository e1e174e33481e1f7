"""Metric cards of scores that nobody knew when the page was written."""

from __future__ import annotations

import pytest

from synthaug.pipeline.report import cards as report_cards
from synthaug.pipeline.report.number_text import plain

AP = {
    "name": "dap",
    "value": 0.4,
    "values": {"AP": 0.2, "AP50": 0.4, "AP50_low": 0.35, "AP50_high": 0.45},
    "controls": {"real": {"AP50": 0.8}, "shuffled": {"AP50": 0.02}},
    "card": {"protocol": "as made", "counts": {"images": 3, "objects": 9}, "confusion": [[1]]},
    "per_class": {"a": {"AP50": 0.1}, "b": {"AP50": None, "gt": 4}},
}
FID = {
    "name": "fid",
    "value": 31.25,
    "values": {"fid": 31.25, "fid_std": 0.5},
    "controls": {"real_split": {"fid": 5.0}},
}


def test_a_score_in_the_unit_interval_has_its_controls_on_a_line_to_one() -> None:
    card = report_cards.card("dap", AP)
    assert ("0.400", report_cards.NumberLine(40.0, 35.0, 45.0, [(80.0, True), (2.0, False)])) == (
        card.headline,
        card.line,
    )
    assert ["AP50", "interval 0.350 – 0.450", "real 0.800", "shuffled 0.020"] == card.notes
    assert [("a", [0.1, None]), ("b", [None, 4])] == card.classes
    assert [("protocol", "as made"), ("counts", "images 3, objects 9")] == card.protocol


def test_every_number_with_an_interval_is_told_beside_the_headline() -> None:
    values = {
        "AP": 0.2,
        "AP_low": 0.15,
        "AP_high": 0.25,
        "AP75": None,
        "AP75_low": None,
        "AP75_high": None,
    }
    card = report_cards.card("dap", {**AP, "values": {**AP["values"], **values}})
    assert card.notes[-1] == "AP 0.200, interval 0.150 – 0.250"
    assert [text for text in card.notes if "interval" in text] == [
        "interval 0.350 – 0.450",
        card.notes[-1],
    ]


def test_a_distance_has_a_line_up_to_the_largest_number() -> None:
    card = report_cards.card("fid", {**FID, "card": {"warnings": ["48 images are few"]}})
    assert ["48 images are few"] == card.warnings
    assert "31.250" == card.headline
    assert card.line is not None
    assert (95.2, [(15.2, True)]) == (card.line.value, card.line.marks)
    assert ["± 0.500 (standard deviation)", "real split 5.000"] == card.notes


@pytest.mark.parametrize(
    "metric",
    [{}, {"name": "x", "value": None}, {"name": "x", "value": -3.0}, {"name": "x", "value": 0}],
)
def test_a_metric_that_says_little_has_a_card(metric: dict) -> None:
    card = report_cards.card("x", metric)
    assert (card.line is None) == (metric.get("value") is None)
    assert [] == card.table == card.classes == card.warnings


def test_the_card_may_name_its_headline() -> None:
    """Two numbers may be equal; the score knows which one it means."""
    metric = {
        "name": "x",
        "value": 0.5,
        "values": {"a": 0.5, "b": 0.5},
        "card": {"headline_key": "b", "left_out": []},
    }
    assert "b" == report_cards.headline(metric)
    assert [("left_out", "none")] == report_cards.card("x", metric).protocol


def test_a_number_below_nothing_has_its_place() -> None:
    line = report_cards.number_line(
        {"value": -0.001, "controls": {"real": {"kid": 0.003}}, "values": {"kid": -0.001}}, "kid"
    )
    assert line is not None
    assert 0 <= line.value < line.marks[0][0] <= 100


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0, "0"),
        (0.0, "0.000"),
        (0.12345, "0.123"),
        (0.00012, "0.00012"),
        (12345.6, "12,345.6"),
        (50, "50"),
        (-3.5, "-3.500"),
    ],
)
def test_numbers_are_told_from_their_neighbours(value: float | None, text: str) -> None:
    assert text == plain(value)
