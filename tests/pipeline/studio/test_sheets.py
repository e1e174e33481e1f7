"""Sheets: each row changes what it is about and nothing else.

The unchanged scene stands beside the changed ones.
"""

from __future__ import annotations

import pytest
import torch

from synthaug.generators import lostgan
from synthaug.generators.lostgan.control import Controlled, Studio
from synthaug.pipeline.studio.edits import Edit
from synthaug.pipeline.studio.layout_files import GivenLayout
from synthaug.pipeline.studio.sheets import COLUMNS, SHEETS, Row, Subject

CLASSES = ["tree", "car", "cow", "sky"]
LAYOUT = GivenLayout("here", ("sky", "cow"), ((0, 0, 1, 0.5), (0.1, 0.4, 0.5, 0.9)))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    from synthaug.generators import checkpoint

    config = lostgan.Config(
        resolution=64, width=4, z_image=8, z_object=6, embedding=8, mask_hidden=8
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = lostgan.build(config, len(CLASSES))
    path = tmp_path_factory.mktemp("weights") / "generator.safetensors"
    checkpoint.save(path, network, "lostgan", config, CLASSES, {})
    return Studio.open(path)


def subject(studio: Studio, count: int, *edits: Edit) -> Subject:
    scenes = tuple(studio.scene(LAYOUT.objects(), 7 + k) for k in range(count))
    return Subject(LAYOUT, scenes, edits, studio.stages)


def changes(row: Row, base: Controlled) -> list[list[str]]:
    return [cell.scene.changes(base) for cell in row.cells]


def test_samples_are_broken_into_rows_under_one_caption(studio: Studio) -> None:
    rows = list(SHEETS["samples"](subject(studio, COLUMNS + 2)))
    assert [COLUMNS, 2] == [len(row.cells) for row in rows]
    assert ["seed 7", "seed 8"] == [cell.caption for cell in rows[0].cells[:2]]
    assert rows[0].caption and not rows[1].caption


def test_styles_change_alone(studio: Studio) -> None:
    parts = subject(studio, 2)
    image, objects = SHEETS["style"](parts)
    assert [[], ["z_img"]] == changes(image, parts.base)
    assert [[], ["z_obj 0", "z_obj 1"]] == changes(objects, parts.base)


def test_one_sample_is_varied_by_the_next_seed(studio: Studio) -> None:
    parts = subject(studio, 1)
    assert [8] == parts.others
    assert [[], ["z_img"]] == changes(next(SHEETS["style"](parts)), parts.base)


def test_the_style_of_each_object_changes_in_turn(studio: Studio) -> None:
    parts = subject(studio, 3)
    for number, row in enumerate(SHEETS["object-style"](parts)):
        assert [[], [f"z_obj {number}"], [f"z_obj {number}"], []] == changes(row, parts.base)
        assert {number} == row.marked
        assert row.cells[-1].others == tuple(cell.scene for cell in row.cells[1:3])


def test_edits_follow_each_other_and_what_is_gone_is_not_marked(studio: Studio) -> None:
    edits = (
        Edit("add", name="car", box=(0, 0, 0.2, 0.2)),
        Edit("remove", 0),
        Edit("restyle_image", seed=3),
    )
    parts = subject(studio, 2, *edits)
    rows = list(SHEETS["layout"](parts))
    assert ["the layout as given", "add 2 car", "remove 0 sky", "new z_img (seed 3)"] == [
        row.caption for row in rows
    ]
    assert [set(), {2}, set(), set()] == [set(row.marked) for row in rows]
    last = [thing.number for thing in rows[-1].cells[1].scene.objects]
    assert [1, 2] == last
    assert [7, 8] == [cell.scene.seed for cell in rows[-1].cells]


def test_interpolation_goes_from_seed_to_seed_with_masks_below(studio: Studio) -> None:
    parts = subject(studio, 3)
    images, mask_maps, *_ = SHEETS["interpolate"](parts)
    assert ["t = 0.00", "t = 0.50", "t = 1.00"] == [cell.caption for cell in images.cells]
    assert images.cells[-1].scene == parts.base.restyle(0, 8)
    assert [cell.scene for cell in images.cells] == [cell.scene for cell in mask_maps.cells]
    assert {-1} == {cell.stage for cell in mask_maps.cells}


def test_masks_show_every_stage_and_the_image(studio: Studio) -> None:
    parts = subject(studio, 2)
    first, second = SHEETS["masks"](parts)
    assert [*range(studio.stages), None] == [cell.stage for cell in first.cells]
    assert "initial" == first.cells[0].caption and "refined 1" == first.cells[1].caption
    assert second.cells[-1].scene is parts.samples[1]
