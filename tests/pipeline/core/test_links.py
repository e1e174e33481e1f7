"""A link in words, and which of them are weak."""

from __future__ import annotations

import json

from synthaug.pipeline.core.links import Link, weak

HOLDS = Link("detector", "ok", "AP50 0.9")
BROKEN = Link("generator", "weak", "3 % recognised", "train longer", stops=True)
UNKNOWN = Link("trial", "untested", "no trial was run")


def test_a_line_has_the_name_the_figure_and_what_to_do() -> None:
    assert BROKEN.line == "generator: 3 % recognised; train longer"
    assert HOLDS.line == "detector: AP50 0.9"


def test_what_was_not_tested_is_not_weak() -> None:
    assert weak([HOLDS, BROKEN, UNKNOWN]) == [BROKEN]


def test_a_link_comes_back_from_its_json() -> None:
    assert Link(**json.loads(json.dumps(BROKEN.to_json()))) == BROKEN
