"""Files of a data set: only ordinary ones inside its folder, and named when they are not there."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.source_files import (
    OURS,
    check_shards,
    files_below,
    find_file,
    images_below,
    read_bytes,
    read_lines,
)
from synthaug.pipeline.formats.validation import RecordError


def test_a_file_is_found_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"12345")
    assert find_file(tmp_path, "sub/a.png", "image file") == (tmp_path / "sub" / "a.png", 5)


def test_a_missing_file_is_counted_under_its_kind(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        find_file(tmp_path, "a.png", "image file")
    assert caught.value.reason == "missing image file"
    assert caught.value.detail == f"its image file 'a.png' is not in {tmp_path}"
    with pytest.raises(RecordError) as caught:
        find_file(tmp_path, "a.png", "file", missing="missing map")
    assert caught.value.reason == "missing map"


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.png", "b/../../a.png"])
def test_a_name_that_leaves_the_folder_is_blamed_on_its_key(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(RecordError) as caught:
        find_file(inner, name, "image file", named_by="file_name")
    assert caught.value.reason == "unsafe file name"
    assert caught.value.detail == f"its file_name {name!r} is absolute or leaves {inner}"


def test_a_link_out_of_the_folder_and_a_folder_are_no_files(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "b.png").mkdir(parents=True)
    (tmp_path / "a.png").write_bytes(b"")
    (inner / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(RecordError, match=r"its map 'a\.png' leaves .* through a link"):
        find_file(inner, "a.png", "map")
    with pytest.raises(RecordError, match=r"its map 'b\.png' is no ordinary file"):
        find_file(inner, "b.png", "map")


def test_bytes_come_with_their_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\r\n")
    assert read_bytes(tmp_path / "a") == (b"x\r\n", hashlib.sha256(b"x\r\n").hexdigest())


def test_lines_are_stripped_and_blank_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"  one \r\n\n\ttwo\n  \nthree")
    assert read_lines(tmp_path / "a") == ["one", "two", "three"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_utf_8_or_what_its_mark_says(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_bytes("größe\n杯子".encode(encoding))
    assert read_lines(tmp_path / "a") == ["größe", "杯子"]


def test_text_of_another_encoding_is_named_with_its_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("größe".encode("latin-1"))
    with pytest.raises(DatasetError) as caught:
        read_lines(tmp_path / "a")
    assert str(caught.value) == (
        f"{tmp_path}/a: is no UTF-8 text (byte 0xf6 at 2); save it as UTF-8"
    )


def test_a_name_with_backslashes_is_found_but_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.png").write_bytes(b"123")
    found, num_bytes = find_file(tmp_path.resolve(), "in\\a b.png", "image file")
    assert (found, num_bytes) == (tmp_path / "in" / "a b.png", 3)
    with pytest.raises(RecordError, match="written with backslashes"):
        find_file(tmp_path.resolve(), "C:\\gone.png", "image file")
    with pytest.raises(RecordError, match="leaves"):
        find_file((tmp_path / "in").resolve(), "..\\in\\a b.png", "image file")


def test_a_link_out_of_the_set_is_followed_only_where_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.png").write_bytes(b"123")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "a.png")
    folder = (tmp_path / "in").resolve()
    with pytest.raises(RecordError, match="through a link; links=follow allows that"):
        find_file(folder, "b.png", "image file")
    assert find_file(folder, "b.png", "image file", follow=True) == (folder / "b.png", 3)
    with pytest.raises(RecordError, match="absolute or leaves"):
        find_file(folder, "../a.png", "image file", follow=True)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_lines(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path}/none: cannot be read (No such file or directory); check the path"
    )


@pytest.mark.parametrize(("on_disk", "told"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_marks_may_be_spelt_in_two_ways(
    tmp_path: Path, on_disk: str, told: str
) -> None:
    (tmp_path / unicodedata.normalize(on_disk, "größe.jpg")).write_bytes(b"12")
    path, size = find_file(tmp_path, unicodedata.normalize(told, "größe.jpg"), "image")
    assert (path.name, size) == (unicodedata.normalize(on_disk, "größe.jpg"), 2)
    both = tmp_path / unicodedata.normalize(told, "größe.jpg")
    both.write_bytes(b"123")
    assert find_file(tmp_path, both.name, "image") == (both, 3)  # its own spelling goes first


def test_another_spelling_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "set").mkdir()
    with pytest.raises(RecordError, match="leaves"):
        find_file(tmp_path / "set", "..\\a.jpg", "image")


@pytest.mark.parametrize(
    ("on_disk", "told"),
    [("a.jpg", "A.JPG"), ("Train/A.jpg", "train/a.jpg"), ("GRÖSSE.png", "größe.png")],
)
def test_a_name_in_other_capitals_is_refused_with_the_one_that_is_there(
    tmp_path: Path, on_disk: str, told: str
) -> None:
    file = tmp_path / on_disk
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"12")
    with pytest.raises(RecordError) as caught:
        find_file(tmp_path, told, "image file")
    assert "missing image file" == caught.value.reason
    hint = f"; there is {on_disk!r}, with other capitals: rename one of them"
    assert f"its image file {told!r} is not in {tmp_path}{hint}" == caught.value.detail


def test_no_hint_leads_out_of_the_folder_or_to_a_folder(tmp_path: Path) -> None:
    inner = tmp_path / "set"
    (inner / "B.jpg").mkdir(parents=True)
    (tmp_path / "a.jpg").write_bytes(b"")
    (inner / "A.jpg").symlink_to(tmp_path / "a.jpg")
    for name in ("a.jpg", "b.jpg", "c.jpg", "b.jpg/a.jpg"):
        with pytest.raises(RecordError) as caught:
            find_file(inner, name, "image")
        assert f"its image {name!r} is not in {inner}" == caught.value.detail


# --- the files of a folder ---


@pytest.mark.parametrize(
    "names",
    [
        ("job.yaml", "steps"),
        ("export.json", "README.md"),
        ("instances.json", "changes.txt"),
        ("metrics.json", "scores.html"),
        ("sheet.json", "images"),
    ],
)
def test_a_folder_that_synthaug_wrote_is_no_part_of_the_set_around_it(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    ours = tmp_path / "deep" / "ours"
    (ours / "more").mkdir(parents=True)
    for name in (*names, "b.png", "more/c.png"):
        (ours / name).write_bytes(b"")
    skipped = Skipped()
    assert ["a.png"] == images_below(tmp_path, tmp_path, False, skipped)
    assert {OURS: [str(ours)]} == skipped.names
    assert ["b.png", "more/c.png"] == images_below(ours, ours, False, Skipped())  # asked for
    (ours / names[1]).unlink()
    assert 3 == len(images_below(tmp_path, tmp_path, False, Skipped()))


def test_hidden_files_are_of_the_system(tmp_path: Path) -> None:
    """Other systems leave ._a.json beside a.json, .DS_Store, and folders of their own."""
    for name in ("a.json", "._a.json", ".DS_Store", ".git/b.json", "in/.c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = list(files_below(tmp_path, tmp_path, False, Skipped()))
    assert [tmp_path / "a.json"] == found


def test_a_link_that_leads_in_a_circle_is_a_file_to_be_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    assert ["a.png"] == images_below(tmp_path, tmp_path, False, Skipped())
    with pytest.raises(RecordError, match="is not in"):
        find_file(tmp_path, "a.png", "image file")


def test_files_of_a_download_that_stopped_are_missed() -> None:
    names = [f"data/train-{number:05d}-of-00003.parquet" for number in range(3)]
    others = ["data/test-00000-of-00001.parquet", "data/train-x.parquet", "part-00001.parquet"]
    check_shards("set", [*names, *others])
    with pytest.raises(DatasetError) as caught:
        check_shards("set", [names[1], *others])
    assert str(caught.value) == (
        "set: 2 of 3 files data/train-*-of-00003 are not there, data/train-00000-of-00003 among "
        "them; download them too"
    )
