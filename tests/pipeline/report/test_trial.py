"""The trial on the page and as Markdown.

What was concluded, escaped, and nothing where no trial was.
"""

from __future__ import annotations

import re

import pytest

from synthaug.pipeline.report.trial.rows import confirmation_rows, differences_to_real
from synthaug.pipeline.report.trial.section import section
from synthaug.pipeline.report.trial.text import markdown
from tests.trial_runs import whole_trial

GAINS = {"real": 0.0, "real_half": -0.05, "rfs": 0.01, "stack": 0.01, "synthetic": 0.06}


def test_the_verdict_comes_first_and_then_what_it_stands_on() -> None:
    page = section(whole_trial(GAINS))
    parts = (
        *("synthetic helps: +", "6 fresh seeds per arm", "steps per arm: twice as many bring"),
        *("<h3>Confirmation", "<h3>The stack to beat", "Headroom, 95", "<h3>Screening"),
    )
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    assert "87 validation images" in page
    assert "72 images that screening has not seen" in page


def test_the_section_escapes_names_and_is_empty_without_a_trial() -> None:
    page = section(whole_trial(GAINS))
    assert "<b>emu</b>" not in page
    assert "&lt;b&gt;emu&lt;/b&gt;" in page
    assert section({"seeds": 0}) == ""


def test_each_part_has_its_chart() -> None:
    page = section(whole_trial(GAINS))
    assert len(re.findall(r"<svg", page)) == 3, "budget, headroom, screening"
    assert page.count("<circle") == 4, "one interval of headroom, three of screening"
    given = whole_trial(GAINS, confirmed=False)
    given["budget"] = {"steps": 200, "found": "given", "curve": []}
    given["headroom"] = None
    assert section(given).count("<svg") == 1


def test_a_trial_without_confirmation_says_that_it_only_suggests() -> None:
    trial = whole_trial(GAINS, confirmed=False)
    page, text = section(trial), markdown(trial)
    for told in (page, text):
        assert "screening suggests a gain of synthetic" in told
        assert "nothing is confirmed, because" in told
        assert "synthetic helps" not in told
    assert "Confirmation" not in page + text
    assert confirmation_rows(trial) == []


def test_a_trial_that_ended_at_its_headroom_is_a_page_too() -> None:
    trial = whole_trial({**GAINS, "real_half": 0.0})
    assert trial["verdict"]["word"] == "no headroom"
    nothing = {"comparisons": {}, "controls": {}, "ingredients": [], "confirmation": None}
    ended = {**trial, **nothing, "recipe": None, "says": trial["says"][:1]}
    page, text = section(ended), markdown(ended)
    assert "no added data would show here" in page
    assert "<h3>The stack" not in page
    assert text.startswith("**no headroom: no added data would show here")


def test_markdown_tells_the_same_as_the_page() -> None:
    text = markdown(whole_trial(GAINS))
    assert text.startswith("**synthetic helps: ")
    assert "\\<b\\>emu" in text
    assert "<b>" not in text
    assert re.search(r"^\| real \| 4\d\.\d ± \d\.\d \|.* – \| 12 \|$", text, re.M)
    assert "p <0.001" in text
    assert re.search(r"^\| rfs \| \+\d\.\d \[.*\] \| yes \|$", text, re.M)
    assert "| rfs | 0.3 | 42.0 |" in text
    assert "| 200 | 41.0 |" in text


def test_tables_have_as_many_cells_in_each_row() -> None:
    text = markdown(whole_trial(GAINS, curve=(0.5,)))
    for block in text.split("\n\n"):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, block


def test_differences_of_confirmation_are_to_real_data_and_to_the_stack() -> None:
    trial = whole_trial(GAINS)
    rows = dict(confirmation_rows(trial))
    assert list(rows)[:2] == ["AP", "frequent classes"]
    against_real, against_stack = rows["rare classes"]
    assert against_real is not None and against_stack is not None
    assert against_real["mean"] == pytest.approx(0.12, abs=0.01)
    assert against_stack["mean"] == pytest.approx(0.10, abs=0.01)
    assert set(differences_to_real(trial)) == {"rfs", "stack", "synthetic"}
    fixed, usual = rows["fixed AP"][0], rows["AP"][0]
    assert fixed is not None and usual is not None
    assert fixed["mean"] == pytest.approx(0.9 * usual["mean"])
