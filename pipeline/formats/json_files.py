"""JSON files of records: read, streamed, and numbers for those that are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.formats.source_files import read_bytes


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
