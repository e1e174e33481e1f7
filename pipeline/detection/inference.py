"""A detector at work on a table of images: the next batch is decoded while the network looks at this one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.training import device

if TYPE_CHECKING:
    from synthaug.detectors.base import Prediction
    from synthaug.detectors.tta import TestTimeAugmented

Batch = tuple[list[Scene], list[NDArray[np.uint8]]]


def load_labeller(job: Job, weights: Folder, name: str) -> TestTimeAugmented:
    """Return the trained detector as `pseudo_label` lets it look: with or without views mirrored and at other sizes."""
    import torch

    from synthaug.detectors import DETECTORS
    from synthaug.detectors.tta import TestTimeAugmented

    torch.set_num_threads(1)
    backend = importlib.import_module(DETECTORS[job.detector.backend])
    with weights.local_copy(name) as path:
        return TestTimeAugmented(
            backend.load(path, device=device()), job.pseudo_label.flip, job.pseudo_label.scales
        )


def detect(
    detector: TestTimeAugmented, table: Dataset, places: range, batch: int
) -> Iterator[tuple[int, Scene, Prediction]]:
    """Yield (place, scene, what was found) in order; at most two batches of pixels are in memory."""

    def read(start: int) -> Batch:
        scenes = [table[i] for i in places[start : start + batch]]
        return scenes, [decode(scene) for scene in scenes]

    starts = range(0, len(places), batch)
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, 0)
        for start in starts:
            scenes, pixels = following.result()
            if start + batch < len(places):
                following = reader.submit(read, start + batch)
            yield from zip(
                places[start : start + batch], scenes, detector.predict(pixels), strict=True
            )
