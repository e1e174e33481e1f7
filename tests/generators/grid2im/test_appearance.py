"""The pool of appearance codes: earlier ones of the class, its own for the first."""

from __future__ import annotations

import torch

from synthaug.generators.grid2im.appearance import AppearancePool


def test_each_object_gets_an_earlier_one_of_its_class() -> None:
    pool = AppearancePool(3, 1)
    labels, codes = torch.tensor([1, 2, 1, 1]), torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    made = pool.exchange(labels, codes, lambda count: count - 1)
    assert made[:, 0].tolist() == [1, 2, 1, 3]
    assert pool.exchange(labels[:1], codes[:1], lambda _: 0)[0, 0] == 1


def test_a_full_pool_gives_out_what_it_replaces() -> None:
    pool = AppearancePool(2, 1, size=2)
    codes = torch.arange(4.0)[:, None]
    made = pool.exchange(torch.ones(4, dtype=torch.int64), codes, lambda count: count - 1)
    assert made[:, 0].tolist() == [0, 0, 1, 2]
    assert pool.codes[1, :, 0].tolist() == [0, 3]
    assert pool.counts.tolist() == [0, 2]


def test_its_state_is_saved() -> None:
    pool, other = AppearancePool(2, 1), AppearancePool(2, 1)
    pool.exchange(torch.tensor([1]), torch.tensor([[7.0]]), lambda _: 0)
    other.load_state_dict(pool.state_dict())
    assert other.exchange(torch.tensor([1]), torch.tensor([[8.0]]), lambda _: 0)[0, 0] == 7
