"""Styles: codes of seeds and slots, recipes as text, and boxes that a user may give."""

from __future__ import annotations

import pytest
import torch

from synthaug.generators.lostgan.config import Config
from synthaug.generators.lostgan.sampler import draw_latents
from synthaug.generators.lostgan.styles import Codebook, checked_box, recipe, style_of

TINY = {"resolution": 64, "z_image": 5, "z_object": 4}


def codebook(background: bool = False) -> Codebook:
    return Codebook(("cow", "tree"), Config(**TINY, background=background), 2.0)


@pytest.mark.parametrize("background", [False, True])
def test_the_code_of_an_object_is_that_of_its_slot(background: bool) -> None:
    book = codebook(background)
    z_image, z_objects = draw_latents(book.config, 4, 9, 2.0)
    assert torch.equal(book.image(style_of(9)), z_image)
    assert torch.equal(book.object(style_of(9), 2), z_objects[2 + int(background)])
    own = book.background(style_of(9))
    if background:
        assert own is not None and torch.equal(own, z_objects[0])
    else:
        assert own is None


def test_a_style_is_the_weighted_sum_of_its_draws() -> None:
    book = codebook()
    mixed = book.object(recipe([[3, 0.25], [8, -2.0]]), 1)
    expected = 0.25 * book.object(style_of(3), 1) - 2.0 * book.object(style_of(8), 1)
    torch.testing.assert_close(mixed, expected)


def test_class_names_are_label_rows_after_the_backgrounds() -> None:
    assert [codebook().label(name) for name in ("cow", "tree")] == [1, 2]
    with pytest.raises(ValueError, match="no class 'caw'; did you mean 'cow'"):
        codebook().label("caw")
    with pytest.raises(ValueError, match="no class 'zebra'; known: cow, tree"):
        codebook().label("zebra")


@pytest.mark.parametrize(
    ("parts", "message"),
    [([], "a style has no seed"), ([[-1, 1.0]], "seed -1 is not"), ([[2**63, 1.0]], "is not")],
)
def test_impossible_recipes_are_one_line(parts: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        recipe(parts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0, 0, 1], "not four finite numbers"),
        ([0, 0, 1, float("nan")], "not four finite numbers"),
        ([0, 0, 1, 1.1], "reaches outside the image"),
        ([0.5, 0, 0.5, 1], "is empty"),
        ([0.6, 0, 0.5, 1], "is empty"),
    ],
)
def test_impossible_boxes_are_one_line(box: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        checked_box(box)
    assert "\n" not in str(caught.value)


def test_rounding_beyond_the_border_is_forgiven() -> None:
    assert checked_box([-1e-7, 0, 1 + 1e-7, 1]) == (0.0, 0.0, 1.0, 1.0)
