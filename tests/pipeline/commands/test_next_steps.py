"""Each command ends with the one that comes next, as a shell takes it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from synthaug.pipeline.commands.next_steps import after_run, next_step
from synthaug.pipeline.trial.paired_tests import SCREENED

JOB = ("my jobs/reef.yaml", "data.root=a b", "--output", "out")


def words_of(line: str) -> list[str]:
    """Return the words that a shell makes of what a line names."""
    return shlex.split(line.removeprefix("next:    "), comments=True)


def trial(word: str) -> dict[str, Any]:
    return {"seeds": 4, "verdict": {"word": word}}


def test_a_shell_gets_the_same_words() -> None:
    line = next_step(("run", *JOB), "all of it")
    assert ["synthaug", "run", *JOB] == words_of(line)
    assert line.endswith("   # all of it")
    assert "\x1b" not in next_step(("run", "a\x1b[2J"))


def test_a_run_without_a_trial_is_tried_or_handed_on() -> None:
    for unknown in ({}, {"seeds": 0}, trial("nothing judged")):
        first, second, _ = after_run(unknown, JOB, "runs/reef")
        assert ["synthaug", "trial", *JOB] == words_of(first)
        expected = ["export", "runs/reef", "--to", "coco", "--out", "runs/reef-coco"]
        assert expected == words_of(second)[1:]


def test_what_helps_is_handed_on_and_what_screening_shows_is_confirmed() -> None:
    line, _ = after_run(trial("helps"), JOB, "runs/reef")
    assert "export" == words_of(line)[1]
    line, _ = after_run(trial(SCREENED["helps"]), JOB, "runs/reef")
    assert ["trial", *JOB, "trial.evaluation=DATASET"] == words_of(line)[1:]


@pytest.mark.parametrize("word", ["hurts", "cannot tell", "no headroom", SCREENED["hurts"]])
def test_what_is_not_shown_to_help_is_not_handed_on(word: str) -> None:
    line, last = after_run(trial(word), JOB, "runs/reef")
    assert "next:    open runs/reef/report.html" in line
    assert "export" not in line
    assert ["synthaug", "studio", "runs/reef"] == words_of(last)
