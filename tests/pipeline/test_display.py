"""Progress as bars, lines or events; speeds and times are those of rich."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from synthaug.pipeline.display import Bars, JsonLines, Lines, Work, display
from synthaug.pipeline.execution.progress import DONE, RUNNING, WAITING


class Stream(io.StringIO):
    """A stream that is a terminal or not."""

    def __init__(self, is_live: bool) -> None:
        super().__init__()
        self._is_live = is_live

    def isatty(self) -> bool:
        return self._is_live


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set by a test."""
    now = [100.0]
    monkeypatch.setattr("synthaug.pipeline.display.time.monotonic", lambda: now[0])
    return now


def attach_terminal(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """Make standard error a terminal of 200 columns without colors."""
    err = Stream(True)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return err


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_lines_come_every_ten_seconds_with_speed_time_and_details(clock: list[float]) -> None:
    lines: list[str] = []
    shown = Lines(lines.append)
    for done, waited in ((10, 0.0), (20, 9.0), (30, 2.0), (40, 9.0), (50, 2.0)):
        clock[0] += waited
        shown.show_progress(done, 90, "steps", {"loss": 0.12345})
    assert "  10/90 steps, loss 0.123" == lines[0]
    assert lines[1].startswith("  30/90 steps, ")
    assert "1.8/s, 0:00:" in lines[2]
    assert lines[2].endswith("left, loss 0.123")
    assert 3 == len(lines)
    shown.tell("done")
    assert "done" == lines[-1]


def test_the_speed_is_that_of_the_work_itself(clock: list[float]) -> None:
    """A second training of as many steps, or work that goes on, starts anew."""
    work = Work()
    work.update(300, 1000, "steps", {})
    clock[0] += 10
    assert 2.0 == work.update(320, 1000, "steps", {}).speed
    clock[0] += 3000
    assert work.update(2, 1000, "steps", {}).speed is None
    clock[0] += 10
    assert 1.0 == work.update(12, 1000, "steps", {}).speed
    assert work.update(12, 1000, "images", {}).speed is None
    assert 1 == len(work.bars.tasks)


def test_of_many_classes_the_largest_are_told() -> None:
    counts = {f"class{number}": number for number in range(9)}
    details = Work().update(1, 9, "images", counts).fields["details"]
    assert "class8 8, class7 7, class6 6, class5 5, class4 4, class3 3, ..." == details
    hostile = Work().update(1, 9, "images", {"\x1b[2J" + "x" * 99: 1}).fields["details"]
    assert "\x1b" not in hostile
    assert len(hostile) < 30


def test_events_are_json_and_the_end_is_always_told(clock: list[float]) -> None:
    lines: list[str] = []
    shown = JsonLines(lines.append)
    shown.tell("  [1/2] ingest")
    shown.show_states({"ingest": RUNNING, "report": WAITING})
    shown.show_progress(1, 3, "images", {"bus": 2})
    shown.show_progress(2, 3, "images", {"bus": 3})  # too soon
    shown.show_progress(3, 3, "images", {"bus": 4})
    told = events(lines)
    assert {"event": "line", "text": "[1/2] ingest"} == told[0]
    assert {"event": "steps", "states": {"ingest": RUNNING, "report": WAITING}} == told[1]
    assert [1, 3] == [event["done"] for event in told[2:]]
    assert {"bus": 4} == told[3]["details"]
    assert {"total", "unit", "per_second", "seconds_left"} <= told[3].keys()


def test_bars_show_states_work_and_details_and_go_for_a_line(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = attach_terminal(monkeypatch)
    lines: list[str] = []
    shown = display("auto", lines.append)
    assert isinstance(shown, Bars)
    shown.show_states({"ingest": DONE, "train": RUNNING, "report": WAITING})
    shown.show_progress(3, 9, "steps", {"loss": 0.5})
    drawn = terminal.getvalue()
    for part in ("[x] ingest", "[>] train", "[ ] report", "steps", "3/9", "loss 0.5"):
        assert part in drawn
    shown.show_progress(4, 9, "steps")  # too soon
    assert drawn == terminal.getvalue()
    clock[0] += 1
    shown.show_progress(5, 9, "steps")
    assert "5/9" in terminal.getvalue()
    shown.tell("told")
    assert ["told"] == lines
    assert "\x1b[2K" in terminal.getvalue()  # the bars were taken off
    shown.close()


def test_what_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    attach_terminal(monkeypatch)
    assert isinstance(display("lines", print), Lines)
    assert isinstance(display("json", print), JsonLines)
    monkeypatch.setattr(sys, "stderr", Stream(False))
    assert isinstance(display("auto", print), Lines)
