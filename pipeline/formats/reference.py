"""References name data sets: `format:path?option=value&option=value`.

Every format takes the option `part=k/n` (part k of n disjoint random parts); several references
joined by " + " are one set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from synthaug.pipeline.core.datasets import Concatenation, Subset, random_part
from synthaug.pipeline.core.errors import DatasetError, JobError, one_line, suggest
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.formats import load_format
from synthaug.pipeline.formats.checked import CheckedDataset
from synthaug.pipeline.formats.merge import with_classes

_EXPECTED = {int: "a whole number", float: "a number"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse(
    reference: str, key: str = "data", root: Path | None = None
) -> tuple[str, dict[str, str]]:
    """Split a reference into the format's name and its options, "path" among them.

    Raises JobError, naming `key`, when the text has no format or an option no value. Nothing is
    decoded: `%20` and `+` mean themselves. Where `root` is given, a path that holds `?` and an
    option that holds `&` are known by the files that exist there: the longest one wins.
    """
    name, colon, rest = reference.partition(":")
    if not colon or not name.isidentifier():
        raise JobError(
            f"{key}: {reference!r} names no format; write format:path, e.g. coco:train.json"
        )
    path, query = _split_path(rest, root)
    if path.startswith("s3://"):
        connection, query = _split_s3_options(query)
        if connection:
            path = f"{path}?{connection}"
    options = {"path": path}
    for item in _items(query, root):
        option, equals, value = item.partition("=")
        if not equals or not option:
            raise JobError(
                f"{key}: {item!r} in {reference!r} is no option; write name=value, separated by &"
            )
        if option in options:
            raise JobError(f"{key}: option '{option}' is given twice in {reference!r}; keep one")
        options[option] = value
    return name, options


def _split_path(text: str, root: Path | None) -> tuple[str, str]:
    """Return the longest path that exists, else up to `?`, and the options."""
    ends = [place for place, letter in enumerate(text) if letter == "?"]
    for end in [len(text), *reversed(ends)]:
        if _exists(text[:end], root):
            return text[:end], text[end + 1 :]
    path, _, query = text.partition("?")
    return path, query


def _items(query: str, root: Path | None) -> list[str]:
    """Return the options of a query; a value that is a path may hold `&`."""
    pieces = query.split("&") if query else []
    items = []
    while pieces:
        taken = 1
        for count in range(len(pieces), 1, -1):
            value = "&".join(pieces[:count]).partition("=")[2]
            if _exists(value, root):
                taken = count
                break
        items.append("&".join(pieces[:taken]))
        pieces = pieces[taken:]
    return items


def _exists(path: str, root: Path | None) -> bool:
    if root is None or not path or "://" in path or "\0" in path:
        return False
    try:
        return (root / path).exists()
    except OSError:  # a name that no file can have
        return False


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
    (DatasetError), with the key of a job before it.
    """
    try:
        return _open(reference, root, key, defaults or {})
    except DatasetError as err:
        if "." not in key or str(err).startswith(key):
            raise  # the command line has one data set, or told its name
        raise DatasetError(f"{key}: {err}") from err


def _open(reference: str, root: Path, key: str, defaults: Mapping[str, str]) -> Dataset:
    """Open the data sets of a reference as one."""
    tables = []
    for part in split(reference):
        tables.append(_open_one(part.strip(), root, key, defaults))
    if len(tables) == 1:
        return tables[0]
    first = tables[0].categories
    aligned = []
    for number, table in enumerate(tables, start=1):
        aligned.append(with_classes(table, first, f"{key}: data set {number}", "the first"))
    return Concatenation(aligned)


_JOINT = re.compile(r" \+ (?=\s*[A-Za-z_]\w*:)")


def split(reference: str) -> list[str]:
    """Return the references that " + " joins; a folder may be called `cats + dogs`."""
    return _JOINT.split(reference)


def _open_one(reference: str, root: Path, key: str, defaults: Mapping[str, str]) -> Dataset:
    """Open a reference to one data set."""
    name, options = parse(reference, key, root)
    part = options.pop("part", "")
    module = load_format(name, key)
    config = _config(module.Config, name, options, key, defaults)
    try:
        table = module.read(config, root)
    except OSError as err:  # a name in a data file that no file can have, a folder without rights
        file = err.filename or "a file of it"
        raise DatasetError(
            f"{key}: {reference}: {file!s:.300} cannot be read ({one_line(err)}); correct its name "
            "or restore it"
        ) from err
    if isinstance(table, CheckedDataset):
        table.read_under(config)
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
