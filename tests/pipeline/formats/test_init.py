"""Formats by name: what a module lacks is one line, not a traceback."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS, can_write, load_format, splits_writer

CONFIG = (
    "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    {field}: str\n"
)
READ = "def read(config, root): ...\n"


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a format called `newcomer`, a module of its own name per test."""
    file = tmp_path / f"newcomer_{tmp_path.name}.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FORMATS, "newcomer", file.stem)
    return file


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_complete(name: str) -> None:
    assert load_format(name).read.__doc__


def test_a_complete_format_is_loaded(newcomer: Path) -> None:
    newcomer.write_text(CONFIG.format(field="path") + READ)
    assert load_format("newcomer").Config("x").path == "x"
    assert not can_write("newcomer")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (READ, "data: format 'newcomer' has no 'Config'; add it to {file}"),
        (CONFIG.format(field="path"), "data: format 'newcomer' has no 'read'; add it to {file}"),
        (
            CONFIG.format(field="file") + READ,
            "data: format 'newcomer' needs a Config that is a dataclass whose first field is "
            "'path'; correct it in {file}",
        ),
        (
            "class Config: ...\n" + READ,
            "data: format 'newcomer' needs a Config that is a dataclass whose first field is "
            "'path'; correct it in {file}",
        ),
        (
            "import no_such_library\n",
            "data: format 'newcomer' cannot be imported (No module named 'no_such_library'); "
            "install what is missing, or correct its line in pipeline/formats/__init__.py",
        ),
    ],
)
def test_what_is_forgotten_is_said_in_one_line(newcomer: Path, text: str, message: str) -> None:
    newcomer.write_text(text)
    with pytest.raises(JobError) as caught:
        load_format("newcomer")
    assert str(caught.value) == message.format(file=newcomer)


def test_an_unknown_name_is_suggested() -> None:
    with pytest.raises(JobError) as caught:
        load_format("cocoo", "data.labelled")
    assert str(caught.value) == "data.labelled: unknown format 'cocoo'; did you mean 'coco'?"


def test_formats_that_are_written_are_those_with_write() -> None:
    assert [name for name in FORMATS if can_write(name)] == [
        "cityscapes",
        "coco",
        "coco_panoptic",
        "hf",
        "lvis",
        "parquet",
        "voc",
        "yolo",
    ]


def test_a_format_writes_splits_by_itself_or_gets_a_folder_for_each(tmp_path: Path) -> None:
    def write(table: Any, out: Folder) -> None:
        out.write_bytes("rows", str(len(table)).encode())

    def write_splits(splits: Any, _out: Folder) -> Counter[str]:
        return Counter(dict.fromkeys(splits, 1))

    plain, own = ModuleType("plain"), ModuleType("own")
    vars(plain).update({"write": write})
    vars(own).update({"write": write, "write_splits": write_splits})
    splits: Any = {"train": [1, 2, 3], "val": []}
    assert Counter() == splits_writer(plain)(splits, Folder.at(tmp_path))
    assert b"3" == (tmp_path / "train" / "rows").read_bytes()
    assert b"0" == (tmp_path / "val" / "rows").read_bytes()
    assert {"train": 1, "val": 1} == splits_writer(own)(splits, Folder.at(tmp_path / "own"))
    assert not (tmp_path / "own").exists(), "it writes where it likes"
