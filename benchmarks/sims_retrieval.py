"""How many segments of a large memory does SIMS find in a second, and in how much memory?

    python -m benchmarks.sims_retrieval [SEGMENTS] [QUERIES]

Makes a memory of shapes (100,000 by default) of 19 classes, the first of which has a third of them,
and queries masks of 256 x 512 pixels, reduced to the small size as production does. One process and
two find the same segments (compared by digest); printed are queries per second, and the memory that
a process takes for the search. Bar: 200 queries a second on two cores.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from synthaug.generators.sims.retrieval import Bytes, ShapeIndex, grid_of, shape_of
from synthaug.generators.sims.segments import Flags, Ints

SEGMENTS = 100_000
QUERIES = 2_000
CLASSES = 19
FIRST_CLASS = 3  # a class in so many segments is the first
SIZE = (256, 512)
GRID = grid_of(SIZE[1] / SIZE[0])
FOUND = 10  # segments per query
WORKERS = (1, 2)
IMAGES = 17  # segments of an image


def ellipses(seeds: Ints, size: tuple[int, int]) -> Flags:
    """Return a mask [H, W] per seed: an ellipse anywhere, its sides from small to the whole."""
    rows, columns = size
    y = (np.arange(rows)[None, :, None] + 0.5) / rows
    x = (np.arange(columns)[None, None, :] + 0.5) / columns
    masks = []
    for seed in seeds.tolist():
        rng = np.random.default_rng(seed)
        middle_y, middle_x = rng.random(2)
        height, width = np.exp(rng.uniform(np.log(0.05), np.log(0.6), 2))
        masks.append(((y - middle_y) / height) ** 2 + ((x - middle_x) / width) ** 2 < 1)
    return np.concatenate(masks)


def classes_of(seeds: Ints) -> Ints:
    """Return the class of each made segment."""
    rest = 1 + seeds // FIRST_CLASS % (CLASSES - 1)
    return np.where(seeds % FIRST_CLASS == 0, 0, rest)


def make(count: int, path: Path) -> None:
    """Write the shapes of so many segments."""
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, GRID[0] * GRID[1] // 8))
    for start in range(0, count, 1000):
        seeds = np.arange(start, min(start + 1000, count))
        filled = ellipses(seeds, GRID).reshape(len(seeds), -1)
        file[start : start + 1000] = np.packbits(filled, axis=1)
    file.flush()


def search(path: str, first: int, last: int) -> tuple[list[list[int]], float, float]:
    """Return what queries first .. last - 1 find, seconds, and the memory taken in MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shapes: Bytes = np.load(path)
    seeds = np.arange(len(shapes))
    index = ShapeIndex(shapes, classes_of(seeds), seeds // IMAGES)
    own_seeds = 10**9 + np.arange(first, last)
    classes = classes_of(own_seeds).tolist()
    found = []
    seconds = 0.0
    for place, category in enumerate(classes):
        mask = ellipses(own_seeds[place : place + 1], SIZE)[0]
        began = time.perf_counter()
        shape = shape_of(mask, GRID)
        found.append(index.nearest(shape, category, FOUND).tolist())
        seconds += time.perf_counter() - began
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return found, seconds, memory


def run(path: Path, queries: int, workers: int) -> str:
    """Print the speed of so many processes; return the digest of what they find."""
    borders = np.linspace(0, queries, workers + 1).astype(int).tolist()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(search, [str(path)] * workers, borders[:-1], borders[1:]))
    found = []
    for numbers, _, _ in parts:
        found += numbers
    seconds = max(part[1] for part in parts)
    memory = max(part[2] for part in parts)
    digest = hashlib.sha256(repr(found).encode()).hexdigest()
    print(
        f"{workers} processes: {queries / seconds:.0f} queries/s, {memory:.0f} MB each, "
        f"found {digest[:12]}",
        flush=True,
    )
    return digest


def main(words: list[str]) -> int:
    """Print the speeds; return 1 where processes find other segments."""
    numbers = [int(word) for word in words]
    count, queries = [*numbers, *(SEGMENTS, QUERIES)[len(numbers) :]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shapes.npy"
        make(count, path)
        megabytes = path.stat().st_size / 1e6
        print(f"{count} segments, shapes of {megabytes:.0f} MB")
        digests = {run(path, queries, workers) for workers in WORKERS}
    return int(len(digests) > 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
