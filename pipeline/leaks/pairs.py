"""Images that are in two splits at once: what is a leak, what only a duplicate, and what is said of them.

What is measured on an image is flattered when a detector or a generator has seen that image, or a copy of it. So an image
of a split that is trained on must be in no split that is measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from synthaug.pipeline.leaks.hashing import LIMIT, Places, Table, distance, near

SYNTHETIC = "synthetic"
EVALUATION = "trial.evaluation"
EXTERNAL = "trial.external."  # prefix of splits that an arm of the trial trains on
NEAREST = 3  # images of a group that are compared with one; of a film there are hundreds that look like it
SHOWN = 20  # pairs that a manifest lists
Kind = Literal[
    "leak", "memorised", "shared"
]  # across measured and trained on; synthetic and trained on; any other


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
        """What it means that these two are alike."""
        splits = (self.first[0], self.second[0])
        if sum(measured(split) for split in splits) == 1:
            return "leak"
        return "memorised" if SYNTHETIC in splits and splits[0] != splits[1] else "shared"

    def to_json(self) -> dict[str, Any]:
        """Plain content."""
        return {**asdict(self), "kind": self.kind}


def measured(split: str) -> bool:
    """Whether scores or the trial are measured on a split; on all others something is trained."""
    return split in ("validation", EVALUATION)


def pairs(table: Table, group: Mapping[str, int]) -> list[Pair]:
    """Return pairs of images of different groups that show the same, in the order of the table.

    `group` says which splits belong together. Of the images of another group that look like one, NEAREST are compared.
    """
    chosen = sorted(_same(table, group) | _candidates(table, group))
    small = table.thumbnails(
        {i for a, b in chosen if table.pixels[a] != table.pixels[b] for i in (a, b)}
    )
    found = []
    for a, b in chosen:
        same = table.pixels[a] == table.pixels[b]
        apart = 0.0 if same else min(distance(small[a], small[b]), distance(small[b], small[a]))
        if apart <= LIMIT:
            named = [(table.split[i], table.image_id[i]) for i in (a, b)]
            found.append(
                Pair(named[0], named[1], same, round(apart, 4), (table.file[a], table.file[b]))
            )
    return found


def _same(table: Table, group: Mapping[str, int]) -> set[tuple[int, int]]:
    """Images of the same pixels: of those that are alike, each with the first one of every other group."""
    alike: dict[str, list[int]] = {}
    for place, digest in enumerate(table.pixels):
        alike.setdefault(digest, []).append(place)
    found = set()
    for places in (places for places in alike.values() if len(places) > 1):
        first: dict[int, int] = {}
        for place in places:
            first.setdefault(group[table.split[place]], place)
        for place in places:
            others = [other for key, other in first.items() if key != group[table.split[place]]]
            found |= {(min(place, other), max(place, other)) for other in others}
    return found


def _candidates(table: Table, group: Mapping[str, int]) -> set[tuple[int, int]]:
    """Pairs of which one's whole is near a window of the other, by their hashes."""
    if not len(table):
        return set()
    windows, whole = table.hashes.shape[1], table.whole()
    groups = np.array([group[split] for split in table.split])
    queries, found = near(table.hashes.reshape(-1), whole, np.repeat(groups, windows), groups)
    owner: Places = queries // windows
    bits = np.bitwise_count(table.hashes.reshape(-1)[queries] ^ whole[found]).astype(np.int64)
    order = np.lexsort((found, bits, groups[found], owner))
    owner, found = owner[order], found[order]
    starts = np.flatnonzero(
        np.diff(owner, prepend=-1) | np.diff(groups[found], prepend=-1)
    )  # of an owner and a group
    rank = np.arange(len(owner)) - np.repeat(starts, np.diff(np.append(starts, len(owner))))
    kept = rank < NEAREST * windows  # a pair may be there once for each window
    digests = np.array(table.pixels)
    kept &= digests[owner] != digests[found]
    low, high = np.minimum(owner, found)[kept], np.maximum(owner, found)[kept]
    return set(zip(low.tolist(), high.tolist(), strict=True))


def count(found: Sequence[Pair]) -> dict[str, int]:
    """How many pairs there are per kind and pair of splits."""
    total: dict[str, int] = {}
    for pair in found:
        key = f"{pair.kind}: {pair.first[0]} and {pair.second[0]}"
        total[key] = total.get(key, 0) + 1
    return total


def complaint(found: Sequence[Pair], keys: Mapping[str, str], path: str) -> str:
    """What is wrong, without a full stop: the key, two images and how many more there are; "" without any leak.

    `keys` names the job's key behind each split; `path` is the file that lists all pairs.
    """
    leaks = [pair for pair in found if pair.kind == "leak"]
    if not leaks:
        return ""
    pair = leaks[0]
    ends = sorted(
        zip((pair.first, pair.second), pair.files, strict=True),
        key=lambda end: not measured(end[0][0]),
    )
    ((held, ours), our_file), ((seen, theirs), their_file) = ends
    how = "is" if pair.same_pixels else "is a near copy of"
    more = f", and {len(leaks) - 1} more pairs" if len(leaks) > 1 else ""
    return (
        f"{keys.get(held, held)}: image {_named(ours, our_file)}, on which results are measured, {how} "
        f"{_named(theirs, their_file)} of {keys.get(seen, seen)}{more} ({path})"
    )


def advice(found: Sequence[Pair]) -> str:
    """What to do about leaks."""
    synthetic = any(
        pair.kind == "leak" and SYNTHETIC in (pair.first[0], pair.second[0]) for pair in found
    )
    return (
        "make the synthetic images again with another seed"
        if synthetic
        else "take one of each pair out"
    )


def _named(image_id: str, file: str) -> str:
    return (
        f"'{image_id}'" if file.rpartition(".")[0] in ("", image_id) else f"'{image_id}' ({file})"
    )


def digest_of(entries: Sequence[tuple[str, str]]) -> str:
    """Digest of (image id, digest of its pixels) in any order."""
    text = "\n".join(f"{image_id}\x1f{pixels}" for image_id, pixels in sorted(entries))
    return hashlib.sha256(text.encode()).hexdigest()


def split_manifest(table: Table, shared: Sequence[str]) -> dict[str, Any]:
    """Content of `splits.json`: ids and hashes of every split; its `sha256` is over the splits that all steps share."""
    splits: dict[str, Any] = {}
    for split in dict.fromkeys(table.split):
        places = [i for i, name in enumerate(table.split) if name == split]
        images = [
            [table.image_id[i], table.pixels[i], f"{int(table.hashes[i, 0]):016x}"] for i in places
        ]
        digest = digest_of([(image_id, pixels) for image_id, pixels, _ in images])
        splits[split] = {"count": len(images), "sha256": digest, "images": images}
    whole = [(split, splits[split]["sha256"]) for split in shared if split in splits]
    columns = ["image_id", "sha256 of size and pixels", "perceptual hash"]
    return {"sha256": digest_of(whole), "columns": columns, "splits": splits}
