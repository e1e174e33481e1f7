"""References name data sets: `format:path?option=value&option=value`.

Every format takes the option `part=k/n` (part k of n disjoint random parts); several references
joined by " + " are one set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from synthaug.pipeline.core.datasets import Concatenation, Subset, random_part
from synthaug.pipeline.core.errors import DatasetError, JobError, suggest
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.formats import load_format

_EXPECTED = {int: "a whole number", float: "a number"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse(reference: str, key: str = "data") -> tuple[str, dict[str, str]]:
    """Split a reference into the format's name and its options, "path" among them.

    Raises JobError, naming `key`, when the text has no format or an option no value. Nothing is
    decoded: `%20` and `+` mean themselves.
    """
    name, colon, rest = reference.partition(":")
    if not colon or not name.isidentifier():
        raise JobError(
            f"{key}: {reference!r} names no format; write format:path, e.g. coco:train.json"
        )
    path, _, query = rest.partition("?")
    if path.startswith("s3://"):
        connection, query = _split_s3_options(query)
        if connection:
            path = f"{path}?{connection}"
    options = {"path": path}
    items = query.split("&") if query else []
    for item in items:
        option, equals, value = item.partition("=")
        if not equals or not option:
            raise JobError(
                f"{key}: {item!r} in {reference!r} is no option; write name=value, separated by &"
            )
        if option in options:
            raise JobError(f"{key}: option '{option}' is given twice in {reference!r}; keep one")
        options[option] = value
    return name, options


_S3_OPTIONS = ("endpoint_override=", "scheme=", "region=")


def _split_s3_options(query: str) -> tuple[str, str]:
    """Return the options that belong to the S3 address itself, and the rest."""
    items = query.split("&")
    own = [item for item in items if item.startswith(_S3_OPTIONS)]
    rest = [item for item in items if not item.startswith(_S3_OPTIONS)]
    return "&".join(own), "&".join(rest)


def open_dataset(
    reference: str, root: Path, key: str = "data", defaults: Mapping[str, str] | None = None
) -> Dataset:
    """Open the data set that a reference names.

    Relative paths start at `root`, absolute ones are taken as written. `defaults` are options for
    those formats that have them, where the reference does not say otherwise. Raises JobError,
    naming `key`, for an unknown format or option, and whatever the format says of the data
    (DatasetError).
    """
    tables = []
    for part in reference.split(" + "):
        tables.append(_open_one(part.strip(), root, key, defaults or {}))
    if len(tables) == 1:
        return tables[0]
    for number, table in enumerate(tables, start=1):
        if table.categories != tables[0].categories:
            raise DatasetError(
                f"{key}: data set {number} has other classes than the first; "
                "use the same categories in each"
            )
    return Concatenation(tables)


def _open_one(reference: str, root: Path, key: str, defaults: Mapping[str, str]) -> Dataset:
    """Open a reference to one data set."""
    name, options = parse(reference, key)
    part = options.pop("part", "")
    module = load_format(name, key)
    config = _config(module.Config, name, options, key, defaults)
    table = module.read(config, root)
    return _part(table, part, key) if part else table


def _part(table: Dataset, text: str, key: str) -> Subset:
    """Return part "k/n" of a table."""
    number, slash, parts = text.partition("/")
    written = slash and number.isdecimal() and parts.isdecimal()
    if not (written and 1 <= int(number) <= int(parts)):
        raise JobError(f"{key}: option part is '{text}'; use k/n with k from 1 to n, such as 1/2")
    return random_part(table, int(number), int(parts))


def _config(
    config: Any, name: str, options: Mapping[str, str], key: str, defaults: Mapping[str, str]
) -> Any:
    """Return the Config of a format with the options of a reference."""
    hints = get_type_hints(config)
    known = [field.name for field in fields(config)]
    for option in options:
        if option not in known:
            raise JobError(
                f"{key}: format '{name}' has no option '{option}'{suggest(option, known)}"
            )
    texts = {option: text for option, text in defaults.items() if option in known}
    texts.update(options)
    try:
        values = {option: _value(option, text, hints[option]) for option, text in texts.items()}
        return config(**values)
    except ValueError as err:
        raise JobError(f"{key}: {err}") from err


def _value(option: str, text: str, kind: type) -> Any:
    """Convert an option to the type of its Config field."""
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ValueError(f"option {option} is '{text}'; use true or false")
        return _TRUTH[text.lower()]
    try:
        return kind(text)
    except ValueError as err:
        expected = _EXPECTED.get(kind, "another value")
        raise ValueError(f"option {option} is '{text}'; use {expected}") from err
