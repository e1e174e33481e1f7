"""One folder, local or on S3, behind one small interface.

A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pyarrow import fs

from synthaug.pipeline.core.errors import DatasetError, JobError, one_line

_CHUNK = 1 << 20
_PROBE = ".synthaug-probe"


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
        _, _, query = rest.partition("?")
        mark = "&" if query else "?"
        try:
            # so that a small object is one PUT instead of an upload in parts
            filesystem, prefix = fs.FileSystem.from_uri(f"{text}{mark}allow_delayed_open=true")
        except (OSError, ValueError) as err:
            raise JobError(
                f"{text}: not a usable S3 address ({one_line(err)}); write s3://bucket/prefix"
            ) from err
        return Folder(filesystem, prefix.rstrip("/"), query)

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
        return replace(self, path=self._inside(name))

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
        if self.is_local:
            with self.atomic_output(name, durable) as out:
                out.write(data)
            return
        with self.filesystem.open_output_stream(self._inside(name)) as out:
            out.write(data)

    def read_json(self, name: str) -> Any:
        """Return a parsed JSON file; raises DatasetError when it is no valid JSON."""
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as err:
            raise DatasetError(
                f"{self._inside(name)}: not valid JSON ({err}); restore or delete the file"
            ) from err

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON with sorted keys.

        NaN is no JSON and raises ValueError, so say None and why.
        """
        text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
        self.write_bytes(name, f"{text}\n".encode())

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder of this name."""
        entry = self.filesystem.get_file_info(self._inside(name))
        return bool(entry.type != fs.FileType.NotFound)

    def names(self) -> list[str]:
        """Return the sorted names of the files directly inside.

        There are none when the folder does not exist.
        """
        return sorted(entry.base_name for entry in self._entries(fs.FileType.File))

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

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self._inside(name))

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
        """Open a file for seekable reading (a pyarrow file).

        Raises FileNotFoundError when there is none.
        """
        return self.filesystem.open_input_file(self._inside(name))

    @contextlib.contextmanager
    def atomic_output(self, name: str, durable: bool = True) -> Iterator[IO[bytes]]:
        """Yield a binary file that takes its final name when the block ends well."""
        target = self._inside(name)
        if self.is_local:
            with _atomic_file(Path(target), durable) as out:
                yield out
            return
        # A stream to S3 that is dropped half way still becomes an object, so nothing is sent
        # before all is known.
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.seek(0)
            with self.filesystem.open_output_stream(target) as remote:
                shutil.copyfileobj(spool, remote, _CHUNK)

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
        return Path(self._inside(name))

    def sha256(self, name: str) -> str:
        """Return the hex digest of a file's bytes, read in pieces."""
        digest = hashlib.sha256()
        with self.open_input(name) as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
        return digest.hexdigest()

    def _inside(self, name: str) -> str:
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
    """Link or copy files that are not there yet or differ."""
    for name in names:
        if not (source.is_local and target.is_local):
            target.write_bytes(name, source.read_bytes(name))
            continue
        old = source.local_path(name)
        new = target.local_path(name)
        if new.exists() and new.samefile(old):
            continue
        new.parent.mkdir(parents=True, exist_ok=True)
        temporary = new.with_name(f"{new.name}.{os.getpid()}.tmp")
        try:
            os.link(old, temporary)
        except OSError:  # another file system, or one without links
            temporary.write_bytes(old.read_bytes())
        temporary.replace(new)
