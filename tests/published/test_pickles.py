"""Nested pickles of arrays: names by path, and nothing else is taken."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.published.pickles import one_line, read_nested_pickle, read_plain_pickle


def written(folder: Path, content: Any, protocol: int = 2) -> Path:
    path = folder / "weights.ckpt"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def test_names_are_joined_by_their_path(tmp_path: Path) -> None:
    kernel, bias = np.arange(6.0).reshape(2, 3), np.ones(3, np.float32)
    content = OrderedDict(a={"Conv_0": {"kernel": kernel, "bias": bias}}, b=np.zeros((0, 4)))
    arrays = read_nested_pickle(written(tmp_path, content))
    assert {"a/Conv_0/kernel", "a/Conv_0/bias", "b"} == set(arrays)
    np.testing.assert_array_equal(kernel, arrays["a/Conv_0/kernel"])
    assert np.float32 == arrays["a/Conv_0/bias"].dtype
    assert (0, 4) == arrays["b"].shape


def test_single_numbers_have_no_axis(tmp_path: Path) -> None:
    arrays = read_nested_pickle(written(tmp_path, {"n": np.float64(2.5), "k": np.int32(7)}))
    assert ((), 2.5) == (arrays["n"].shape, float(arrays["n"]))
    assert 7 == int(arrays["k"])


def test_what_is_no_array_is_refused_with_the_file(tmp_path: Path) -> None:
    for content in ({"a": "text"}, {"a": [np.ones(2)]}, [np.ones(2)], 3):
        with pytest.raises(ValueError, match=r"weights\.ckpt: holds something else than arrays; "):
            read_nested_pickle(written(tmp_path, content))


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a"]),
        np.array([None]),
        np.array([1 + 2j]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, [("x", "f4")]),
    ],
)
def test_arrays_of_other_kinds_than_numbers_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="is not a pickle of plain arrays") as caught:
        read_nested_pickle(written(tmp_path, {"a": value}))
    assert "\n" not in str(caught.value)


def test_the_advice_is_that_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "half.pkl"
    path.write_bytes(pickle.dumps({"a": np.ones(99)})[:60])
    with pytest.raises(ValueError, match=r"half\.pkl: .*; fetch it again$"):
        read_plain_pickle(path, "fetch it again")
    with pytest.raises(ValueError, match=r"none\.pkl"):
        read_plain_pickle(tmp_path / "none.pkl", "x")


def test_an_array_cannot_claim_more_than_its_bytes(tmp_path: Path) -> None:
    data = pickle.dumps({"a": np.ones(4)}, 2).replace(b"K\x04\x85", b"K\x08\x85")
    path = tmp_path / "long.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="cannot reshape"):
        read_nested_pickle(path)


def test_errors_are_one_short_line() -> None:
    assert "KeyError" == one_line(KeyError())
    assert "first" == one_line(ValueError("  first\nsecond"))
    assert 120 == len(one_line(ValueError("x" * 500)))
