"""JSON read piece by piece is what the whole file holds, wherever a piece ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats import json_stream
from synthaug.pipeline.formats.json_files import is_list, load_json, open_object, section
from synthaug.pipeline.formats.json_stream import Changed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def whole(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with its lists read."""
    read = {}
    for key, value in document.items():
        read[key] = list(value) if is_list(value) else value
    return read


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.integers(1, 40), st.booleans())
def test_pieces_of_any_size_give_the_whole(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any], size: int, is_ascii: bool
) -> None:
    file = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps(document, ensure_ascii=is_ascii, indent=1)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_PIECE", size)
        try:
            read, digest = open_object(file)
        except DatasetError:
            with pytest.raises(DatasetError):
                load_json(file)  # half characters are no UTF-8
            return
        assert (whole(read), digest) == load_json(file)
        assert whole(read) == document  # again


FAULTS = (
    '{"a": [1, 2}',
    '{"a": [1 2]}',
    '{"a": [1,]}',
    '{"a": 1,}',
    '{"a" 1}',
    '{"a": [{"b": 1, "b": 2}]}',
    '{"a": 1, "a": 2}',
    "{a: 1}",
    '{"a": tru}',
    '{"a": "x}',
    '{"a": 1} x',
    '{"a": 1',
    '{"a": [\n 01]}',
    "",
)


@pytest.mark.parametrize("text", FAULTS)
@pytest.mark.parametrize("size", [3, 1 << 20])
def test_faults_are_told_as_those_of_a_file_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, size: int
) -> None:
    monkeypatch.setattr(json_stream, "_PIECE", size)
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DatasetError) as expected:
        load_json(file)
    with pytest.raises(DatasetError) as found:
        open_object(file)
    place = str(expected.value).split("(")[0]  # line and column
    assert str(found.value).startswith(place.removesuffix(" "))


def test_a_byte_that_is_no_text_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_PIECE", 4)
    (tmp_path / "a.json").write_bytes('{"a": "größe"}'.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"is no UTF-8 text \(byte 0xf6 at 9\)"):
        open_object(tmp_path / "a.json")


def test_a_list_is_counted_and_read_as_often_as_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"n": {"m": [3]}, "a": [{"id": 1}, {"id": 2}], "b": []}')
    document, _ = open_object(tmp_path / "a.json")
    records = section(document, "a", tmp_path)
    assert len(records) == 2
    assert [record["id"] for record in records] == [1, 2] == [record["id"] for record in records]
    assert not section(document, "b", tmp_path)
    assert document["n"] == {"m": [3]}


def test_a_file_that_changes_under_the_reader_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a": [1, 2, 3]}')
    document, _ = open_object(file)
    file.write_text('{"a": [1, 2')
    with pytest.raises(DatasetError, match=r"a\.json: not valid JSON"):
        list(document["a"])


def test_records_are_changed_one_by_one() -> None:
    changed = Changed([1, 2], lambda number: number * 10, [3])
    assert len(changed) == 3
    assert list(changed) == [10, 20, 30] == list(changed)
