"""Image files for other tools: converted when they must be, upright, and never decoded for their size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthaug.pipeline.core import images
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene
from synthaug.pipeline.formats import image_files

NONE = Objects.build([], np.zeros((0, 4)))


def file(kind: str, orientation: int = 1, size: tuple[int, int] = (20, 12)) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    pixels = np.random.default_rng(1).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(out, kind, **({"exif": exif} if kind == "JPEG" else {}))
    return out.getvalue()


def scene(data: bytes | None, path: str | None = None) -> Scene:
    return Scene("a", 12, 20, ImageRef(data, path), NONE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_tag_is_cleared_and_no_other_byte_changes(orientation: int) -> None:
    data = file("JPEG", orientation)
    fixed, changed = image_files.upright(scene(data))
    assert changed == (orientation != 1)
    assert fixed.image.data is not None
    assert sum(a != b for a, b in zip(data, fixed.image.data, strict=True)) == int(changed)
    with Image.open(io.BytesIO(fixed.image.data)) as image:
        assert image.getexif()[0x0112] == 1
        assert image.getexif()[0x010F] == "maker"


def test_big_endian_exif_is_understood(tmp_path: Path) -> None:
    data = file("JPEG", 6)
    start = data.index(b"Exif\0\0") + 6
    length = int.from_bytes(data[start - 8 : start - 6], "big") - 8
    entry = b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    tiff = (b"MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)).ljust(length, b"\0")
    turned = data[:start] + tiff + data[start + length :]
    (tmp_path / "a.jpg").write_bytes(turned)
    assert image_files.header(tmp_path / "a.jpg", 10_000).turned
    fixed, changed = image_files.upright(scene(None, str(tmp_path / "a.jpg")))
    assert changed
    assert fixed.image.path == "a.jpg"
    assert not image_files.upright(fixed)[1]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_broken_exif_is_left_as_it_is_and_breaks_nothing(noise: bytes, at: int) -> None:
    data = bytearray(file("JPEG", 3))
    start = data.index(b"Exif\0\0") + 6
    data[start + at : start + at + len(noise)] = noise
    fixed, _ = image_files.upright(scene(bytes(data)))
    assert len(fixed.image.data or b"") == len(data)


@pytest.mark.parametrize(("kind", "jpeg_only"), [("PNG", False), ("JPEG", False), ("JPEG", True)])
def test_a_file_that_fits_is_passed_on(kind: str, jpeg_only: bool) -> None:
    data = file(kind)
    assert image_files.encoded(scene(data), jpeg_only) == (data, False)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF"])
def test_others_become_png_without_loss(kind: str) -> None:
    data, converted = image_files.encoded(scene(file(kind)))
    assert converted
    assert data.startswith(b"\x89PNG")
    assert np.array_equal(images.decode(scene(data)), images.decode(scene(file(kind))))


def test_a_header_is_read_and_too_many_pixels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(file("PNG"))
    assert image_files.header(tmp_path / "a.png", 240) == image_files.Header((12, 20), False)
    with pytest.raises(ValueError, match="max_pixels"):
        image_files.header(tmp_path / "a.png", 239)
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot be decoded"):
        image_files.header(tmp_path / "a.png", 239)


def test_an_image_is_taken_from_memory_or_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"on disk")
    assert image_files.encoded_image(scene(b"in memory", "no such file")) == b"in memory"
    assert image_files.encoded_image(scene(None, str(tmp_path / "a.png"))) == b"on disk"


def test_an_image_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        image_files.encoded_image(scene(None, str(tmp_path / "a.png")))
    assert str(caught.value) == (
        f"{tmp_path}/a.png: the image cannot be read (No such file or directory); restore the file"
    )
    with pytest.raises(DatasetError, match="has no image to write; read the table with its pixels"):
        image_files.encoded_image(scene(None, None))


def test_everything_becomes_jpeg_where_only_jpeg_is_read() -> None:
    data, converted = image_files.encoded(scene(file("PNG")), jpeg_only=True)
    assert converted
    assert data.startswith(b"\xff\xd8\xff")


def test_a_turned_image_that_is_not_there_is_left_to_whoever_needs_it(tmp_path: Path) -> None:
    gone = scene(None, str(tmp_path / "gone.jpg"))
    assert image_files.upright(gone) == (gone, False)
