"""A link in words, and which of them are weak."""

from __future__ import annotations

import json

from synthaug.pipeline.core.links import Link, merged, weak, weak_first

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


def test_what_two_steps_measured_of_a_link_is_one_and_the_weak_part_comes_first() -> None:
    recognised = Link("generator", "ok", "82 % recognised")
    gate = Link("generator", "weak", "told apart 0.98", "train longer")
    link, trial = merged([recognised, UNKNOWN, gate])
    assert trial == UNKNOWN
    assert (link.state, link.advice) == ("weak", "train longer")
    assert link.figure == "told apart 0.98; 82 % recognised"
    assert merged([UNKNOWN, HOLDS]) == [UNKNOWN, HOLDS]


def test_a_link_that_one_step_could_not_test_is_as_the_other_found_it() -> None:
    (link,) = merged([Link("generator", "untested", "not verified"), Link("generator", "ok", "x")])
    assert (link.state, link.figure) == ("ok", "x; not verified")


def test_weak_links_are_told_before_the_others() -> None:
    assert weak_first([HOLDS, UNKNOWN, BROKEN]) == [BROKEN, HOLDS, UNKNOWN]
