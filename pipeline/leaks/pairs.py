"""Pairs of images of two splits that show the same.

Leaks, memorised training images and plain duplicates.

What is measured on an image is flattered when a detector or a generator has seen that image, or a
copy of it. So an image of a split that is trained on must be in no split that is measured on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.leaks.search import Indices, pairs_within
from synthaug.pipeline.leaks.signatures import Signatures
from synthaug.pipeline.leaks.thumbnails import LIMIT, distance

SYNTHETIC = "synthetic"
EVALUATION = "trial.evaluation"
EXTERNAL = "trial.external."  # prefix of splits that an arm of the trial trains on
# Images of a group that are compared with one; of a film there are hundreds that look like it.
NEAREST = 3
LISTED = 20  # pairs in a manifest
# Of measured and trained on; of synthetic and trained on; any other.
Kind = Literal["leak", "memorised", "shared"]
KINDS = ("leak", "memorised", "shared")  # the gravest first


@dataclass(frozen=True)
class Pair:
    """Two images that show the same."""

    first: tuple[str, str]  # split, image id
    second: tuple[str, str]
    same_pixels: bool
    distance: float  # 1 - correlation of the thumbnails; 0 for the same pixels
    files: tuple[str, str] = ("", "")  # their names, where the images are files

    @property
    def kind(self) -> Kind:
        """The consequence of showing the same, by the splits of the two."""
        splits = (self.first[0], self.second[0])
        if sum(is_measured(split) for split in splits) == 1:
            return "leak"
        if SYNTHETIC in splits and splits[0] != splits[1]:
            return "memorised"
        return "shared"

    def to_json(self) -> Json:
        """Return plain data."""
        return {**asdict(self), "kind": self.kind}


def is_measured(split: str) -> bool:
    """Return whether scores or the trial are measured on a split.

    On all others something is trained.
    """
    return split in ("validation", EVALUATION)


def find_pairs(signatures: Signatures, group: Mapping[str, int]) -> list[Pair]:
    """Return the pairs of images of different groups that show the same.

    In the order of the signatures.

    `group` says which splits belong together. Of the images of another group that look like one,
    NEAREST are compared.
    """
    numbers = [group[split] for split in signatures.split]
    groups = np.array(numbers, np.int64)  # [N]
    pixels = signatures.pixels
    candidates = sorted(_same_pixels(signatures, groups) | _similar(signatures, groups))
    compared = []
    for a, b in candidates:
        if pixels[a] != pixels[b]:
            compared.append((a, b))
    thumbnails = signatures.thumbnails({row for pair in compared for row in pair})
    pairs = []
    for a, b in candidates:
        same_pixels = pixels[a] == pixels[b]
        apart = 0.0
        if not same_pixels:
            forth = distance(thumbnails[a], thumbnails[b])
            back = distance(thumbnails[b], thumbnails[a])
            apart = min(forth, back)
        if apart <= LIMIT:
            first = (signatures.split[a], signatures.image_id[a])
            second = (signatures.split[b], signatures.image_id[b])
            files = (signatures.file[a], signatures.file[b])
            pair = Pair(first, second, same_pixels, round(apart, 4), files)
            pairs.append(pair)
    return pairs


def _same_pixels(signatures: Signatures, groups: Indices) -> set[tuple[int, int]]:
    """Return rows of the same pixels: each with the first one of every other group."""
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(signatures.pixels):
        rows_of.setdefault(digest, []).append(row)
    pairs = set()
    for rows in rows_of.values():
        first_of_group: dict[int, int] = {}
        for row in rows:
            first_of_group.setdefault(int(groups[row]), row)
        for row in rows:
            for group, other in first_of_group.items():
                if group != groups[row]:
                    pairs.add((min(row, other), max(row, other)))
    return pairs


def _similar(signatures: Signatures, groups: Indices) -> set[tuple[int, int]]:
    """Return pairs of rows where one's full image is near a window of the other.

    By their hashes; rows of the same pixels are not among them.

    Of each group, the NEAREST to an image.
    """
    if not len(signatures):
        return set()
    num_windows = signatures.hashes.shape[1]
    windows = signatures.hashes.reshape(-1)
    full = signatures.hashes[:, 0]
    own_groups = np.repeat(groups, num_windows)
    window, other = pairs_within(windows, full, own_groups, groups)
    row = window // num_windows
    differing = windows[window] ^ full[other]
    bits = np.bitwise_count(differing).astype(np.int64)

    order = np.lexsort((other, bits, groups[other], row))  # by row, then group, nearest first
    row = row[order]
    other = other[order]
    new_row = np.diff(row, prepend=-1)
    new_group = np.diff(groups[other], prepend=-1)
    starts = np.flatnonzero(new_row | new_group)  # of a row and a group
    sizes = np.diff(np.append(starts, len(row)))
    rank = np.arange(len(row)) - np.repeat(starts, sizes)

    nearest = rank < NEAREST * num_windows  # a pair may be there once for each window
    digests = np.array(signatures.pixels)
    nearest &= digests[row] != digests[other]
    low = np.minimum(row, other)[nearest]
    high = np.maximum(row, other)[nearest]
    return set(zip(low.tolist(), high.tolist(), strict=True))


def count_pairs(pairs: Sequence[Pair]) -> dict[str, int]:
    """Count the pairs per kind and splits."""
    counts: Counter[str] = Counter()
    for pair in pairs:
        counts[f"{pair.kind}: {pair.first[0]} and {pair.second[0]}"] += 1
    return dict(counts)


def leak_message(pairs: Sequence[Pair], keys: Mapping[str, str], path: str) -> str:
    """Return the error for leaks, without a full stop.

    The key, two images, how many more; "" without any leak.

    `keys` names the job's key behind each split; `path` is the file that lists all pairs.
    """
    leaks = [pair for pair in pairs if pair.kind == "leak"]
    if not leaks:
        return ""
    leak = leaks[0]
    measured = (*leak.first, leak.files[0])
    trained = (*leak.second, leak.files[1])
    if not is_measured(measured[0]):
        measured, trained = trained, measured
    verb = "is" if leak.same_pixels else "is a near copy of"
    more = f", and {len(leaks) - 1} more pairs" if len(leaks) > 1 else ""
    measured_key = keys.get(measured[0], measured[0])
    trained_key = keys.get(trained[0], trained[0])
    return (
        f"{measured_key}: image {_image_name(*measured[1:])}, on which results are measured, "
        f"{verb} {_image_name(*trained[1:])} of {trained_key}{more} ({path})"
    )


def advice(pairs: Sequence[Pair]) -> str:
    """Return the way out of leaks."""
    for pair in pairs:
        splits = (pair.first[0], pair.second[0])
        if pair.kind == "leak" and SYNTHETIC in splits:
            return "make the synthetic images again with another seed"
    return "take one of each pair out"


def _image_name(image_id: str, file: str) -> str:
    """Return an image's id, with the name of its file where that is another one."""
    stem = file.rpartition(".")[0]
    if stem in ("", image_id):
        return f"'{image_id}'"
    return f"'{image_id}' ({file})"


def digest_of(entries: Sequence[tuple[str, str]]) -> str:
    """Return the digest of (image id, digest of its pixels) in any order."""
    lines = [f"{image_id}\x1f{pixels}" for image_id, pixels in sorted(entries)]
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()


def split_manifest(signatures: Signatures, shared: Sequence[str]) -> Json:
    """Return the content of `splits.json`: ids and hashes of every split.

    Its `sha256` is over the splits that all steps share.
    """
    splits: Json = {}
    for row, split in enumerate(signatures.split):
        full_hash = f"{int(signatures.hashes[row, 0]):016x}"
        image = [signatures.image_id[row], signatures.pixels[row], full_hash]
        of_split = splits.setdefault(split, {"images": []})
        of_split["images"].append(image)
    for split, entry in splits.items():
        images = entry["images"]
        named = [(image_id, pixels) for image_id, pixels, _ in images]
        digest = digest_of(named)
        splits[split] = {"count": len(images), "sha256": digest, "images": images}
    digests = [(split, splits[split]["sha256"]) for split in shared if split in splits]
    columns = ["image_id", "sha256 of size and pixels", "perceptual hash"]
    return {"sha256": digest_of(digests), "columns": columns, "splits": splits}
