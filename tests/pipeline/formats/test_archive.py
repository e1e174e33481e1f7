"""Archives: read where they lie, the same as folders; what is not safe is one line."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.archive import ArchivePath, located
from synthaug.pipeline.formats.reference import open_dataset
from tests.hard_scenes import differences
from tests.pipeline.formats.samples import Thing, sample_table, write_sample

THINGS = [Thing((3, 4, 13, 24)), Thing((20, 2, 30, 9), 1)]
ZIPPED = ("coco", "coco_panoptic", "lvis", "yolo", "voc", "labelme", "label_studio", "cvat")


def packed(folder: Path, archive: Path, top: str = "") -> Path:
    """Pack a folder, as annotation tools do, below a folder `top`."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                out.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return archive


def archive_of(tmp_path: Path, **files: bytes) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ZIPPED)
@pytest.mark.parametrize("top", ["", "my export/"], ids=["bare", "in a folder"])
def test_a_zip_is_read_like_the_folder_it_was_made_of(name: str, top: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    reference = write_sample(name, sample_table(THINGS, [], THINGS), folder)
    plain = list(open_dataset(reference, folder))
    packed(folder, tmp_path / "set.zip", top)
    at = reference.partition(":")[2].partition("?")[0]
    inner = f"set.zip/{top}{at}".removesuffix("/.")
    zipped_reference = reference.replace(f":{at}", f":{inner}", 1)
    zipped_reference = zipped_reference.replace("classes=", f"classes=set.zip/{top}")
    before = sorted(tmp_path.rglob("*"))
    zipped = list(open_dataset(zipped_reference, tmp_path))
    assert len(zipped) == len(plain) == 3
    for mine, theirs in zip(zipped, plain, strict=True):
        assert not differences(mine, theirs)
        assert mine.image.data is not None
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked


def test_paths_in_an_archive_are_paths(tmp_path: Path) -> None:
    file = archive_of(tmp_path, **{"a/b/1.txt": b"one", "a/2.png": b"two", "c.txt": b""})
    root = located(tmp_path, "a.zip")
    assert isinstance(root, ArchivePath)
    assert sorted(path.name for path in root.iterdir()) == ["a", "c.txt"]
    inner = root / "a" / "b" / "1.txt"
    assert inner.is_file() and not inner.is_dir() and inner.exists()
    assert (root / "a").is_dir()
    assert not (root / "nothing").exists()
    assert inner.stat().st_size == 3
    assert inner.read_bytes() == b"one"
    assert [path.name for path in root.rglob("*.txt")] == ["1.txt", "c.txt"]
    assert [path.name for path in (root / "a").glob("*.png")] == ["2.png"]
    assert inner.relative_to(root).as_posix() == "a/b/1.txt"
    assert str(inner) == f"{file}/a/b/1.txt"
    assert pickle.loads(pickle.dumps(inner)).read_bytes() == b"one"
    with pytest.raises(FileNotFoundError):
        (root / "nothing").stat()


def test_an_archive_of_one_folder_is_that_folder(tmp_path: Path) -> None:
    archive_of(tmp_path, **{"top/1.txt": b"1", "__MACOSX/top/._1.txt": b""})
    assert (located(tmp_path, "a.zip") / "1.txt").is_file()


def test_a_folder_called_like_an_archive_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()
    assert not isinstance(located(tmp_path, "a.zip"), ArchivePath)


@pytest.mark.parametrize("name", ["../up.png", "/etc/up.png", "a/../../up.png", "C:/up.png"])
def test_a_name_that_leaves_the_archive_is_refused(name: str, tmp_path: Path) -> None:
    archive_of(tmp_path, **{"1.png": b"", name: b"x"})
    with pytest.raises(DatasetError, match="leaves the archive; pack the archive again"):
        open_dataset("images:a.zip", tmp_path)


def test_links_and_names_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as out:
        info = zipfile.ZipInfo("1.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(info, "/etc/passwd")
    with pytest.raises(DatasetError, match=r"'1.png' is a link"):
        open_dataset("images:link.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as out:
        out.writestr("1.png", "a")
        with pytest.warns(UserWarning, match="Duplicate name"):
            out.writestr("1.png", "b")
    with pytest.raises(DatasetError, match=r"'1.png' is there twice"):
        open_dataset("images:twice.zip", tmp_path)


def test_a_file_that_would_become_too_large_is_not_inflated(tmp_path: Path) -> None:
    archive_of(tmp_path, **{"result.json": bytes(40 << 20)})
    with pytest.raises(DatasetError, match="would become 41943040 bytes out of 4"):
        open_dataset("coco:a.zip", tmp_path)


def test_a_file_that_lies_about_its_size_is_inflated_no_further(tmp_path: Path) -> None:
    """The lists say 1000 bytes, 40 MB would come out: no more than what is asked for ever does."""
    file = archive_of(tmp_path, **{"1.png": bytes(40 << 20)})
    data = file.read_bytes().replace(struct.pack("<I", 40 << 20), struct.pack("<I", 1000))
    file.write_bytes(data)
    with pytest.raises(OSError, match="broken in its archive"):
        (located(tmp_path, "a.zip") / "1.png").read_bytes()


def test_an_archive_that_lists_too_many_files_is_not_opened(tmp_path: Path) -> None:
    file = archive_of(tmp_path, **{"1.png": b"x"})
    data = bytearray(file.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 1 << 30)
    file.write_bytes(data)
    with pytest.raises(DatasetError, match="it lists too many files"):
        open_dataset("images:a.zip", tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all", b"PK\x05\x06" + bytes(9)])
def test_what_is_no_archive_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    reason = r"can be read \((its end is missing|File is not)"
    with pytest.raises(DatasetError, match=reason) as caught:
        open_dataset("coco:a.zip", tmp_path)
    assert "\n" not in str(caught.value)


def test_broken_encrypted_and_oddly_packed_files_are_named(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.effect_noise((400, 300), 90).save(png, "JPEG")
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("1.jpg", png.getvalue())
    good = file.read_bytes()
    middle = len(good) // 2
    file.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    scenes = open_dataset("images:a.zip", tmp_path)
    with pytest.raises(DatasetError, match=r"a.zip/1.jpg: the image cannot be read \(broken in"):
        scenes[0]
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_BZIP2) as out:
        out.writestr("1.jpg", png.getvalue())
    with pytest.raises(DatasetError, match="packed by method 12: pack it by deflate"):
        open_dataset("images:b.zip", tmp_path)
    encrypted = bytearray(good)
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        encrypted[encrypted.find(mark) + flags] |= 1
    (tmp_path / "c.zip").write_bytes(encrypted)
    with pytest.raises(DatasetError, match="is encrypted: pack it without a password"):
        open_dataset("images:c.zip", tmp_path)


def test_an_archive_that_changes_is_read_again(tmp_path: Path) -> None:
    archive_of(tmp_path, **{"1.txt": b"1"})
    path = located(tmp_path, "a.zip/1.txt")
    assert path.read_bytes() == b"1"
    file = archive_of(tmp_path, **{"1.txt": b"other"})
    os.utime(file, ns=(1, 1))
    assert path.read_bytes() == b"other"
