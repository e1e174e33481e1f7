"""Draws of an image depend on the seed and its position in the batch, not on its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from synthaug.detectors.samplers import BoxSampler, size_chooser


def test_the_sampler_draws_as_many_as_there_are_and_no_more_than_wanted() -> None:
    torch.manual_seed(0)
    labels = [
        torch.tensor([1] * 30 + [0] * 50 + [-1] * 20),
        torch.tensor([2, 0, 0, -1]),
        torch.full((7,), -1),
    ]
    objects, background = BoxSampler(20, 0.25)(labels)
    assert [int(mask.sum()) for mask in objects] == [5, 1, 0]
    assert [int(mask.sum()) for mask in background] == [15, 2, 0]
    for found, rest, matched in zip(objects, background, labels, strict=True):
        assert (matched[found] >= 1).all()
        assert (matched[rest] == 0).all()


def test_sizes_are_drawn_by_place() -> None:
    torch.manual_seed(0)
    choose = size_chooser(64)
    drawn = [choose((480, 640, 800)) for _ in range(64)]
    assert set(drawn) == {480, 640, 800}
    torch.manual_seed(0)
    again = size_chooser(3)
    assert [again((480, 640, 800)) for _ in range(3)] == drawn[:3]


def test_the_draw_of_an_image_does_not_depend_on_its_neighbours_but_on_place_and_seed() -> None:
    sampler, labels = BoxSampler(8, 0.5), torch.tensor([1] * 40 + [0] * 40)
    other = torch.zeros(200, dtype=torch.long)

    def drawn(seed: int, *batch: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return sampler(list(batch))[0][-1]

    assert torch.equal(drawn(0, labels, labels), drawn(0, other, labels))
    assert not torch.equal(drawn(0, labels, labels), drawn(0, labels))
    assert not torch.equal(drawn(0, labels), drawn(1, labels))


def test_without_objects_all_are_drawn_from_the_background() -> None:
    torch.manual_seed(0)
    objects, background = BoxSampler(8, 0.5)([torch.zeros(20, dtype=torch.long)])
    assert (int(objects[0].sum()), int(background[0].sum())) == (0, 8)


def test_where_objects_are_few_the_background_fills_their_share() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([1] + [0] * 20)
    objects, background = BoxSampler(8, 0.5)([labels])
    assert (int(objects[0].sum()), int(background[0].sum())) == (1, 7)


def test_every_candidate_can_be_drawn() -> None:
    drawn = torch.zeros(6, dtype=torch.bool)
    for seed in range(30):
        torch.manual_seed(seed)
        objects, _ = BoxSampler(2, 0.5)([torch.ones(6, dtype=torch.long)])
        drawn |= objects[0]
    assert drawn.all()


def test_sizes_of_neighbouring_images_are_drawn_apart() -> None:
    torch.manual_seed(3)
    choose = size_chooser(20)
    drawn = [choose(range(1000)) for _ in range(20)]
    assert len(set(drawn)) > 15
