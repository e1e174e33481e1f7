"""XML from strangers: a tree of plain elements, and nothing that multiplies or fetches."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.formats.voc.xml_tree import load, parse, text_of


def refusal(data: bytes) -> tuple[str, str]:
    with pytest.raises(RecordError) as caught:
        parse(data, "a.xml")
    return caught.value.reason, caught.value.detail


def test_texts_are_found_by_path() -> None:
    root = parse(b"<a><b><c> x &amp; y </c><d/></b><b><c>second</c></b></a>", "a.xml")
    assert text_of(root, "b/c") == " x & y "
    assert text_of(root, "b/d") == ""
    assert text_of(root, "b/e") is None
    assert [child.findtext("c") for child in root.findall("b")] == [" x & y ", "second"]


def test_a_document_type_is_refused_in_any_encoding() -> None:
    data = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>'.encode("utf-16")
    with pytest.raises(RecordError, match="declares"):
        parse(data, "a.xml")


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://example.invalid/x"> %p;]><a/>',
    ],
)
def test_nothing_may_be_declared(data: bytes) -> None:
    assert refusal(data) == (
        "unsafe XML",
        "a.xml declares a document type or an entity; remove the declaration",
    )


def test_elements_may_be_fifty_deep_and_no_deeper() -> None:
    assert parse(b"<a>" * 50 + b"</a>" * 50, "a.xml").tag == "a"
    assert refusal(b"<a>" * 51 + b"</a>" * 51) == ("bad XML", "a.xml is nested more than 50 deep")


def test_depth_is_of_the_nesting_not_of_the_number() -> None:
    assert len(parse(b"<a>" + b"<b/>" * 60 + b"</a>", "a.xml")) == 60


@pytest.mark.parametrize(
    "data", [b"", b"<a>", b"<a></b>", b"<a/><b/>", b"text", b"<a>&undefined;</a>"]
)
def test_what_is_not_well_formed_is_one_line(data: bytes) -> None:
    reason, detail = refusal(data)
    assert reason == "bad XML"
    assert detail.startswith("a.xml is not well-formed XML (")
    assert "\n" not in detail


def test_files_are_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b"<a>text</a>")
    assert load(tmp_path / "a.xml").text == "text"
    with pytest.raises(
        RecordError, match=r"none\.xml cannot be read \(No such file or directory\)"
    ):
        load(tmp_path / "none.xml")


def test_a_file_of_seventeen_mebibytes_is_no_annotation(tmp_path: Path) -> None:
    with (tmp_path / "a.xml").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(RecordError, match=r"a\.xml has over 16 MiB"):
        load(tmp_path / "a.xml")
