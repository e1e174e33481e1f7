"""Softened images.

Nothing finer than the resolution is left, and size, labels and kind of file stay.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.synthesis.soft import soft_table, soften_file


def encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def high_share(pixels: np.ndarray) -> float:
    """The share of the power above half of the resolution's frequency."""
    power = np.abs(np.fft.fft2(pixels[..., 0] - pixels[..., 0].mean())) ** 2
    rows = np.abs(np.fft.fftfreq(pixels.shape[0]))[:, None]
    columns = np.abs(np.fft.fftfreq(pixels.shape[1]))
    return float(power[np.maximum(rows, columns) > 0.25].sum() / power.sum())


def test_fine_structure_goes_and_coarse_structure_stays() -> None:
    pixels = noise(64, 96)
    soft = np.asarray(opened(soften_file(encoded(pixels, "PNG"), 16)))
    assert (64, 96, 3) == soft.shape
    assert high_share(pixels) > 0.7 and high_share(soft) < 0.05
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, :, None], (64, 96, 3)).copy()
    kept = np.asarray(opened(soften_file(encoded(ramp, "PNG"), 16))).astype(int)
    assert np.abs(kept - ramp)[:, 6:-6].max() <= 2


def test_an_image_that_is_no_larger_keeps_its_pixels() -> None:
    pixels = noise(16, 20)
    np.testing.assert_array_equal(pixels, opened(soften_file(encoded(pixels, "PNG"), 16)))


@pytest.mark.parametrize(("quality", "subsampling"), [(60, 2), (95, 0)])
def test_a_jpeg_is_compressed_as_it_was(quality: int, subsampling: int) -> None:
    source = encoded(noise(40, 40), "JPEG", quality=quality, subsampling=subsampling)
    soft = opened(soften_file(source, 16))
    assert isinstance(soft, JpegImagePlugin.JpegImageFile)
    assert soft.quantization == opened(source).quantization  # type: ignore[attr-defined]
    assert subsampling == JpegImagePlugin.get_sampling(soft)


def test_labels_and_sizes_stay() -> None:
    objects = Objects.build([0], [[1, 2, 9, 12]])
    image = ImageRef(encoded(noise(20, 30), "PNG"), "a.png")
    table = SceneList((Category(1, "cell"),), [Scene("a", 20, 30, image, objects)])
    (soft,) = soft_table(table, 8)
    assert (soft.size, soft.image_id) == ((20, 30), "a") and soft.objects is objects
    assert soft.image.data != image.data
    assert soft_table(table, 8).fingerprint() != soft_table(table, 9).fingerprint()
