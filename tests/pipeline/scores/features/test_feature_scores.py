"""The scores on features, from tables of images to metrics; networks are stand-ins, tested with the libraries elsewhere."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from synthaug import detectors
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.scores.base import BATCH, MetricInputs
from synthaug.pipeline.scores.features import (
    detector_features,
    diversity,
    fid,
    inception_score,
    kid,
    nearest,
    networks,
    prdc,
    weights,
)
from synthaug.pipeline.scores.features.extractors import (
    DetectorFeatureExtractor,
    LayoutMapExtractor,
    label_map,
)
from synthaug.pipeline.scores.features.nearest_sheet import picture_sheet
from tests.score_inputs import records_of, score_inputs

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))
SIDE = 32
SMALL = {"width": 4, "fpn_channels": 4, "image_size": 32, "anchor_sizes": (8, 16), "box_head": 8}
SCORES = {
    "fid": (fid, fid.Config()),
    "kid": (kid, kid.Config(subsets=3)),
    "inception_score": (inception_score, inception_score.Config(splits=2)),
    "prdc": (prdc, prdc.Config(neighbors=2)),
    "diversity": (diversity, diversity.Config()),
    "nearest": (nearest, nearest.Config(features="alexnet", pairs=2)),
    "detector_features": (
        detector_features,
        detector_features.Config(subsets=3, neighbors=2, samples_per_layout=2),
    ),
}


def scene(name: str, seed: int, source: str = "", brightness: int = 100) -> Scene:
    """A noisy picture with one box; synthetic where `source` is given."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(brightness, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    x, y = rng.integers(0, 16, 2)
    objects = Objects.build([seed % 2], [[x, y, x + 12, y + 9]])
    origin = Provenance(seed, "g", "", source, "score") if source else None
    return Scene(name, SIDE, SIDE, ImageRef(encode(pixels, "png")), objects, None, origin)


def table(scenes: list[Scene]) -> SceneList:
    return SceneList(CATEGORIES, scenes)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector's file."""
    path = tmp_path_factory.mktemp("judge") / "detector.safetensors"
    detectors.build("torchvision", SMALL, 2, seed=1).save(path, {})
    return path


@pytest.fixture
def inputs(judge: Path) -> MetricInputs:
    """12 real images, two synthetic ones of each, 20 training images."""
    real = table([scene(f"r{i}", i) for i in range(12)])
    synthetic = table(
        [scene(f"r{i}~{s}", 100 + 2 * i + s, f"r{i}", 120) for i in range(12) for s in range(2)]
    )
    train = table([scene(f"t{i}", 200 + i) for i in range(20)])
    tables = {"real": real, "synthetic": synthetic, "train": train}
    return score_inputs(tables, generated=True, detector=judge, detector_sha256="ab")


def with_resources(inputs: MetricInputs, **changes: Any) -> MetricInputs:
    return replace(inputs, resources=replace(inputs.resources, **changes))


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose features are a few pixels, and weights that are in order."""

    def features(images: Any) -> NDArray[np.float32]:
        return np.stack([image[::11, ::11].reshape(-1) for image in images]).astype(np.float32)

    class Pixels:
        def __init__(self, *_: Any) -> None:
            pass

        def __call__(self, images: Any) -> Any:
            return features(images)

    class Both(Pixels):
        def __call__(self, images: Any) -> Any:
            return features(images), features(images)[:, :5] / 50

    class Distance(Pixels):
        def __call__(self, first: Any, second: Any = ()) -> Any:  # type: ignore[override]
            return np.array(
                [np.abs(a.astype(float) - b).mean() for a, b in zip(first, second, strict=True)]
            )

    for name, fake in (
        ("Inception", Both),
        ("Vgg16", Pixels),
        ("AlexNetPool5", Pixels),
        ("Lpips", Distance),
    ):
        monkeypatch.setattr(networks, name, fake)
    monkeypatch.setattr(weights, "read", lambda *_: ({}, "cd"))
    monkeypatch.setattr(weights, "find", lambda *_: weights.Found(Path("x"), "cd" * 32))


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", SCORES)
def test_every_score_gives_numbers_with_a_full_card(name: str, inputs: MetricInputs) -> None:
    """A number, JSON all through, its network's digest, and a sample too small said to be so."""
    module, config = SCORES[name]
    assert module.available(inputs, config) is None
    metric = module.score(inputs, config)
    assert metric.name == name
    assert metric.value is not None
    assert metric.value == metric.values[metric.card["headline_key"]]
    assert all(metric.card["headline_key"] in control for control in metric.controls.values())
    json.dumps(metric.to_json(), allow_nan=False)
    assert metric.card["network_sha256"] in ("cd" * 32, "ab")
    assert metric.card["warnings"]
    assert metric.controls
    assert all(
        number is not None for control in metric.controls.values() for number in control.values()
    )


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("detector_features",)])
def test_without_weights_a_published_score_is_not_there(name: str, inputs: MetricInputs) -> None:
    """It says which file is missing; the scores on the detector need none."""
    module, config = SCORES[name]
    reason = module.available(with_resources(inputs, weights=Path("/nowhere")), config)
    assert reason and ".pth" in reason
    assert "\n" not in reason
    assert "score.weights" in (module.available(inputs, config) or "")


def test_without_a_detector_its_features_are_not_there(inputs: MetricInputs) -> None:
    for module, config in (
        (detector_features, detector_features.Config()),
        (nearest, nearest.Config()),
    ):
        assert module.available(inputs, config) is None
        assert "no detector" in (
            module.available(with_resources(inputs, detector=None), config) or ""
        )


@pytest.mark.usefixtures("stand_ins")
def test_one_extractor_serves_the_three_inception_scores() -> None:
    found = {
        extractor.key
        for name in ("fid", "kid", "inception_score")
        for extractor in SCORES[name][0].extractors(SCORES[name][1])
    }
    assert len(found) == 1
    own = detector_features.extractors(detector_features.Config())
    assert own[0] in nearest.extractors(nearest.Config())


def test_the_floor_has_as_many_images_as_the_score(inputs: MetricInputs) -> None:
    """12 synthetic ones, so 12 of the 20 training images; a set has no distance from itself."""
    config = detector_features.Config(subsets=3, neighbors=2)
    metric = detector_features.score(inputs, config)
    assert metric.controls["train"]["images"] == 12
    real = inputs.tables["real"]
    same = score_inputs({"real": real, "synthetic": real}, detector=inputs.resources.detector)
    found = detector_features.score(same, config)
    assert found.value == pytest.approx(0, abs=1e-6)
    assert (found.values["precision"], found.values["recall"], found.values["coverage"]) == (
        1,
        1,
        1,
    )
    assert found.controls == {}


def test_variety_is_nought_where_the_latents_change_nothing(inputs: MetricInputs) -> None:
    """The second image of each layout is the first one; against it, independent images."""
    config = detector_features.Config(subsets=3, neighbors=2, samples_per_layout=2)
    independent = detector_features.score(inputs, config).values["variety"]
    made = inputs.tables["synthetic"]
    twins = table([replace(made[i], image=made[i - i % 2].image) for i in range(len(made))])
    collapsed = replace(inputs, tables={**inputs.tables, "synthetic": twins})
    assert detector_features.score(collapsed, config).values["variety"] == 0
    assert independent and 0.6 < independent < 1.4
    assert (
        "variety"
        not in detector_features.score(inputs, replace(config, samples_per_layout=1)).values
    )


def test_copies_are_found(inputs: MetricInputs) -> None:
    """Half of the synthetic images are training images: these are near copies, named with their originals, and pictured."""
    made, train = inputs.tables["synthetic"], inputs.tables["train"]
    mixed = table(
        [
            replace(made[i], image=train[i // 2].image) if i % 4 == 0 else made[i]
            for i in range(len(made))
        ]
    )
    copying = replace(inputs, tables={**inputs.tables, "synthetic": mixed})
    config = nearest.Config(pairs=6)
    metric = nearest.score(copying, config)
    assert metric.value == pytest.approx(0.5)
    listed = nearest.listed_pairs(metric.to_json())
    assert listed == nearest.listed_pairs(json.loads(json.dumps(metric.to_json())))
    assert {(p.synthetic, p.train) for p in listed} == {
        (f"r{i}~0", f"t{2 * i // 2}") for i in range(0, 12, 2)
    }
    assert all(p.similarity == pytest.approx(1) for p in listed)
    assert nearest.score(inputs, config).value == pytest.approx(0, abs=0.3)
    few = nearest.score(
        copying, replace(config, max_images=6)
    )  # every other layout: r0, r2 ..., all of them copies
    assert few.value == 1
    assert {p.synthetic for p in nearest.listed_pairs(few.to_json())} == {
        f"r{i}~0" for i in range(0, 12, 2)
    }
    picture = picture_sheet(listed, copying.tables["synthetic"], copying.tables["train"])
    assert picture
    with Image.open(io.BytesIO(picture)) as drawn:
        assert drawn.format == "JPEG"
        pixels = np.asarray(drawn).astype(int)
    left, right = pixels[22:160, 8:152], pixels[22:160, 160:304]  # a copy beside its original
    assert np.abs(left - right).mean() < 3
    assert picture_sheet([], copying.tables["synthetic"], copying.tables["train"]) is None


def test_layouts_are_maps_of_their_boxes(inputs: MetricInputs) -> None:
    """The smaller box lies on the larger one; cells are those it touches; where the layout is the same, similarity is 1."""
    image = inputs.image("real", 0)
    boxes = [[0, 0, 32, 16], [8, 8, 17, 12], [40, 40, 50, 50]]
    image = replace(image, scene=image.scene.with_objects(Objects.build([0, 1, 1], boxes)))
    expected = np.full((4, 4), -1)
    expected[:2] = 0
    expected[1, 1:3] = 1
    assert np.array_equal(label_map(image, 4), expected)
    from synthaug.pipeline.scores.features.neighbours import similar_layouts

    maps = np.array([[0, 0, 1, -1], [0, 1, 0, -1], [1, 1, 1, 1]], np.int16)
    found = similar_layouts(np.array([[0, 1, 0, -1], [-1, -1, -1, -1]], np.int16), maps, 2)
    assert found.index[:, 0].tolist() == [1, 0]
    assert found.similarity[:, 0].tolist() == [1.0, 0.25]


def test_a_spaced_extractor_keeps_what_was_asked_for(inputs: MetricInputs) -> None:
    """Evenly spaced images of each table; the batches do not change its records."""
    extractor = LayoutMapExtractor(train_images=5, other_images=3, side=4)
    for name, count, first in (("train", 5, [0, 4, 8, 12, 16]), ("real", 3, [0, 4, 8])):
        assert extractor.selected(inputs, name).tolist() == first
        whole, parts = (list(records_of(inputs, extractor, name, batch)) for batch in (BATCH, 3))
        kept = [record.index for record in whole if record.arrays["layout"].size]
        assert (len(kept), kept) == (count, first)
        assert all(
            np.array_equal(a.arrays["layout"], b.arrays["layout"])
            for a, b in zip(whole, parts, strict=True)
        )
    assert DetectorFeatureExtractor().key != DetectorFeatureExtractor(train_images=5).key


@pytest.mark.parametrize(
    ("module", "settings", "says"),
    [
        (fid, {"samples_per_layout": 0}, "fid.samples_per_layout is 0; give 1 or more"),
        (kid, {"subset_size": 1}, "kid.subset_size is 1; give 2 or more"),
        (inception_score, {"splits": 0}, "inception_score.splits is 0"),
        (prdc, {"neighbors": 0}, "prdc.neighbors is 0"),
        (diversity, {"max_layouts": -1}, "diversity.max_layouts is -1"),
        (nearest, {"pairs": -1}, "nearest.pairs is -1"),
        (detector_features, {"train_images": -1}, "detector_features.train_images is -1"),
    ],
)
def test_settings_that_make_no_sense(module: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        module.Config(**settings)
