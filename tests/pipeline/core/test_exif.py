"""Whether a viewer would turn an image.

One answer for all formats, and what becomes of its boxes.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from synthaug.pipeline.core import exif, images
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene

PIXELS = np.zeros((24, 40, 3), np.uint8)
PIXELS[:10, :10] = 200
PIXELS[12:, 30:] = 90
ONE = Objects.build([0], [[1, 1, 9, 9]])
KINDS = ("PNG", "TIFF", "JPEG", "WEBP", "MPO")
TURNS = range(2, 9)


def file(kind: str, orientation: int) -> bytes:
    """A picture as stored, with the tag."""
    tags = Image.Exif()
    tags[exif.ORIENTATION] = orientation
    out = io.BytesIO()
    options: dict[str, object] = {"exif": tags}
    if kind == "WEBP":
        options["lossless"] = True
    if kind == "MPO":
        options |= {"save_all": True, "append_images": [Image.new("RGB", (40, 24))]}
    Image.fromarray(PIXELS).save(out, kind, **options)
    return out.getvalue()


def shown(orientation: int) -> NDArray[np.uint8]:
    """The pixels that a viewer shows, by Pillow's own hand."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file("PNG", orientation)))))


def scene(data: bytes, size: tuple[int, int], turned: str = "", objects: Objects = ONE) -> Scene:
    return Scene("a", *size, ImageRef(data, None, turned), objects)


def far(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", TURNS)
def test_pixels_are_those_that_the_boxes_count(kind: str, orientation: int) -> None:
    data = file(kind, orientation)
    for turned, expected in (("as_stored", PIXELS), ("as_shown", shown(orientation))):
        size = (expected.shape[0], expected.shape[1])
        before = scene(data, size, turned)
        assert far(images.decode(before), expected) < 40  # JPEG
        after, changed = images.upright(before)
        assert changed
        assert np.array_equal(images.decode(after), images.decode(before))
        assert after.image.data is not None
        with Image.open(io.BytesIO(after.image.data)) as image:
            assert image.getexif().get(exif.ORIENTATION, 1) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_size_that_fits_both_ways_is_refused_with_the_way_out(
    kind: str, orientation: int
) -> None:
    data = file(kind, orientation)
    with pytest.raises(DatasetError, match=r"turned=as_shown .* or turned=as_stored"):
        images.decode(scene(data, (24, 40)))
    with pytest.raises(DatasetError, match="EXIF tag asks viewers to turn"):
        images.upright(scene(data, (24, 40)))
    nothing = Objects.build([], [])  # there is no box that could be misplaced
    assert far(images.decode(scene(data, (24, 40), "", nothing)), shown(orientation)) < 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_size_that_fits_one_way_settles_it(kind: str, orientation: int) -> None:
    data = file(kind, orientation)
    assert far(images.decode(scene(data, (24, 40))), PIXELS) < 40
    assert far(images.decode(scene(data, (40, 24))), shown(orientation)) < 40
    with pytest.raises(DatasetError, match="its annotation says 25x40"):
        images.decode(scene(data, (40, 25)))


def test_of_a_jpeg_only_the_tag_is_changed() -> None:
    data = file("JPEG", 3)
    fixed, _ = images.upright(scene(data, (24, 40), "as_stored"))
    assert fixed.image.data is not None
    assert sum(a != b for a, b in zip(data, fixed.image.data, strict=True)) == 1
    with Image.open(io.BytesIO(fixed.image.data)) as image:
        assert dict(image.getexif()) == {exif.ORIENTATION: 1}, "whole, not unreadable"


def test_an_image_that_no_viewer_turns_is_passed_on() -> None:
    for data in (file("JPEG", 1), file("PNG", 99), images.encode(PIXELS, "png")):
        before = scene(data, (24, 40))
        assert images.upright(before) == (before, False)


def test_a_tag_behind_the_pixels_of_a_png_counts() -> None:
    plain = images.encode(PIXELS, "png")
    block = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0) + bytes(4)
    chunk = b"eXIf" + block
    crc = struct.pack(">I", zlib.crc32(chunk))
    late = plain[:-12] + struct.pack(">I", len(block)) + chunk + crc + plain[-12:]
    with pytest.raises(DatasetError, match="EXIF tag"):
        images.decode(scene(late, (24, 40)))
    assert far(images.decode(scene(late, (24, 40), "as_shown")), PIXELS[::-1, ::-1]) == 0


def test_the_header_says_both_sizes(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / "a").write_bytes(file(kind, 6))
        header = images.header_of_file(tmp_path / "a", 960)
        assert (header.size, header.shown, header.orientation) == ((24, 40), (40, 24), 6)
        with pytest.raises(ValueError, match="over max_pixels=959"):
            images.header_of_file(tmp_path / "a", 959)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=26), st.integers(0, 25))
def test_a_broken_tag_breaks_nothing(noise: bytes, at: int) -> None:
    data = bytearray(file("JPEG", 3))
    start = data.index(b"Exif\0\0") + 6
    noise = noise[: 26 - at]  # the block is no longer
    data[start + at : start + at + len(noise)] = noise
    fixed, _ = images.upright(scene(bytes(data), (24, 40), "as_stored"))
    assert far(images.decode(fixed), PIXELS) < 40
