"""The trial on the page and as Markdown: what was concluded, escaped, and nothing where no trial was."""

from __future__ import annotations

import re

from synthaug.pipeline.report import trial as report_trial
from tests.trial_runs import concluded


def test_the_section_escapes_names_and_is_empty_without_a_trial() -> None:
    trial = {**concluded({"real": 0.0, "rfs": 0.01, "synthetic": 0.06}), "images": 87}
    page = report_trial.section(trial)
    assert "<b>emu</b>" not in page and "&lt;b&gt;emu&lt;/b&gt;" in page
    assert "synthetic helps" in page and "87 real images" in page
    assert len(re.findall(r"<svg", page)) == 1 and page.count("<circle") == 2, (
        "rfs and synthetic against real"
    )
    assert page.index("synthetic helps") < page.index("5 seeds per arm") < page.index("<svg")
    assert report_trial.section({"seeds": 0}) == ""


def test_markdown_tells_the_same_as_the_page() -> None:
    trial = {**concluded({"real": 0.0, "rfs": 0.01, "synthetic": 0.06}, curve=()), "images": 87}
    text = report_trial.markdown(trial)
    assert text.startswith("- synthetic helps: ") and "\\<b\\>emu" in text and "<b>" not in text
    tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert tables[:5] == [tables[0]] * 5 and tables[0] == 10
    assert (
        re.search(r"^\| real \| 4\d\.\d ± \d\.\d \|.* – \| 12 \|$", text, re.M)
        and "p <0.001" in text
    )
