"""What was left out is counted by reason and named, also after a copy, a sum or a journey."""

from __future__ import annotations

import pickle

from synthaug.pipeline.core.skipped import Skipped, all_lines, short_lines


def some() -> Skipped:
    skipped = Skipped({"renumbered ids": 4, "clipped": 0})
    for number in range(5):
        skipped.note("bad box", f"a.json: annotation {number}")
    skipped.unread["'score' of objects"] += 7
    return skipped


def test_names_and_what_is_not_kept_travel_with_the_counts() -> None:
    copy = pickle.loads(pickle.dumps(some()))
    assert copy == some() == {"renumbered ids": 4, "clipped": 0, "bad box": 5}
    assert copy.names == some().names
    assert copy.unread == {"'score' of objects": 7}
    both = Skipped()
    both.take(some())
    both.take(copy)
    both.take({"plain": 2})
    assert both["bad box"] == len(both.names["bad box"]) == 10
    assert (both["plain"], both.unread["'score' of objects"]) == (2, 14)


def test_what_was_counted_no_time_is_left_out_of_a_copy() -> None:
    copy = some().positive()
    assert dict(copy) == {"renumbered ids": 4, "bad box": 5}
    copy.note("bad box", "another")
    assert some().names["bad box"] != copy.names["bad box"]


def test_the_first_of_each_reason_are_shown_and_all_are_listed() -> None:
    assert list(short_lines(some().positive(), shown=2)) == [
        "         5  bad box",
        "            - a.json: annotation 0",
        "            - a.json: annotation 1",
        "            - and 3 more",
        "         4  renumbered ids",
    ]
    assert list(all_lines(some())) == [f"bad box: a.json: annotation {k}" for k in range(5)]
    assert list(short_lines({"plain": 1})) == ["         1  plain"]
