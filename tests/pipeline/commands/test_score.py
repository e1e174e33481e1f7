"""`synthaug score` on data sets of other makers.

The numbers of a run's code, one line for what is wrong.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from synthaug import detectors
from synthaug.pipeline.cli import main
from synthaug.pipeline.core.datasets import RelabeledCategories
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.merge import with_classes
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy.dataset import CATEGORIES, Config, ToyDataset
from synthaug.pipeline.report import score_page

SMALL = {
    "width": 4,
    "fpn_channels": 4,
    "image_size": 64,
    "anchor_sizes": (8, 16),
    "box_head": 8,
    "backbone": "small",
}
JOB = """
data: {labelled: "toy:train"}
cluster: {executor: serial}
score: {cas: {steps: 2, width: 8, batch: 8}, dap: {resamples: 4}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector, a job, and toy images as somebody's synthetic ones."""
    folder = tmp_path_factory.mktemp("score")
    (folder / "job.yaml").write_text(JOB)
    detectors.build("torchvision", SMALL, len(CATEGORIES), seed=1).save(
        folder / "judge.safetensors", {}
    )
    other = ToyDataset(Config("test", 6))
    shuffled = (*CATEGORIES[1:], CATEGORIES[0])
    places = {c.name: k for k, c in enumerate(shuffled)}
    scenes = [moved(other[i], places) for i in range(6)]
    parquet.write(SceneList(shuffled, scenes), Folder.at(folder / "made"))
    parquet.write(SceneList(CATEGORIES, []), Folder.at(folder / "nothing"))
    parquet.write(
        SceneList((Category(1, "tram"),), [bare(other[0])]), Folder.at(folder / "foreign")
    )
    return folder


def moved(scene: Scene, places: dict[str, int]) -> Scene:
    category = [places[CATEGORIES[c].name] for c in scene.objects.category]
    objects = replace(scene.objects, category=Objects.build(category, scene.objects.boxes).category)
    return replace(scene, objects=objects, panoptic=None)


def bare(scene: Scene) -> Scene:
    return replace(scene, objects=Objects.build([], []), panoptic=None)


def score(place: Path, *words: str) -> Result:
    return CliRunner().invoke(
        main, ["score", *words, "--job", str(place / "job.yaml")], prog_name="synthaug"
    )


def error_of(result: Result) -> str:
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_foreign_data_set_gets_the_same_scores(place: Path, tmp_path: Path) -> None:
    """Its classes stand in another order, its images pair with none.

    The same images read directly give the same DAP.
    """
    judge = ("--detector", str(place / "judge.safetensors"), "--names", "dap,cas")
    found: list[dict[str, Any]] = []
    for number, reference in enumerate((f"parquet:{place / 'made'}", "toy:test?count=6")):
        output = tmp_path / str(number)
        result = score(place, "toy:val?count=6", reference, *judge, "--output", str(output))
        assert result.exit_code == 0, result.output
        assert (
            "AP50" in result.output and "top1" in result.output and "compare with" in result.output
        )
        found.append(json.loads((output / "metrics.json").read_text()))
    one, two = (record["scores"]["dap"] for record in found)
    assert (one["values"], one["controls"], one["per_class"]) == (
        two["values"],
        two["controls"],
        two["per_class"],
    )
    assert one["card"]["images"] == {"real": 6, "synthetic": 6}
    assert one["card"]["data_sets"]["synthetic"].endswith("made")
    assert found[0]["scores_unavailable"] == {}
    assert "real" not in found[0]["scores"]["cas"]["controls"], (
        "without --train there is no ceiling"
    )
    page = (tmp_path / "0" / "scores.html").read_text()
    assert page.count("<img ") == 12, "not all images of two sets of six"
    assert "data_sets" in page and 'id="score-1"' in page and 'id="score-2"' not in page


def test_the_page_says_what_was_not_measured_and_makes_no_markup_of_words() -> None:
    scene = Scene(
        "<b>1</b>",
        8,
        8,
        ImageRef(encode(np.zeros((8, 8, 3), np.uint8), "png")),
        Objects.build([0], [[1, 1, 6, 6]]),
    )
    table = SceneList((Category(1, "<script>cup</script>"),), [scene])
    page = score_page.render(
        [score_page.scored_set("real", "coco:<i>.json", table)],
        {},
        {"fid": "<u>no</u>"},
        {},
        {"torch": "2"},
    )
    text = page.decode()
    assert "&lt;u&gt;no&lt;/u&gt;" in text and "Nothing could be measured" in text
    for markup in ("<b>1", "<i>", "<u>", "<script>cup"):
        assert markup not in text


def test_what_cannot_be_had_is_said_with_its_reason(place: Path, tmp_path: Path) -> None:
    result = score(
        place, "toy:val?count=6", f"parquet:{place / 'foreign'}", "--output", str(tmp_path)
    )
    assert "has the class 'tram'" in error_of(result)
    text = error_of(
        score(
            place,
            "toy:val?count=6",
            "toy:test?count=6",
            "--names",
            "dap",
            "--output",
            str(tmp_path),
        )
    )
    assert "dap cannot be had" in text and "--detector" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("toy:val?count=6", "parquet:{place}/nothing"), "SYNTHETIC: parquet:"),
        (
            ("toy:val?count=6", "toy:test", "--names", "dab"),
            "there is no score 'dab'; did you mean 'dap'?",
        ),
        (("toy:val?count=6", "tay:test"), "SYNTHETIC: unknown format 'tay'"),
        (
            ("toy:val?count=6", "toy:test", "--train", "no such"),
            "--train: 'no such' names no format",
        ),
        (
            ("toy:val?count=6", "toy:test", "--detector", "{place}/absent"),
            "--detector: there is no file",
        ),
        (("toy:val?count=6", "toy:test", "--detector", "{place}/job.yaml"), "--detector: "),
        (
            ("toy:val?count=6", "toy:test", "--weights", "{place}/absent"),
            "--weights: there is no folder",
        ),
    ],
)
def test_bad_words_are_one_line(
    place: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    filled = [word.format(place=place) for word in words]
    assert said in error_of(score(place, *filled, "--output", str(tmp_path)))


@pytest.mark.parametrize("name", ["dap", "segmentation"])
def test_a_class_that_the_job_misspells_is_one_line(place: Path, tmp_path: Path, name: str) -> None:
    wrong = CATEGORIES[0].name + "x"
    job = tmp_path / "job.yaml"
    job.write_text(f"data: {{labelled: 'toy:train'}}\nscore: {{{name}: {{classes: [{wrong}]}}}}\n")
    words = ["toy:val?count=2", "toy:test?count=2", "--names", name, "--job", str(job)]
    result = CliRunner().invoke(main, ["score", *words, "--output", str(tmp_path / "out")])
    said = f"score.{name}.classes: there is no class '{wrong}'; did you mean '{CATEGORIES[0].name}'"
    assert said in error_of(result)


def test_classes_are_put_in_order_by_name_or_refused() -> None:
    table = SceneList((Category(7, "cup"), Category(9, "cow")), [])
    wanted = (Category(1, "cow"), Category(2, "cup"))
    found = with_classes(table, wanted, "X: y")
    assert isinstance(found, RelabeledCategories) and found.index == (1, 0)
    assert with_classes(SceneList(wanted, []), wanted, "").categories == wanted
    with pytest.raises(
        Exception,
        match="X: y has the class 'cow', which is not among those of the real images; did you mean "
        "'cows'",
    ):
        with_classes(table, (Category(1, "cows"), Category(2, "cup")), "X: y")
