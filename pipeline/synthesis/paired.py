"""Paired samples: images sampled from the layouts of validation images.

To be compared with these images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.masks import encode
from synthaug.pipeline.core.scene import PAIRED_SAMPLE, Dataset, Objects, Provenance, Scene
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.synthesis.base import Synthesizer
from synthaug.pipeline.synthesis.conditioning import conditioning_of


class PairedSamples:
    """Samples each layout of a range `samples` times.

    Runs in a worker; image `layout * samples + sample` of all.
    """

    def __init__(
        self,
        job: Job,
        load: Callable[[Job], Synthesizer],
        table: Callable[[], Dataset],
        samples: int,
        out: str,
    ) -> None:
        # all objects stay, however little of them is seen: what was asked for is what is looked for
        options = replace(job.synthesize, size="source", format="png", min_mask_area=1)
        self._job = replace(job, synthesize=options)
        self._conditioning = conditioning_of(self._job)
        self._synthesize = load(self._job)
        self._table = table()
        self._samples = samples
        self._out = Folder.at(out)

    def __call__(self, name: str, indices: range) -> Json:
        """Write shard `name`."""
        requests = []
        for index in indices:
            for sample in range(self._samples):
                requests.append(self._request(index, sample))
        batch = self._job.synthesize.batch
        categories = self._table.categories
        with parquet.ShardWriter(self._out, f"{name}.parquet", categories) as writer:
            for start in range(0, len(requests), batch):
                writer.write(self._sample(requests[start : start + batch]))
        return {"rows": len(indices), "images": len(requests)}

    def _request(self, index: int, sample: int) -> Scene:
        """Return the scene to be sampled: validation image `index`.

        As far as the generator is told of it.
        """
        scene = self._table[index]
        seed = seed_for(self._job.seed, "score", index, sample)
        system = self._job.generator.system
        provenance = Provenance(seed, system, "", scene.image_id, PAIRED_SAMPLE)
        image_id = f"{scene.image_id}~{sample}"
        return replace(
            self._conditioning.condition(scene), image_id=image_id, provenance=provenance
        )

    def _sample(self, requests: Sequence[Scene]) -> list[Scene]:
        """Return the samples of a batch, with all objects that were asked for."""
        finished = self._synthesize(requests, self._table.categories, "")
        pairs = zip(requests, finished, strict=True)
        return [with_lost_objects(request, sample.scene) for request, sample in pairs]


def with_lost_objects(request: Scene, sample: Scene) -> Scene:
    """Put back the objects of which nothing is visible.

    With an empty mask and the box that was asked for.
    """
    if len(sample.objects) == len(request.objects):
        return sample
    asked = request.objects
    no_pixels = np.zeros((1, *request.size), bool)
    (empty,) = encode(no_pixels)
    boxes = asked.boxes.copy()
    area = np.zeros(len(asked), np.float32)
    rle: list[str | None] = [empty] * len(asked)
    asked_ids = asked.id.tolist()
    position_of = {number: position for position, number in enumerate(asked_ids)}
    for row, number in enumerate(sample.objects.id.tolist()):
        position = position_of[number]
        boxes[position] = sample.objects.boxes[row]
        area[position] = sample.objects.area[row]
        rle[position] = sample.objects.rle[row]
    objects = Objects.build(
        asked.category,
        boxes,
        id=asked.id,
        rle=rle,
        area=area,
        isthing=asked.isthing,
        iscrowd=asked.iscrowd,
        source=("synthetic",) * len(asked),
        layout_boxes=asked.boxes,
    )
    return sample.with_objects(objects)
