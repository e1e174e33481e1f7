"""Files of a data set: found inside its folder, read as bytes or as lines."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.core.storage import inside
from synthaug.pipeline.formats.archive import ArchivePath
from synthaug.pipeline.formats.validation import RecordError


def find_file(
    folder: Path,
    name: str,
    kind: str,
    *,
    named_by: str = "",
    missing: str = "",
    follow: bool = False,
) -> tuple[Path, int]:
    """Return the path and size of a record's file, `name` in a resolved folder.

    The size is in bytes. The file may spell its name in another way (`spelling`). Links may lead
    out of the folder where `follow` says so. Raises RecordError where there is no such file
    (counted as `missing`, by default "missing" and its `kind`) or its name leaves the folder. In
    messages the file is called "its `kind`"; a wrong name is blamed on `named_by`, the key of the
    record that gives it.
    """
    if name.strip() in ("", "."):
        raise RecordError(
            missing or f"missing {kind}", f"its {named_by or kind} is {name!r}, no name of a file"
        )
    try:
        return inside(folder, spelling(folder, name), follow)
    except PermissionError as err:
        raise RecordError("unsafe file name", f"its {named_by or kind} {err}") from err
    except FileNotFoundError as err:
        called = kind if named_by in ("", "name") else f"{kind} (its {named_by})"
        detail = f"its {called} {err}{_in_other_capitals(folder, name, follow)}"
        raise RecordError(missing or f"missing {kind}", detail) from err


def spelling(folder: Path, name: str) -> str:
    """Return a name as the file in a folder is spelled.

    Windows writes backslashes; macOS takes letters with marks apart (NFD), other systems do not.
    """
    slashes = name.replace("\\", "/")
    others = [slashes, *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD"))]
    if all(other == name for other in others):
        return name
    for told in (name, *others):
        # a name that no file can have is reported when the file is opened
        with contextlib.suppress(OSError, ValueError):
            if (folder / told).exists():
                return told
    return name


def folded(name: str) -> str:
    """Return a name in small letters, those with marks spelt in one way."""
    return unicodedata.normalize("NFC", name).casefold()


def _in_other_capitals(folder: Path, name: str, follow: bool) -> str:
    """Return, for a message, the file of a name in other capitals; "" for none."""
    found = PurePosixPath()
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        there = _names_by_letters(folder / found).get(folded(part))
        if there is None:
            return ""
        found /= there
    try:
        inside(folder, str(found), follow)
    except OSError:
        return ""
    return f"; there is {str(found)[:200]!r}, with other capitals: rename one of them"


@lru_cache(64)
def _names_by_letters(folder: Path) -> dict[str, str]:
    """Return the names in a folder by themselves in small letters."""
    try:
        return {folded(path.name): path.name for path in folder.iterdir()}
    except OSError:
        return {}


def read_bytes(file: Path) -> tuple[bytes, str]:
    """Return the content of a file and its sha256."""
    try:
        data = file.read_bytes()
    except OSError as err:
        raise DatasetError(f"{file}: cannot be read ({one_line(err)}); check the path") from err
    return data, hashlib.sha256(data).hexdigest()


def read_text(file: Path) -> tuple[str, str]:
    """Return the text of a file and the sha256 of its bytes."""
    data, digest = read_bytes(file)
    try:
        return decoded(data), digest
    except ValueError as err:
        raise DatasetError(f"{file}: {err}; save it as UTF-8") from err


_MARKS = (  # byte-order marks, longer ones first
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(data: bytes) -> str:
    """Return bytes as text: UTF-8, or what a byte-order mark says.

    Raises ValueError that names the first byte which is no UTF-8.
    """
    encoding = "utf-8"
    for mark, name in _MARKS:
        if data.startswith(mark):
            encoding = name
            break
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as err:
        wrong = data[err.start]
        raise ValueError(
            f"is no {encoding.removesuffix('-sig').upper()} text "
            f"(byte 0x{wrong:02x} at {err.start})"
        ) from err


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file, stripped, without the blank ones."""
    text, _ = read_text(file)
    stripped = [line.strip() for line in text.splitlines()]
    return [line for line in stripped if line]


_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.\w+")


def check_shards(place: object, names: Iterable[str]) -> None:
    """Raise DatasetError where `train-00001-of-00003.parquet` or the like is missing."""
    there: dict[tuple[str, str], set[int]] = {}
    for name in names:
        match = _SHARD.fullmatch(name)
        if match:
            there.setdefault((match[1], match[3]), set()).add(int(match[2]))
    for (name, count), numbers in there.items():
        missing = sorted(set(range(int(count))) - numbers)
        if missing:
            raise DatasetError(
                f"{place}: {len(missing)} of {int(count)} files {name}-*-of-{count} are not there, "
                f"{name}-{missing[0]:05d}-of-{count} among them; download them too"
            )


SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
)
_BESIDE = (".txt", ".json", ".xml", ".csv", ".yaml", ".yml", ".cache", ".npy", ".md", ".db", ".ini")
_RUN = ("job.yaml", "steps")
OUR_FILES = (  # what lies in folders that a run, export, validate --fix, score and generate write
    _RUN,
    ("export.json", "README.md"),
    ("instances.json", "changes.txt"),
    ("metrics.json", "scores.html"),
    ("sheet.json", "images"),
)
OURS = "folder that synthaug wrote, no part of the set"
OTHER_IMAGE = "image file of a kind that is not read"
LINK = "linked folder that leaves the set, passed by (links=follow reads it)"


def _entries(folder: Path) -> Iterator[tuple[Path, bool, bool]]:
    """Yield what a folder holds: path, whether it is a folder, whether it is a link."""
    if isinstance(folder, ArchivePath):
        for inner in folder.iterdir():
            yield inner, inner.is_dir(), False
        return
    for entry in os.scandir(folder):
        is_dir = False
        with contextlib.suppress(OSError):  # a link that leads in a circle
            is_dir = entry.is_dir()
        yield Path(entry.path), is_dir, entry.is_symlink()


def is_ours(folder: Path) -> bool:
    """Whether synthaug wrote a folder: a run, an export, a mended set, scores ..."""
    return any(all((folder / name).exists() for name in names) for names in OUR_FILES)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return all((folder / name).exists() for name in _RUN)


def files_below(folder: Path, home: Path, follow: bool, skipped: Skipped) -> Iterator[Path]:
    """Yield the files in a folder and below it, in no order.

    Hidden ones are passed by, and so are folders that synthaug wrote there. Links to folders are
    followed inside `home`, or anywhere where `follow` says so. What is passed by is named. A folder
    called like an image is taken for one, so that the reader says what is wrong with it.
    """
    seen = {folder.resolve()}
    pending = [folder]
    while pending:
        inner = pending.pop()
        for path, is_dir, is_link in _entries(inner):
            if path.name.startswith("."):
                continue  # of the system, such as ._a.jpg beside a.jpg
            if not is_dir or path.suffix.lower() in SUFFIXES:
                yield path
                continue
            real = path.resolve()
            if is_link and not (follow or real.is_relative_to(home)):
                skipped.note(LINK, str(path))
            elif is_ours(path):
                skipped.note(OURS, str(path))
            elif real not in seen:
                seen.add(real)
                pending.append(path)


def images_below(folder: Path, home: Path, follow: bool, skipped: Skipped) -> list[str]:
    """Return the names of the image files in a folder and below it, sorted.

    What is passed by is named, as in `files_below`.
    """
    names: list[str] = []
    for path in files_below(folder, home, follow, skipped):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            names.append(path.relative_to(folder).as_posix())
        elif suffix and suffix not in _BESIDE:
            skipped.note(OTHER_IMAGE, str(path))
    return sorted(names)
