"""JSON files of records, and what becomes of a bad record: it stops the reading or it is counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.formats.validation import RecordError


@dataclass(frozen=True)
class Checker:
    """Passes the records of one file to what checks them, under the `on_bad` rule of the data set."""

    file: Path
    on_bad: str  # stop | skip
    skipped: Counter[str]

    def each(
        self, records: Iterable[Any], kind: str, take: Callable[[Any], None], key: str = "id"
    ) -> None:
        """Pass on every record; one that is refused (RecordError) is named by its `key` or its position, or counted."""
        for position, record in enumerate(records):
            try:
                take(record)
            except RecordError as bad:
                if self.on_bad == "stop":
                    name = record.get(key) if isinstance(record, dict) else None
                    which = (
                        f"{kind} {name!r}" if name is not None else f"{kind} at position {position}"
                    )
                    advice = "correct it, or leave such records out with on_bad=skip"
                    raise DatasetError(
                        f"{self.file}: {which}: {bad.detail[:400]}; {advice}"
                    ) from bad
                self.skipped[bad.reason] += 1


def check_limits(on_bad: str, max_pixels: int) -> None:
    """Two options that all formats have; ValueError for one that means nothing."""
    if on_bad not in ("stop", "skip"):
        raise ValueError(f"on_bad is '{on_bad}'; use stop or skip")
    if max_pixels < 1:
        raise ValueError(f"max_pixels is {max_pixels}; use a positive number of pixels")


def read_bytes(file: Path) -> tuple[bytes, str]:
    """Return the content of a file and its sha256."""
    try:
        data = file.read_bytes()
    except OSError as err:
        raise DatasetError(f"{file}: cannot be read ({err.strerror}); check the path") from err
    return data, hashlib.sha256(data).hexdigest()


def load_json(file: Path) -> tuple[Any, str]:
    """Return what a JSON file holds, and its sha256."""
    data, digest = read_bytes(file)
    try:
        return json.loads(data), digest
    except (ValueError, RecursionError) as err:
        raise _invalid(file, err) from err


def load_object(file: Path) -> tuple[dict[str, Any], str]:
    """Return the JSON object of a COCO file, and its sha256."""
    document, digest = load_json(file)
    if not isinstance(document, dict):
        raise DatasetError(
            f"{file}: the top level must be an object with images, annotations and categories"
        )
    return document, digest


def section(document: dict[str, Any], key: str, file: Path) -> list[Any]:
    """Return a list of records of a COCO file."""
    if key not in document:
        raise DatasetError(
            f"{file}: key '{key}' is missing; add it, as an empty list if there are none"
        )
    if not isinstance(document[key], list):
        raise DatasetError(f"{file}: '{key}' must be a list; this is no COCO instances file")
    records: list[Any] = document[key]
    return records


def stream_list(file: Path) -> tuple[Iterator[Any], str]:
    """Return the elements of a JSON list one by one, and the file's sha256.

    Only one element is held as Python objects at a time: those of a whole Visual Genome file take ten times its size.
    """
    data, digest = read_bytes(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise _invalid(file, err) from err
    return _elements(text, file), digest


def _elements(text: str, file: Path) -> Iterator[Any]:
    decode, spaces = json.JSONDecoder().raw_decode, re.compile(r"[ \t\n\r]*")

    def past_spaces(at: int) -> int:
        found = spaces.match(text, at)
        assert found is not None  # it matches nothing, too
        return found.end()

    at = past_spaces(0)
    if text[at : at + 1] != "[":
        raise DatasetError(f"{file}: the top level must be a list; this is no Visual Genome file")
    at = past_spaces(at + 1)
    more = text[at : at + 1] != "]"
    try:
        while more:
            element, at = decode(text, at)
            yield element
            at = past_spaces(at)
            more = text[at : at + 1] == ","
            at = past_spaces(at + 1) if more else at
        if text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        if past_spaces(at + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, past_spaces(at + 1))
    except (ValueError, RecursionError) as err:
        raise _invalid(file, err) from err


def _invalid(file: Path, err: Exception) -> DatasetError:
    where = (
        f" at line {err.lineno}, column {err.colno}"
        if isinstance(err, json.JSONDecodeError)
        else ""
    )
    reason = err.msg if isinstance(err, json.JSONDecodeError) else one_line(err)
    return DatasetError(f"{file}: not valid JSON{where} ({reason}); correct or restore the file")
