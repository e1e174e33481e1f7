"""Segmentation networks.

What the own one learns, what comes from files, and the score on constructed answers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from synthaug.pipeline.core.panoptic_maps import maps_of, resize_map
from synthaug.pipeline.core.scene import Category, Scene
from synthaug.pipeline.formats.toy.dataset import CATEGORIES, Config, ToyDataset
from synthaug.pipeline.scores.base import MetricInputs, Record, TrainingSpec
from synthaug.pipeline.scores.segmentation import segmentation
from synthaug.pipeline.scores.segmentation.segmenter import (
    IGNORE,
    Own,
    OwnBatches,
    OwnTraining,
    _network_input,
    from_file,
    unet,
)
from tests.score_inputs import records_of, score_inputs

CLASSES = len(CATEGORIES)
TINY = Own(width=4, steps=40, batch=8, side=32, lr=1e-2)
THREE = (Category(1, "sky"), Category(2, "road"), Category(3, "cow"))


def inputs(**changes: Any) -> MetricInputs:
    real = ToyDataset(Config("val", 6))
    tables = {"train": ToyDataset(Config("train", 16)), "real": real, "synthetic": real}
    return score_inputs(tables, **changes)


def test_the_own_network_learns_and_is_the_same_every_time() -> None:
    torch.set_num_threads(1)
    training, batches = OwnTraining(TINY, CLASSES, "cpu"), OwnBatches(TINY, inputs())
    losses = [float(training.step(i, batches(i))["loss"]) for i in range(TINY.steps)]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    again = OwnTraining(TINY, CLASSES, "cpu")
    assert float(again.step(0, OwnBatches(TINY, inputs())(0))["loss"]) == losses[0]


def test_batches_mirror_image_and_map_together_and_ignore_what_has_no_class() -> None:
    images, maps = OwnBatches(replace(TINY, batch=16), inputs())(0)
    assert maps.shape == (16, 32, 32) and len(images) == 16
    assert set(np.unique(maps)) <= {*range(CLASSES), IGNORE}
    table = inputs().tables["train"]
    plain = [resize_map(maps_of(table[i], CLASSES).labels, (32, 32)) for i in range(len(table))]
    known = {turned.tobytes() for labels in plain for turned in (labels, labels[:, ::-1])}
    assert {np.where(labels == IGNORE, CLASSES, labels).tobytes() for labels in maps} <= known
    assert len({labels.tobytes() for labels in maps}) > 8, "an epoch shows all images"
    assert all(image.shape == (32, 32, 3) for image in images)


def test_a_batch_without_known_pixels_changes_no_weight_into_nonsense() -> None:
    training = OwnTraining(TINY, CLASSES, "cpu")
    loss = training.step(0, ([np.zeros((32, 32, 3), np.uint8)], np.full((1, 32, 32), IGNORE)))[
        "loss"
    ]
    assert float(loss) == 0
    assert all(bool(p.isfinite().all()) for p in training.modules["segmenter"].parameters())


def test_the_network_keeps_the_size() -> None:
    assert unet(2, 5, 0)(torch.zeros(2, 3, 40, 40)).shape == (2, 5, 40, 40)


class Brightness(nn.Module):
    """Says 'dark' below the middle and 'light' above it, at half the resolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grey = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 2)
        return torch.cat([-grey, grey], 1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt"
    torch.jit.script(Brightness()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def halves() -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 6:] = 255
    return image


def test_outputs_of_a_program_become_classes_by_name(program: Path) -> None:
    expected = np.repeat([[1] * 6 + [0] * 6], 8, axis=0)
    found = from_file("torchscript", program, ("road", "sky"), THREE, "cpu")(halves())
    assert np.array_equal(found, expected)
    foreign = from_file("torchscript", program, ("road", "boat"), THREE, "cpu")(halves())
    assert set(np.unique(foreign)) == {1, 3}, "a class that the data does not have is no class"


class FirstChannel(nn.Module):
    """Answers the sign of the first channel it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x[:, :1], x[:, :1]], 1)


def test_networks_of_caffe_are_given_blue_first_without_a_scale(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    seen = _network_input(red, "caffe", "cpu")[0, :, 0, 0]
    torch.testing.assert_close(seen, torch.tensor([-104.008, -116.669, 132.325]))
    torch.testing.assert_close(
        _network_input(red, "imagenet", "cpu")[0, 0, 0, 0], torch.tensor((1 - 0.485) / 0.229)
    )
    path = tmp_path / "first.pt"
    torch.jit.script(FirstChannel()).save(str(path))  # type: ignore[no-untyped-call]
    answers = {}
    for convention in ("imagenet", "caffe"):
        segment = from_file("torchscript", path, ("road", "sky"), THREE, "cpu", convention)
        answers[convention] = int(segment(red).max())
    assert len(set(answers.values())) == 2


def test_a_file_that_does_not_fit_is_told(program: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 outputs, 3 classes"):
        from_file("torchscript", program, (), THREE, "cpu")(halves())
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no program")
    with pytest.raises(ValueError, match=r"broken\.pt: no TorchScript program"):
        from_file("torchscript", broken, (), THREE, "cpu")
    save_file({"x": torch.zeros(1)}, tmp_path / "net.safetensors")
    with pytest.raises(
        ValueError, match="not the weights of lraspp_mobilenet_v3_large with 3 classes"
    ):
        from_file("lraspp_mobilenet_v3_large", tmp_path / "net.safetensors", (), THREE, "cpu")


def test_torchvisions_weights_are_read_from_a_file(tmp_path: Path) -> None:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3).eval()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    found = from_file("lraspp_mobilenet_v3_large", tmp_path / "net.safetensors", (), THREE, "cpu")(
        np.zeros((32, 40, 3), np.uint8)
    )
    assert found.shape == (32, 40) and found.min() >= 0 and found.max() < 3


class KnownRecords(MetricInputs):
    """Inputs whose records are given, by table."""

    def __init__(self, given: MetricInputs, records: dict[str, list[Record]]) -> None:
        super().__init__(given.tables, given.pairing, given.records, given.networks)
        object.__setattr__(self, "known", records)

    def extracted(self, extractor: Any, table: str) -> Any:
        yield from self.known[table]  # type: ignore[attr-defined]


def records(given: MetricInputs, segment: Any, table: str) -> list[Record]:
    """The records of a network that answers as told."""
    config = segmentation.Config()
    (extractor,) = segmentation.extractors(config)
    before = segmentation.network
    segmentation.network = lambda *_: segment  # type: ignore[assignment]
    try:
        return list(records_of(given, extractor, table))
    finally:
        segmentation.network = before


def test_a_perfect_network_scores_one_and_shuffled_maps_less() -> None:
    given = inputs()
    answers = {
        given.image("real", i).pixels().tobytes(): maps_of(given.tables["real"][i], CLASSES).labels
        for i in range(6)
    }
    seen = {
        name: records(given, lambda image: answers[image.tobytes()], name)
        for name in ("real", "synthetic")
    }
    metric = segmentation.score(KnownRecords(given, seen), segmentation.Config())
    assert metric.value == 1.0
    assert metric.values["pixel_accuracy"] == 1.0
    assert metric.controls["real"]["miou"] == 1.0
    shuffled = metric.controls["shuffled"]["miou"]
    assert shuffled is not None and shuffled < 0.5
    assert metric.card["warnings"], "six images are few"


def test_a_network_that_says_one_class_scores_its_share() -> None:
    """All pixels called class k: IoU of k is its share of the pixels, of every other class 0."""
    given = inputs()
    truth = np.concatenate(
        [maps_of(given.tables["real"][i], CLASSES).labels.ravel() for i in range(6)]
    )
    known = truth[truth < CLASSES]
    most = int(np.bincount(known).argmax())
    seen = {
        name: records(given, lambda image: np.full(image.shape[:2], most), name)
        for name in ("real", "synthetic")
    }
    metric = segmentation.score(KnownRecords(given, seen), segmentation.Config())
    share = float((known == most).mean())
    assert metric.values["pixel_accuracy"] == pytest.approx(share)
    assert metric.value == pytest.approx(share / len(np.unique(known)))


def test_images_without_a_map_are_left_out_and_no_map_at_all_is_told() -> None:
    given = inputs()

    def bare(scene: Scene) -> Scene:
        return replace(scene, panoptic=None)

    class Bare(ToyDataset):
        def __getitem__(self, index: int) -> Scene:
            return bare(super().__getitem__(index))

    tables = {**given.tables, "synthetic": Bare(Config("val", 6))}
    reason = segmentation.available(replace(given, tables=tables), segmentation.Config())
    assert reason == "none of the synthetic images has a panoptic map"
    assert segmentation.available(given, segmentation.Config()) is None
    empty = records(
        replace(given, tables=tables),
        lambda _: pytest.fail("there is nothing to segment"),
        "synthetic",
    )
    assert all(not record.arrays["own"].size for record in empty)


def test_bad_settings_name_the_key() -> None:
    for wrong, said in (
        ({"network": "drn"}, "network: 'drn'"),
        ({"network": "torchscript"}, "file: ''"),
        ({"file": "x.pt"}, "file: 'x.pt'"),
        ({"samples_per_layout": 0}, "samples_per_layout: 0"),
    ):
        with pytest.raises(ValueError, match=said):
            segmentation.Config(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="side: 20"):
        Own(side=20)


def test_the_spec_is_the_whole_training() -> None:
    spec = TINY.training_spec(inputs())
    assert isinstance(spec, TrainingSpec) and spec.steps == 40
    assert TINY.name != replace(TINY, width=8).name
