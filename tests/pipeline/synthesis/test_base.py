"""What all conditionings share: refusals that name the key, plans of a job, finished images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from synthaug.generators import load_system
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import (
    Dataset,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.planning.planner import Config as PlanConfig
from synthaug.pipeline.synthesis.base import (
    Conditioning,
    plan_config,
    seeds_of,
    sources_of,
    with_image,
)
from tests import paths

TOY = toy.ToyDataset(toy.Config("train", count=6, size=48))


class Plain(Conditioning):
    """Takes the scenes with an object; makes nothing."""

    def check_data(self, labelled: Dataset) -> None:
        raise NotImplementedError

    def select(self, table: Dataset) -> Subset:
        return Subset(table, [k for k in range(len(table)) if len(self.objects(table[k]))])

    def nothing_selected(self) -> DatasetError:
        return DatasetError("no image has an object")

    def batches(self, tables: Sequence[Dataset], draw: Any, rank: int, world: int) -> Any:
        raise NotImplementedError

    def synthesizer(self, network: Any, device: Any, trained: Any) -> Any:
        raise NotImplementedError


class OfMaps(Plain):
    plans_maps = True


class Editing(Plain):
    uses = ("add", "empty")


def conditioning(kind: Callable[..., Plain], *words: str) -> Plain:
    job = load_job(paths.JOBS / "smoke.yaml", ["cluster.executor=serial", *words])
    return kind(job, load_system(job.generator.system))


@pytest.mark.parametrize(
    ("word", "key", "fits", "not_fits"),
    [
        ("plan.rearrange=0.3", "plan.rearrange", OfMaps, Plain),
        ("plan.empties=0.2", "plan.empties", Editing, Plain),
    ],
)
def test_settings_of_other_kinds_are_refused_by_their_key(
    word: str, key: str, fits: type[Plain], not_fits: type[Plain]
) -> None:
    conditioning(fits, word).check()
    with pytest.raises(JobError) as caught:
        conditioning(not_fits, word).check()
    message = str(caught.value)
    assert message.startswith(f"{key}: ")
    assert "set it to 0" in message
    assert "\n" not in message


def test_uses_that_a_generator_has_not_are_refused_with_those_it_has() -> None:
    conditioning(Editing, "plan.uses={add:1}").check()
    with pytest.raises(JobError, match=r"^plan\.uses: .*whose uses are add, empty; leave out"):
        conditioning(Editing, "plan.uses={add:1,refresh:1}").check()
    with pytest.raises(JobError, match="none: it makes whole images"):
        conditioning(Plain, "plan.uses={add:1}").check()


def test_plans_are_made_of_the_scenes_that_were_selected() -> None:
    empty = TOY[0].with_objects(Objects.build([], []))
    table = SceneList(toy.CATEGORIES, [empty, *TOY])
    own = conditioning(Plain, "plan.count=5")
    assert 6 == len(own.layouts(table))
    planner = own.planner(table)
    planned = planner.scene(0)
    assert planned.provenance is not None
    assert planned.provenance.source_image in {scene.image_id for scene in TOY}
    with pytest.raises(DatasetError, match="no image has an object"):
        own.planner(SceneList(toy.CATEGORIES, [empty]))


def test_layouts_are_parts_of_their_own_image() -> None:
    wide = Scene("w", 50, 200, ImageRef(None, None), Objects.build([3], [(20, 10, 60, 30)]))
    crowd = Objects.build([1, 2], [(0, 0, 9, 9), (0, 0, 50, 25)], iscrowd=[True, False])
    other = Scene("o", 100, 100, ImageRef(None, None), crowd)
    first, second = sources_of([wide, other], conditioning(Plain).objects)
    assert ("w", (50, 200)) == (first.image_id, first.size)
    assert np.allclose(first.layout.boxes, [[0.1, 0.2, 0.3, 0.6]])
    assert [2] == second.layout.category.tolist(), "a crowd is no object"


def test_a_planners_config_takes_the_keys_of_the_job() -> None:
    words = ("plan.count=7", "plan.jitter=0.25", "plan.flip=0.1", "seed=9", "name=abc")
    job = conditioning(Plain, *words).job
    config = plan_config(PlanConfig, job, max_objects=3)
    assert (7, 0.25, 0.1, 9, "abc", 3) == (
        config.count,
        config.jitter,
        config.flip,
        config.seed,
        config.name,
        config.max_objects,
    )
    assert job.generator.system == config.generator


def test_a_finished_scene_keeps_its_plan_and_names_its_checkpoint() -> None:
    origin = Provenance(77, "lostgan", "", "a", "natural")
    planned = Scene("x-1", 6, 8, ImageRef(), Objects.build([0], [(1, 1, 4, 4)]), None, origin)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    made = with_image(planned, pixels, "png", "c0ffee")
    assert np.array_equal(decode(made), pixels)
    assert "x-1.png" == made.image.path
    assert made.provenance is not None
    assert ("c0ffee", 77) == (made.provenance.checkpoint, made.provenance.seed)
    assert "x-1.jpg" == with_image(planned, pixels, "jpeg", "c").image.path
    assert [77, 77] == seeds_of([planned, made])
    with pytest.raises(AssertionError, match="r is not planned"):
        seeds_of([Scene("r", 6, 8, ImageRef(), Objects.build([], []))])


def test_the_samplers_options_are_those_of_the_job() -> None:
    own = conditioning(Plain, "synthesize.truncation=0.5", "synthesize.precision=bfloat16")
    options = own.sampler_options("cpu")
    assert ("cpu", 0.5, "bfloat16") == (options.device, options.truncation, options.precision)
