"""Batches of conditions: padding, cutting into parts, counts, and labels that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.generators.base import (
    PAD_BOX,
    Layouts,
    MapBatch,
    Maps,
    SamplerOptions,
    TrainingBatch,
)


def layouts() -> Layouts:
    boxes = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]], np.float32)
    return Layouts.collate(
        [np.array([3, 1]), np.zeros(0, np.int64), np.array([2]), np.array([5, 4])],
        [boxes, np.zeros((0, 4), np.float32), boxes[1:], boxes],
        [
            np.array([0.9, 0.8], np.float32),
            np.zeros(0, np.float32),
            np.array([0.7], np.float32),
            np.ones(2, np.float32),
        ],
    )


def test_short_images_are_padded_behind_their_objects() -> None:
    batch = layouts()
    assert batch.labels.tolist() == [[3, 1], [0, 0], [2, 0], [5, 4]]
    assert batch.boxes[2, 0].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert batch.boxes[2, 1].tolist() == pytest.approx(PAD_BOX)
    assert batch.boxes[1].flatten().tolist() == pytest.approx([*PAD_BOX, *PAD_BOX])
    assert batch.scores[0].tolist() == pytest.approx([0.9, 0.8])
    assert batch.scores[2].tolist() == pytest.approx([0.7, 0])
    assert (batch.labels.dtype, batch.boxes.dtype) == (torch.int64, torch.float32)


def test_a_batch_without_objects_has_one_slot_all_the_same() -> None:
    nothing = np.zeros(0, np.int64)
    empty = Layouts.collate([nothing] * 2, [np.zeros((0, 4), np.float32)] * 2, [nothing] * 2)
    assert empty.labels.shape == (2, 1)
    assert len(empty) == 2


def test_the_padding_box_lies_outside_the_canvas() -> None:
    x0, y0, x1, y1 = PAD_BOX
    assert x0 < x1 < 0
    assert y0 < y1 < 0


def test_objects_are_counted_without_padding() -> None:
    batch = TrainingBatch(torch.zeros(4, 3, 8, 8), layouts())
    assert batch.num_objects() == 5


def test_parts_keep_images_and_their_layouts_together_and_in_order() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    first, second = TrainingBatch(images, layouts()).parts(2)
    assert first.images[:, 0, 0, 0].tolist() == [0, 1]
    assert second.images[:, 0, 0, 0].tolist() == [2, 3]
    assert first.layouts.labels.tolist() == [[3, 1], [0, 0]]
    assert second.layouts.labels.tolist() == [[2, 0], [5, 4]]
    assert second.layouts.scores[0].tolist() == pytest.approx([0.7, 0])
    assert second.layouts.boxes[1, 1].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert (int(first.num_objects()), int(second.num_objects())) == (2, 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_maps_keep_labels_instances_and_weights_apart(weighted: bool) -> None:
    labels = torch.arange(4).view(4, 1, 1).expand(4, 2, 2).contiguous()
    maps = Maps(labels, labels + 10, 5)
    weights = labels / 4 if weighted else None
    parts = MapBatch(torch.zeros(4, 3, 2, 2), maps, weights).parts(4)
    for number, part in enumerate(parts):
        assert part.maps.labels.unique().tolist() == [number]
        assert part.maps.instances.unique().tolist() == [number + 10]
        assert part.maps.classes == 5
        assert (part.weights is not None) == weighted
        if part.weights is not None:
            assert part.weights.unique().tolist() == [number / 4]
        assert part.num_objects() == 1


def test_labels_of_maps_are_classes_or_dont_care_and_nothing_else() -> None:
    good = np.array([[0, 2], [1, 3]])
    maps = Maps.collate([good], [good + 7], 3)
    assert maps.labels.tolist() == [good.tolist()]
    assert maps.instances.tolist() == [(good + 7).tolist()]
    for wrong in (-1, 4):
        labels = good.copy()
        labels[1, 0] = wrong
        with pytest.raises(ValueError, match=f"labels: {wrong} is not a class index 0 to 2, nor 3"):
            Maps.collate([labels], [good], 3)


def test_by_default_a_sampler_truncates_and_computes_in_float32() -> None:
    options = SamplerOptions()
    assert (options.truncation, options.precision, options.compiled) == (2.0, "float32", False)
