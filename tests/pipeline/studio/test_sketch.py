"""Edits of a sketch: what changes, what stays, and what is refused."""

from __future__ import annotations

import pytest

from synthaug.pipeline.studio.sketch import (
    SEEDS,
    Sketch,
    between,
    blank,
    inside,
    next_seed,
    of_objects,
    style_of,
)


def sketch() -> Sketch:
    return of_objects((40, 60), [("sky", (0, 0, 60, 20)), ("cow", (10, 20, 30, 35))], seed=3)


def test_objects_are_numbered_in_their_order_and_share_the_seed() -> None:
    made = sketch()
    assert [0, 1] == [item.number for item in made.items]
    assert {style_of(3)} == {item.style for item in made.items}
    assert 2 == made.born


def test_a_move_changes_one_box_and_nothing_else() -> None:
    before = sketch()
    after = before.move(1, (20, 20, 40, 35))
    assert (20, 20, 40, 35) == after[1].box
    assert before == after.move(1, before[1].box)
    assert before.items[0] is after.items[0]


def test_a_number_is_never_used_twice() -> None:
    made = sketch().remove(1).add("cow", (0, 0, 10, 10))
    assert [0, 2] == [item.number for item in made.items]


def test_a_photo_object_that_moves_leaves_its_place_and_one_that_changes_class_stays() -> None:
    item = sketch()[1]
    of_photo = sketch().with_item(type(item)(1, "cow", item.box, item.style, origin=4, real=True))
    moved = of_photo.move(1, (0, 0, 20, 15))[1]
    relabelled = of_photo.relabel(1, "horse")[1]
    assert (-1, False) == (moved.origin, moved.real)
    assert (4, False) == (relabelled.origin, relabelled.real)
    assert of_photo == of_photo.move(1, of_photo[1].box)


@pytest.mark.parametrize("edit", ["move", "relabel", "remove", "restyle", "raised"])
def test_a_locked_object_is_let_alone(edit: str) -> None:
    locked = sketch().lock(1, True)
    works = {
        "move": lambda: locked.move(1, (0, 0, 9, 9)),
        "relabel": lambda: locked.relabel(1, "sky"),
        "remove": lambda: locked.remove(1),
        "restyle": lambda: locked.restyle(1),
        "raised": lambda: locked.raised(1),
    }
    with pytest.raises(ValueError, match=r"object 1 \(cow\) is locked; unlock it first"):
        works[edit]()
    assert "horse" == locked.lock(1, False).relabel(1, "horse")[1].label


def test_samples_differ_and_locked_styles_stay() -> None:
    made = sketch().restyle(0, 99).lock(0, True)
    samples = made.samples(8)
    assert 8 == len({sample.style for sample in samples})
    assert {style_of(99)} == {sample[0].style for sample in samples}
    assert samples == made.samples(8)
    assert samples[:3] == made.samples(3)


def test_the_same_seed_draws_the_same_next_one_and_it_fits_into_javascript() -> None:
    assert next_seed(5, "object", 1) == next_seed(5, "object", 1)
    assert next_seed(5, "object", 1) != next_seed(5, "object", 2)
    assert all(next_seed(seed, "image") < SEEDS < 2**53 for seed in range(50))


def test_interpolation_begins_at_the_style_and_ends_at_the_other() -> None:
    made = sketch()
    assert made == made.interpolate(1, 8, 0)
    assert style_of(8) == made.interpolate(1, 8, 1)[1].style
    assert ((3, 0.75), (8, 0.25)) == between(style_of(3), 8, 0.25)
    assert ((3, 0.5), (8, 0.5)) == made.interpolate(None, 8, 0.5).style
    with pytest.raises(ValueError, match="from 0 to 1"):
        made.interpolate(1, 8, 1.5)


def test_boxes_are_cut_at_the_border_and_rounded_as_they_are_written() -> None:
    assert (0, 0, 60, 12.346) == inside((-5, -1, 99, 12.34567), (40, 60))
    with pytest.raises(ValueError, match="too small"):
        inside((59.5, 0, 80, 10), (40, 60))
    with pytest.raises(ValueError, match="four finite numbers"):
        inside((0, 0, float("nan"), 1), (40, 60))
    with pytest.raises(ValueError, match="four finite numbers"):
        inside((0, 0, 1), (40, 60))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no object 7; the layout has 0, 1"):
        sketch().move(7, (0, 0, 5, 5))
    with pytest.raises(ValueError, match="the layout has none"):
        blank((8, 8), 0).remove(0)
    with pytest.raises(ValueError, match="seed -1"):
        sketch().resample(-1)


def test_a_layout_holds_a_hundred_objects() -> None:
    many = of_objects((40, 60), [("cow", (0, 0, 5, 5))] * 150, seed=0)
    assert 100 == len(many.items)
    with pytest.raises(ValueError, match="at most 100"):
        many.add("cow", (0, 0, 5, 5))


def test_boxes_outside_an_image_are_left_out() -> None:
    made = of_objects((40, 60), [("cow", (70, 0, 80, 5)), ("sky", (0, 0, 5, 5))], seed=0)
    assert ["sky"] == [item.label for item in made.items]


def test_what_is_raised_is_in_front() -> None:
    assert [1, 0] == [item.number for item in sketch().raised(0).items]
