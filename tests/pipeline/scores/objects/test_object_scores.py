"""Scores of objects on planted tables.

Copies, smooth paintings, honest ones, and the sheet of edits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import (
    Category,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.scores.base import MetricInputs
from synthaug.pipeline.scores.objects import memorizing, real_or_made, spectrum
from synthaug.pipeline.scores.objects.edit_sheet import RED, edit_sheet, with_boxes
from synthaug.pipeline.scores.objects.extractor import (
    ObjectExtractor,
    ObjectSet,
    fine_power,
    inside_of,
    seam_of,
)
from tests.score_inputs import score_inputs

CATEGORIES = (Category(1, "cell"), Category(2, "dot"), Category(3, "plasma", isthing=False))
SIDE = 64
BOXES = np.array([[4, 4, 28, 28], [36, 30, 60, 54]], np.float32)


def photo(seed: int) -> np.ndarray:
    """Gray noise with a bright and a dark textured disc at the boxes."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
    for (x0, y0, x1, y1), shade in zip(BOXES.astype(int), (200, 40), strict=True):
        middle = ((int(x0) + int(x1)) // 2, (int(y0) + int(y1)) // 2)
        disc = np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(disc, middle, 11, 1, -1)
        texture = rng.integers(-25, 26, image.shape) + rng.integers(-15, 16, 3) + shade
        image[disc > 0] = np.clip(texture, 0, 255)[disc > 0]
    return image


def scene(name: str, image: np.ndarray, source: str = "human", of: str = "") -> Scene:
    boxes = np.concatenate([BOXES, [[0, 0, SIDE, SIDE]]])
    objects = Objects.build(
        [0, 1, 2], boxes, isthing=[True, True, False], source=[source, source, "human"]
    )
    origin = Provenance(1, "fill", "", of, "sqrt") if of else None
    return Scene(
        name, SIDE, SIDE, ImageRef(encode(image, "png"), f"{name}.png"), objects, None, origin
    )


def table(
    first: int, count: int, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> SceneList:
    scenes = []
    for number in range(first, first + count):
        if change is None:
            scenes.append(scene(f"real-{number}", photo(number)))
        else:
            image = change(photo(number))
            scenes.append(scene(f"made-{number}", image, "synthetic", f"real-{number}"))
    return SceneList(CATEGORIES, scenes)


def smooth(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0))


TRAIN, REAL = table(0, 24), table(100, 24)
HONEST = table(200, 24, np.copy)
SMOOTH = table(200, 24, smooth)
COPIES = table(0, 24, np.copy)


def inputs_of(made: SceneList) -> MetricInputs:
    return score_inputs({"train": TRAIN, "real": REAL, "synthetic": made})


def measure(module: Any, made: SceneList) -> dict[str, Any]:
    """Return a score, as JSON, of made images."""
    inputs = inputs_of(made)
    assert module.available(inputs, module.Config()) is None
    metric: dict[str, Any] = module.score(inputs, module.Config()).to_json()
    return metric


def test_smooth_objects_are_told_from_real_ones_and_honest_ones_are_not() -> None:
    told = measure(real_or_made, SMOOTH)
    assert told["values"]["inside"] > 0.95 and told["values"]["seam"] > 0.9
    assert 2 == len(told["card"]["warnings"])
    honest = measure(real_or_made, HONEST)
    assert honest["values"]["inside_low"] < 0.6
    assert abs(honest["controls"]["real"]["inside"] - 0.5) < 0.25


def test_smooth_objects_lack_fine_detail() -> None:
    lacking = measure(spectrum, SMOOTH)
    assert lacking["value"] < 0.3 and lacking["card"]["warnings"]
    assert set(lacking["per_class"]) == {"cell", "dot"}
    honest = measure(spectrum, HONEST)
    assert 0.85 < honest["value"] < 1.15 and not honest["card"]["warnings"]
    assert 0.85 < honest["controls"]["real"]["fine_power"] < 1.15


def test_copies_are_found_even_turned() -> None:
    turned = table(0, 24, np.copy)
    for number, one in enumerate(turned.scenes):
        image = photo(number)
        for x0, y0, x1, y1 in BOXES.astype(int):
            image[y0:y1, x0:x1] = np.rot90(image[y0:y1, x0:x1])
        turned.scenes[number] = replace(one, image=ImageRef(encode(image, "png"), "x.png"))
    copied = measure(memorizing, turned)
    assert copied["value"] < 0.2 and copied["values"]["near_copies"] > 0.9
    assert any("copied" in line for line in copied["card"]["warnings"])


def test_honest_objects_are_as_far_from_training_ones_as_real_ones() -> None:
    honest = measure(memorizing, HONEST)
    assert 0.8 < honest["value"] < 1.2 and honest["values"]["near_copies"] < 0.3
    assert honest["controls"]["real"]["distance"] == pytest.approx(1.0)
    assert honest["values"]["coverage"] > 0.7


def test_few_objects_are_one_line() -> None:
    inputs = inputs_of(table(0, 3, np.copy))
    for module in (real_or_made, spectrum, memorizing):
        reason = module.available(inputs, module.Config())
        assert reason == "the synthetic images show 6 objects; 20 are needed"


def test_seams_run_from_outside_to_inside_on_all_sides() -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    image[20:40, 10:50] = 255
    seam = seam_of(image, np.array([10, 20, 50, 40], np.float32), 32)
    assert seam.shape == (32, 32, 3)
    for number in range(4):
        band = seam[8 * number : 8 * number + 8]
        assert not band[:3, 8:24].any() and bool((band[5:, 8:24] == 255).all())


def test_objects_at_the_border_have_pictures() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    box = np.array([-3, 12, 9, 25], np.float32)
    assert seam_of(image, box, 32).shape == inside_of(image, box, 32).shape == (32, 32, 3)
    np.testing.assert_array_equal(
        inside_of(image, np.array([0, 0, 16, 16], np.float32), 16), image[:16, :16]
    )


def test_power_is_that_of_fine_detail_alone() -> None:
    box = np.array([0, 0, 32, 32], np.float32)
    columns = np.arange(32)
    coarse = np.repeat(np.rint(127 + 100 * np.sin(columns * 2 * np.pi / 16))[None], 32, 0)
    fine = np.repeat(np.where(columns % 2, 20, 230)[None], 32, 0)
    powers = [fine_power(np.stack([one] * 3, 2).astype(np.uint8), box) for one in (coarse, fine)]
    assert powers[1] - powers[0] > 5
    assert np.isnan(
        fine_power(np.zeros((40, 40, 3), np.uint8), np.array([0, 0, 11, 20], np.float32))
    )


def object_set(labels: list[int], powers: list[float]) -> ObjectSet:
    pictures = np.zeros((len(labels), 4, 4, 3), np.uint8)
    own = np.array(labels, np.int64)
    return ObjectSet(pictures, pictures, np.array(powers, np.float64), own, own)


def test_the_ratio_is_the_geometric_mean_of_the_classes_weighed_by_what_was_made() -> None:
    """Class 0 has 4 times the power, class 1 half of it, and three times the objects."""
    real = object_set([0, 1, 1, 2], [0.0, np.log(2), np.log(8), 5.0])
    made = object_set([0, 1, 1, 1], [np.log(4), np.log(1), np.log(2), np.log(4)])
    made = replace(made, power=np.append(made.power, np.nan), labels=np.append(made.labels, 0))
    assert spectrum.class_ratios(real, made) == pytest.approx({0: 4.0, 1: 0.5})
    assert spectrum.ratio(real, made) == pytest.approx((4 * 0.5**3) ** (1 / 4))
    assert spectrum.ratio(real, object_set([3], [1.0])) is None


def test_power_is_the_definition_under_a_hann_window() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    gray = pixels.astype(np.float64).mean(2)
    gray -= gray.mean()
    window = np.hanning(20)[:, None] * np.hanning(28)[None]
    total, count = 0.0, 0
    for v in range(20):
        for u in range(28):
            rows = min(v, 20 - v) / 20
            columns = min(u, 28 - u) / 28
            if rows**2 + columns**2 <= 0.25**2:
                continue
            down = np.exp(-2j * np.pi * v * np.arange(20) / 20)
            across = np.exp(-2j * np.pi * u * np.arange(28) / 28)
            total += abs(down @ (gray * window) @ across) ** 2
            count += 1
    expected = np.log(total / count / (window**2).sum() + 1e-3)
    box = np.array([0, 0, 28, 20], np.float32)
    assert fine_power(pixels, box) == pytest.approx(expected, rel=1e-9)


def test_only_made_objects_of_an_edited_image_are_measured() -> None:
    edited = HONEST[0]
    mixed = edited.with_objects(replace(edited.objects, source=("human", "synthetic", "human")))
    inputs = inputs_of(SceneList(CATEGORIES, [mixed]))
    extract = ObjectExtractor().extract_function(inputs)
    labels = []
    for name in ("real", "synthetic"):
        labels.append(extract([inputs.image(name, 0)])[0]["labels"].tolist())
    assert [[0, 1], [1]] == labels


def test_the_sheet_shows_each_edit_beside_its_photo_with_boxes() -> None:
    assert edit_sheet(HONEST, TRAIN, 4) is None, "their photos are not there"
    sheet = edit_sheet(COPIES, TRAIN, 3)
    assert sheet is not None and sheet[:2] == b"\xff\xd8"
    assert edit_sheet(COPIES, TRAIN, 0) is None
    drawn = with_boxes(photo(1), HONEST[0], np.array([True, False, False]))
    assert tuple(drawn[4, 10]) == RED
    assert np.array_equal(drawn[30:], photo(1)[30:])
