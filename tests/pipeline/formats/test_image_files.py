"""Image files for other tools: converted when they must be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
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
