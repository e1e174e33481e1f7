"""A JSON list read element by element is the list that `json` reads, and its faults are named as
`json` names them.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.json_files import (
    load_json,
    load_object,
    section,
    short_decimal,
    stream_list,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
FAST = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FAST
@given(st.lists(JSON, max_size=5), st.sampled_from([None, 0, 3, "\t"]), st.booleans())
def test_elements_are_those_of_the_list(tmp_path, values, indent, ascii_only):
    data = (" " + json.dumps(values, indent=indent, ensure_ascii=ascii_only) + "\n").encode(
        "utf-8", "surrogatepass"
    )
    (tmp_path / "a.json").write_bytes(data)
    elements, digest = stream_list(tmp_path / "a.json")
    assert (values, hashlib.sha256(data).hexdigest()) == (list(elements), digest)


@FAST
@given(st.lists(JSON, min_size=1, max_size=3), st.data())
def test_a_truncated_list_is_refused(tmp_path, values, data):
    text = json.dumps(values)
    (tmp_path / "a.json").write_text(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(DatasetError, match=r"a\.json: "):
        list(stream_list(tmp_path / "a.json")[0])


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        "[1 2]",
        "[1,]",
        "[1]]",
        '[{"a": 1}, {"a"]',
        "[01]",
        "[" * 100_000,
        "[1] x",
        '["\udcff"]',
        "[,1]",
    ],
)
def test_faults_are_named_like_those_of_a_whole_file(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        DatasetError, match=r"a\.json: not valid JSON.*correct or restore the file"
    ) as caught:
        list(stream_list(tmp_path / "a.json")[0])
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match=r"a\.json: not valid JSON"):
        load_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1}', "top level must be a list"), ("", "it is empty")],
)
def test_another_thing_than_a_list_is_said_so(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        list(stream_list(tmp_path / "a.json")[0])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json: cannot be read \(No such file"):
        stream_list(tmp_path / "none.json")


def test_a_whole_file_comes_with_its_sha256(tmp_path):
    data = b'{"a": [1]}'
    (tmp_path / "a.json").write_bytes(data)
    expected = ({"a": [1]}, hashlib.sha256(data).hexdigest())
    assert load_json(tmp_path / "a.json") == load_object(tmp_path / "a.json") == expected


def test_a_fault_is_named_by_its_line_and_column(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(DatasetError) as caught:
        load_json(tmp_path / "a.json")
    assert str(caught.value) == (
        f"{tmp_path}/a.json: not valid JSON at line 2, column 6 (Expecting ':' delimiter); "
        "correct or restore the file"
    )


@pytest.mark.parametrize("text", ["[]", "1", "null", '"images"'])
def test_a_coco_file_is_an_object(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DatasetError) as caught:
        load_object(tmp_path / "a.json")
    assert str(caught.value) == (
        f"{tmp_path}/a.json: the top level must be an object with images, annotations and "
        "categories"
    )


def test_a_section_is_a_list_that_is_there(tmp_path):
    assert section({"images": []}, "images", tmp_path) == []
    for document, message in (
        ({}, "key 'images' is missing; add it, as an empty list if there are none"),
        ({"images": {}}, "'images' must be a list; this is no COCO instances file"),
    ):
        with pytest.raises(DatasetError) as caught:
            section(document, "images", tmp_path)
        assert str(caught.value) == f"{tmp_path}: {message}"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_shortest_decimal_is_the_same_float32(value):
    short = short_decimal(np.float32(value))
    assert np.float32(short) == np.float32(value)
    assert len(repr(short)) <= len(repr(float(np.float32(value))))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": [1], "a": []}', "the key 'a' is there twice in one object; keep one"),
        (b"\x1f\x8b\x08\x00", "it is compressed by gzip; unpack it"),
        ("größe".encode("latin-1"), "is no UTF-8 text"),
        (b"<!DOCTYPE html><p>404", "it is a web page: the download failed"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer: get the file"),
        (b"[" * 100_000, "it is nested too deep"),
        (b"9" * 5000, "a number has thousands of digits"),
        (b"{}\n{}\n", r"at line 2, column 1 \(there is more behind the end, as in JSON lines\)"),
    ],
)
def test_what_another_reader_would_take_or_lose_is_named(tmp_path, data, message):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        load_json(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_of_any_unicode_encoding_is_read(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('["größe", "杯子"]'.encode(encoding))
    assert load_json(tmp_path / "a.json")[0] == ["größe", "杯子"]
    assert list(stream_list(tmp_path / "a.json")[0]) == ["größe", "杯子"]
