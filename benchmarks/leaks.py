"""Does the leak guard find copies, and only copies? What do 100,000 images cost?

    python benchmarks/leaks.py [FOLDER]

For the toy (whose pictures all look alike) and for the images of FOLDER: of 200 images each, copies
in several forms, and how many of them are found among all images; and how many pairs of the
untouched images are taken for one picture, with the smallest distances. Then the search alone, on
100,000 hashes: random ones, and toy ones with a few bits changed, which crowd into few buckets as
hashes of images that look alike do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.leaks.hashing import WINDOWS, Signature, signature
from synthaug.pipeline.leaks.search import RADIUS, pairs_within
from synthaug.pipeline.leaks.thumbnails import LIMIT, distance

TOYS, COPIED = 3000, 200
Picture = np.ndarray


def jpeg(image: Picture, quality: int) -> Picture:
    """The image after JPEG compression."""
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def cropped(low: float, high: float) -> Callable[[Picture, np.random.Generator], Picture]:
    """Cut out a window of `low` to `high` of each side, anywhere, and compress it."""

    def cut(image: Picture, rng: np.random.Generator) -> Picture:
        share = rng.uniform(low, high)
        sizes = [round(share * side) for side in image.shape[:2]]
        y, x = (
            int(rng.integers(0, side - size + 1))
            for side, size in zip(image.shape[:2], sizes, strict=True)
        )
        return jpeg(image[y : y + sizes[0], x : x + sizes[1]], 90)

    return cut


def scaled(factor: float) -> Callable[[Picture, np.random.Generator], Picture]:
    """Resize both sides."""
    return lambda image, _: cv2.resize(
        image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA
    )


FORMS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "JPEG, quality 75": lambda image, _: jpeg(image, 75),
    "JPEG, quality 40": lambda image, _: jpeg(image, 40),
    "half the size": scaled(0.5),
    "1.5 times the size": scaled(1.5),
    "mirrored, JPEG": lambda image, _: jpeg(image[:, ::-1], 90),
    "cropped to 95-99 %": cropped(0.95, 0.99),
    "cropped to 90-95 %": cropped(0.90, 0.95),
    "cropped to 85-90 %": cropped(0.85, 0.90),
}


def apart(a: Signature, b: Signature) -> float:
    """The distance the leak guard compares with its limit."""
    return min(distance(a.thumbnail, b.thumbnail), distance(b.thumbnail, a.thumbnail))


def alike(a: Signature, b: Signature) -> bool:
    """Whether the leak guard takes two images for one picture."""
    bits = min(int(np.bitwise_count(x.hashes ^ y.hashes[0]).min()) for x, y in ((a, b), (b, a)))
    return bits <= RADIUS and apart(a, b) <= LIMIT


def measure(name: str, images: list[Picture]) -> None:
    """Print what is found among some images."""
    rng = np.random.default_rng(0)
    began = time.process_time()
    known = [signature(image) for image in images]
    cost = (time.process_time() - began) / len(images)
    print(
        f"\n{name}: {len(images)} images, {images[0].shape[1]}x{images[0].shape[0]}; signing takes "
        f"{1000 * cost:.1f} ms"
    )
    chosen = range(0, len(images), max(1, len(images) // COPIED))
    for form, change in FORMS.items():
        found = sum(
            alike(known[i], signature(np.ascontiguousarray(change(images[i], rng)))) for i in chosen
        )
        print(f"| {form} | {100 * found / len(chosen):.1f} % |")
    hashes = np.stack([own.hashes for own in known])
    windows, each = hashes.shape[1], np.arange(len(known))
    queries, positions = pairs_within(
        hashes.reshape(-1), hashes[:, 0], np.repeat(each, windows), each
    )
    pairs = {
        (min(a, b), max(a, b))
        for a, b in zip((queries // windows).tolist(), positions.tolist(), strict=True)
    }
    distances = sorted((round(apart(known[a], known[b]), 4), a, b) for a, b in pairs)
    total = len(images) * (len(images) - 1) // 2
    print(
        f"{len(pairs)} of {total} pairs have near hashes; {sum(d[0] <= LIMIT for d in distances)} "
        f"are within {LIMIT}"
    )
    print(f"smallest distances (and the two images): {distances[:6]}")


def search(name: str, whole: np.ndarray) -> None:
    """Print what comparing 100,000 images costs."""
    rng = np.random.default_rng(1)
    count, windows = len(whole), 2 * len(WINDOWS)
    noise = rng.integers(
        0, 64, (count, windows - 1, 6), dtype=np.uint64
    )  # other windows: up to six bits away
    queries = np.repeat(whole[:, None], windows, axis=1)
    queries[:, 1:] ^= np.bitwise_xor.reduce(np.uint64(1) << noise, axis=2)
    each = np.arange(count)
    began = time.process_time()
    found = pairs_within(queries.reshape(-1), whole, np.repeat(each, windows), each)
    print(
        f"{name}: {count} hashes, {queries.size} queries: {time.process_time() - began:.0f} s, "
        f"{len(found[0])} candidates"
    )


def main() -> None:
    """Print all of it."""
    table = toy.read(toy.Config("train", TOYS), Path())
    images = [decode(table[i]) for i in range(TOYS)]
    measure("toy", images)
    for folder in sys.argv[1:]:
        paths = sorted(p for p in Path(folder).iterdir() if p.suffix in (".jpg", ".png"))
        measure(Path(folder).name, [np.asarray(Image.open(path).convert("RGB")) for path in paths])
    rng = np.random.default_rng(2)
    search("random", rng.integers(0, 2**64, 100_000, dtype=np.uint64))
    base = np.array([signature(image).hashes[0] for image in images], np.uint64)
    flips = np.bitwise_xor.reduce(
        np.uint64(1) << rng.integers(0, 64, (100_000, 12), dtype=np.uint64), axis=1
    )
    search("toy-like", base[np.arange(100_000) % TOYS] ^ flips)


if __name__ == "__main__":
    main()
