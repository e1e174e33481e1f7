"""A batch of windows: selected, joined and relabelled with all of its arrays."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from synthaug.generators.fill.windows import Windows
from tests.generators.fill.fill_windows import random_windows

NAMES = [field.name for field in fields(Windows)]


def arrays(windows: Windows) -> dict[str, torch.Tensor]:
    return {name: getattr(windows, name) for name in NAMES}


def equal(first: Windows, second: Windows) -> bool:
    others = arrays(second)
    return all(torch.equal(value, others[name]) for name, value in arrays(first).items())


def test_parts_that_are_joined_again_are_the_whole() -> None:
    whole = random_windows(5)
    first, rest = whole.select(slice(0, 2)), whole.select(torch.tensor([2, 3, 4]))
    assert (2, 3) == (len(first), len(rest))
    assert equal(whole, Windows.concatenate([first, rest]))
    assert not equal(whole, Windows.concatenate([rest, first]))


def test_positions_may_repeat_and_turn_around() -> None:
    whole = random_windows(3)
    chosen = whole.select(torch.tensor([2, 2, 0]))
    assert equal(whole.select(slice(2, 3)), chosen.select(slice(1, 2)))
    assert equal(whole.select(slice(0, 1)), chosen.select(slice(2, 3)))


def test_only_labels_change_with_the_class() -> None:
    whole = random_windows(3)
    other = whole.relabelled(7)
    assert other.labels.tolist() == [7, 7, 7]
    assert equal(whole, replace(other, labels=whole.labels))


def test_only_examples_go_without_examples() -> None:
    whole = random_windows(3)
    other = whole.without_examples()
    assert not other.example.any()
    assert equal(whole, replace(other, example=whole.example))


def test_only_the_chosen_windows_are_relabelled() -> None:
    whole = random_windows(3)
    second = torch.tensor([False, True, False])
    other = whole.relabelled(7, second)
    assert other.labels[1] == 7
    first_and_last = torch.tensor([0, 2])
    assert equal(whole.select(first_and_last), other.select(first_and_last))


def test_windows_move_to_a_device_whole() -> None:
    moved = random_windows(2).to("meta")
    assert {"meta"} == {value.device.type for value in arrays(moved).values()}


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_another_number_of_windows_are_refused(name: str) -> None:
    whole, more = random_windows(3), random_windows(4)
    with pytest.raises(AssertionError):
        replace(whole, **{name: arrays(more)[name]})


def test_regions_of_another_side_are_refused() -> None:
    small, large = random_windows(2, side=16), random_windows(2, side=32)
    for name in ("region", "box", "neighbours"):
        with pytest.raises(AssertionError):
            replace(small, **{name: arrays(large)[name]})
