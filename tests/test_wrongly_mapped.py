"""The command of Fig. 4 on maps whose wrongly mapped features can be counted by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks import wrongly_mapped
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.masks import encode_with_boxes
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.synthesis.pseudo_maps import with_composed_map
from tests.paths import JOBS

SIDE = 64
CLASSES = (
    Category(1, "sky", isthing=False),
    Category(2, "sea", isthing=False),
    Category(3, "gull"),
)


def scene_of(name: str, labels: np.ndarray, has_map: bool = True) -> Scene:
    """Return a scene whose every pixel belongs to a segment of its class."""
    shown = np.unique(labels)
    masks = np.stack([labels == label for label in shown])
    rles, boxes = encode_with_boxes(masks)
    isthing = [CLASSES[label].isthing for label in shown]
    objects = Objects.build(
        shown, boxes, rle=tuple(rles), area=masks.sum((1, 2)), isthing=np.array(isthing)
    )
    image = ImageRef(encode(np.zeros((*labels.shape, 3), np.uint8), "png"))
    scene = Scene(name, *labels.shape, image, objects)
    return with_composed_map(scene) if has_map else scene


def maps() -> list[Scene]:
    """Return a map of halves, one of a single class, one with a gull of a pixel, and none."""
    halves = np.zeros((SIDE, SIDE), int)
    halves[:, 33:] = 1
    plain = np.zeros((SIDE, SIDE), int)
    gull = plain.copy()
    gull[5, 5] = 2
    return [
        *(scene_of("halves", halves), scene_of("plain", plain), scene_of("gull", gull)),
        scene_of("no map", halves, has_map=False),
    ]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the words of a job whose validation images are those maps."""
    folder = tmp_path_factory.mktemp("maps")
    parquet.write(SceneList(CLASSES, maps()), Folder.at(folder / "val"))
    parquet.write(SceneList(CLASSES, maps()[1:2]), Folder.at(folder / "train"))
    size = ["generator.resolution=64", "generator.aspect_ratio=1"]
    return [
        f"data.root={folder}",
        "data.labelled=parquet:train",
        "data.validation=parquet:val",
        *size,
    ]


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["wrongly_mapped", str(JOBS / "panoptic.yaml"), *words])
        wrongly_mapped.main()
    return capsys.readouterr().out.splitlines()


def test_every_doubling_has_its_shares(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of halves one column of the right one lies, at every doubling, where the left one was.

    It is one of the new columns: of a side s that makes s of 3 s^2 / 4 new features, in one map of
    three. At 2 x 2 the right half is nowhere yet (columns 0 and 32 are seen), so all of it is a
    hole. The gull is new at the last doubling alone, and none of its neighbours was one before.
    """
    lines = told(words, capsys)
    assert lines[0] == "3 maps; shares of the new features"
    assert lines[4:] == [
        "| 4 x 4 | 11.1% | 33.3% | 11.1% |",
        "| 8 x 8 | 5.6% | 16.7% | 0.0% |",
        "| 16 x 16 | 2.8% | 8.3% | 0.0% |",
        "| 32 x 32 | 1.4% | 4.2% | 0.0% |",
        "| 64 x 64 | 0.7% | 2.1% | 0.0% |",
    ]


def test_a_pixel_that_was_nowhere_before_is_a_hole(words: list[str]) -> None:
    found = wrongly_mapped.rows(str(JOBS / "panoptic.yaml"), words)
    new = SIDE**2 - (SIDE // 2) ** 2
    last = [of_image[-1] for of_image in found]
    assert [one.size for one in last] == [(SIDE, SIDE)] * 3
    assert [round(one.wrong * new) for one in last] == [SIDE, 0, 1]
    assert [round(one.holes * new) for one in last] == [0, 0, 1]


def test_without_validation_images_the_labelled_ones_are_read(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told([*words, "data.validation="], capsys)
    assert lines[0].startswith("1 maps")
    assert lines[-1] == "| 64 x 64 | 0.0% | 0.0% | 0.0% |"


def test_a_command_without_a_job_tells_how_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["wrongly_mapped"])
    with pytest.raises(SystemExit, match=r"python -m benchmarks\.wrongly_mapped"):
        wrongly_mapped.main()
