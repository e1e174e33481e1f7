"""Mask IoU on shapes whose numbers are known."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.scores.segmentation import mask_iou
from synthaug.pipeline.scores.segmentation.mask_iou import Config, nearest_iou, shape
from tests.score_inputs import score_inputs

CATEGORIES = (Category(1, "cow"), Category(2, "sky", isthing=False), Category(3, "cup"))
SIDE = 64


def half(axis: int, keep: float = 0.5) -> NDArray[np.bool_]:
    """A full 32 x 32 square of which a triangle-free part is kept.

    Rows (axis 0) or columns (axis 1), box stays whole.
    """
    mask = np.zeros((SIDE, SIDE), bool)
    mask[16:48, 16:48] = True
    inside = np.zeros((32, 32), bool)
    (inside if axis == 0 else inside.T)[: int(32 * keep)] = True
    inside[0, :] = inside[:, 0] = inside[-1, -1] = True  # the tight box stays the square
    mask[16:48, 16:48] &= inside
    return mask


def square() -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[16:48, 16:48] = True
    return mask


def scene(name: str, shapes: list[tuple[int, NDArray[np.bool_]]], source: str = "") -> Scene:
    stacked = np.stack([mask for _, mask in shapes]) if shapes else np.zeros((0, SIDE, SIDE), bool)
    objects = Objects.build(
        [c for c, _ in shapes], masks.tight_boxes(stacked), rle=masks.encode(stacked)
    )
    origin = Provenance(0, "g", "", source, "score") if source else None
    return Scene(name, SIDE, SIDE, ImageRef(b""), objects, None, origin)


def scored(
    train: list[Scene], real: list[Scene], synthetic: list[Scene], config: Config | None = None
) -> Any:
    config = config or Config()
    tables = {"train": SceneList(CATEGORIES, train), "real": SceneList(CATEGORIES, real)}
    tables |= {"synthetic": SceneList(CATEGORIES, synthetic)}
    if not train:
        del tables["train"]
    return mask_iou.score(score_inputs(tables), config)


def test_iou_with_the_nearest_is_what_counting_gives() -> None:
    rng = np.random.default_rng(0)
    asked, true = rng.random((7, 64)) < 0.4, rng.random((2500, 64)) < 0.5
    expected = [max((a & t).sum() / (a | t).sum() for t in true) for a in asked]
    assert nearest_iou(asked, true).tolist() == pytest.approx(expected, abs=0)


def test_a_mask_is_cropped_and_brought_to_size_wherever_it_stands() -> None:
    small, large = np.zeros((90, 70), bool), np.zeros((200, 200), bool)
    small[5:13, 3:11] = np.tri(8, dtype=bool)
    large[40:168, 60:188] = np.tri(128, dtype=bool)
    found = [shape(mask, 32) for mask in (small, large)]
    assert found[0] is not None and found[1] is not None
    assert nearest_iou(found[0][None], found[1][None])[0] > 0.85
    assert found[1].sum() == pytest.approx(32 * 33 / 2, abs=1)
    assert shape(np.zeros((9, 9), bool), 32) is None


def test_known_numbers_for_known_shapes() -> None:
    """Half a square against a whole one has the IoU of its share; against itself 1."""
    rows, columns = half(0), half(1)
    real = [scene("a", [(0, rows)])]
    share = rows.sum() / 32**2
    metric = scored([scene("t", [(0, square())])], real, [scene("s", [(0, rows)], "a")])
    assert metric.value == pytest.approx(share)
    assert metric.controls["real"]["miou"] == pytest.approx(share)
    assert metric.controls["box"]["miou"] == 1.0
    both = [scene("t", [(0, rows), (0, columns)])]
    metric = scored(
        both, real, [scene("s", [(0, rows), (0, columns)], "a"), scene("u", [(0, square())], "a")]
    )
    assert metric.value == pytest.approx((1 + 1 + share) / 3)
    assert metric.controls["box"]["miou"] == pytest.approx(share)


def test_only_masks_of_the_same_class_are_candidates_and_classes_weigh_alike() -> None:
    rows = half(0)
    share = rows.sum() / 32**2
    train = [scene("t", [(0, square()), (2, rows)])]
    made = [scene("s", [(0, rows)] * 3 + [(2, rows)], "a")]
    metric = scored(train, [scene("a", [])], made)
    assert metric.per_class["cow"]["iou"] == pytest.approx(share)
    assert metric.per_class["cup"]["iou"] == 1.0
    assert metric.value == pytest.approx((share + 1) / 2)
    assert "sky" not in metric.per_class
    assert metric.controls["real"]["miou"] is None


def test_empty_masks_are_counted_and_a_class_without_true_masks_has_no_number() -> None:
    nothing = np.zeros((SIDE, SIDE), bool)
    made = scene("s", [(2, square()), (0, square())], "a")
    lost = made.with_objects(
        replace(made.objects, rle=(made.objects.rle[0], masks.encode(nothing[None])[0]))
    )
    metric = scored([scene("t", [(0, square())])], [scene("a", [])], [lost])
    assert metric.card["masks"] == {"synthetic": 0, "true": 1, "empty": 1}
    assert metric.per_class["cup"]["iou"] is None and metric.value is None


def test_masks_of_crowds_are_of_no_object() -> None:
    one = scene("s", [(0, square()), (2, square())])
    crowded = one.with_objects(replace(one.objects, iscrowd=np.array([True, False])))
    assert mask_iou.shapes_of(crowded, 32)["labels"].tolist() == [2]


def test_the_draw_of_true_masks_is_capped_and_does_not_depend_on_order() -> None:
    shapes = [half(0, keep) for keep in np.linspace(0.2, 0.9, 12)]
    train = [scene(f"t{i}", [(0, mask)]) for i, mask in enumerate(shapes)]
    made = [scene("s", [(0, mask) for mask in shapes], "a")]
    capped = scored(train, [scene("a", [])], made, Config(true_masks_max=3))
    assert capped.per_class["cow"]["true_masks"] == 3
    assert capped.value < 1.0 == scored(train, [scene("a", [])], made).value


def test_no_cap_takes_all_true_masks() -> None:
    shapes = [half(0, keep) for keep in np.linspace(0.2, 0.9, 12)]
    train = [scene(f"t{i}", [(0, mask)]) for i, mask in enumerate(shapes)]
    made = [scene("s", [(0, shapes[0])], "a")]
    metric = scored(train, [scene("a", [])], made, Config(true_masks_max=0))
    assert metric.per_class["cow"]["true_masks"] == 12
    assert metric.card["true_masks"] == "of the train images, all"


def test_the_papers_question_is_about_training_layouts() -> None:
    """Real masks are the true ones then, and no ceiling; else the card says what is asked."""
    train = [scene("a", [(0, half(0))]), scene("b", [(0, square())])]
    made = [scene("s", [(0, half(1))], "a")]
    metric = scored(train, list(train), made, Config(true_masks_max=0))
    assert {"box"} == set(metric.controls)
    told = metric.card["comparability"]
    assert "visible parts" in told and "validation images" not in told and "true_masks" not in told
    elsewhere = scored(train, [scene("c", [(0, half(0))])], made).card["comparability"]
    assert "layouts of validation images" in elsewhere
    assert "mask_iou.true_masks_max 10000 instead of 0" in elsewhere


def test_the_picture_shows_the_median_mask_and_the_true_ones_nearest_first() -> None:
    near, far = half(0, 0.6), half(0, 0.2)
    train = [scene("t", [(0, far)]), scene("u", [(0, near), (2, near)])]
    made = scene("s", [(0, half(0, 0.5)), (0, square()), (0, half(0, 0.1))], "a")
    tables = {
        "train": SceneList(CATEGORIES, train),
        "real": SceneList(CATEGORIES, [scene("a", [])]),
    }
    inputs = score_inputs(tables | {"synthetic": SceneList(CATEGORIES, [made])})
    metric = mask_iou.score(inputs, Config()).to_json()
    (example,) = metric["card"]["examples"]
    ious = sorted(nearest_iou(bits(made), bits(train[0], train[1])).tolist())
    assert example["iou"] == ious[1] and example["label"] == 0
    (picture,) = mask_iou.pictures(inputs, metric).values()
    pixels = decode_bytes(picture)
    first, last = (
        pixels[20:76, 96 + 70 + 2 : 96 + 70 + 62],
        pixels[20:76, 96 + 140 + 2 : 96 + 140 + 62],
    )
    white = [float((cell == 255).mean()) for cell in (first, last)]
    shown = [near, far] if metric["card"]["examples"][0]["mask"] != 2 else [far, near]
    assert white == pytest.approx([float(shape(m, 32).mean()) for m in shown], abs=0.1)
    assert {} == mask_iou.pictures(inputs, {"card": {**metric["card"], "examples": []}})


def bits(*scenes: Scene) -> NDArray[np.bool_]:
    """Return the shapes of the objects of class 0."""
    rows = []
    for one in scenes:
        for c, rle in zip(one.objects.category, one.objects.rle, strict=True):
            if c == 0:
                rows.append(shape(masks.decode(rle, one.size), 32))
    return np.stack(rows)


def decode_bytes(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_masks_that_are_the_layouts_own_are_no_score() -> None:
    real = [scene("a", [(0, half(0))])]
    tables = {
        "real": SceneList(CATEGORIES, real),
        "synthetic": SceneList(CATEGORIES, [scene("s", [(0, half(0))], "a")]),
    }
    inputs = score_inputs(tables)
    assert "those of the layouts themselves" in str(mask_iou.available(inputs, Config()))
    other = {**tables, "synthetic": SceneList(CATEGORIES, [scene("s", [(0, square())], "a")])}
    assert mask_iou.available(replace(inputs, tables=other), Config()) is None


def test_bad_settings_name_the_key() -> None:
    with pytest.raises(ValueError, match="side: 2"):
        Config(side=2)
    with pytest.raises(ValueError, match="classes: 'stuff'"):
        Config(classes="stuff")
