"""XML files of unknown origin as trees: no document types, no entities."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from synthaug.pipeline.core.errors import one_line
from synthaug.pipeline.formats.validation import RecordError

_MOST = 16 << 20  # bytes; an annotation file has a few thousand
_DEEPEST = 50


def load(file: Path) -> Element:
    """Return the root of an XML file.

    RecordError when it is not well-formed, too large, or declares anything.
    """
    try:
        if file.stat().st_size > _MOST:
            raise RecordError(
                "bad XML",
                f"{file.name} has over {_MOST >> 20} MiB, which is no annotation of one image",
            )
        data = file.read_bytes()
    except OSError as err:
        raise RecordError("bad XML", f"{file.name} cannot be read ({err.strerror})") from err
    return parse(data, file.name)


def parse(data: bytes, name: str) -> Element:
    """Return the root of XML given as bytes; see `load`."""
    try:
        return _parse(data, name)
    except ValueError as err:  # an encoding that expat does not know
        text = _decoded(data, name, err)
    return _parse(text, name)


_DECLARED = re.compile(
    rb"""^<\?xml[^>]{0,200}encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']"""
)


def _decoded(data: bytes, name: str, err: ValueError) -> str:
    """Return the text of XML in the encoding that it declares."""
    found = _DECLARED.match(data)
    if found is None:
        raise RecordError("bad XML", f"{name} cannot be parsed ({one_line(err)})") from err
    encoding = found[1].decode("ascii")
    try:
        return data.decode(encoding)
    except (LookupError, ValueError) as wrong:
        raise RecordError(
            "bad XML", f"{name} is no text of its encoding {encoding!r} ({one_line(wrong)})"
        ) from wrong


def _parse(data: bytes | str, name: str) -> Element:
    """Return the root of XML; ValueError for an encoding that expat does not know."""
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise RecordError("bad XML", f"{name} is nested more than {_DEEPEST} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise RecordError(
            "unsafe XML", f"{name} declares a document type or an entity; remove the declaration"
        )

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    # entities can multiply without end or name other files; annotations need none
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as err:
        raise RecordError("bad XML", f"{name} is not well-formed XML ({one_line(err)})") from err
    root: Element = builder.close()
    return root


def text_of(element: Element, path: str) -> str | None:
    """Return the text at a path below an element; None where there is no such element."""
    inner = element.find(path)
    if inner is None:
        return None
    return inner.text or ""
