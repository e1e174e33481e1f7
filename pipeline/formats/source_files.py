"""Files of a data set: found inside its folder, read as bytes or as lines."""

from __future__ import annotations

import hashlib
from pathlib import Path

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.storage import inside
from synthaug.pipeline.formats.validation import RecordError


def find_file(
    folder: Path, name: str, kind: str, *, named_by: str = "", missing: str = ""
) -> tuple[Path, int]:
    """Return the path and size of a record's file, `name` in a resolved folder.

    The size is in bytes. Raises RecordError where there is no such file (counted as `missing`, by default "missing" and
    its `kind`) or its name leaves the folder. In messages the file is called "its `kind`"; a wrong
    name is blamed on `named_by`, the key of the record that gives it.
    """
    try:
        return inside(folder, name)
    except PermissionError as err:
        raise RecordError("unsafe file name", f"its {named_by or kind} {err}") from err
    except FileNotFoundError as err:
        raise RecordError(missing or f"missing {kind}", f"its {kind} {err}") from err


def read_bytes(file: Path) -> tuple[bytes, str]:
    """Return the content of a file and its sha256."""
    try:
        data = file.read_bytes()
    except OSError as err:
        raise DatasetError(f"{file}: cannot be read ({err.strerror}); check the path") from err
    return data, hashlib.sha256(data).hexdigest()


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file, stripped, without the blank ones."""
    data, _ = read_bytes(file)
    stripped = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    return [line for line in stripped if line]
