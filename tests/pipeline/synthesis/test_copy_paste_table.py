"""The table of a trial's copy-paste arm: a function of seed and index, with labels that are those of its pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from synthaug.generators.copy_paste import Config
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable, random_part


def toy_of(count: int) -> Dataset:
    return toy.ToyDataset(toy.Config("train", count=count))


def test_the_trials_table_is_a_function_of_seed_and_index() -> None:
    table = toy_of(12)
    one, again, other = (CopyPasteTable(table, Config(), seed, 40) for seed in (5, 5, 6))
    order = [7, 0, 31]
    first = {i: one.entry(i) for i in order}
    for i in reversed(order):
        found, pixels = again.entry(i)
        np.testing.assert_array_equal(pixels, first[i][1])
        np.testing.assert_array_equal(found.objects.boxes, first[i][0].objects.boxes)
        np.testing.assert_array_equal(decode(again[i]), pixels)
    assert any((other.entry(i)[1] != first[i][1]).any() for i in order)


def test_labels_of_the_trials_table_are_those_of_its_pixels() -> None:
    """Masks are disjoint, boxes tight, areas counted, something is pasted; with masks and with boxes only."""
    table = toy_of(20)
    bare = SceneList(table.categories, [
        replace(s, objects=replace(s.objects.select(s.objects.isthing), rle=(None,) * int(s.objects.isthing.sum())))
        for s in map(table.__getitem__, range(20))
    ])  # fmt: skip
    for source in (table, bare):
        pasted = CopyPasteTable(source, Config(zoom="large"), 3, 30)
        for i in range(30):
            found = pasted[i]
            objects, size = found.objects, (found.height, found.width)
            assert len(set(objects.id.tolist())) == len(objects)
            assert (objects.boxes >= 0).all() and (objects.boxes <= size[1]).all()
            assert (objects.boxes[:, 2:] > objects.boxes[:, :2]).all()
            if source is table:
                shown = masks.decode_all(objects, size)
                assert shown.sum(0).max() <= 1
                np.testing.assert_array_equal(masks.tight_boxes(shown), objects.boxes)
                np.testing.assert_array_equal(shown.sum((1, 2)), objects.area)
        assert sum("synthetic" in pasted[i].objects.source for i in range(30)) > 20


def test_a_part_is_drawn_and_never_empty() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_part([3, 5, 9], 0.5, rng) for _ in range(400)]
    assert min(map(len, drawn)) == 1 and Counter(k for row in drawn for k in row).total() > 580
    assert random_part([], 0.5, rng) == [] and random_part([4], 0.0, rng) == [4]
