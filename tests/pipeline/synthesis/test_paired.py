"""Paired samples.

Each validation layout as often as asked for, with all its objects, told of by its own conditioning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import PAIRED_SAMPLE, Category, Scene
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.synthesis.base import Finished, with_image
from synthaug.pipeline.synthesis.paired import PairedSamples, with_lost_objects
from tests import paths

TOY = toy.ToyDataset(toy.Config("val", count=4, size=48))


class OneObject:
    """A synthesizer that shows one object of each scene, the last, and remembers the scenes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.batches: list[list[Scene]] = []

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        self.batches.append(list(planned))
        finished = []
        for scene in planned:
            shown = scene.with_objects(scene.objects.select([len(scene.objects) - 1]))
            image = np.zeros((*scene.size, 3), np.uint8)
            finished.append(Finished(with_image(shown, image, "png", checkpoint), Counter()))
        return finished


@pytest.fixture
def job() -> Job:
    words = ["cluster.executor=serial", "synthesize.batch=3", "synthesize.format=jpeg"]
    return load_job(paths.JOBS / "smoke.yaml", [*words, "synthesize.size=generator"])


def test_each_layout_is_sampled_as_often_as_asked_for(job: Job, tmp_path: Path) -> None:
    synthesizers: list[OneObject] = []

    def load(own: Job) -> OneObject:
        synthesizers.append(OneObject(own))
        return synthesizers[0]

    work = PairedSamples(job, load, lambda: TOY, 2, str(tmp_path))
    assert {"rows": 2, "images": 4} == work("part-00000", range(1, 3))
    table = parquet.open_table(tmp_path)
    ids = [TOY[1].image_id, TOY[2].image_id]
    assert [f"{name}~{sample}" for name in ids for sample in range(2)] == [
        scene.image_id for scene in table
    ]
    seeds = {scene.provenance.seed for scene in table if scene.provenance}
    assert 4 == len(seeds)
    assert {PAIRED_SAMPLE} == {scene.provenance.reason for scene in table if scene.provenance}
    assert [3, 1] == [len(batch) for batch in synthesizers[0].batches]
    told = synthesizers[0].batches[0][0]
    assert told.panoptic is None, "a generator of layouts is told of no map"
    options = synthesizers[0].job.synthesize
    assert ("source", "png", 1) == (options.size, options.format, options.min_mask_area)


def test_a_sample_is_the_same_in_any_shard(job: Job, tmp_path: Path) -> None:
    for folder, places in (("one", [range(4)]), ("two", [range(3, 4), range(3)])):
        work = PairedSamples(job, OneObject, lambda: TOY, 1, str(tmp_path / folder))
        for number, part in enumerate(places):
            work(f"part-{number:05d}", part)
    one, two = (
        {scene.image_id: scene.provenance for scene in parquet.open_table(path)}
        for path in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two and 4 == len(one)


def test_lost_objects_come_back_with_an_empty_mask_and_their_box() -> None:
    request = TOY[0]
    assert len(request.objects) > 2
    kept = [2, 0]  # in another order than they were asked for
    sample = request.with_objects(
        replace(request.objects.select(kept), boxes=request.objects.boxes[kept] + np.float32(0.5))
    )
    objects = with_lost_objects(request, sample).objects
    assert request.objects.id.tolist() == objects.id.tolist()
    for number in range(len(objects)):
        shift = 0.5 if number in kept else 0.0
        assert (request.objects.boxes[number] + shift).tolist() == objects.boxes[number].tolist()
        shown = masks.decode(objects.rle[number] or "", request.size)
        assert shown.any() == (number in kept)
        assert (objects.area[number] > 0) == (number in kept)
    np.testing.assert_array_equal(objects.layout_boxes, request.objects.boxes)


def test_a_sample_that_lost_nothing_stays_as_it_is() -> None:
    sample = TOY[0]
    assert with_lost_objects(TOY[0], sample) is sample
