"""Signatures of images: the same pixels keep theirs, and mirror images have hashes of their own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.leaks.hashing import NUM_HASHES, THUMBNAIL_SIZE, WINDOWS, signature

TOY = toy.read(toy.Config("train", 20), Path())
IMAGES = [decode(TOY[i]) for i in range(20)]


def test_the_same_pixels_in_another_file_format_keep_their_digest_and_one_grey_level_changes_it():
    image = IMAGES[0]
    again = cv2.imdecode(cv2.imencode(".bmp", image[..., ::-1])[1], 1)[..., ::-1]
    other = image.copy()
    other[3, 4, 0] ^= 1
    assert (
        signature(np.ascontiguousarray(again)).pixels
        == signature(image).pixels
        != signature(other).pixels
    )
    assert signature(image.reshape(32, 128, 3)).pixels != signature(image).pixels, (
        "the same bytes in another shape"
    )


def test_the_hashes_of_mirror_images_are_those_of_the_mirrored_image():
    """They are computed from one transform.

    The two may differ where a coefficient is at the median.
    """
    for image in IMAGES[:10]:
        count = len(WINDOWS)
        straight, mirrored = (
            signature(image).hashes,
            signature(np.ascontiguousarray(image[:, ::-1])).hashes,
        )
        assert np.bitwise_count(straight[0] ^ mirrored[count]) <= 4
        assert np.bitwise_count(straight[count] ^ mirrored[0]) <= 4


def test_a_signature_has_a_hash_of_every_window_and_a_small_picture():
    own = signature(np.zeros((37, 91, 3), np.uint8))
    assert own.hashes.shape == (NUM_HASHES,)
    assert own.hashes.dtype == np.uint64
    assert own.thumbnail.shape == (THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)


def test_the_hash_of_a_window_is_that_of_the_image_cut_to_it():
    """Up to the pixels between which a cut of another image falls."""
    for image in IMAGES[:10]:
        large = cv2.resize(image, (128, 128), interpolation=cv2.INTER_CUBIC)
        hashes = signature(large).hashes
        for number, (x, y, side) in enumerate(WINDOWS):
            left, top, size = (round(value * 128) for value in (x, y, side))
            cut = np.ascontiguousarray(large[top : top + size, left : left + size])
            assert np.bitwise_count(signature(cut).hashes[0] ^ hashes[number]) <= 6


def test_the_thumbnail_shows_the_image():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :, 0] = 200
    thumbnail = signature(image).thumbnail
    assert (thumbnail[:15, :, 0] == 200).all()
    assert not thumbnail[17:].any()
