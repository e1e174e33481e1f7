"""JSON files of records: read, streamed, and numbers for those that are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.formats.source_files import decoded, read_bytes


def load_json(file: Path) -> tuple[Any, str]:
    """Return what a JSON file holds, and its sha256."""
    data, digest = read_bytes(file)
    try:
        return json.loads(_text(data), object_pairs_hook=_unrepeated), digest
    except (ValueError, RecursionError) as err:
        raise _invalid(file, err) from err


def _text(data: bytes) -> str:
    """Return the text of a JSON file; ValueError that says what else it is."""
    if data.startswith(b"\x1f\x8b"):
        raise ValueError("it is compressed by gzip; unpack it")
    if not data.strip():
        raise ValueError("it is empty")
    if json.detect_encoding(data[:4]) not in ("utf-8", "utf-8-sig"):
        return data.decode(json.detect_encoding(data[:4]))
    return decoded(data)


def _unrepeated(pairs: list[tuple[str, Any]]) -> Json:
    """Return a JSON object; ValueError for a key that stands in it twice.

    The last one would win without a word.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object; keep one")
    return record


def load_object(file: Path) -> tuple[Json, str]:
    """Return the JSON object of a COCO file, and its sha256."""
    document, digest = load_json(file)
    if not isinstance(document, dict):
        raise DatasetError(
            f"{file}: the top level must be an object with images, annotations and categories"
        )
    return document, digest


def section(document: Json, key: str, file: Path) -> list[Any]:
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

    Only one element is held as Python objects at a time: those of a whole Visual Genome file take
    ten times its size.
    """
    data, digest = read_bytes(file)
    try:
        text = _text(data)
    except ValueError as err:
        raise _invalid(file, err) from err
    return _elements(text, file), digest


def _elements(text: str, file: Path) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode
    spaces = re.compile(r"[ \t\n\r]*")

    def past_spaces(at: int) -> int:
        match = spaces.match(text, at)
        assert match is not None  # it matches nothing, too
        return match.end()

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
            if more:
                at = past_spaces(at + 1)
        if text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        end = past_spaces(at + 1)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except (ValueError, RecursionError) as err:
        raise _invalid(file, err) from err


def _invalid(file: Path, err: Exception) -> DatasetError:
    where = ""
    reason = one_line(err)
    if isinstance(err, json.JSONDecodeError):
        where = f" at line {err.lineno}, column {err.colno}"
        reason = err.msg
    return DatasetError(f"{file}: not valid JSON{where} ({reason}); correct or restore the file")


def short_decimal(value: np.float32) -> float:
    """Return the shortest decimal of a float32: 473.07, not 473.07000732421875."""
    return float(str(np.float32(value)))
