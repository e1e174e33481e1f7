"""Images are decoded as they are labelled or refused in one line, and resized with one filter."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from synthaug.pipeline.core import images
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), np.uint8)  # [H, W, 3]


def scene_of(ref: ImageRef, size: tuple[int, int] = (6, 9)) -> Scene:
    return Scene("image-1", *size, ref, Objects.build([], []))


def file_of(pixels: NDArray[np.uint8], kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def test_png_gives_every_pixel_back_in_rgb_order(tmp_path: Path) -> None:
    data = images.encode(PIXELS, "png")
    assert np.array_equal(PIXELS, np.asarray(Image.open(io.BytesIO(data))))
    (tmp_path / "a.png").write_bytes(data)
    for ref in (ImageRef(data), ImageRef(None, str(tmp_path / "a.png"))):
        assert np.array_equal(PIXELS, images.decode(scene_of(ref)))


def test_jpeg_is_close_and_grey_stays_grey() -> None:
    smooth = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    back = np.asarray(Image.open(io.BytesIO(images.encode(smooth, "jpeg"))))
    assert np.abs(back.astype(int) - smooth).max() <= 3
    grey = np.asarray(Image.open(io.BytesIO(images.encode(PIXELS[..., 0], "png"))))
    assert np.array_equal(PIXELS[..., 0], grey)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_other_formats_and_grey_files_are_decoded_as_rgb(kind: str) -> None:
    grey = np.full((6, 9), 77, np.uint8)
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = images.decode(scene_of(ImageRef(file_of(grey, kind, **options))))
    assert (6, 9, 3) == decoded.shape
    assert {77} == set(decoded.ravel().tolist())


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (ImageRef(file_of(PIXELS, "PNG")[:-30], "cut.png"), "cut.png: the image cannot be decoded"),
        (ImageRef(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 6\n"), "image-1: the image"),
        (ImageRef(None, "/no/such/file.png"), "/no/such/file.png: the image file is missing"),
        (ImageRef(file_of(PIXELS.transpose(1, 0, 2), "PNG")), "6x9 pixels, its annotation says"),
        (ImageRef(), "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_one_line(ref: ImageRef, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        images.decode(scene_of(ref))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_that_promises_too_much_is_refused_before_decoding(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(DatasetError, match="its annotation says 2x1"):
        images.decode(scene_of(ImageRef(file_of(PIXELS, "PNG")), (1, 2)))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12))
def test_resizing_is_pillows_antialiased_filter_within_rounding(height: int, width: int) -> None:
    expected = Image.fromarray(PIXELS).resize((width, height), Image.Resampling.BILINEAR)
    resized = images.resize(PIXELS, (height, width))
    assert (height, width, 3) == resized.shape
    assert np.abs(resized.astype(int) - np.asarray(expected)).max() <= 1


def test_resizing_to_the_same_size_costs_nothing() -> None:
    assert images.resize(PIXELS, (6, 9)) is PIXELS


def test_soft_masks_are_resized_each_by_itself() -> None:
    maps = RNG.random((3, 4, 5)).astype(np.float32)
    resized = images.resize_maps(maps, (8, 15))
    assert (3, 8, 15) == resized.shape
    for one, expected in zip(resized, maps, strict=True):
        alone = images.resize_maps(expected[None], (8, 15))[0]
        assert np.array_equal(one, alone)
    assert (0, 8, 15) == images.resize_maps(maps[:0], (8, 15)).shape
    ramp = np.tile(np.arange(4, dtype=np.float32), (2, 1))[None]  # grows with x only
    assert (np.diff(images.resize_maps(ramp, (6, 12))[0], axis=0) == 0).all()


def ramp(scale: float = 1.0) -> NDArray[np.uint16]:
    """A grey ramp of 64 columns up to a share of 65535."""
    return np.tile(np.linspace(0, 65535 * scale, 64), (48, 1)).astype(np.uint16)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 8), (1 / 16, 4), (1 / 257, 0)])
def test_grey_of_many_bits_keeps_its_levels(kind: str, scale: float, shift: int) -> None:
    """16 bits lose the lower 8; 12 bits stored in 16 the lower 4; 8 bits none."""
    values = ramp(scale)
    data = encoded(Image.fromarray(values), kind)
    pixels = images.decode(scene_of(ImageRef(data), (48, 64)))
    assert np.array_equal(pixels[..., 0], values >> shift)
    assert len(np.unique(pixels)) == 64


def test_colours_of_16_bits_keep_the_upper_8() -> None:
    import cv2

    deep = np.dstack([ramp(0.5), ramp(), 65535 - ramp()])
    done, data = cv2.imencode(".png", deep)
    assert done
    pixels = images.decode(scene_of(ImageRef(data.tobytes()), (48, 64)))
    assert np.array_equal(pixels, (deep[..., ::-1] >> 8).astype(np.uint8))


@pytest.mark.parametrize("mode", ["F", "HSV", "LAB"])
def test_pixels_of_no_one_meaning_are_refused(mode: str) -> None:
    if mode == "F":
        image = Image.fromarray(np.zeros((6, 9), np.float32))
    else:
        image = Image.new(mode, (9, 6))
    try:
        data = encoded(image, "TIFF")
    except (OSError, KeyError):
        pytest.skip(f"Pillow writes no TIFF of mode {mode}")
    with pytest.raises(DatasetError, match="no one meaning as colours; store it with 8 or 16 bits"):
        images.decode(scene_of(ImageRef(data)))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (bytes(5000), "nothing but zeros"),
        (b"<html>404</html>", "it is a web page: the download failed"),
        (b"<svg xmlns='x'/>", "an SVG or XML text"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"something else", "it is none of PNG, JPEG, BMP"),
    ],
)
def test_what_a_file_is_instead_of_an_image_is_said(data: bytes, told: str) -> None:
    with pytest.raises(DatasetError) as caught:
        images.decode(scene_of(ImageRef(data)))
    assert told in str(caught.value)
    assert "BytesIO" not in str(caught.value)


def test_a_header_that_promises_too_much_is_one_line() -> None:
    data = bytearray(images.encode(PIXELS, "png"))
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    with pytest.raises(DatasetError, match="cannot be decoded"):
        images.decode(scene_of(ImageRef(bytes(data)), (40_000, 40_000)))


def test_a_device_is_no_image() -> None:
    """It may have no end."""
    with pytest.raises(DatasetError, match="no regular file"):
        images.decode(scene_of(ImageRef(None, "/dev/zero")))


def test_pixels_before_their_palette_are_one_line() -> None:
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert("P").save(out, "PNG", transparency=3)
    coloured = out.getvalue()
    start = coloured.index(b"PLTE") - 4
    pixels_start = coloured.index(b"IDAT") - 4
    pixels_end = coloured.index(b"IEND") - 4
    parts = (
        coloured[:start],
        coloured[pixels_start:pixels_end],
        coloured[start:pixels_end],
        coloured[pixels_end:],
    )
    with pytest.raises(DatasetError, match="cannot be decoded"):
        images.decode(scene_of(ImageRef(b"".join(parts))))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_pictures_the_first_is_read_and_all_are_counted(kind: str) -> None:
    frames = [Image.new("RGB", (9, 6), color) for color in ("red", "blue", "green")]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    pixels, file = images.decode_with_file(scene_of(ImageRef(out.getvalue())))
    assert file.pictures == 3
    assert pixels[0, 0].argmax() == 0
    one = images.decode_with_file(scene_of(ImageRef(file_of(PIXELS, kind))))[1]
    assert one.pictures == 1
