"""The brush's run lengths: against an encoder written here from the description of the format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.pipeline.formats.label_studio.brush import decode

WIDTHS = (3, 4, 8, 16)


def packed(values: list[int], literal: bool = False) -> list[int]:
    """Pack bytes as runs, or each stretch of up to 8 values as they are."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in WIDTHS)
    at = 0
    while at < len(values):
        if literal:
            part = values[at : at + 8]
            bits += f"0{0:02b}{len(part) - 1:03b}" + "".join(f"{value:08b}" for value in part)
            at += len(part)
            continue
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 1 << 16:
            end += 1
        which = next(k for k, width in enumerate(WIDTHS) if end - at <= 1 << width)
        bits += f"1{which:02b}{end - at - 1:0{WIDTHS[which]}b}{values[at]:08b}"
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def channels(mask: np.ndarray) -> list[int]:
    """Red is 7 everywhere: only alpha says what is painted."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[:, :, 0] = 7
    pixels[:, :, 3] = mask * 255
    return pixels.ravel().tolist()


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.booleans(),
)
def test_a_mask_comes_back(mask: np.ndarray, literal: bool) -> None:
    found = decode(packed(channels(mask), literal), mask.shape)
    assert np.array_equal(found, mask)


def test_long_runs_are_one_step_each() -> None:
    mask = np.ones((3000, 3000), bool)
    assert decode(packed([255] * mask.size * 4), mask.shape).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no list of bytes"),
        (None, "no list of bytes"),
        ([1, 2, 300], "no list of bytes"),
        ([1, 2, 0.5], "no list of bytes"),
        ([[1], [2]], "no list of bytes"),
        ([255, 255, 255, 255, 0], "4294967295 values, not 2x2 pixels"),
        (packed([1] * 16)[:-2], "cut short"),
        (packed([1] * 16, literal=True)[:-2], "cut short"),
        ([*packed([1] * 16)[:6], 0xFF, *([0xFF] * 9)], "longer than the image"),
    ],
)
def test_what_is_no_such_mask_is_refused(values: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(values, (2, 2))
