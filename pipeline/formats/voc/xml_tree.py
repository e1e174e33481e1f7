"""XML files of unknown origin as trees: no document types, no entities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from synthaug.pipeline.core.errors import one_line
from synthaug.pipeline.formats.validation import RecordError

_MOST = 16 << 20  # bytes; an annotation file has a few thousand
_PIECE = 1 << 20  # bytes that are parsed at a time
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
    reader = _Reader(name)
    reader.feed(data, True)
    return reader.root()


def children(file: IO[bytes], name: str) -> Iterator[Element]:
    """Yield the elements right below the root of an XML file, one at a time.

    RecordError as in `load`; the file may be of any size, one element not.
    """
    reader = _Reader(name, _MOST)
    piece = file.read(_PIECE)
    while piece:
        reader.feed(piece, False)
        yield from reader.taken()
        piece = file.read(_PIECE)
    reader.feed(b"", True)
    yield from reader.taken()


class _Reader:
    """Builds trees of what expat finds."""

    def __init__(self, name: str, most: int | None = None) -> None:
        """With `most`, hand out the elements below the root, of at most so many bytes."""
        self._name = name
        self._most = most
        self._depth = 0
        self._done: list[Element] = []
        self._builder = TreeBuilder()
        self._started = 0  # byte at which the element below the root begins
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        # entities can multiply without end or name other files; annotations need none
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.UnparsedEntityDeclHandler = self._refuse

    def feed(self, data: bytes | str, is_last: bool) -> None:
        """Parse some more of a file."""
        try:
            self._parser.Parse(data, is_last)
        except expat.ExpatError as err:
            raise RecordError(
                "bad XML", f"{self._name} is not well-formed XML ({one_line(err)})"
            ) from err
        if self._most is None or self._depth < 2:
            return
        if self._parser.CurrentByteIndex - self._started > self._most:
            raise RecordError(
                "bad XML", f"{self._name} has an element of over {self._most >> 20} MiB"
            )

    def root(self) -> Element:
        """Return the whole tree."""
        root: Element = self._builder.close()
        return root

    def taken(self) -> list[Element]:
        """Return the elements that are complete since the last call."""
        done = self._done
        self._done = []
        return done

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise RecordError("bad XML", f"{self._name} is nested more than {_DEEPEST} deep")
        if self._is_root():
            return
        if self._depth == 2:
            self._started = self._parser.CurrentByteIndex
        self._builder.start(tag, attributes)

    def _end(self, tag: str) -> None:
        if not self._is_root():
            self._builder.end(tag)
        self._depth -= 1
        if self._is_root():
            self._done.append(self._builder.close())
            self._builder = TreeBuilder()

    def _text(self, text: str) -> None:
        if not self._is_root():
            self._builder.data(text)

    def _is_root(self) -> bool:
        """Whether what is read belongs to the root, of which only the children are wanted."""
        return self._most is not None and self._depth == 1

    def _refuse(self, *_: object) -> None:
        raise RecordError(
            "unsafe XML",
            f"{self._name} declares a document type or an entity; remove the declaration",
        )


def text_of(element: Element, path: str) -> str | None:
    """Return the text at a path below an element; None where there is no such element."""
    inner = element.find(path)
    if inner is None:
        return None
    return inner.text or ""
