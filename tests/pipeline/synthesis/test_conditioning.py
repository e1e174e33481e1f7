"""The contract of conditionings, over all of them.

What is selected and counted, batches, plans, and samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.generators import GENERATORS, checkpoint, load_system, lostgan, panoptic
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene, SceneList, class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.synthesis.base import Conditioning, Finished
from synthaug.pipeline.synthesis.conditioning import CONDITIONINGS, conditioning_of, name_of
from tests import paths

C = len(toy.CATEGORIES)
NAMES = [category.name for category in toy.CATEGORIES]
TOY = toy.ToyDataset(toy.Config("train", count=12, size=48))
TINY_LOSTGAN = ("resolution=64", "width=2", "z_image=4", "z_object=4", "embedding=4")
WORDS = {  # conditioning -> the job of a small system
    "layout": ["generator.system=lostgan", *(f"generator.{word}" for word in TINY_LOSTGAN)],
    "map": [
        "generator.system=spade",
        *("generator.resolution=32", "generator.width=2", "generator.vae=true", "generator.z=8"),
    ],
    "paste": ["generator.system=copy_paste"],
    "edit": [
        "generator.system=fill",
        "generator.resolutions=[16,32]",
        *("generator.width=8", "generator.embedding=16", "generator.flow_steps=2"),
    ],
    "layout, then map": ["generator.system=posthoc"],
}
WORDS["layout, into photos"] = [*WORDS["layout"], "plan.into=photos"]
ON_REAL_IMAGES = ("edit", "paste")
ADDING = (*ON_REAL_IMAGES, "layout, into photos")
LEARNING = ("layout", "map", "edit", "layout, into photos")
DRAWN = (*LEARNING, "layout, then map")  # whose images change with the seed


def empty(name: str, scene: Scene, crowd: bool) -> Scene:
    """A scene without objects that count, and without a map: with none, or with a crowd alone."""
    boxes = [[4, 4, 30, 30]] if crowd else []
    objects = Objects.build([0] * len(boxes), boxes, iscrowd=[True] * len(boxes))
    return replace(scene, image_id=name, objects=objects, panoptic=None)


TABLE = SceneList(
    toy.CATEGORIES, [*TOY, empty("nothing", TOY[0], False), empty("crowd", TOY[1], True)]
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words of a job that name the two untrained generators of `posthoc`."""
    folder = tmp_path_factory.mktemp("parts")
    layouts = lostgan.Config(
        resolution=64, width=2, z_image=4, z_object=4, embedding=4, mask_hidden=4
    )
    maps = panoptic.Config(resolution=32, width=2, width_d=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, system, config in (("lostgan", lostgan, layouts), ("panoptic", panoptic, maps)):
            network: Any = system.build(config, C)
            enlarge(network)
            checkpoint.save(folder / f"{name}.safetensors", network, name, config, NAMES, {})
    return [
        f"generator.layouts='{folder}/lostgan.safetensors'",
        f"generator.maps='{folder}/panoptic.safetensors'",
    ]


def enlarge(network: torch.nn.Module) -> None:
    """Give an untrained network weights that are large enough for latent codes to show."""
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(std=0.1)


Make = Callable[..., Conditioning]


@pytest.fixture
def make(parts: list[str]) -> Make:
    """Return conditioning by name, of a small job."""

    def build(name: str, *overrides: str) -> Conditioning:
        words = [*WORDS[name], *(parts if name == "layout, then map" else [])]
        return conditioning_of(job_of(name, *words, *overrides))

    return build


def job_of(name: str, *words: str) -> Job:
    file = "panoptic.yaml" if name == "map" else "smoke.yaml"
    return load_job(paths.JOBS / file, ["cluster.executor=serial", "plan.count=20", *words])


every = pytest.mark.parametrize("name", list(CONDITIONINGS))


def test_every_system_has_a_conditioning_and_every_conditioning_a_case() -> None:
    own = {name_of(load_system(system)) for system in GENERATORS}
    assert own | {"layout, into photos"} == set(CONDITIONINGS)
    assert set(WORDS) == set(CONDITIONINGS), "a new conditioning: give WORDS a small job"


@every
def test_scenes_are_selected_in_order_and_the_others_left_out(make: Make, name: str) -> None:
    conditioning = make(name)
    selected = conditioning.select(TABLE)
    takes_all = name in ON_REAL_IMAGES
    expected = [scene.image_id for scene in TABLE if takes_all or len(scene.objects) > 1]
    assert expected == [scene.image_id for scene in selected]
    assert len(expected) == (14 if takes_all else 12)
    assert 12 <= len(conditioning.scored(TABLE)) == len(selected)


@every
def test_crowds_do_not_count_as_objects(make: Make, name: str) -> None:
    conditioning = make(name)
    assert 0 == len(conditioning.objects(TABLE[12])) == len(conditioning.objects(TABLE[13]))
    assert not conditioning.objects(TOY[3]).iscrowd.any()


@every
def test_a_table_without_use_is_one_line_that_names_a_key(make: Make, name: str) -> None:
    conditioning = make(name)
    nothing = SceneList(toy.CATEGORIES, [] if name in ON_REAL_IMAGES else TABLE.scenes[12:])
    assert 0 == len(conditioning.select(nothing))
    with pytest.raises(DatasetError, match=r"^(data|generator)\.\S+: ") as error:
        conditioning.planner(nothing)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["layout", "map"])
def test_batches_depend_on_the_step_and_are_shared_by_processes(make: Make, name: str) -> None:
    conditioning = make(name)
    tables = [conditioning.select(TOY)]
    draw = draw_for(tables, 5, 3, "class_balanced", 0.01, conditioning.objects)
    whole, again = (conditioning.batches(tables, draw, 0, 1) for _ in range(2))
    halves = [conditioning.batches(tables, draw, rank, 2) for rank in range(2)]
    for step in (4, 1):
        images = whole(step).images
        assert 5 == len(images) and -1 <= images.min() < images.max() <= 1
        assert torch.equal(images, again(step).images)
        for rank, half in enumerate(halves):
            assert torch.equal(images[rank::2], half(step).images)
    assert not torch.equal(whole(1).images, whole(4).images)


def scenes_of(conditioning: Conditioning, count: int) -> list[Scene]:
    planner = conditioning.planner(SceneList(toy.CATEGORIES, [bare(scene) for scene in TOY]))
    return [planner.scene(index) for index in range(count)]


def bare(scene: Scene) -> Scene:
    """A scene as plans are given it: without pixels."""
    return replace(scene, image=ImageRef())


@every
def test_a_planned_scene_depends_on_its_index_alone(make: Make, name: str) -> None:
    first = scenes_of(make(name), 6)
    planner = make(name).planner(TOY)
    for index in (5, 0, 3):
        again = planner.scene(index)
        assert np.array_equal(again.objects.boxes, first[index].objects.boxes)
        assert (again.provenance, again.panoptic) == (
            first[index].provenance,
            first[index].panoptic,
        )
    ids = np.concatenate([scene.objects.id for scene in first])
    assert len(ids) == len(set(ids.tolist()))


@every
def test_the_weights_of_a_planner_serve_the_next(make: Make, name: str) -> None:
    words = [] if name == "map" else ["plan.placement=natural"]
    one = make(name, *words).planner(TOY)
    other = make(name, *words).planner(TOY, one.weights)
    assert one.scene(7).provenance == other.scene(7).provenance
    assert np.array_equal(one.scene(7).objects.boxes, other.scene(7).objects.boxes)


@pytest.mark.parametrize("name", ADDING)
def test_on_real_images_objects_are_added_and_never_removed(make: Make, name: str) -> None:
    conditioning = make(name, "plan.target=balanced", "generator.max_objects=20")
    assert conditioning.only_adds
    real = {scene.image_id: scene for scene in TOY}
    for scene in scenes_of(conditioning, 20):
        assert scene.provenance is not None and "-" not in scene.provenance.reason
        before = class_counts([real[scene.provenance.source_image]], C)
        assert (class_counts([scene], C) >= before).all()


def test_other_conditionings_take_objects_away_too(make: Make) -> None:
    assert not any(make(name).only_adds for name in set(WORDS) - set(ADDING))


@pytest.fixture
def synthesize(make: Make, tmp_path: Path) -> Callable[..., list[Finished]]:
    """Return finished scenes of planned ones, by conditioning."""

    def build(name: str, planned: list[Scene], seed: int = 0) -> list[Finished]:
        conditioning = make(name)
        labelled = tmp_path / "steps" / "ingest-0" / "labelled"
        trained = Folder.at(str(tmp_path / "steps" / "train_generator-0"))
        if not labelled.exists():
            parquet.write(TOY, Folder.at(str(labelled)))
        for file, content in conditioning.files([str(labelled)]).items():
            trained.write_json(file, content)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = conditioning.system.build(conditioning.job.generator.config, C)
            if name in LEARNING:
                enlarge(network)
        synthesizer = conditioning.synthesizer(network, "cpu", trained)
        return synthesizer(planned, toy.CATEGORIES, "f" * 64)

    return build


@every
def test_a_finished_scene_is_the_planned_one_with_pixels(
    make: Make, synthesize: Callable[..., list[Finished]], name: str
) -> None:
    planned = scenes_of(make(name), 3)
    for before, finished in zip(planned, synthesize(name, planned), strict=True):
        scene = finished.scene
        assert (before.image_id, before.size) == (scene.image_id, scene.size)
        assert f"{scene.image_id}.png" == scene.image.path
        assert (*scene.size, 3) == decode(scene).shape
        assert replace(before.provenance, checkpoint="f" * 64) == scene.provenance
        assert set(scene.objects.id.tolist()) <= set(before.objects.id.tolist())
        lost = len(before.objects) - len(scene.objects)
        assert lost == finished.lost.total()


@every
def test_a_sample_depends_on_its_own_plan_and_seed(
    make: Make, synthesize: Callable[..., list[Finished]], name: str
) -> None:
    planned = scenes_of(make(name), 3)
    together = [pixels(finished) for finished in synthesize(name, planned)]
    backwards = [pixels(finished) for finished in synthesize(name, planned[::-1])][::-1]
    for one, other in zip(together, backwards, strict=True):
        assert np.abs(one - other).max() <= 1
    if name in DRAWN:
        other_seeds = [with_next_seed(scene) for scene in planned]
        elsewhere = [pixels(finished) for finished in synthesize(name, other_seeds)]
        changes = [np.abs(o - t).max() for o, t in zip(elsewhere, together, strict=True)]
        assert max(changes) > 1  # an edit changes nothing where no object finds a place


def with_next_seed(scene: Scene) -> Scene:
    assert scene.provenance is not None
    origin = replace(scene.provenance, seed=scene.provenance.seed + 1)
    return replace(scene, provenance=origin)


def pixels(finished: Finished) -> np.ndarray:
    return decode(finished.scene).astype(int)


@pytest.mark.parametrize("name", ["layout", "edit", "paste", "layout, then map"])
def test_only_maps_are_rearranged(make: Make, name: str) -> None:
    with pytest.raises(JobError, match=r"plan\.rearrange: 0\.5 is for generators driven by maps"):
        make(name, "plan.rearrange=0.5").check()
    make("map", "plan.rearrange=0.5").check()


def test_a_layout_is_told_without_its_map(make: Make) -> None:
    assert TOY[0].panoptic is not None
    assert make("layout").condition(TOY[0]).panoptic is None
    assert make("map").condition(TOY[0]).panoptic == TOY[0].panoptic


def test_what_a_layout_leaves_out_is_a_crowd_for_detectors_and_not_told_of(make: Make) -> None:
    boxes = [[0, 0, 40, 40], [0, 0, 50, 50], [10, 10, 12, 12]]
    objects = Objects.build([0, 1, 2], boxes, iscrowd=[False, True, False])
    scene = replace(TOY[0], objects=objects, panoptic=None)
    conditioning = make("layout", "generator.min_area=0.05", "generator.min_objects=1")
    (scored,) = conditioning.scored(SceneList(TOY.categories, [scene]))
    assert [False, True, True] == scored.objects.iscrowd.tolist()
    assert [0] == conditioning.condition(scored).objects.category.tolist()
