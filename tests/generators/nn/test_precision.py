"""Precision: a job's word is a format, and auto follows the hardware."""

from __future__ import annotations

import pytest
import torch

from synthaug.generators.nn import precision


@pytest.mark.parametrize("has_it", [False, True])
def test_auto_follows_the_hardware_and_the_others_do_not(
    has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: has_it)
    assert precision.uses_bfloat16("auto", "cpu") == has_it
    assert precision.uses_bfloat16("bfloat16", "cpu")
    assert not precision.uses_bfloat16("float32", "cpu")


def test_a_word_is_a_format_of_numbers() -> None:
    assert torch.bfloat16 == precision.dtype_of("bfloat16", "cpu")
    assert torch.float32 == precision.dtype_of("float32", "cpu")
