"""A detector over a table: image by image, or in shards on the pool of workers.

Image by image it yields rows for the evaluator.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.store import write_rows
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.execution.training import device
from synthaug.pipeline.scores.detection.evaluator import DetectionRow

if TYPE_CHECKING:
    from synthaug.detectors.base import Prediction
    from synthaug.detectors.tta import TestTimeAugmented

SHARD = 64  # images

Images = list[Bytes]


class Predictor(Protocol):
    """A detector, with or without test-time augmentation."""

    def predict(self, images: Sequence[Bytes]) -> list[Prediction]:
        """Detect in a batch of images [H, W, 3]."""
        ...


def load_labeller(job: Job, weights: Folder, name: str) -> TestTimeAugmented:
    """Return the trained detector with the test-time augmentation of `pseudo_label`."""
    import torch

    from synthaug.detectors import DETECTORS
    from synthaug.detectors.tta import TestTimeAugmented

    torch.set_num_threads(1)
    backend = importlib.import_module(DETECTORS[job.detector.backend])
    with weights.local_copy(name) as path:
        detector = backend.load(path, device=device())
    return TestTimeAugmented(detector, job.pseudo_label.flip, job.pseudo_label.scales)


def detect(
    detector: Predictor, table: Dataset, indices: range, batch: int
) -> Iterator[tuple[int, Scene, Prediction]]:
    """Yield (index, scene, prediction) in order.

    The next batch is decoded while the network works on this one; at most two batches of pixels are
    in memory.
    """

    def read(start: int) -> tuple[list[Scene], Images]:
        part = indices[start : start + batch]
        scenes = [table[i] for i in part]
        images = [decode(scene) for scene in scenes]
        return scenes, images

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, 0)
        for start in range(0, len(indices), batch):
            scenes, images = following.result()
            if start + batch < len(indices):
                following = reader.submit(read, start + batch)
            predictions = detector.predict(images)
            yield from zip(indices[start : start + batch], scenes, predictions, strict=True)


def detect_rows(
    detector: Predictor, table: Dataset, indices: range, batch: int
) -> Iterator[DetectionRow]:
    """Yield the predictions on some images of a table, in order.

    The objects of the table are their ground truth.
    """
    for index, scene, prediction in detect(detector, table, indices, batch):
        yield DetectionRow.of(index, scene, prediction)


def detect_shards(
    context: Context,
    open_table: Callable[[], Dataset],
    load_detector: Callable[[], Predictor],
    count: int,
    batch: int,
    folder: Folder,
    unit: str,
) -> None:
    """Store the rows of a table of `count` images in a folder, shard by shard.

    The pool of workers makes them. Each worker opens the table and loads the detector once. Shards
    that are stored already are not done again.
    """
    make = partial(_ShardDetector, open_table, load_detector, batch, folder.uri)
    context.shards(make, cut(count, SHARD), folder, unit, gpu=True)


class _ShardDetector:
    """Runs in a worker: detects in a shard of a table and stores the rows."""

    def __init__(
        self,
        open_table: Callable[[], Dataset],
        load_detector: Callable[[], Predictor],
        batch: int,
        folder: str,
    ) -> None:
        self._table = open_table()
        self._detector = load_detector()
        self._batch = batch
        self._folder = Folder.at(folder)

    def __call__(self, name: str, indices: range) -> Json:
        rows = list(detect_rows(self._detector, self._table, indices, self._batch))
        write_rows(self._folder, name, rows)
        return {"rows": len(rows)}
