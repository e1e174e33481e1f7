"""A metric in one line."""

from __future__ import annotations

from typing import Any

from synthaug.pipeline.scoring.summary import summary, summary_cells


def metric(value: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "dap",
        "value": value,
        "values": {"AP50": value},
        "card": {"headline_key": "AP50"},
        "controls": {},
        **changes,
    }


def test_a_line_has_headline_interval_and_the_controls_that_have_the_number() -> None:
    controls = {"real": {"AP50": 0.75}, "other": {"AP": 1.0}, "shuffled": {"AP50": None}}
    values = {"AP50": 0.5, "AP50_low": 0.4444, "AP50_high": 0.5557}
    line = summary(metric(0.5, controls=controls, values=values))
    assert line == "dap: AP50 0.500 [0.444, 0.556] (real 0.750)"


def test_no_number_and_no_control_are_said_plainly() -> None:
    assert summary(metric(None)) == "dap: AP50 n/a"


def test_large_numbers_have_four_digits_and_half_an_interval_is_none() -> None:
    values = {"AP50": 123.456, "AP50_low": 1.0}
    cells = summary_cells(metric(123.456, values=values))
    assert cells == ("dap", "AP50", "123.5", "", "")
    assert summary_cells(metric(-20.0))[2] == "-20"
