"""Layouts painted through two generators.

The masks that were inferred are those that were painted; mistakes are one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.generators import checkpoint, lostgan, panoptic, posthoc
from synthaug.generators.base import Layouts, Maps, Samples
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job, Synthesize
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps import train_generator
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from synthaug.pipeline.synthesis.posthoc import PosthocSynthesizer
from synthaug.pipeline.synthesis.pseudo_maps import maps_of_masks
from tests import paths

ROOT = paths.ROOT
NAMES = [c.name for c in toy.CATEGORIES]
C = len(NAMES)
BOXES = lostgan.Config(resolution=64, width=2, z_image=4, z_object=4, embedding=4, mask_hidden=4)
MAPS = panoptic.Config(resolution=32, width=2, width_d=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained generators of the toy classes, whose weights are large enough to show, and one
    of other classes.
    """
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    networks: dict[str, tuple[Any, Any, list[str]]] = {
        "lostgan": (lostgan, BOXES, NAMES),
        "panoptic": (panoptic, MAPS, NAMES),
        "other": (panoptic, MAPS, NAMES[::-1]),
    }
    for name, (system, config, classes) in networks.items():
        network = system.build(config, C)
        if system is panoptic:
            with torch.no_grad():
                for value in network.parameters():
                    value.normal_(std=0.1)
        checkpoint.save(
            folder / f"{name}.safetensors",
            network,
            system.__name__.split(".")[-1],
            config,
            classes,
            {},
        )
    return folder


def job_of(files: Path, *overrides: str) -> Job:
    named = [
        f"generator.layouts='{files}/lostgan.safetensors'",
        f"generator.maps='{files}/panoptic.safetensors'",
        "synthesize.size=generator",
    ]
    return load_job(ROOT / "jobs" / "posthoc.yaml", [*named, *overrides])


def planned(index: int) -> Scene:
    scene = toy.ToyDataset(toy.Config("train", count=4))[index]
    return replace(
        scene, panoptic=None, provenance=Provenance(index, "posthoc", "", scene.image_id, "")
    )


def test_masks_are_those_that_were_painted(files: Path, tmp_path: Path) -> None:
    """The whole way of a run.

    Made into one file, which needs the two no longer, then boxes, masks and pixels of layouts.
    """
    job = job_of(files)
    conditioning = conditioning_of(job)
    conditioning.check()
    digests = train_generator.settings(job)["files"]
    assert digests["maps"] != digests["layouts"]
    table = tmp_path / "labelled"
    parquet.write(toy.ToyDataset(toy.Config("train", count=2)), Folder.at(str(table)))
    told = train_generator.fit(train_generator.Spec(job, (str(table),), str(tmp_path / "made")))
    assert told["used"] == [2]
    weights = tmp_path / "made" / train_generator.WEIGHTS
    apart = replace(
        posthoc.Config("a", "b"), parts=checkpoint.read_header(weights)["config"]["parts"]
    )
    assert posthoc.read_headers(apart).keys() == {"layouts", "maps"}
    _, network, header = checkpoint.load(weights)
    assert header["classes"] == NAMES
    for name, file in (("layouts", "lostgan"), ("maps", "panoptic")):
        _, original, _ = checkpoint.load(files / f"{file}.safetensors")
        kept = network.get_submodule(f"parts.{name}").state_dict()
        assert all(torch.equal(value, kept[key]) for key, value in original.state_dict().items())

    synthesize = conditioning.synthesizer(network, "cpu", Folder.at(str(tmp_path / "made")))
    generator = synthesize.sampler
    assert generator.size == (32, 32)
    given_maps: list[Any] = []
    sample = generator.maps.sample
    generator.maps.sample = lambda maps, seeds: (given_maps.append(maps), sample(maps, seeds))[1]
    scenes = [planned(0), planned(1)]
    made = synthesize(scenes, toy.CATEGORIES, "f" * 64)
    for place, finished in enumerate(made):
        scene, lost = finished.scene, finished.lost
        assert (scene.height, scene.width) == (32, 32)
        assert sum(lost.values()) + len(scene.objects) == len(scenes[place].objects)
        stack = masks.decode_all(scene.objects, (32, 32))
        assert stack.sum(0).max() <= 1
        labels = given_maps[0].labels[place].numpy()
        for mask, category in zip(stack, scene.objects.category, strict=True):
            assert (labels[mask] == category).all()
        assert ((labels == C) == ~stack.any(0)).all()


class Boxes:
    """Infers masks that fill boxes of 2 by 4 pixels in the corner."""

    size = (8, 8)

    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        masks = np.zeros((len(seeds), conditions.labels.shape[1], 8, 8), np.float32)
        masks[:, :, :4, :2] = 1
        return Samples(np.zeros((len(seeds), 8, 8, 3), np.uint8), masks)


class Black:
    """Paints black images of maps, and keeps the maps."""

    size = (8, 8)
    num_classes = C

    def sample(self, conditions: Maps, seeds: Sequence[int]) -> Samples:
        self.maps = conditions
        return Samples(np.zeros((len(seeds), 8, 8, 3), np.uint8))


@pytest.mark.parametrize(("least", "kept"), [(8, True), (9, False)])
def test_what_is_kept_and_what_is_painted_have_one_least_area(least: int, kept: bool) -> None:
    sampler: Any = SimpleNamespace(layouts=Boxes(), maps=Black(), size=(8, 8), dont_care=True)
    objects = Objects.build([3], [[0, 0, 2, 4]])
    scene = Scene("a", 8, 8, ImageRef(), objects, None, Provenance(1, "posthoc", "", "b", ""))
    options = Synthesize(min_mask_area=least, size="generator")
    (made,) = PosthocSynthesizer(sampler, options)([scene], toy.CATEGORIES, "f" * 64)
    assert bool(len(made.scene.objects)) == kept
    labels = sampler.maps.maps.labels[0].numpy()
    assert (labels[:4, :2] == (3 if kept else C)).all() and (labels[4:] == C).all()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)
    ),
    st.booleans(),
)
def test_a_map_of_masks_has_the_class_of_its_mask(place: np.ndarray, dont_care: bool) -> None:
    """Objects 0 and 1 are things of one class, 2 is stuff; 3 is no mask."""
    visible = place == np.arange(3)[:, None, None]
    objects = Objects.build([0, 0, 4], np.zeros((3, 4)), isthing=[True, True, False])
    made = maps_of_masks(visible, objects, 5, place.shape, dont_care)
    taken = place < 3
    assert (made.labels[taken] == np.array([0, 0, 4])[place[taken]]).all()
    assert (made.instances[taken] == np.array([6, 7, 4])[place[taken]]).all()
    if dont_care:
        assert (made.labels[~taken] == 5).all() and (made.instances[~taken] == 5).all()
    elif taken.any():
        assert (made.labels < 5).all() and set(made.instances.ravel()) <= {6, 7, 4}
        assert not (place == 2).any() or (made.labels[~taken] == 4).all()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "generator.layouts='{files}/panoptic.safetensors'",
            "generator.layouts: .* is not conditioned on a layout",
        ),
        (
            "generator.maps='{files}/lostgan.safetensors'",
            "generator.maps: .* is not conditioned on a map",
        ),
        ("generator.maps='{files}/other.safetensors'", "generator.maps: .* other classes"),
        (
            "generator.maps='{files}/none.safetensors'",
            "generator.maps: .*none.safetensors: not a readable safetensors file",
        ),
    ],
)
def test_mistakes_are_one_line(files: Path, override: str, said: str) -> None:
    with pytest.raises(JobError, match=said) as told:
        conditioning_of(job_of(files, override.format(files=files))).check()
    assert "\n" not in str(told.value)


def test_other_classes_than_the_datas_are_refused(files: Path) -> None:
    config = posthoc.Config(str(files / "lostgan.safetensors"), str(files / "panoptic.safetensors"))
    with pytest.raises(JobError, match=r"generator\.layouts: .* knows 13 classes"):
        train_generator._build(posthoc, config, NAMES[1:])
    with pytest.raises(DatasetError, match=r"not those of data\.labelled"):
        train_generator._build(posthoc, config, NAMES[::-1])
    with pytest.raises(JobError, match=r"generator\.maps: names no checkpoint"):
        job_of(files, "generator.maps=''")
