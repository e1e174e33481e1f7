"""JSON files of records: read, streamed, and numbers for those that are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.formats.json_stream import (
    MORE_OR_END,
    Changed,
    RecordList,
    Records,
    Text,
    encoding_of,
    invalid,
    unrepeated,
)
from synthaug.pipeline.formats.source_files import decoded, read_bytes


def load_json(file: Path) -> tuple[Any, str]:
    """Return what a JSON file holds, and its sha256."""
    data, digest = read_bytes(file)
    try:
        return json.loads(_text(data), object_pairs_hook=unrepeated), digest
    except (ValueError, RecursionError) as err:
        raise invalid(file, err) from err


def _text(data: bytes) -> str:
    """Return the text of a JSON file; ValueError that says what else it is."""
    encoding = encoding_of(data)
    if encoding.startswith("utf-8"):
        return decoded(data)
    return data.decode(encoding)


def load_object(file: Path) -> tuple[Json, str]:
    """Return the JSON object of a file, and its sha256."""
    document, digest = load_json(file)
    if not isinstance(document, dict):
        raise _no_object(file)
    return document, digest


def open_object(file: Path) -> tuple[Json, str]:
    """Return the JSON object of a COCO file, checked whole, and its sha256.

    Its lists are `Records`: they stay in the file and are read when they are gone through.
    """
    with Text(file) as text:
        if text.next_sign() != "{":
            text.value()
            text.expect_end()
            raise _no_object(file)
        pairs = list(_members(text))
        text.expect_end()
        digest = text.digest()
    try:
        return unrepeated(pairs), digest
    except ValueError as err:
        raise invalid(file, err) from err


def _no_object(file: Path) -> DatasetError:
    return DatasetError(
        f"{file}: the top level must be an object with images, annotations and categories"
    )


def _members(text: Text) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of the object that follows."""
    text.expect("{")
    if text.passes("}"):
        return
    while True:
        key = text.key()
        if text.next_sign() == "[":
            start = text.place
            count = sum(1 for _ in text.elements())
            yield key, Records(text.file, start, count)
        else:
            yield key, text.value()
        if not text.passes(","):
            text.expect("}", MORE_OR_END)
            return


def section(document: Json, key: str, file: Path) -> RecordList:
    """Return a list of records of a COCO file."""
    if key not in document:
        raise DatasetError(
            f"{file}: key '{key}' is missing; add it, as an empty list if there are none"
        )
    records = document[key]
    if not is_list(records):
        raise DatasetError(f"{file}: '{key}' must be a list; this is no COCO instances file")
    return records


def is_list(value: object) -> TypeGuard[RecordList]:
    """Whether a value of a document is a list."""
    return isinstance(value, (list, Records, Changed))


def stream_list(file: Path) -> tuple[Iterator[Any], str]:
    """Return the elements of a JSON list one by one, and the file's sha256.

    Only one element is held as Python objects at a time: those of a whole Visual Genome file take
    ten times its size.
    """
    with Text(file) as text:
        digest = text.digest()
    return _elements(file), digest


def _elements(file: Path) -> Iterator[Any]:
    with Text(file) as text:
        if text.next_sign() != "[":
            raise DatasetError(
                f"{file}: the top level must be a list; this is no Visual Genome file"
            )
        yield from text.elements()
        text.expect_end()


def short_decimal(value: np.float32) -> float:
    """Return the shortest decimal of a float32: 473.07, not 473.07000732421875."""
    return float(str(np.float32(value)))
