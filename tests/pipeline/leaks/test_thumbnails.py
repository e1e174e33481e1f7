"""Copies are found however they were stored, other pictures that look alike are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.leaks.hashing import signature
from synthaug.pipeline.leaks.search import RADIUS
from synthaug.pipeline.leaks.thumbnails import LIMIT, distance

TOY = toy.read(toy.Config("train", 60), Path())
IMAGES = [decode(TOY[i]) for i in range(60)]


def jpeg(image, quality):
    return cv2.imdecode(
        cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1
    )[..., ::-1]


def cropped(image, side, rng):
    height, width = image.shape[:2]
    y, x = (int(rng.integers(0, size - round(side * size) + 1)) for size in (height, width))
    return image[y : y + round(side * height), x : x + round(side * width)]


CHANGES = {
    "encoded": lambda image, _: jpeg(image, 60),
    "halved": lambda image, _: cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA),
    "enlarged": lambda image, _: cv2.resize(image, (150, 130), interpolation=cv2.INTER_CUBIC),
    "mirrored": lambda image, _: jpeg(image[:, ::-1], 90),
    "cropped": lambda image, rng: cropped(image, 0.95, rng),
    "mirrored and cropped": lambda image, rng: cropped(image[:, ::-1], 0.95, rng),
}


def close(a, b):
    """Whether the two are found as one picture, in either order."""
    bits = min(int(np.bitwise_count(x.hashes ^ y.hashes[0]).min()) for x, y in ((a, b), (b, a)))
    return (
        bits <= RADIUS
        and min(distance(a.thumbnail, b.thumbnail), distance(b.thumbnail, a.thumbnail)) <= LIMIT
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found(change):
    rng = np.random.default_rng(0)
    found = [
        close(signature(image), signature(np.ascontiguousarray(CHANGES[change](image, rng))))
        for image in IMAGES[:20]
    ]
    assert sum(found) >= (18 if "cropped" in change else 20)


def test_toy_scenes_which_all_look_alike_are_no_copies():
    found = [signature(image) for image in IMAGES]
    assert not any(close(found[a], found[b]) for a in range(60) for b in range(a))


def test_pictures_that_show_nothing_are_not_alike():
    black, grey = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 90, np.uint8)
    assert distance(signature(black).thumbnail, signature(grey).thumbnail) == 1
    assert distance(signature(grey).thumbnail, signature(grey).thumbnail) == 1, (
        "those of the same pixels are found by these"
    )


def test_the_distance_is_one_less_the_correlation_of_half_size_images():
    """Against numpy's correlation in float64, where the full window fits best."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
    first = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 8, first.shape)
    second = np.clip(first + noise, 0, 255).astype(np.uint8)

    def half(image):
        smooth = cv2.GaussianBlur(image.astype(np.float64), (0, 0), 0.8)
        return smooth.reshape(16, 2, 16, 2, 3).mean((1, 3)).ravel()

    expected = 1 - np.corrcoef(half(first), half(second))[0, 1]
    assert distance(first, second) == pytest.approx(expected, rel=1e-3)


def test_a_picture_has_no_distance_to_itself_or_its_mirror_image_and_the_most_to_its_negative():
    image = signature(IMAGES[0]).thumbnail
    assert distance(image, image) == pytest.approx(0, abs=1e-6)
    assert distance(image, image[:, ::-1]) == pytest.approx(0, abs=1e-6)
    assert distance(image, 255 - image) > 0.5
