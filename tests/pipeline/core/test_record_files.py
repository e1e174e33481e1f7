"""Records in Parquet: what is written is read again, type by type, and only what is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core.record_files import GROUP_ROWS, read_records, write_records
from synthaug.pipeline.core.storage import Folder

ARRAYS = [
    np.arange(6, dtype=np.int16).reshape(2, 3),
    np.zeros((0, 4), np.float32),
    np.array(5),
    np.array([True, False]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_an_array_keeps_its_type_and_shape(array: np.ndarray, tmp_path: Path) -> None:
    write_records(Folder.at(tmp_path), "part-00000", [{"name": "a", "number": -3, "array": array}])
    (record,) = read_records(Folder.at(tmp_path))
    assert (record["name"], record["number"]) == ("a", -3)
    assert record["array"].dtype == array.dtype
    assert record["array"].shape == array.shape
    np.testing.assert_array_equal(record["array"], array)


def test_values_that_a_record_lacks_are_left_out(tmp_path: Path) -> None:
    records = [{"a": 1}, {"a": 2, "b": np.zeros(0)}, {"b": np.ones(2)}]
    write_records(Folder.at(tmp_path), "part", records)
    names = [list(record) for record in read_records(Folder.at(tmp_path))]
    assert names == [["a"], ["a", "b"], ["b"]]


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    write_records(Folder.at(tmp_path), "part", [{"a/x": 1, "ab/x": 2, "b": 3}])
    found = list(read_records(Folder.at(tmp_path), wanted=lambda name: name.startswith("a/")))
    assert found == [{"a/x": 1}]
    assert not list(read_records(Folder.at(tmp_path), wanted=lambda name: name == "c"))


def test_files_are_read_in_the_order_of_their_names_and_by_prefix(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    numbers = list(range(3 * GROUP_ROWS))
    parts = {"a-00001": numbers[100:], "a-00000": numbers[:100], "b-00000": [-1]}
    for name, part in parts.items():
        write_records(folder, name, [{"i": i} for i in part])
    folder.write_bytes("a-00000.json", b"{}")
    assert [record["i"] for record in read_records(folder, "a-")] == numbers
    assert [record["i"] for record in read_records(folder)] == [*numbers, -1]


def test_no_records_are_a_file_without_rows(tmp_path: Path) -> None:
    write_records(Folder.at(tmp_path), "part", [])
    assert (tmp_path / "part.parquet").exists()
    assert not list(read_records(Folder.at(tmp_path)))


def test_a_column_of_two_kinds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a: values of different kinds"):
        write_records(Folder.at(tmp_path), "part", [{"a": 1}, {"a": "x"}])
