"""JSON files read piece by piece: of a long list one record is held at a time.

Parsed whole, the annotations of a hundred thousand images take gigabytes.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.json_values import Json
from synthaug.stand_ins import stand_in

_PIECE = 1 << 20  # bytes read at a time
MORE_OR_END = "Expecting ',' delimiter"
_HEAD = 4  # bytes that tell the encoding
_SPACES = " \t\n\r"
_LONGEST_TAIL = 3  # characters behind a number that may belong to it: 1e+5
_LONGEST_WORD = 16  # characters of a word or an escape that the end of a piece may cut


def unrepeated(pairs: list[tuple[str, Any]]) -> Json:
    """Return a JSON object; ValueError for a key that stands in it twice.

    The last one would win without a word.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object; keep one")
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=unrepeated)


class RecordList(Protocol):
    """Records that can be counted and gone through, again and again."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class Records:
    """A list of records in a JSON file, read anew each time it is gone through."""

    def __init__(self, file: Path, start: int, count: int) -> None:
        """`start` is where its bracket stands, in characters."""
        self._file = file
        self._start = start
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """Yield the records; DatasetError where the file is no longer what it was."""
        with Text(self._file) as text:
            text.skip(self._start)
            yield from text.elements()


class Changed:
    """Records, each changed when it is asked for, and others behind them."""

    def __init__(
        self, records: RecordList, change: Callable[[Any], Any], others: Sequence[Any] = ()
    ) -> None:
        self._records = records
        self._change = change
        self._others = others

    def __len__(self) -> int:
        return len(self._records) + len(self._others)

    def __iter__(self) -> Iterator[Any]:
        for record in itertools.chain(self._records, self._others):
            yield self._change(record)


class Text:
    """The text of a JSON file from a place on.

    Raises DatasetError for what is no JSON, with its line and column.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._sha256 = hashlib.sha256()
        self._text = ""
        self._at = 0
        self._passed = 0  # characters before the text that is held
        self._line, self._column = 1, 1  # of its beginning
        self._bytes = 0
        self._ended = False
        self._size = _PIECE
        try:
            self._source = file.open("rb")
            first = self._source.read(max(_PIECE, _HEAD))
        except OSError as err:
            raise self._unreadable(err) from err
        try:
            self._decoder = codecs.getincrementaldecoder(encoding_of(first))()
        except ValueError as err:
            raise self.invalid(err) from err
        self._take(first)

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    @property
    def place(self) -> int:
        """The characters before the next one."""
        return self._passed + self._at

    def digest(self) -> str:
        """Return the sha256 of the file, which is read to its end."""
        while not self._ended:
            self._more()
        return self._sha256.hexdigest()

    def skip(self, characters: int) -> None:
        """Pass over characters."""
        while self._passed + len(self._text) < characters and not self._ended:
            self._at = len(self._text)
            self._more()
        self._at = characters - self._passed

    def next_sign(self) -> str:
        """Return the next character that is no space, "" at the end.

        The text then stands there.
        """
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACES:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def expect(self, sign: str, told: str = "") -> None:
        """Pass over a sign of the grammar; DatasetError where another stands there."""
        if not self.passes(sign):
            fault = told or f"Expecting {sign!r} delimiter"
            raise self.invalid(json.JSONDecodeError(fault, self._text, self._at))

    def passes(self, sign: str) -> bool:
        """Pass over a sign of the grammar where it is the next one."""
        if self.next_sign() != sign:
            return False
        self._at += 1
        return True

    def expect_end(self) -> None:
        """Raise DatasetError where something follows."""
        if self.next_sign():
            raise self.invalid(json.JSONDecodeError("Extra data", self._text, self._at))

    def key(self) -> str:
        """Return the next key of an object and pass over it and its colon."""
        if self.next_sign() != '"':
            told = "Expecting property name enclosed in double quotes"
            raise self.invalid(json.JSONDecodeError(told, self._text, self._at))
        key: str = self.value()
        self.expect(":")
        return key

    def value(self) -> Any:
        """Return the next value and pass over it."""
        self.next_sign()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as err:
                is_cut = err.pos > len(self._text) - _LONGEST_WORD
                is_cut = is_cut or err.msg.startswith("Unterminated")
                if self._ended or not is_cut:
                    raise self.invalid(err) from err
            except (ValueError, RecursionError) as err:
                raise self.invalid(err) from err
            else:
                if self._ended or end + _LONGEST_TAIL < len(self._text):
                    self._at = end
                    self._size = _PIECE
                    return value
            self._more()

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the list that follows and pass over it."""
        self.expect("[")
        if self.passes("]"):
            return
        while True:
            yield self.value()
            if not self.passes(","):
                self.expect("]", MORE_OR_END)
                return

    def invalid(self, err: Exception) -> DatasetError:
        """Return the error of a file that is no JSON."""
        if not isinstance(err, json.JSONDecodeError):
            return invalid(self.file, err)
        column = err.colno
        if err.lineno == 1:
            column += self._column - 1
        return invalid(self.file, err, self._line + err.lineno - 1, column)

    def _more(self) -> None:
        """Read on; what was passed over is no longer held."""
        passed = self._text[: self._at]
        lines = passed.count("\n")
        self._line += lines
        self._column = len(passed) - passed.rfind("\n") if lines else self._column + len(passed)
        self._passed += self._at
        self._text = self._text[self._at :]
        self._at = 0
        if len(self._text) >= self._size:
            self._size *= 2  # a value longer than a piece is tried again with twice as much
        try:
            data = self._source.read(self._size)
        except OSError as err:
            raise self._unreadable(err) from err
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Add bytes to the text; none is the end of the file."""
        self._ended = not data
        self._sha256.update(data)
        pending = len(self._decoder.getstate()[0])
        try:
            self._text += self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as err:
            at = self._bytes - pending + err.start
            name = err.encoding.upper()
            wrong = err.object[err.start]
            told = ValueError(f"is no {name} text (byte 0x{wrong:02x} at {at})")
            raise invalid(self.file, told) from err
        self._bytes += len(data)

    def _unreadable(self, err: OSError) -> DatasetError:
        return DatasetError(f"{self.file}: cannot be read ({one_line(err)}); check the path")


def encoding_of(head: bytes) -> str:
    """Return the encoding of a JSON file; ValueError that says what else it is."""
    if head.startswith(b"\x1f\x8b"):
        raise ValueError("it is compressed by gzip; unpack it")
    if not head.strip():
        raise ValueError("it is empty")
    instead = stand_in(head)
    if instead:
        raise ValueError(instead)
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return json.detect_encoding(head[:_HEAD])


def invalid(file: Path, err: Exception, line: int = 0, column: int = 0) -> DatasetError:
    """Return the error of a file that is no JSON, with its place where that is known."""
    where = ""
    reason = one_line(err)
    if isinstance(err, RecursionError):
        reason = "it is nested too deep"
    elif reason.startswith("Exceeds the limit"):
        reason = "a number has thousands of digits"
    elif isinstance(err, json.JSONDecodeError):
        where = f" at line {line or err.lineno}, column {column or err.colno}"
        reason = err.msg
        if reason == "Extra data":
            reason = "there is more behind the end, as in JSON lines"
    return DatasetError(f"{file}: not valid JSON{where} ({reason}); correct or restore the file")
