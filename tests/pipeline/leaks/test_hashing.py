"""Copies are found however they were stored, other pictures that look alike are not; the search misses no pair."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.leaks import hashing as image_hash
from synthaug.pipeline.leaks.hashing import LIMIT, RADIUS, WINDOWS, distance, marks, near

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
        close(marks(image), marks(np.ascontiguousarray(CHANGES[change](image, rng))))
        for image in IMAGES[:20]
    ]
    assert sum(found) >= (18 if "cropped" in change else 20)


def test_toy_scenes_which_all_look_alike_are_no_copies():
    found = [marks(image) for image in IMAGES]
    assert not any(close(found[a], found[b]) for a in range(60) for b in range(a))


def test_the_same_pixels_in_another_file_format_keep_their_digest_and_one_grey_level_changes_it():
    image = IMAGES[0]
    again = cv2.imdecode(cv2.imencode(".bmp", image[..., ::-1])[1], 1)[..., ::-1]
    other = image.copy()
    other[3, 4, 0] ^= 1
    assert marks(np.ascontiguousarray(again)).pixels == marks(image).pixels != marks(other).pixels
    assert marks(image.reshape(32, 128, 3)).pixels != marks(image).pixels, (
        "the same bytes in another shape"
    )


def test_the_hashes_of_mirror_images_are_those_of_the_mirrored_image():
    """They are computed from one transform; the two may differ where a coefficient is at the median."""
    for image in IMAGES[:10]:
        count = len(WINDOWS)
        straight, mirrored = marks(image).hashes, marks(np.ascontiguousarray(image[:, ::-1])).hashes
        assert np.bitwise_count(straight[0] ^ mirrored[count]) <= 4
        assert np.bitwise_count(straight[count] ^ mirrored[0]) <= 4


def test_pictures_that_show_nothing_are_not_alike():
    black, grey = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 90, np.uint8)
    assert distance(marks(black).thumbnail, marks(grey).thumbnail) == 1
    assert distance(marks(grey).thumbnail, marks(grey).thumbnail) == 1, (
        "those of the same pixels are found by these"
    )


hashes = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8)
changes = st.lists(
    st.tuples(st.integers(0, 7), st.sets(st.integers(0, 63), max_size=14)), max_size=8
)


@given(hashes, changes, st.integers(0, 15))
def test_the_search_finds_exactly_the_pairs_within_the_radius(base, edits, radius):
    """Against all pairs; half of the hashes are others with some bits flipped, so that there is something to find."""
    index = np.array(base, np.uint64)
    near_ones = [base[k % len(base)] ^ sum(1 << bit for bit in bits) for k, bits in edits]
    queries = np.array([*near_ones, *base], np.uint64)
    groups = np.arange(len(queries)) % 2, np.arange(len(index)) % 2
    found = set(
        zip(*(side.tolist() for side in near(queries, index, *groups, radius)), strict=True)
    )
    expected = {
        (q, k)
        for q in range(len(queries))
        for k in range(len(index))
        if int(queries[q] ^ index[k]).bit_count() <= radius and groups[0][q] != groups[1][k]
    }
    assert found == expected


def test_a_table_comes_back_as_it_was_written(tmp_path):
    found = [(f"image {i}", f"{i}.png", marks(image)) for i, image in enumerate(IMAGES[:5])]
    for split, part in (("a", found[:3]), ("b", found[3:])):
        image_hash.write(Folder.at(tmp_path / split), "part-00000.parquet", part)
    table = image_hash.read([(split, Folder.at(tmp_path / split)) for split in ("a", "b")])
    assert table.split == ("a", "a", "a", "b", "b")
    assert list(table.image_id) == [name for name, _, _ in found]
    assert (table.hashes == np.stack([mark.hashes for _, _, mark in found])).all()
    assert table.file[2] == "2.png"
    small = table.thumbnails({1, 4})
    assert set(small) == {1, 4}
    assert (small[4] == found[4][2].thumbnail).all()
