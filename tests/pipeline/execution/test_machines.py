"""A machine that sees another folder, or has other versions, is named before anything is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.execution.machines import (
    PACKAGES,
    View,
    compare,
    some_images,
    versions,
    view_of,
)


def test_a_view_has_the_file_and_the_versions(tmp_path: Path) -> None:
    nothing = view_of(str(tmp_path), "job.yaml")
    assert nothing.digest == ""
    (tmp_path / "job.yaml").write_text("seed: 1")
    one = view_of(str(tmp_path), "job.yaml")
    assert len(one.digest) == 64
    (tmp_path / "job.yaml").write_text("seed: 2")
    assert view_of(str(tmp_path), "job.yaml").digest != one.digest
    assert set(one.versions) == {"Python", *PACKAGES}
    assert "+" not in one.versions["torch"]
    assert one.versions["synthaug"] != "none"


def test_machines_that_see_the_same_pass() -> None:
    compare(View("a", versions()), View("a", versions()), "10.0.0.7", "/runs/x", "job.yaml")


def test_another_folder_is_told() -> None:
    with pytest.raises(JobError) as told:
        compare(View("a", {}), View("", {}), "10.0.0.7", "/runs/x", "job.yaml")
    assert str(told.value).startswith("output: machine 10.0.0.7 does not see job.yaml in /runs/x")
    assert "s3://bucket/prefix" in str(told.value)


@pytest.mark.parametrize("there", [{"torch": "2.11.0"}, {}])
def test_another_version_is_told(there: dict[str, str]) -> None:
    with pytest.raises(JobError) as told:
        compare(View("a", {"torch": "2.12.0"}), View("a", there), "10.0.0.7", "/x", "job.yaml")
    other = there.get("torch", "none")
    assert f"machine 10.0.0.7 has torch {other}, this one 2.12.0; install" in str(told.value)


def test_an_image_that_a_machine_does_not_see_is_told(tmp_path: Path) -> None:
    there, gone = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    Path(there).touch()
    assert view_of(str(tmp_path), "job.yaml", [there, gone]).missing == (gone,)
    here = View("a", {})
    with pytest.raises(JobError) as told:
        compare(here, View("a", {}, (gone,)), "10.0.0.7", "/x", "job.yaml")
    assert str(told.value).startswith(f"data.root: machine 10.0.0.7 does not see the image {gone};")
    compare(replace(here, missing=(gone,)), View("a", {}, (gone,)), "10.0.0.7", "/x", "job.yaml")


def test_the_ends_of_each_table_stand_for_its_images(tmp_path: Path) -> None:
    def scene(image: ImageRef) -> Scene:
        return Scene("i", 4, 4, image, Objects.build([], []))

    files = [scene(ImageRef(path=str(tmp_path / f"{number}.png"))) for number in range(3)]
    stored = [scene(ImageRef(b"png", "c.png"))]
    tables = [SceneList((), scenes) for scenes in (files, stored, [], files[:1])]
    names = [Path(path).name for path in some_images(tables)]
    assert names == ["0.png", "2.png", "0.png"]


def test_alone_there_is_nothing_to_check(tmp_path: Path) -> None:
    SerialExecutor().check_machines(Folder.at(str(tmp_path)), "missing.yaml")
