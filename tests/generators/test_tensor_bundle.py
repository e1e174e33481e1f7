"""TensorFlow's checkpoints are read as written, and damage is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthaug.published.tensor_bundle import read
from tests.generators.bundles import Array, write_bundle

ARRAYS: dict[str, Array] = {
    "g_4_conv1/weights": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "g_4_conv1/LayerNorm/gamma": np.array([1.5, -2], np.float32),
    "global_step": np.array(7, np.int64),
    "none": np.zeros((3, 0), np.float32),
}


def test_tensors_come_back(tmp_path: Path) -> None:
    made = read(write_bundle(tmp_path / "model.ckpt", ARRAYS))
    assert made.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(made[name].numpy(), array)


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=path.stem) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_damaged_byte_of_an_index_is_told_or_harmless(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "model.ckpt", ARRAYS)
    whole = path.read_bytes()
    messages = []
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read(path)
        except ValueError as err:
            messages.append(str(err))
    assert len(messages) > len(whole) // 6
    assert not [message for message in messages if "\n" in message]
    for length in (0, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "is no readable checkpoint index" in refused(path)


def test_data_that_are_absent_or_short_are_told(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "model.ckpt", ARRAYS)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-9])
    assert "ends before '" in refused(path)
    data.unlink()
    assert "is absent" in refused(path)


def test_other_types_are_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "model.ckpt", {"x": np.zeros(2)})
    assert "'x' is of type 2, not float32" in refused(path)
