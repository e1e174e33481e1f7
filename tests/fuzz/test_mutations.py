"""The fuzzing itself: cases come back from their numbers, changes reach what files mean."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from random import Random

import pytest
from PIL import Image

from tests.fuzz.mutations import BY_SUFFIX, mutate, of_json, of_png, of_safetensors


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    return out.getvalue()


HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
CONTENT = {
    ".json": b'{"images": [{"id": 1, "file_name": "a.jpg"}]}',
    ".yaml": b"names: [cat, dog]\ntrain: images\n",
    ".xml": b"<annotation><size><width>4</width></size></annotation>",
    ".txt": b"0 0.5 0.5 0.1 0.1\n",
    ".png": picture(),
    ".safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(4),
}


@pytest.mark.parametrize("suffix", sorted(BY_SUFFIX))
def test_a_case_comes_back_from_its_number(suffix: str) -> None:
    data = CONTENT.get(suffix, b"bytes of a kind of their own")
    for number in range(60):
        first, again = (mutate(f"a{suffix}", data, Random(f"0:{number}")) for _ in range(2))
        assert first == again
        assert isinstance(first, bytes)


@pytest.mark.parametrize("suffix", sorted(CONTENT))
def test_most_cases_change_their_file(suffix: str) -> None:
    data = CONTENT[suffix]
    changed = sum(mutate(f"a{suffix}", data, Random(number)) != data for number in range(100))
    assert changed > 80


def parses(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def opens(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).load()
    except Exception:  # whatever Pillow raises
        return False
    return True


def has_header(data: bytes) -> bool:
    return len(data) > 8 and parses(data[8 : 8 + int.from_bytes(data[:8], "little")])


@pytest.mark.parametrize(
    ("mutation", "suffix", "is_whole"),
    [
        (of_json, ".json", parses),
        (of_png, ".png", opens),
        (of_safetensors, ".safetensors", has_header),
    ],
)
def test_many_changed_files_are_still_files_of_their_kind(
    mutation: Callable[[bytes, Random], bytes], suffix: str, is_whole: Callable[[bytes], bool]
) -> None:
    """Else only the first check of a reader would ever be reached."""
    data = CONTENT[suffix]
    whole = sum(is_whole(mutation(data, Random(number))) for number in range(100))
    assert 20 < whole < 100
