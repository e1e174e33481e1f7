"""Undo and redo: back to what was, forth to what was undone, a drag at once."""

from __future__ import annotations

from synthaug.pipeline.studio.history import MOST, History
from synthaug.pipeline.studio.sketch import blank

SKETCHES = [blank((8, 8), seed) for seed in range(6)]


def test_undo_and_redo_lead_back_and_forth() -> None:
    history = History(SKETCHES[0]).push(SKETCHES[1]).push(SKETCHES[2])
    assert SKETCHES[0] == history.undo().undo().undo().present
    assert history == history.undo().undo().redo().redo().redo()


def test_an_edit_after_an_undo_forgets_what_was_undone() -> None:
    history = History(SKETCHES[0]).push(SKETCHES[1]).undo().push(SKETCHES[2])
    assert history == history.redo()
    assert SKETCHES[0] == history.undo().present


def test_the_moves_of_one_gesture_are_undone_together() -> None:
    history = History(SKETCHES[0]).push(SKETCHES[1])
    for sketch in SKETCHES[2:5]:
        history = history.push(sketch, "drag 1")
    assert SKETCHES[1] == history.undo().present
    assert SKETCHES[4] == history.push(SKETCHES[5], "drag 2").undo().present


def test_a_gesture_ends_with_an_undo() -> None:
    history = History(SKETCHES[0]).push(SKETCHES[1], "drag").undo().push(SKETCHES[2], "drag")
    assert SKETCHES[0] == history.undo().present


def test_what_changes_nothing_is_no_edit() -> None:
    history = History(SKETCHES[0]).push(SKETCHES[1])
    assert history is history.push(SKETCHES[1])


def test_the_past_is_bounded() -> None:
    history = History(SKETCHES[0])
    for seed in range(MOST + 50):
        history = history.push(blank((8, 8), seed + 1))
    assert MOST == len(history.past)
