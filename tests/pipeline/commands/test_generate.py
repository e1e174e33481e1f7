"""`synthaug generate`.

Every sheet is written, can be made again from its JSON, and mistakes are one line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from synthaug.generators import checkpoint
from synthaug.generators import lostgan as lostgan_system
from synthaug.generators.base import Layouts
from synthaug.generators.lostgan import network as lostgan
from synthaug.pipeline.cli import main
from synthaug.pipeline.studio.sheets import SHEETS

CLASSES = ["tree", "car", "cow", "sky"]
LAYOUT = {
    "objects": [
        {"class": "sky", "box": [0, 0, 96, 30]},
        {"class": "cow", "box": [8, 30, 40, 60]},
        {"class": "tree", "box": [60, 10, 80, 50]},
    ],
    "size": [64, 96],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a tiny random generator."""
    config = lostgan.Config(
        resolution=64, width=4, z_image=8, z_object=6, embedding=8, mask_hidden=8
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = lostgan_system.build(config, len(CLASSES))
        layouts = Layouts(
            torch.ones(2, 1, dtype=torch.int64),
            torch.tensor([[[0, 0, 1, 1.0]]] * 2),
            torch.ones(2, 1),
        )
        network(layouts, torch.randn(2, 8), torch.randn(2, 1, 6))
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    folder.mkdir()
    checkpoint.save(folder / "generator.safetensors", network, "lostgan", config, CLASSES, {})
    return folder.parent


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return written(tmp_path / "layout.json", LAYOUT)


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def generate(*words: object) -> Result:
    return CliRunner().invoke(main, ["generate", *map(str, words)], prog_name="synthaug")


def error_of(result: Result) -> str:
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


def test_every_sheet_is_written_and_its_json_makes_the_same_pictures(
    weights: Path, layout: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    result = generate(weights, layout, "--sheet", "all", "--count", 3, "--seed", 7, "--out", first)
    assert result.exit_code == 0, (result.output, result.exception)
    assert {f"{name}.png" for name in SHEETS} | {"sheet.json"} == {
        p.name for p in first.iterdir() if p.is_file()
    }
    record = json.loads((first / "sheet.json").read_text())
    files = {picture["file"] for picture in record["pictures"]}
    assert files == {str(p.relative_to(first)) for p in first.rglob("images/*")}

    again = generate(
        weights / "checkpoints" / "generator.safetensors", first / "sheet.json", "--output", second
    )
    assert again.exit_code == 0, again.output
    for path in first.rglob("*.*"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


def test_the_record_of_a_picture_is_enough_for_it(
    weights: Path, layout: Path, tmp_path: Path
) -> None:
    from synthaug.generators.lostgan.control import Studio

    assert (
        generate(
            weights, layout, "--sheet", "layout", "--count", 2, "--out", tmp_path / "out"
        ).exit_code
        == 0
    )
    pictures = json.loads((tmp_path / "out" / "sheet.json").read_text())["pictures"]
    studio = Studio.open(weights / "checkpoints" / "generator.safetensors")
    for picture in pictures:
        expected = studio.render([studio.restore(picture["scene"])]).images[0].astype(int)
        with Image.open(tmp_path / "out" / picture["file"]) as image:
            assert np.abs(expected - np.asarray(image).astype(int)).max() <= 1
    assert [[], [], ["box 1"], ["box 1"]] == [picture["changed"] for picture in pictures[:4]]
    assert ["box 1", "class 1", "removed 2", "added 3"] == sorted(
        pictures[-1]["changed"], key=lambda words: (words.split()[1], words)
    )


def test_style_sheets_change_what_they_say(weights: Path, layout: Path, tmp_path: Path) -> None:
    words = ("--count", 2, "--out", tmp_path)
    changed: dict[str, list[list[str]]] = {}
    for sheet in ("style", "object-style", "interpolate", "masks"):
        assert generate(weights, layout, "--sheet", sheet, *words).exit_code == 0
        pictures = json.loads((tmp_path / "sheet.json").read_text())["pictures"]
        changed[sheet] = [picture["changed"] for picture in pictures]
    everything = ["z_obj 0", "z_obj 1", "z_obj 2"]
    assert [[], ["z_img"], [], everything] == changed["style"]
    assert [[], ["z_obj 0"], [], [], ["z_obj 1"], []] == changed["object-style"][:6]
    assert [[], ["z_obj 0"]] * 2 + [[], ["z_obj 1"]] * 2 == changed["interpolate"][:8]
    assert [[]] * 10 == changed["masks"]  # four stages and the image, of two samples


def test_edits_of_a_file_are_made_one_after_the_other(
    weights: Path, layout: Path, tmp_path: Path
) -> None:
    edits = [
        {"edit": "add", "class": "car", "box": [40, 40, 60, 60]},
        {"edit": "move", "object": 3, "box": [60, 40, 80, 60]},
        {"edit": "restyle", "object": 3, "seed": 9},
        {"edit": "restyle_image", "seed": 9},
        {"edit": "relabel", "object": 1, "class": "car"},
        {"edit": "remove", "object": 0},
    ]
    file = written(tmp_path / "edits.json", edits)
    result = generate(
        weights, layout, "--sheet", "layout", "--edits", file, "--count", 1, "--out", tmp_path
    )
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "sheet.json").read_text())
    assert edits == record["synthaug_sheets"]["edits"]
    rows = [
        "the layout as given",
        "add 3 car",
        "move 3 car",
        "new z_obj for 3 car (seed 9)",
        "new z_img (seed 9)",
    ]
    assert [*rows, "1 cow becomes car", "remove 0 sky"] == [
        picture["row"] for picture in record["pictures"]
    ]
    last = record["pictures"][-1]["scene"]
    assert [1, 2, 3] == [thing["number"] for thing in last["objects"]]
    assert [60 / 96, 40 / 64, 80 / 96, 60 / 64] == last["objects"][2]["box"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [{"class": "cwo", "box": [0, 0, 5, 5]}]}, "did you mean 'cow'?"),
        (
            {"objects": [{"class": "cow", "box": [0, 0, 97, 5]}]},
            "object 0 (cow): box [0, 0, 1.01042, 0.078125] reaches",
        ),
        ({"objects": [{"class": "cow", "box": [5, 0, 5, 5]}]}, "is empty"),
        (
            {"objects": [{"class": "cow", "box": [0, 0, 5]}]},
            "object 0: box [0, 0, 5] must be a list",
        ),
        ({"objects": [{"class": "cow", "box": [0, 0, 5, "x"]}]}, "'x', not a finite number"),
        (
            {"objects": [{"clas": "cow", "box": [0, 0, 5, 5]}]},
            "unknown key 'clas'; did you mean 'class'?",
        ),
        ({"objects": [{"box": [0, 0, 5, 5]}]}, "object 0: 'class' must be a text"),
        ({"objects": 3}, "'objects' must be a list"),
        ({"objects": None}, "'objects' must be a list"),
        ({"size": [64]}, "size [64] must be [height, width]"),
        ({"bxoes": 1}, "unknown key 'bxoes'"),
    ],
)
def test_a_wrong_layout_is_one_line(
    weights: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = written(tmp_path / "wrong.json", LAYOUT | change)
    said = error_of(generate(weights, file, "--out", tmp_path / "out"))
    assert message in said
    assert "wrong.json" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"edit": "moev", "object": 1}, "'moev' is none of move, relabel"),
        ({"edit": "move", "object": 9, "box": [0, 0, 1, 1]}, "edit 0 (move): there is no object 9"),
        ({"edit": "move", "object": 1}, "key 'box' is missing"),
        ({"edit": "move", "object": 1, "box": [0, 0, 200, 1]}, "reaches outside"),
        ({"edit": "relabel", "object": 1, "class": "hrose"}, "knows no class 'hrose'"),
        ({"edit": "remove", "object": -1}, "must be a whole number from 0"),
        ({"edit": "remove", "object": 1, "seed": 1}, "unknown key 'seed'"),
        (7, "edit 0 is no JSON object"),
    ],
)
def test_a_wrong_edit_is_one_line(
    weights: Path, layout: Path, tmp_path: Path, edit: Any, message: str
) -> None:
    file = written(tmp_path / "edits.json", [edit])
    words = ("--sheet", "layout", "--edits", file, "--out", tmp_path / "out")
    assert message in error_of(generate(weights, layout, *words))
    assert not (tmp_path / "out").exists()


def test_other_mistakes_are_one_line(weights: Path, layout: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    (tmp_path / "broken.json").write_text('{"objects": [\n oops')
    (tmp_path / "text.safetensors").write_text("no")
    sheet = written(
        tmp_path / "sheet.json", {"synthaug_sheets": {"layout": LAYOUT, "count": "many"}}
    )
    empty = written(tmp_path / "empty.json", {"objects": []})
    cases = {
        "no such file": (tmp_path / "absent.safetensors", layout, *out),
        "has no checkpoints/generator.safetensors": (tmp_path, layout, *out),
        "not a readable safetensors file": (tmp_path / "text.safetensors", layout, *out),
        "no such file nowhere.json": (weights, "nowhere.json", *out),
        "line 2": (weights, tmp_path / "broken.json", *out),
        "unknown format 'cooc'; did you mean 'coco'?": (weights, "cooc:x", *out),
        "has 3 images": (weights, "toy:val?count=3", "--image", 3, *out),
        "has no image 'absent'": (weights, "toy:val?count=3", "--image", "absent", *out),
        "is one layout, not a data set": (weights, layout, "--image", 3, *out),
        "did you mean 'masks'?": (weights, layout, "--sheet", "mask", *out),
        "count: 0 is not": (weights, layout, "--count", 0, *out),
        "seed: -1 is not": (weights, layout, "--seed", -1, *out),
        "count: 'many' is not": (weights, sheet, *out),
        "only the layout sheet has edits": (weights, layout, "--edits", layout, *out),
        "has no objects to change": (weights, empty, "--sheet", "all", *out),
        "cannot write": (weights, layout, "--out", layout / "x"),
    }
    for message, words in cases.items():
        assert message in error_of(generate(*words)), message
    assert not (tmp_path / "out").exists()
    assert generate(weights, empty, "--count", 1, *out).exit_code == 0


def test_another_checkpoint_is_pointed_out(weights: Path, tmp_path: Path) -> None:
    made = {"layout": LAYOUT, "count": 1, "checkpoint": {"sha256": "0" * 64}}
    sheet = written(tmp_path / "sheet.json", {"synthaug_sheets": made})
    assert "another checkpoint" in generate(weights, sheet, "--out", tmp_path / "out").output
