"""Zip archives as folders: files are read where they lie, none is unpacked.

Annotation tools hand out zip files. `located` turns a path that leads into one into an
`ArchivePath`, which readers use like any other path. What is read is bounded before it is read:
the list of names, and each file by its declared size, which inflating never exceeds.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PosixPath, PurePosixPath
from threading import Lock
from typing import IO, Any

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import ImageRef

SUFFIX = ".zip"
_MOST_NAMES = 64 << 20  # bytes of an archive's list of names: half a million files
_LARGEST = 1 << 30  # bytes of one file
_SMALL = 16 << 20  # bytes up to which any ratio will do
_RATIO = 200  # by which a larger file may grow: annotations reach 50, a bomb 1000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # these are inflated piece by piece
_ENCRYPTED = 0x1
_END_SIZE = 22  # bytes of the end record, without its comment
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_TAIL = 22 + 65535 + 20 + 56  # bytes in which the end records of an archive lie
_OPEN = 8  # archives kept open


def located(root: Path, name: str) -> Path:
    """Return a path below `root`, inside an archive where it leads into one.

    An archive that holds nothing but one folder stands for that folder. Raises DatasetError for an
    archive that cannot be read, or is not safe to read.
    """
    path = root / name
    file = _archive_of(str(path))
    if file is None:
        return path
    inner = PurePosixPath(path).relative_to(file)
    found = ArchivePath(file.resolve()) / inner
    if inner.parts:
        return found
    tops = [top for top in found.iterdir() if top.name != "__MACOSX"]
    if len(tops) == 1 and tops[0].is_dir():
        return tops[0]
    return found


def image_ref(path: Path, turned: str = "", name: str = "") -> ImageRef:
    """Return an image by its path, or by its bytes where it lies in an archive.

    `name` is what its set calls the file.
    """
    if not isinstance(path, ArchivePath):
        return ImageRef(None, str(path), turned, name)
    try:
        return ImageRef(path.read_bytes(), str(path), turned, name)
    except OSError as err:
        raise DatasetError(
            f"{path}: the image cannot be read ({one_line(err)}); pack the archive again"
        ) from err


class ArchivePath(PosixPath):
    """The path of a file or folder in an archive: `export.zip/images/1.jpg`.

    It has the reading methods of a path. There are no links in an archive, and nothing above it.
    """

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return kind and size; FileNotFoundError where there is no such file."""
        archive, name = self._place()
        if name in archive.folders:
            return _stat(stat.S_IFDIR, 0)
        return _stat(stat.S_IFREG, archive.info(self, name).file_size)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such a file or folder."""
        archive, name = self._place()
        return name in archive.folders or name in archive.files

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a file."""
        archive, name = self._place()
        return name in archive.files

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""
        archive, name = self._place()
        return name in archive.folders

    @property
    def is_inside(self) -> bool:
        """Whether it is below the archive, and not the archive itself."""
        _, name = self._place()
        return bool(name)

    def is_symlink(self) -> bool:
        """Return False: an archive with links is refused."""
        return False

    def resolve(self, strict: bool = False) -> ArchivePath:
        """Return the path itself."""
        return self

    def iterdir(self) -> Generator[ArchivePath, None, None]:
        """Yield what a folder holds, by name."""
        archive, name = self._place()
        for child in sorted(archive.folders.get(name, ())):
            yield self / child

    def glob(self, pattern: str) -> Generator[ArchivePath, None, None]:  # type: ignore[override,unused-ignore]
        """Yield what a folder holds whose name fits a pattern of one part."""
        for path in self.iterdir():
            if fnmatch.fnmatchcase(path.name, pattern):
                yield path

    def rglob(self, pattern: str) -> Generator[ArchivePath, None, None]:  # type: ignore[override,unused-ignore]
        """Yield what lies at any depth below and whose name fits."""
        for path in self.iterdir():
            if fnmatch.fnmatchcase(path.name, pattern):
                yield path
            if path.is_dir():
                yield from path.rglob(pattern)

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:  # type: ignore[override]
        """Open a file for reading bytes."""
        assert mode == "rb", "files of archives are read as bytes"
        archive, name = self._place()
        return archive.open(self, name)

    def read_bytes(self) -> bytes:
        """Return the content of a file; OSError where it is broken."""
        with self.open("rb") as file:
            data: bytes = file.read()
        return data

    def _place(self) -> tuple[_Archive, str]:
        """Return the archive that the path leads into, and its name there."""
        text = str(self)
        file = _archive_of(text)
        if file is None:
            raise DatasetError(f"{text}: its archive is not there any more; restore it")
        name = text[len(str(file)) + 1 :]
        info = file.stat()
        version = _Version(str(file), info.st_size, info.st_mtime_ns, os.getpid())
        return _opened(version), name


class _Archive:
    """An open archive: the names of its files and folders."""

    def __init__(self, path: str) -> None:
        """Read and check the list of names; DatasetError for what is not safe."""
        self._path = path
        self._lock = Lock()
        try:
            self._check_end()
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as err:
            raise DatasetError(
                f"{path}: no zip archive that can be read ({one_line(err)}); copy or pack it again"
            ) from err
        self.files: dict[str, zipfile.ZipInfo] = {}
        self.folders: dict[str, set[str]] = {"": set()}  # name -> names in it
        for info in self._zip.infolist():
            self._add(info)
        for name in self.files:
            if name in self.folders:
                raise self._refused(name, "is a file and a folder")

    def info(self, path: Path, name: str) -> zipfile.ZipInfo:
        """Return the record of a file."""
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self.files[name]

    def open(self, path: Path, name: str) -> IO[bytes]:
        """Open a file; OSError where there is none, or it is too large."""
        info = self.info(path, name)
        if info.flag_bits & _ENCRYPTED:
            raise OSError(f"{name} is encrypted: pack it without a password")
        if info.compress_type not in _METHODS:
            raise OSError(f"{name} is packed by method {info.compress_type}: pack it by deflate")
        is_bomb = info.file_size > max(_SMALL, _RATIO * info.compress_size)
        if info.file_size > _LARGEST or is_bomb:
            raise OSError(f"{name} would become {info.file_size} bytes out of {info.compress_size}")
        with self._lock:
            member = _reading(self._zip.open, info)
        return io.BufferedReader(_Pieces(member))

    def _check_end(self) -> None:
        """Raise ValueError where the list of names is too long to be held."""
        with Path(self._path).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read()
        end = tail.rfind(_END)
        if end < 0 or end + _END_SIZE > len(tail):
            raise ValueError("its end is missing")
        (size,) = struct.unpack_from("<I", tail, end + 12)
        end_64 = tail.rfind(_END_64)
        if size == 0xFFFFFFFF and end_64 >= 0:
            (size,) = struct.unpack_from("<Q", tail, end_64 + 40)
        if size > _MOST_NAMES:
            raise ValueError("it lists too many files")

    def _add(self, info: zipfile.ZipInfo) -> None:
        """Take a file or folder into the lists."""
        name = info.filename.removesuffix("/")
        parts = name.split("/")
        is_drive = len(parts[0]) == 2 and parts[0].endswith(":")
        if not name or is_drive or "\0" in name or {"", ".", ".."} & set(parts):
            raise self._refused(info.filename, "leaves the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise self._refused(name, "is a link")
        for depth in range(len(parts)):
            inner = self.folders.setdefault("/".join(parts[:depth]), set())
            inner.add(parts[depth])
        if info.is_dir():
            self.folders.setdefault(name, set())
            return
        if name in self.files:
            raise self._refused(name, "is there twice")
        self.files[name] = info

    def _refused(self, name: str, why: str) -> DatasetError:
        return DatasetError(f"{self._path}: its file {name[:200]!r} {why}; pack the archive again")


class _Pieces(io.RawIOBase):
    """A file of an archive, inflated in pieces no longer than what is asked for."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = _reading(self._member.read, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place: int = _reading(self._member.seek, offset, whence)
        return place

    def tell(self) -> int:
        return self._member.tell()

    def close(self) -> None:
        self._member.close()
        super().close()


def _reading(call: Any, *arguments: Any) -> Any:
    """Return what a call returns; OSError where the archive is broken there."""
    try:
        return call(*arguments)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as err:
        raise OSError(f"broken in its archive: {one_line(err)}") from err


def _stat(kind: int, size: int) -> os.stat_result:
    return os.stat_result((kind | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))


def _archive_of(path: str) -> Path | None:
    """Return the archive that a path leads into: its first part that is a zip file."""
    at = path.lower().find(SUFFIX)
    while at >= 0:
        end = at + len(SUFFIX)
        if path[end : end + 1] in ("", "/") and Path(path[:end]).is_file():
            return Path(path[:end])
        at = path.lower().find(SUFFIX, end)
    return None


@dataclass(frozen=True)
class _Version:
    """What tells an archive from another at its place.

    Forked processes would share the place in an open file, so each opens its own.
    """

    path: str
    size: int
    changed: int
    process: int


@lru_cache(_OPEN)
def _opened(version: _Version) -> _Archive:
    return _Archive(version.path)
