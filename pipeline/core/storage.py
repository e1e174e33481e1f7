"""One folder, local or on S3, behind one small interface.

A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import parse_qsl

from pyarrow import fs

from synthaug.pipeline.core.errors import DatasetError, JobError, one_line

_CHUNK = 1 << 20
_PROBE = ".synthaug-probe"
_COPIERS = 16  # copies at once on an object store, each of which takes some 20 ms
_LARGEST_COPY = 5 * 2**30  # bytes that S3 copies by itself
# of a request to S3: waits of 0.05 s, 0.1 s and so on between them, 100 s in all
_ATTEMPTS = 12
_FIRST_WAIT = 0.05
_FULL = "Failed to flush response stream"  # what pyarrow says of an answer longer than asked for
_S3_WORDS = ("region", "scheme", "endpoint_override", "tls_ca_file_path")  # options of an address
_S3_FLAGS = ("anonymous", "allow_bucket_creation", "force_virtual_addressing")


def file_digest(path: str) -> str:
    """Return the hex sha256 of a local file that a job names; "" for no name."""
    if not path:
        return ""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Folder:
    """A folder, named by a local path or by `s3://bucket/prefix`.

    It need not exist before the first write.
    """

    filesystem: Any  # pyarrow.fs.FileSystem
    path: str  # absolute local path, or bucket/prefix
    query: str = ""  # connection options of an S3 address, e.g. "endpoint_override=...&scheme=http"

    @staticmethod
    def at(uri: str | Path) -> Folder:
        """Open the folder at a local path, `file://` or `s3://` address.

        Raises JobError for any other scheme.
        """
        text = str(uri)
        scheme, separator, rest = text.partition("://")
        if not separator or scheme == "file":
            local = Path(text.removeprefix("file://"))
            path = local.expanduser().absolute()
            return Folder(fs.LocalFileSystem(), str(path))
        if scheme != "s3":
            raise JobError(
                f"{text}: storage '{scheme}' is unknown; use a local folder or s3://bucket/prefix"
            )
        place, _, query = rest.partition("?")
        bucket = place.partition("/")[0]
        try:
            filesystem = _s3(bucket, query)
        except (OSError, ValueError) as err:
            raise JobError(
                f"{text}: not a usable S3 address ({one_line(err)}); write s3://bucket/prefix"
            ) from err
        return Folder(filesystem, place.rstrip("/"), query)

    def __reduce__(self) -> tuple[Any, ...]:
        # by its address: who opens it elsewhere has keys there, and they are never sent
        return Folder.at, (self.uri,)

    @property
    def is_local(self) -> bool:
        """True when the folder is on this machine's file system."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def uri(self) -> str:
        """The text that `Folder.at` turns into this folder again."""
        if self.is_local:
            return self.path
        if not self.query:
            return f"s3://{self.path}"
        return f"s3://{self.path}?{self.query}"

    def split(self) -> tuple[Folder, str]:
        """Return (this folder, ""), or (its parent, its name) when it is a file."""
        info = self.filesystem.get_file_info(self.path)
        if info.type != fs.FileType.File:
            return self, ""
        parent, _, name = self.path.rpartition("/")
        return replace(self, path=parent or "/"), name

    def sub(self, name: str) -> Folder:
        """Return a folder inside this one."""
        return replace(self, path=self.path_of(name))

    def create(self) -> Folder:
        """Make a local folder that may stay empty, and return it.

        On S3 there are no folders.
        """
        if self.is_local:
            self.local_path().mkdir(parents=True, exist_ok=True)
        return self

    def read_bytes(self, name: str) -> bytes:
        """Return a whole file; raises FileNotFoundError when there is none."""
        with self.open_input(name) as file:
            return bytes(file.read())

    def write_bytes(self, name: str, data: bytes, durable: bool = True) -> None:
        """Write a whole file at once.

        `durable=False` spares the disk flush where a later file vouches for this one.
        """
        with self.atomic_output(name, durable) as out:
            out.write(data)

    def read_json(self, name: str) -> Any:
        """Return a parsed JSON file; raises DatasetError when it is no valid JSON."""
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as err:
            raise DatasetError(
                f"{self.path_of(name)}: not valid JSON ({err}); restore or delete the file"
            ) from err

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON with sorted keys.

        NaN is no JSON and raises ValueError, so say None and why.
        """
        text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
        self.write_bytes(name, f"{text}\n".encode())

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder of this name."""
        entry = self.filesystem.get_file_info(self.path_of(name))
        return bool(entry.type != fs.FileType.NotFound)

    def names(self) -> list[str]:
        """Return the sorted names of the files directly inside.

        There are none when the folder does not exist.
        """
        return sorted(entry.base_name for entry in self._entries(fs.FileType.File))

    def sizes(self) -> dict[str, int]:
        """Return the files directly inside with their sizes in bytes; one listing."""
        return {entry.base_name: entry.size for entry in self._entries(fs.FileType.File)}

    def folders(self) -> list[str]:
        """Return the sorted names of the folders directly inside."""
        return sorted(entry.base_name for entry in self._entries(fs.FileType.Directory))

    def changed(self) -> int:
        """Return when a file directly inside was last written, in ns; 0 without any."""
        times = [entry.mtime_ns for entry in self._entries(fs.FileType.File)]
        return max((time for time in times if time is not None), default=0)

    def _entries(self, kind: Any) -> list[Any]:
        """Return what is directly inside, of one kind; nothing if there is no folder."""
        inside = fs.FileSelector(self.path, allow_not_found=True)
        entries = self.filesystem.get_file_info(inside)
        return [entry for entry in entries if entry.type == kind]

    def size(self, name: str) -> int:
        """Return the bytes of a file; raises FileNotFoundError when there is none."""
        entry = self.filesystem.get_file_info(self.path_of(name))
        if entry.type != fs.FileType.File:
            raise FileNotFoundError(f"{self.path_of(name)}: there is no such file")
        return int(entry.size)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path_of(name))

    def sweep(self) -> int:
        """Remove the temporary files of killed writers.

        Returns how many there were. Call it while nobody is writing.
        """
        names = self.names()
        leftovers = [name for name in names if name.endswith(".tmp")]
        for name in leftovers:
            self.delete(name)
        return len(leftovers)

    def open_input(self, name: str) -> Any:
        """Open a file for seekable reading (with the methods of a pyarrow file).

        Raises FileNotFoundError when there is none.
        """
        file = self.filesystem.open_input_file(self.path_of(name))
        return file if self.is_local else _PatientFile(file)

    @contextlib.contextmanager
    def atomic_output(self, name: str, durable: bool = True) -> Iterator[IO[bytes]]:
        """Yield a binary file that takes its final name when the block ends well."""
        target = self.path_of(name)
        if self.is_local:
            with _atomic_file(Path(target), durable) as out:
                yield out
            return
        # A stream to S3 that is dropped half way still becomes an object, so nothing is sent
        # before all is known, and then by one call, which no signal ends half way.
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.flush()
            with _whole(spool) as content, self.filesystem.open_output_stream(target) as remote:
                remote.write(content)

    @contextlib.contextmanager
    def atomic_path(self, name: str) -> Iterator[Path]:
        """Yield a path to write to, for libraries that open files themselves.

        The rest is as in `atomic_output`.
        """
        with tempfile.TemporaryDirectory(dir=self.scratch_place()) as scratch:
            path = Path(scratch) / PurePosixPath(name).name
            yield path
            with path.open("rb") as written, self.atomic_output(name) as out:
                shutil.copyfileobj(written, out, _CHUNK)

    def scratch_place(self) -> str | None:
        """Return where temporary files go: None for TMPDIR, else this folder."""
        try:
            tempfile.gettempdir()
        except FileNotFoundError:
            if self.is_local:
                Path(self.path).mkdir(parents=True, exist_ok=True)
                return self.path
            raise
        return None

    @contextlib.contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """Yield a path to read from, for libraries that open files themselves.

        It is the file itself where that is local.
        """
        if self.is_local:
            yield self.local_path(name)
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / PurePosixPath(name).name
            path.write_bytes(self.read_bytes(name))
            yield path

    def local_path(self, name: str = "") -> Path:
        """Return the path of a file, or of the folder itself; JobError on S3.

        It is for libraries that know only paths.
        """
        if not self.is_local:
            raise JobError(f"{self.uri}: this needs a local folder; choose one")
        if not name:
            return Path(self.path)
        return Path(self.path_of(name))

    def sha256(self, name: str) -> str:
        """Return the hex digest of a file's bytes, read in pieces."""
        digest = hashlib.sha256()
        with self.open_input(name) as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
        return digest.hexdigest()

    def path_of(self, name: str) -> str:
        """Return the full path of a relative name.

        Raises JobError for one that would leave the folder.
        """
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\0" in name:
            raise JobError(
                f"{self.uri}: {name!r} is not a name inside this folder; "
                "use a relative name without '..'"
            )
        folder = self.path.rstrip("/")
        return "/".join((folder, *parts))


@lru_cache(maxsize=64)
def _s3(bucket: str, query: str) -> Any:
    """Return the file system of a bucket, with the options of an address.

    Raises OSError or ValueError where they are of no use.
    """
    if not bucket or "@" in bucket:
        raise ValueError("it names no bucket, or a key: keys come from the environment")
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, strict_parsing=bool(query)):
        if name in _S3_WORDS:
            options[name] = value
        elif name in _S3_FLAGS:
            options[name] = value == "true"
        else:
            known = ", ".join((*_S3_WORDS, *_S3_FLAGS))
            raise ValueError(f"option '{name}' is unknown; known are {known}")
    if not options.keys() & {"region", "endpoint_override"}:
        options["region"] = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        **options,
        allow_delayed_open=True,  # so that a small object is one PUT instead of an upload in parts
        background_writes=False,  # else all parts of a large one are in memory at once
        # AWS's other strategy gives up for good after some hundred failures of a process
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


class _PatientFile:
    """Reads an object on S3, and again where pyarrow takes a failure for an end.

    It does where the failure is told in more bytes than were to be read: it sees a stream that is
    full, and not that it may ask again.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> _PatientFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def close(self) -> None:
        self._file.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def size(self) -> int:
        return int(self._file.size())

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, position: int, whence: int = 0) -> int:
        return int(self._file.seek(position, whence))

    def read(self, size: int | None = None) -> bytes:
        begin = self.tell()
        left = self.size() - begin
        if size is None or size < 0 or size > left:
            size = left
        data = self.read_at(size, begin)
        self.seek(begin + len(data))
        return data

    def read_at(self, size: int, offset: int) -> bytes:
        for attempt in range(_ATTEMPTS):
            try:
                return bytes(self._file.read_at(size, offset))
            except OSError as err:
                if _FULL not in str(err) or attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(_FIRST_WAIT * 2**attempt)
        raise AssertionError


@contextlib.contextmanager
def _whole(file: IO[bytes]) -> Iterator[Any]:
    """Yield all bytes of a file at once; memory holds those that are looked at."""
    if not os.fstat(file.fileno()).st_size:
        yield b""  # which cannot be mapped
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


@contextlib.contextmanager
def _atomic_file(path: Path, durable: bool) -> Iterator[IO[bytes]]:
    """Yield a temporary file that becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with contextlib.ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        with temporary.open("wb") as out:
            yield out
            out.flush()
            if durable:
                os.fsync(out.fileno())
        temporary.replace(path)
        undo.pop_all()
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(uri: str) -> None:
    """Write and remove a probe file; JobError when that fails.

    Leaves no folder behind that was not there.
    """
    folder = Folder.at(uri)
    path = Path(folder.path)
    created = []
    if folder.is_local:
        folders = (path, *path.parents)
        created = [parent for parent in folders if not parent.exists()]
    try:
        if folder.is_local and path.is_file():
            raise NotADirectoryError(0, "it is a file, not a folder")
        folder.write_bytes(_PROBE, bytes(4096))
        folder.delete(_PROBE)
    except OSError as err:
        raise JobError(
            f"output: cannot write to {uri}: {one_line(err)}; choose another folder with --output"
        ) from err
    finally:
        for empty in created:
            with contextlib.suppress(OSError):
                empty.rmdir()


def inside(folder: Path, name: str, follow: bool = False) -> tuple[Path, int]:
    """Return path and size in bytes of the file that a data file calls `name`.

    The name is relative to a resolved folder. Raises PermissionError when the name is absolute or
    leaves the folder, also through symbolic links unless `follow`, and FileNotFoundError when there
    is no such ordinary file (a pipe or a device would hang the reader).
    """
    shown = repr(name) if len(name) <= _LONGEST_TOLD else f"{name[:_LONGEST_TOLD]!r}..."
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise PermissionError(f"{shown} is absolute or leaves {folder}")
    path = folder / name
    try:
        real = path.resolve()
        leaves = not (follow or real.is_relative_to(folder))
        info = None if leaves else real.stat()
    except (OSError, RuntimeError, ValueError) as err:
        raise FileNotFoundError(f"{shown} is not in {folder}{_near(name)}") from err
    if info is None:
        raise PermissionError(f"{shown} leaves {folder} through a link; links=follow allows that")
    if not stat.S_ISREG(info.st_mode):
        raise FileNotFoundError(f"{shown} is no ordinary file in {folder}")
    return path, info.st_size


_LONGEST_TOLD = 200  # characters of a name in a message


def _near(name: str) -> str:
    """Return what may be wrong with a name of which there is no file."""
    if "\\" in name:
        return " (it is written with backslashes)"
    if "%20" in name or "/?d=" in name:
        return " (it is written as an address of the web)"
    if "://" in name:
        return " (nothing is fetched from the web)"
    return ""


def link_all(source: Folder, target: Folder, names: list[str]) -> None:
    """Link or copy files that are not there yet or differ.

    On an object store all are copied, several at once, by the store itself where it can.
    """
    if source.is_local and target.is_local:
        for name in names:
            _link(source.local_path(name), target.local_path(name))
        return
    with ThreadPoolExecutor(_COPIERS) as copiers:
        for _ in copiers.map(partial(_copy, source, target), names):
            pass  # an error of one is raised here


def _copy(source: Folder, target: Folder, name: str) -> None:
    """Copy a file; an object store needs no bytes of it to come here and go back."""
    is_one_store = source.filesystem == target.filesystem
    if is_one_store and source.size(name) <= _LARGEST_COPY:
        source.filesystem.copy_file(source.path_of(name), target.path_of(name))
        return
    with source.open_input(name) as content, target.atomic_output(name) as out:
        shutil.copyfileobj(content, out, _CHUNK)


def _link(old: Path, new: Path) -> None:
    """Link a local file, or copy it where links cannot be, unless it is there already."""
    if new.exists() and new.samefile(old):
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    temporary = new.with_name(f"{new.name}.{os.getpid()}.tmp")
    try:
        os.link(old, temporary)
    except OSError:  # another file system, or one without links
        temporary.write_bytes(old.read_bytes())
    temporary.replace(new)
