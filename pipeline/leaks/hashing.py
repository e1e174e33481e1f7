"""Which images show the same picture: marks of an image, and the search for pairs of them.

The same pixels have the same sha256. A copy that was encoded again, resized, mirrored or cropped a little is found by the
perceptual hash of Zauner 2010 (signs of the 64 lowest cosine frequencies against their median), taken of the whole image,
of a few windows and of their mirror images: a crop's whole looks like a window of the original. Hashes within RADIUS bits
are found without comparing all pairs (multi-index hashing, Norouzi, Punjani and Fleet 2012): if two of 64 bits differ in
at most 10, one of four parts differs in at most 2, so each part is looked up with up to 2 bits flipped. What that finds is
a candidate only; a pair is one picture when small thumbnails agree, one laid over the best fitting window of the other.

Legend: N images, W windows and their mirror images, Q queries, K places of a window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.storage import Folder

WINDOWS = (
    (0.0, 0.0, 1.0),
    (0.05, 0.05, 0.9),
    (0.0, 0.0, 0.9),
    (0.1, 0.0, 0.9),
    (0.0, 0.1, 0.9),
    (0.1, 0.1, 0.9),
)
RADIUS = 10  # bits of 64
LIMIT = 0.02  # distance (1 - correlation) up to which two pictures are one; measured in benchmarks/leaks.py
WORK = 128  # pixels: side to which an image is brought before anything else
SIDE = 32  # of a thumbnail
FLAT = 2.0  # grey levels: a thumbnail with less spread shows nothing to compare
_BITS, _PARTS, _BLOCK = 16, 4, 4_000_000  # of a part of a hash; parts; candidates looked at at once

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]
Window = tuple[float, float, float]  # left, top, side: shares of the image


@dataclass(frozen=True)
class Marks:
    """What one image is recognised by."""

    pixels: (
        str  # sha256 of size and decoded pixels: the same picture in another file format keeps it
    )
    hashes: (
        Hashes  # [W]: of WINDOWS, then of their mirror images; the first is that of the whole image
    )
    thumbnail: NDArray[np.uint8]  # [SIDE, SIDE, 3]


def marks(image: NDArray[np.uint8]) -> Marks:
    """Return the marks of an image uint8 RGB [H, W, 3]."""
    import cv2

    small = cv2.resize(image, (WORK, WORK), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    lows = [_frequencies(_cut(grey, window)) for window in WINDOWS]
    mirror = np.where(
        np.arange(8) % 2, -1, 1
    )  # a mirror image has the odd horizontal frequencies negated
    hashes = [_signs(low) for low in lows] + [_signs(low * mirror) for low in lows]
    digest = hashlib.sha256(
        f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()
    ).hexdigest()
    thumbnail = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return Marks(digest, np.array(hashes, np.uint64), np.asarray(thumbnail, np.uint8))


def _cut(image: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    x, y, side = (round(value * WORK) for value in window)
    return image[y : y + side, x : x + side]


def _frequencies(image: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    return np.asarray(
        cv2.dct(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))[:8, :8], np.float32
    )


def _signs(frequencies: NDArray[np.float32]) -> np.uint64:
    bits = np.packbits(frequencies.ravel() > np.median(frequencies))
    return np.uint64(int.from_bytes(bits.tobytes(), "big"))


# --- search -----------------------------------------------------------------------------------------------------------


def near(
    queries: Hashes, index: Hashes, query_group: Places, index_group: Places, radius: int = RADIUS
) -> tuple[Places, Places]:
    """Return all pairs (position in queries [Q], position in index [N]) of different groups within `radius` bits, once."""
    found: list[Places] = []  # of pairs as one number: query * N + position
    flips = _flips(radius // _PARTS)
    for part in range(_PARTS):
        keys = _part(index, part)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << _BITS) + 1))
        for chosen, low, counts in _blocks(_part(queries, part), flips, starts):
            offsets = np.repeat(low - np.cumsum(counts) + counts, counts)
            position = order[offsets + np.arange(counts.sum())]
            query = np.repeat(chosen, counts)
            close = np.bitwise_count(queries[query] ^ index[position]) <= radius
            close &= query_group[query] != index_group[position]
            found.append(query[close] * len(index) + position[close])
    pairs = np.unique(np.concatenate([np.zeros(0, np.int64), *found]))
    return pairs // max(1, len(index)), pairs % max(1, len(index))


def _part(hashes: Hashes, part: int) -> Places:
    return ((hashes >> np.uint64(_BITS * part)) & np.uint64((1 << _BITS) - 1)).astype(np.int64)


def _flips(most: int) -> Places:
    """All numbers of _BITS bits with at most `most` of them set."""
    sets = (bits for count in range(most + 1) for bits in combinations(range(_BITS), count))
    return np.array([sum(1 << bit for bit in bits) for bits in sets], np.int64)


def _blocks(keys: Places, flips: Places, starts: Places) -> Iterator[tuple[Places, Places, Places]]:
    """Yield (query, first place in its bucket, size of the bucket) for all buckets probed, in blocks of limited size."""
    step = max(1, 200_000 // len(flips))
    for start in range(0, len(keys), step):
        probes = keys[start : start + step, None] ^ flips[None]
        low, counts = starts[probes].ravel(), (starts[probes + 1] - starts[probes]).ravel()
        query = np.repeat(np.arange(start, start + len(probes)), len(flips))
        full = counts > 0
        query, low, counts = query[full], low[full], counts[full]
        ends = np.flatnonzero(np.diff(np.cumsum(counts) // _BLOCK)) + 1  # where a block is full
        for piece in np.split(np.arange(len(query)), ends):
            if len(piece):
                yield query[piece], low[piece], counts[piece]


# --- confirmation -----------------------------------------------------------------------------------------------------


def distance(whole: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return 1 - correlation of a thumbnail with the best fitting window of another, mirrored or not; 2 is the most.

    Windows have 0.85 of the side and more, so a crop that keeps 85 % of each side is still laid over its place.
    """
    places = _normal(_windows(whole))  # [K, 16 * 16 * 3]
    flat = _windows(other)[0]
    best = max(
        float((places @ _normal(seen.reshape(1, -1))[0]).max()) for seen in (flat, flat[:, ::-1])
    )
    return 1 - best


def _normal(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = values.reshape(len(values), -1)
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(
        np.where(length > FLAT * np.sqrt(rows.shape[1]), rows / np.maximum(length, 1e-6), 0),
        np.float32,
    )


def _windows(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The windows of a thumbnail at half its side [K, 16, 16, 3], the whole first."""
    import cv2

    soft = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), 0.8)
    size, how = (SIDE // 2, SIDE // 2), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(soft, place, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
            for place in _places()
        ]
    )


@lru_cache(1)
def _places() -> Sequence[NDArray[np.float32]]:
    found = []
    for side in (1.0, 0.975, 0.95, 0.925, 0.9, 0.875, 0.85):
        offsets = np.linspace(0, 1 - side, 1 if side == 1 else 5) * SIDE
        step = 2 * side
        middle = step / 2 - 0.5
        found += [
            np.array([[step, 0, x + middle], [0, step, y + middle]], np.float32)
            for y in offsets
            for x in offsets
        ]
    return found


# --- a table of marks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """The marks of the images of some splits, laid end to end; thumbnails stay on disk until they are asked for."""

    split: tuple[str, ...]  # [N]
    image_id: tuple[str, ...]  # [N]
    file: tuple[str, ...]  # [N] name of the image's file, "" where it has none
    pixels: tuple[str, ...]  # [N] sha256
    hashes: Hashes  # [N, W]
    files: tuple[tuple[str, str, int], ...]  # folder, name and first row of each file

    def __len__(self) -> int:
        return len(self.image_id)

    def thumbnails(self, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
        """Read the thumbnails of some images, file by file."""
        import pyarrow.parquet as pq

        found: dict[int, NDArray[np.uint8]] = {}
        ends = [*(first for _, _, first in self.files[1:]), len(self)]
        for (folder, name, first), end in zip(self.files, ends, strict=True):
            inside = [i for i in range(first, end) if i in wanted]
            if inside:
                with Folder.at(folder).open_input(name) as file:
                    column = pq.read_table(file, columns=["thumbnail"]).column("thumbnail")
                for i in inside:
                    found[i] = np.frombuffer(column[i - first].as_py(), np.uint8).reshape(
                        SIDE, SIDE, 3
                    )
        return found

    def whole(self) -> Hashes:
        """Hashes of the whole images [N]."""
        return self.hashes[:, 0]


def write(folder: Folder, name: str, found: Sequence[tuple[str, str, Marks]]) -> None:
    """Write (image id, name of its file, marks) as one Parquet file, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "image_id": pa.array([image_id for image_id, _, _ in found], pa.string()),
            "file": pa.array([file for _, file, _ in found], pa.string()),
            "pixels": pa.array([mark.pixels for _, _, mark in found], pa.string()),
            "hashes": pa.array([mark.hashes.tobytes() for _, _, mark in found], pa.binary()),
            "thumbnail": pa.array([mark.thumbnail.tobytes() for _, _, mark in found], pa.binary()),
        }
    )
    with folder.atomic_output(name) as stream:
        pq.write_table(table, stream, compression="zstd")


def read(folders: Sequence[tuple[str, Folder]]) -> Table:
    """Open the marks of splits (name, folder), in this order."""
    import pyarrow.parquet as pq

    splits: list[str] = []
    ids: list[str] = []
    names: list[str] = []
    pixels: list[str] = []
    hashes = [np.zeros((0, 2 * len(WINDOWS)), np.uint64)]
    files = []
    for split, folder in folders:
        for name in (n for n in folder.names() if n.endswith(".parquet")):
            with folder.open_input(name) as file:
                table = pq.read_table(file, columns=["image_id", "file", "pixels", "hashes"])
            files.append((folder.uri, name, len(ids)))
            ids += table.column("image_id").to_pylist()
            names += table.column("file").to_pylist()
            pixels += table.column("pixels").to_pylist()
            splits += [split] * table.num_rows
            raw = b"".join(table.column("hashes").to_pylist())
            hashes.append(np.frombuffer(raw, np.uint64).reshape(-1, 2 * len(WINDOWS)))
    return Table(
        tuple(splits), tuple(ids), tuple(names), tuple(pixels), np.concatenate(hashes), tuple(files)
    )
