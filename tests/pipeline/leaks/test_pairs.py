"""Pairs of images that show the same: which are found, what they mean, what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.leaks.hashing import NUM_HASHES, signature
from synthaug.pipeline.leaks.pairs import (
    NEAREST,
    Pair,
    advice,
    count_pairs,
    digest_of,
    find_pairs,
    leak_message,
    split_manifest,
)
from synthaug.pipeline.leaks.signatures import Signatures, read_signatures, write_signatures

TOY = toy.read(toy.Config("train", 12), Path())
IMAGES = [decode(scene) for scene in TOY]


def noisy(index: int, seed: int) -> np.ndarray:
    """A near copy of image `index`, another one for every seed."""
    noise = np.random.default_rng(seed).integers(-2, 3, IMAGES[index].shape)
    return np.clip(IMAGES[index].astype(int) + noise, 0, 255).astype(np.uint8)


def signed(root: Path, splits: dict[str, Sequence[np.ndarray]]) -> Signatures:
    """Return the signatures of splits of images; image k of split s is s + k."""
    for split, images in splits.items():
        rows = [(f"{split}{k}", "", signature(image)) for k, image in enumerate(images)]
        write_signatures(Folder.at(root / split), "part-00000", rows)
    return read_signatures([(split, Folder.at(root / split)) for split in splits])


def named(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.first[1], pair.second[1]) for pair in pairs]


def pair(a: str, b: str, same: bool = True, files: tuple[str, str] = ("", "")) -> Pair:
    return Pair((a, "x"), (b, "y"), same, 0.0, files)


# ---- search ----


def test_the_same_and_nearly_the_same_images_of_two_splits_are_pairs(tmp_path: Path) -> None:
    table = signed(
        tmp_path, {"a": [IMAGES[0], IMAGES[1]], "b": [noisy(1, 0), IMAGES[0], IMAGES[2]]}
    )
    pairs = find_pairs(table, {"a": 0, "b": 1})
    assert named(pairs) == [("a0", "b1"), ("a1", "b0")]
    assert [found.same_pixels for found in pairs] == [True, False]
    assert pairs[0].distance == 0 <= pairs[1].distance < 0.02


def test_images_of_one_split_or_of_splits_of_one_group_are_no_pairs(tmp_path: Path) -> None:
    table = signed(tmp_path, {"a": [IMAGES[0], IMAGES[0]], "b": [IMAGES[0]], "c": [noisy(0, 1)]})
    assert named(find_pairs(table, {"a": 0, "b": 0, "c": 1})) == [
        ("a0", "c0"),
        ("a1", "c0"),
        ("b0", "c0"),
    ]
    assert find_pairs(table, {"a": 0, "b": 0, "c": 0}) == []


def test_each_copy_of_the_same_pixels_is_listed_once_per_other_group(tmp_path: Path) -> None:
    """Not every copy with every other one: of a thousand there would be half a million."""
    table = signed(tmp_path, {"a": [IMAGES[0]] * 5, "b": [IMAGES[0]] * 5})
    pairs = find_pairs(table, {"a": 0, "b": 1})
    assert len(pairs) == 9
    assert {name for found in named(pairs) for name in found} == {
        *(f"a{k}" for k in range(5)),
        *(f"b{k}" for k in range(5)),
    }


def test_of_many_that_look_like_one_only_the_nearest_are_compared(tmp_path: Path) -> None:
    """Two films of ten frames that all look alike.

    Each frame with three of the other film, not with all.
    """
    frame = signature(IMAGES[3])
    frame = replace(frame, hashes=np.repeat(frame.hashes[:1], NUM_HASHES))  # every window alike
    folders = []
    for split in ("a", "b"):
        rows = [(f"{split}{k}", "", replace(frame, pixels=f"{split}{k}")) for k in range(10)]
        write_signatures(Folder.at(tmp_path / split), "part-00000", rows)
        folders.append((split, Folder.at(tmp_path / split)))
    pairs = find_pairs(read_signatures(folders), {"a": 0, "b": 1})
    assert len(pairs) == 2 * 10 * NEAREST - NEAREST**2
    assert len(named(pairs)) == len(set(named(pairs)))


def test_nothing_is_paired_where_there_are_no_images(tmp_path: Path) -> None:
    table = signed(tmp_path, {"a": [], "b": []})
    assert find_pairs(table, {"a": 0, "b": 1}) == []


# ---- kinds and words ----


def test_a_pair_is_named_by_where_its_images_are() -> None:
    kinds = {
        ("labelled", "validation"): "leak",
        ("trial.external.more", "trial.evaluation"): "leak",
        ("validation", "trial.evaluation"): "shared",
        ("labelled", "unlabelled"): "shared",
        ("synthetic", "synthetic"): "shared",
        ("labelled", "synthetic"): "memorised",
        ("trial.evaluation", "synthetic"): "leak",
    }
    for (a, b), kind in kinds.items():
        assert pair(a, b).kind == pair(b, a).kind == kind


def test_nothing_is_complained_of_without_a_leak() -> None:
    shared = [pair("labelled", "unlabelled")]
    assert leak_message(shared, {}, "") == ""
    assert leak_message([], {}, "") == ""
    assert count_pairs(shared * 2) == {"shared: labelled and unlabelled": 2}
    assert count_pairs([]) == {}


@pytest.mark.parametrize("swap", [False, True])
def test_the_message_names_the_measured_image_first_and_its_key(swap: bool) -> None:
    leak = Pair(("labelled", "t"), ("validation", "v"), False, 0.01, ("t.png", "other.png"))
    if swap:
        leak = Pair(leak.second, leak.first, False, 0.01, leak.files[::-1])
    shared = pair("labelled", "unlabelled")
    keys = {"labelled": "data.labelled", "validation": "data.validation"}
    text = leak_message([shared, leak, leak, leak], keys, "leaks.json")
    assert text == (
        "data.validation: image 'v' (other.png), on which results are measured, is a near copy of "
        "'t' of data.labelled, and 2 more pairs (leaks.json)"
    )


def test_a_split_without_a_key_is_named_itself() -> None:
    text = leak_message([pair("trial.evaluation", "trial.external.x")], {}, "P")
    assert text == (
        "trial.evaluation: image 'x', on which results are measured, is 'y' of trial.external.x (P)"
    )


def test_the_advice_is_for_leaks_alone() -> None:
    assert advice([pair("validation", "synthetic")]).endswith("another seed")
    both = [pair("labelled", "synthetic"), pair("labelled", "validation")]
    assert advice(both) == "take one of each pair out"


# ---- manifest ----


def test_the_digest_of_a_split_is_that_of_its_ids_and_pixels_in_any_order() -> None:
    entries = [("a", "1"), ("b", "2")]
    assert digest_of(entries) == digest_of(entries[::-1])
    assert digest_of(entries) != digest_of([("a", "2"), ("b", "1")])
    assert digest_of(entries) != digest_of(entries[:1])


def test_the_manifest_lists_every_image_and_its_digest_is_over_the_shared_splits(
    tmp_path: Path,
) -> None:
    table = signed(tmp_path, {"a": IMAGES[:2], "b": IMAGES[2:3]})
    manifest = split_manifest(table, ["a"])
    assert [row[0] for row in manifest["splits"]["a"]["images"]] == ["a0", "a1"]
    assert manifest["splits"]["b"]["count"] == 1
    own = manifest["splits"]["a"]["images"][1]
    assert own[1] == table.pixels[1]
    assert int(own[2], 16) == int(table.hashes[1, 0])
    assert manifest["sha256"] == digest_of([("a", manifest["splits"]["a"]["sha256"])])
    assert manifest["sha256"] != split_manifest(table, ["a", "b"])["sha256"]
    assert split_manifest(table, ["a", "gone"])["sha256"] == manifest["sha256"]
