from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug.generators import checkpoint
from synthaug.generators.sims import build
from synthaug.generators.sims.bank import SegmentBank, stretch
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.segments import Ints, segments_of

CONFIG = Config(resolution=64, aspect_ratio=1.0, width=1)
CLASSES = 3


def map_with(top: int, left: int, side: int = 20) -> Ints:
    labels = np.zeros((64, 64), np.int64)
    labels[top : top + side, left : left + side] = 1
    return labels


def filled(config: Config = CONFIG) -> SegmentBank:
    """A memory of three images of one level each, with a square in each."""
    bank = SegmentBank(config, CLASSES)
    maps = [map_with(0, 0), map_with(10, 12), map_with(40, 40)]
    pictures = []
    for number, labels in enumerate(maps):
        image = np.full((64, 64, 3), 50 * (number + 1), np.uint8)
        pictures.append((image, labels))
    bank.fill(pictures, np.array([0.8, 0.2, 0.5], np.float32))
    return bank


def test_a_segment_is_found_by_class_and_place_and_cut_out_of_its_image() -> None:
    bank = filled()
    query = segments_of(map_with(12, 12), CLASSES)[1]
    number = bank.nearest(query)[0]
    assert bank.segments[number].tolist() == [1, 1, 0]
    real = bank.real(number)
    assert real is not None
    np.testing.assert_array_equal(real.mask, map_with(10, 12) == 1)
    np.testing.assert_allclose(real.colors[real.mask], 100 / 255)
    assert not real.colors[~real.mask].any()


def test_images_that_are_not_allowed_are_never_found() -> None:
    bank = filled()
    query = segments_of(map_with(11, 11), CLASSES)[1]
    allowed = np.array([True, False, True])
    found = bank.nearest(query, 5, allowed)
    assert [int(bank.segments[number][0]) for number in found] == [0]


def test_boxes_are_laid_over_one_another_where_shapes_are_aligned_by_them() -> None:
    bank = filled(replace(CONFIG, align="box", casters=(1,)))
    place = segments_of(map_with(30, 2, 10), CLASSES)[1]
    number = bank.nearest(place)[0]
    assert bank.segments[number][0] == 0  # the first of three alike
    real = bank.real(number, place)
    assert real is not None
    np.testing.assert_array_equal(real.mask, place.in_frame((64, 64)))
    np.testing.assert_array_equal(real.shadows, real.mask)


def test_small_segments_are_not_kept() -> None:
    """Those below a quarter of the area of large ones: of 0.05 of the pixels, 14.3 squared."""
    bank = SegmentBank(replace(CONFIG, large=0.2), CLASSES)
    image = np.zeros((64, 64, 3), np.uint8)
    pictures = [(image, map_with(0, 0, side)) for side in (14, 15, 20)]
    bank.fill(pictures, np.zeros(3, np.float32))
    rows = bank.segments.tolist()
    assert rows == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 0]]


def test_a_checkpoint_has_the_memory(tmp_path: Path) -> None:
    network = build(CONFIG, CLASSES)
    network.bank = filled()
    path = tmp_path / "generator.safetensors"
    checkpoint.save(path, network, "sims", CONFIG, ["a", "b", "c"], {})
    _, loaded, _ = checkpoint.load(path)
    assert isinstance(loaded.bank, SegmentBank)
    for name, value in network.bank.state_dict().items():
        torch.testing.assert_close(loaded.bank.state_dict()[name], value)
    query = segments_of(map_with(12, 12), CLASSES)[1]
    assert loaded.bank.nearest(query, 3) == network.bank.nearest(query, 3)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("images", torch.zeros(3, 8, 8, 3, dtype=torch.uint8), "'images' is torch.uint8"),
        ("labels", torch.zeros(2, 64, 64, dtype=torch.int16), "'labels' is torch.int16"),
        ("shapes", torch.zeros(6, 128), "'shapes' is torch.float32"),
        ("segments", torch.full((6, 3), 7, dtype=torch.int32), "'segments' names images"),
    ],
)
def test_tables_that_do_not_fit_are_told_in_one_line(
    name: str, value: torch.Tensor, fault: str, tmp_path: Path
) -> None:
    network = build(CONFIG, CLASSES)
    bank = filled()
    bank.register_buffer(name, value)
    network.bank = bank
    path = tmp_path / "generator.safetensors"
    checkpoint.save(path, network, "sims", CONFIG, ["a", "b", "c"], {})
    with pytest.raises(ValueError, match="do not fit the network of its header") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match=fault):
        build(CONFIG, CLASSES).bank.load_state_dict(bank.state_dict())


def test_a_row_without_its_segment_is_no_segment() -> None:
    bank = filled()
    bank.segments[1, 2] = 9
    assert bank.real(1) is None


def test_a_box_is_stretched_to_another() -> None:
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    doubled = stretch(values, (0, 0, 1, 1), (1, 1, 3, 4))
    assert doubled.sum() == 0
    copied = stretch(values, (2, 2, 4, 4), (0, 1, 2, 3))
    np.testing.assert_array_equal(copied[:2, 1:3], values[2:, 2:])
    assert copied[2:].sum() == 0
