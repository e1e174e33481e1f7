"""Training a generator.

What is used and left out is counted, weights follow from the seed, nothing else is named.
"""

from __future__ import annotations

import hashlib
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from synthaug.generators import GENERATORS, checkpoint
from synthaug.generators.base import PhotoBatch
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps import train_generator
from synthaug.pipeline.steps.train_generator import WEIGHTS, Spec, fit
from tests import paths

TOY = toy.ToyDataset(toy.Config("train", count=6, size=48))
TINY = (
    "cluster.executor=serial",
    *(
        f"generator.{word}"
        for word in ("steps=2", "batch=2", "save_every=1", "width=2", "z_image=4", "z_object=4")
    ),
)


def job_of(*words: str) -> Job:
    return load_job(paths.JOBS / "smoke.yaml", [*TINY, *words])


def without_objects(scene: Scene) -> Scene:
    return replace(scene, image_id="empty", objects=Objects.build([], []), panoptic=None)


def written(folder: Path, scenes: list[Scene]) -> str:
    parquet.write(SceneList(toy.CATEGORIES, scenes), Folder.at(folder))
    return str(folder)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("steps") / "ingest-0" / "labelled"
    return written(root, [*TOY, without_objects(TOY[0])])


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def test_images_without_a_layout_are_left_out_and_counted(labelled: str, tmp_path: Path) -> None:
    more = written(tmp_path / "more", [TOY[1], without_objects(TOY[2])])
    result = fit(Spec(job_of(), (labelled, more), str(tmp_path / "out")))
    assert {"resumed_from": 0, "used": [6, 1], "left_out": [1, 1]} == result
    header = checkpoint.read_header(tmp_path / "out" / WEIGHTS)
    assert ("lostgan", [c.name for c in toy.CATEGORIES]) == (header["system"], header["classes"])


def test_the_weights_are_a_matter_of_the_seed(labelled: str, tmp_path: Path) -> None:
    for name, words in (("a", ()), ("b", ()), ("c", ("seed=5",))):
        fit(Spec(job_of(*words), (labelled,), str(tmp_path / name)))
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_no_image_of_use_is_one_line_that_names_the_keys(tmp_path: Path) -> None:
    table = written(tmp_path / "labelled", [without_objects(TOY[0])])
    with pytest.raises(DatasetError, match=r"^generator\.min_objects/max_objects/min_area: "):
        fit(Spec(job_of(), (table,), str(tmp_path / "out")))


def test_a_published_network_named_in_a_files_place_is_no_file() -> None:
    """VGG-16 is found in a package; a file that is not there is told before anything runs."""
    job = job_of("generator.perceptual_weights=vgg16")
    train_generator.check(job)
    assert {"perceptual_weights": ""} == train_generator.settings(job)["files"]
    assert "vgg16" == train_generator.settings(job)["generator"]["perceptual_weights"]
    with pytest.raises(JobError, match=r"^generator\.perceptual_weights: there is no file 'vgg15'"):
        train_generator.check(job_of("generator.perceptual_weights=vgg15"))


@pytest.mark.parametrize("system", ["boxes", "copy_paste", "lostgan"])
def test_what_can_add_to_real_images_leaves_a_file_that_says_where_they_are(
    labelled: str, tmp_path: Path, system: str
) -> None:
    fit(Spec(job_of(f"generator.system={system}"), (labelled,), str(tmp_path / "out")))
    left = {path.name for path in (tmp_path / "out").glob("*.json")}
    assert {"bank.json"} == left
    found = Folder.at(tmp_path / "out").read_json("bank.json")
    assert {"table": "ingest-0/labelled"} == found


def run(
    tmp_path: Path, labelled: str, pseudo_images: int, *words: str
) -> tuple[dict[str, Any], list[str]]:
    pseudo = written(tmp_path / "pseudo", [TOY[3]])
    ingest = Folder.at(str(Path(labelled).parent))
    inputs = {
        "ingest": Output(ingest, {}),
        "pseudo_label": Output(
            Folder.at(pseudo), {"images": pseudo_images, "objects": pseudo_images}
        ),
    }
    lines: list[str] = []
    folder = Folder.at(str(tmp_path / "trained"))
    context = Context(
        job_of(*words), folder, inputs, SerialExecutor(), lines.append, lambda *_: None
    )
    return train_generator.run(context), lines


@pytest.mark.parametrize(
    ("words", "images", "splits"),
    [
        ((), 1, {"labelled", "pseudo_labelled"}),
        ((), 0, {"labelled"}),
        (("generator.use_pseudo=false",), 1, {"labelled"}),
        (("generator.system=copy_paste",), 1, {"labelled"}),
    ],
)
def test_pseudo_labels_are_learned_from_where_something_learns(
    labelled: str, tmp_path: Path, words: tuple[str, ...], images: int, splits: set[str]
) -> None:
    manifest, _ = run(tmp_path, labelled, images, *words)
    assert splits == manifest["used"].keys() == manifest["left_out"].keys()
    assert manifest["sha256"] == digest(tmp_path / "trained")


def pseudo_labelled(scene: Scene, score: float) -> Scene:
    """A scene whose masks were found by a detector, each of one score."""
    count = len(scene.objects)
    objects = replace(
        scene.objects,
        source=("pseudo",) * count,
        score=np.full(count, score, np.float32),
    )
    return replace(scene, image_id="found", objects=objects, panoptic=None)


def test_a_memory_is_of_labelled_images_and_pseudo_labels_are_learned_from(
    labelled: str, tmp_path: Path
) -> None:
    words = ["system=sims", "resolution=48", "aspect_ratio=1", "threads=1", "steps=1"]
    keys = [f"generator.{word}" for word in words]
    job = load_job(paths.JOBS / "panoptic.yaml", [*TINY[:5], *keys])
    digests = set()
    for score in (1.0, 0.5):
        found = pseudo_labelled(TOY[3], score)
        more = written(tmp_path / f"more-{score}", [found, found, found])
        out = tmp_path / f"out-{score}"
        result = fit(Spec(job, (labelled, more), str(out)))
        assert {"resumed_from": 0, "used": [6, 3], "left_out": [1, 0]} == result
        _, network, _ = checkpoint.load(out / WEIGHTS)
        tables = network.state_dict()
        assert (6, 48, 48, 3) == tables["bank.images"].shape
        np.testing.assert_array_equal(tables["bank.images"][2].numpy(), decode(TOY[2]))
        assert 6 == len(tables["bank.segments"][:, 0].unique())
        digests.add(digest(out))
    assert 2 == len(digests)


def test_a_generator_that_learns_nothing_says_so(labelled: str, tmp_path: Path) -> None:
    manifest, lines = run(tmp_path / "a", labelled, 0, "generator.system=copy_paste")
    assert not manifest["trained"] and {} == manifest["last"]
    assert (
        "  nothing is trained: copy_paste cuts out labelled objects when images are made" in lines
    )
    manifest, lines = run(tmp_path / "b", labelled, 0)
    assert manifest["trained"] and 2 == manifest["last"]["step"]
    assert not any("nothing is trained" in line for line in lines)
    assert any("without the perceptual term" in line for line in lines)


def mean_color(batch: Any) -> torch.Tensor:
    """Mean [3] of the pixels of images, or of photos, in [-1, 1]."""
    if isinstance(batch, PhotoBatch):
        pixels = np.stack([photo.image for photo in batch.photos])
        return torch.from_numpy(pixels.mean((0, 1, 2), dtype=np.float32) / 127.5 - 1)
    return batch.images.mean((0, 2, 3))


class Regression:
    """A training without a discriminator: one color learns the mean of the images."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.modules = {"color": network}
        self.optimizers = {"color": torch.optim.SGD(network.parameters(), lr=0.5)}

    def step(self, index: int, batch: Any) -> dict[str, torch.Tensor]:
        color = mean_color(batch)
        loss = (color - self.modules["color"].weight[0]).square().sum()
        self.optimizers["color"].zero_grad()
        loss.backward()
        self.optimizers["color"].step()
        return {"loss": loss.detach()}

    def generator(self) -> torch.nn.Module:
        return self.modules["color"]


@pytest.mark.parametrize("condition", ["layout", "edit"])
def test_another_kind_of_training_needs_no_line_here(
    labelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    """A system is one module and one line in GENERATORS, also where it is no GAN."""

    @dataclass(frozen=True)
    class Config:
        """One size."""

        size: tuple[int, int] = (16, 16)

    @dataclass(frozen=True)
    class Loop:
        """One key, of this training alone."""

        rate: float = 0.5

    def build(config: Config, num_classes: int) -> torch.nn.Module:
        network = torch.nn.Embedding(1, 3)
        network.config = config  # type: ignore[assignment]
        return network

    def training(
        config: Config, loop: Any, num_classes: int, steps: int, seed: int, *_: Any
    ) -> Any:
        torch.manual_seed(seed)
        return Regression(build(config, num_classes))

    module = types.ModuleType("colors")
    flags = {"LEARNS": True, "ADDS_ONLY": condition == "edit", "TWO_STAGE": False, "FILES": {}}
    parts = {"Config": Config, "build": build, "sampler": lambda *_: None}
    learning = {"Loop": Loop, "training": training}
    vars(module).update(CONDITION=condition, **flags, **parts, **learning)
    monkeypatch.setitem(sys.modules, "colors", module)
    monkeypatch.setitem(GENERATORS, "colors", "colors")
    job = job_of("generator.system=colors", "generator.steps=20")
    result = fit(Spec(job, (labelled,), str(tmp_path / "out")))
    assert [7 if condition == "edit" else 6] == result["used"]
    weights = load_file(tmp_path / "out" / WEIGHTS)["weight"][0]
    images = np.stack([decode(scene) for scene in TOY]) / 127.5 - 1
    np.testing.assert_allclose(weights, images.mean((0, 1, 2)), atol=0.15)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([1.2, 0.3, 0.2], "held-out loss 0.200 at step 201 of 300, still falling"),
        ([1.2, 0.2, 0.3], "held-out loss 0.200 at step 101 of 300"),
    ],
)
def test_the_link_tells_the_held_out_loss_and_whether_more_steps_would_lower_it(
    losses: list[float], said: str
) -> None:
    held_out = [[1 + 100 * number, loss] for number, loss in enumerate(losses)]
    (link,) = train_generator.links({"held_out": held_out, "last": {"step": 300}})
    assert (link.name, link.state) == ("generator", "untested"), "a loss says nothing of objects"
    assert link.figure.partition(":")[0] == said
    assert train_generator.links({"last": {}}) == []
