"""Painting and pasting into photos: each change in its place, the rest of the photo as it was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from synthaug.generators.base import Edit, EditedPhoto, Samples
from synthaug.generators.copy_paste import Config as PasteConfig
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.studio.painters.photos import (
    PastePainter,
    PhotoPainter,
    canvas_of,
    first_items,
)
from synthaug.pipeline.studio.sketch import Sketch, blank
from synthaug.pipeline.synthesis.edits import EditParts
from synthaug.pipeline.synthesis.object_bank import Bank
from tests.studio_room import photos_of, toy_table

TABLE = toy_table(count=6)
PHOTOS = photos_of(TABLE)
NAME = "validation/toy-val-00000000"
THING = next(category.name for category in TABLE.categories[1:] if category.isthing)
STUFF = next(category.name for category in TABLE.categories if not category.isthing)
PIXELS = decode(TABLE[0])
BOX = (2, 40, 20, 60)


class BoxSampler:
    """Paints the seed into the box; half of it in drafts."""

    def __init__(self, share: float = 1.0) -> None:
        self.edits: list[Edit] = []
        self.share = share
        self.drafts: list[BoxSampler] = []

    def draft(self) -> BoxSampler:
        self.drafts.append(BoxSampler(0.5))
        return self.drafts[-1]

    def sample(self, conditions: Sequence[Edit], seeds: Sequence[int]) -> Samples:
        raise NotImplementedError

    def edit(self, edits: Sequence[Edit], seeds: Sequence[int]) -> list[EditedPhoto]:
        self.edits += edits
        edited = []
        for edit, seed in zip(edits, seeds, strict=True):
            (painting,) = edit.paintings
            image = edit.photo.image.copy()
            mask = np.zeros((1, *edit.photo.size), np.float32)
            x0, y0, x1, y1 = painting.box.round().astype(int).tolist()
            mask[0, y0:y1, x0:x1] = 1
            image[y0:y1, x0:x1] = 0 if painting.shows == "background" else int(seed * self.share)
            edited.append(EditedPhoto(image, mask))
        return edited


def painter_and_sampler() -> tuple[PhotoPainter, BoxSampler]:
    sampler = BoxSampler()
    bank = Bank.of(TABLE, TABLE, PasteConfig(blends=("none",)))
    return PhotoPainter(EditParts(sampler, bank, (bank,)), PHOTOS, TABLE.categories), sampler


def photo(seed: int = 3) -> Sketch:
    empty = Sketch(TABLE[0].size, (), seed, ((seed, 1.0),), 0, photo=NAME)
    items = first_items(canvas_of(PHOTOS, empty), TABLE.categories, seed)
    return Sketch(empty.size, tuple(items), seed, empty.style, len(items), photo=NAME)


def in_box(box: Sequence[float]) -> np.ndarray:
    x0, y0, x1, y1 = (round(value) for value in box)
    area = np.zeros(TABLE[0].size, bool)
    area[y0:y1, x0:x1] = True
    return area


def test_a_photo_without_changes_is_the_photo() -> None:
    painter, sampler = painter_and_sampler()
    made = photo()
    painter.check(made)
    (painted,) = painter.paint([made])
    assert (PIXELS == painted.image).all()
    assert [] == sampler.edits
    assert len(made.items) == (TABLE[0].objects.isthing).sum()
    assert painted.masks.any((1, 2)).all()


def test_an_object_is_painted_in_its_box_alone_after_a_real_one() -> None:
    painter, sampler = painter_and_sampler()
    added = photo().add(THING, BOX)
    (painted,) = painter.paint([added.restyle(added.born - 1, 200)])
    changed = (painted.image != PIXELS).any(2)
    assert changed[in_box(BOX)].mean() > 0.9
    assert not changed[~in_box(BOX)].any()
    (edit,) = sampler.edits
    assert edit.paintings[0].example is not None
    assert len(added.items) - 1 == len(edit.photo.categories)
    assert (painted.masks[-1] == in_box(BOX)).all()


def test_an_object_that_leaves_is_painted_over_and_no_longer_told() -> None:
    painter, sampler = painter_and_sampler()
    made = photo()
    gone = made.items[0]
    (painted,) = painter.paint([made.remove(gone.number)])
    assert (painted.image[in_box(gone.box)] == 0).all()
    (edit,) = sampler.edits
    assert "background" == edit.paintings[0].shows
    assert 0 <= edit.paintings[0].replaces


def test_a_moved_object_is_painted_over_and_painted_anew() -> None:
    painter, sampler = painter_and_sampler()
    made = photo()
    number = made.items[0].number
    painter.paint([made.move(number, BOX)])
    first, second = sampler.edits
    assert ["background", "object"] == [e.paintings[0].shows for e in (first, second)]
    assert len(second.photo.categories) == len(first.photo.categories) - 1
    assert -1 == second.paintings[0].replaces


def test_a_restyled_object_is_painted_over_in_its_place() -> None:
    painter, sampler = painter_and_sampler()
    made = photo()
    item = made.items[1]
    painter.paint([made.restyle(item.number, 9).relabel(item.number, THING)])
    (edit,) = sampler.edits
    (painting,) = edit.paintings
    assert "object" == painting.shows
    assert 1 == painting.replaces
    assert painting.mask is not None and painting.mask.any()


def test_what_was_painted_before_a_change_is_not_painted_again() -> None:
    painter, sampler = painter_and_sampler()
    made = photo().add(THING, BOX).add(THING, (40, 40, 60, 60))
    painter.paint([made])
    assert 2 == len(sampler.edits)
    last = made.items[-1].number
    painter.paint([made.move(last, (41, 40, 61, 60))])
    assert 3 == len(sampler.edits)
    painter.paint([made])
    assert 3 == len(sampler.edits)
    later = sampler.edits[-1].photo
    assert len(made.items) - 1 == len(later.categories)  # it is told of the first one


def test_a_draft_is_painted_by_the_quick_sampler_and_never_taken_for_the_whole() -> None:
    painter, sampler = painter_and_sampler()
    (quick,) = sampler.drafts
    made = photo().add(THING, BOX)
    painter.paint([made], draft=True)
    assert (1, 0) == (len(quick.edits), len(sampler.edits))
    painter.paint([made])
    assert (1, 1) == (len(quick.edits), len(sampler.edits))
    painter.paint([made], draft=True)
    assert (1, 1) == (len(quick.edits), len(sampler.edits))


def test_an_object_in_front_hides_what_is_behind() -> None:
    painter, _ = painter_and_sampler()
    made = photo()
    covered = made.items[0]
    (painted,) = painter.paint([made.add(THING, covered.box)])
    assert not (painted.masks[0] & in_box(covered.box)).any()
    assert painted.masks.sum(0).max() == 1


def test_what_photos_cannot_have_is_said() -> None:
    painter, _ = painter_and_sampler()
    with pytest.raises(ValueError, match="open a real image first"):
        painter.check(blank((64, 64), 0))
    with pytest.raises(ValueError, match="is stuff"):
        painter.check(photo().add(STUFF, BOX))
    with pytest.raises(ValueError, match="no class 'unicorn'"):
        painter.check(photo().add("unicorn", BOX))
    twice = photo()
    twice = twice.with_item(type(twice.items[0])(**{**vars(twice.items[0]), "origin": 99}))
    with pytest.raises(ValueError, match="its photo has not"):
        painter.check(twice)


def test_pasting_adds_and_takes_nothing_away() -> None:
    bank = Bank.of(TABLE, TABLE, PasteConfig(blends=("none",)))
    painter = PastePainter(bank, PHOTOS, TABLE.categories)
    made = photo()
    label = made.items[0].label
    painter.check(made)
    added = made.add(label, BOX)
    painter.check(added)
    before, after, again = (painter.paint([sketch])[0] for sketch in (made, added, added))
    assert (before.image == PIXELS).all()
    assert (after.image == again.image).all()
    changed = (after.image != PIXELS).any(2)
    assert changed.any() and not changed[~after.masks[-1]].any()
    with pytest.raises(ValueError, match="takes nothing away"):
        painter.check(made.remove(made.items[0].number))
    absent = next(c.name for c in TABLE.categories if c.isthing and not _has(c.name))
    with pytest.raises(ValueError, match=f"no labelled image has a '{absent}'"):
        painter.check(made.add(absent, BOX))


def _has(name: str) -> bool:
    labels = {TABLE.categories[int(c)].name for scene in TABLE for c in scene.objects.category}
    return name in labels
