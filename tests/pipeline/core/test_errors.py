"""Messages of exceptions on one line, exit codes, and names that are near."""

from __future__ import annotations

import errno

import pytest

from synthaug.pipeline.core.errors import (
    DatasetError,
    JobError,
    RunError,
    SynthaugError,
    first_line,
    one_line,
    suggest,
)


def test_a_message_of_several_lines_becomes_one() -> None:
    err = ValueError("while parsing\n  a  mapping,\texpected\n'}'")
    assert "while parsing a mapping, expected '}'" == one_line(err)
    assert "while parsing" == first_line(err)


def test_of_a_system_call_only_the_reason_is_told_because_messages_name_the_file_themselves() -> (
    None
):
    err = OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")
    assert "No space left on device" == one_line(err)
    assert "truncated file" == one_line(OSError("truncated file"))


@pytest.mark.parametrize("line", [one_line, first_line])
def test_an_exception_without_a_message_is_called_by_its_type(line) -> None:
    assert "KeyError" == line(KeyError())
    assert "EOFError" == line(EOFError("\n "))


@pytest.mark.parametrize("line", [one_line, first_line])
def test_a_long_message_is_cut(line) -> None:
    assert "x" * 200 == line(ValueError("x" * 300))
    assert "xxx" == line(ValueError("x" * 300), most=3)


def test_a_full_stop_is_left_out_because_the_sentence_goes_on() -> None:
    assert "Not a file" == one_line(ValueError("Not a file."))


def test_user_errors_exit_with_2_and_failures_with_1() -> None:
    assert [2, 2, 1, 1] == [e.exit_code for e in (JobError, DatasetError, RunError, SynthaugError)]
    assert all(issubclass(e, SynthaugError) for e in (JobError, DatasetError, RunError))


def test_the_nearest_name_is_suggested_or_all_are_listed() -> None:
    assert "; did you mean 'coco'?" == suggest("cooc", {"voc", "coco"})
    assert "; known: coco, voc" == suggest("parquet", {"voc", "coco"})
    assert "" == suggest("coco", [])
