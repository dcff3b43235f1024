"""Formats: split the bytes of an input into items, and parse each item.

The method ``split`` of a format returns the bytes of each item that ends in a chunk, without blank ones; an empty chunk
is the end of the input. ``parse`` returns the value of an item; or its text, and the problem with it. They are
separate, so that items can be counted without being parsed.
"""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from paco._cli.beginning import Beginning, BrokenInputError
from paco._cli.ending import Problem
from paco._records.lines import first_twice, members, number, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The most bytes of an item. A longer one fails, so that no input can exhaust the memory.
LONGEST: Final = 16 << 20
_SHOWN = 200


# ---- the parts of an item


def _text(raw: bytes) -> str:
    return raw.removesuffix(b"\r").decode(errors="backslashreplace")


def _cut_short(raw: bytes, what: str) -> tuple[Any, Problem]:
    shown = _text(raw[:_SHOWN]) + "..."
    return shown, Problem("LineTooLong", f"{what} must not exceed {LONGEST >> 20} MiB")


class _Parts:
    """The parts of an item that has not ended yet. An item that is too long is cut to one byte above `LONGEST`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes) -> None:
        if part := part[: LONGEST + 1 - self.size]:
            self._parts.append(part)
            self.size += len(part)

    def take(self) -> bytes:
        """Return the item, and begin the next one."""
        whole = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return whole


# ---- lines


class Splitter:
    """Splits chunks into lines, or at other bytes than a line end."""

    def __init__(self, end: bytes = b"\n") -> None:
        self._line = _Parts()
        self._end = end

    def feed(self, chunk: bytes, *, last: bool) -> list[bytes]:
        """Return the lines that end in ``chunk``; for the ``last`` one, also the rest if it has no line end."""
        *lines, tail = chunk.split(self._end)
        if lines:
            self._line.add(lines[0])
            lines[0] = self._line.take()
        self._line.add(tail)
        if last and self._line.size:
            lines.append(self._line.take())
        return lines


class LineFormat:
    """Lines, as text or as JSON."""

    def __init__(self, *, is_json: bool) -> None:
        self.beginning = Beginning()
        self._splitter = Splitter()
        self._is_json = is_json

    def split(self, chunk: bytes) -> Iterable[bytes]:
        return filter(bytes.strip, self._splitter.feed(self.beginning.pass_on(chunk), last=not chunk))

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        if len(raw) > LONGEST:
            return _cut_short(raw, "a line")
        return _as_json(_text(raw)) if self._is_json else (_text(raw), None)


class NullFormat:
    """Names of files that end in zero bytes, as ``find -print0`` writes them, with any other bytes in them."""

    beginning: Final = None

    def __init__(self) -> None:
        self._splitter = Splitter(b"\0")

    def split(self, chunk: bytes) -> Iterable[bytes]:
        return filter(None, self._splitter.feed(chunk, last=not chunk))

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        if len(raw) > LONGEST:
            return _cut_short(raw, "a name")
        return raw.decode(errors="surrogateescape"), None  # as Python names files, so that programs get the same bytes


def _as_json(text: str, what: str = "the line") -> tuple[Any, Problem | None]:
    try:
        return _DECODER.decode(text), None
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}"
    except ValueError as error:  # NaN, a duplicate key, or a number with thousands of digits
        reason = str(error)
    except RecursionError:
        reason = "it is nested too deeply"
    return text, Problem("JSONDecodeError", f"{what} is not JSON: {reason}")


_DECODER = json.JSONDecoder(parse_constant=refuse, parse_float=number, object_pairs_hook=members)


# ---- a JSON array

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
#: Matches up to the next bracket (`_DEEP`), or the next bracket or comma (`_FLAT`), outside strings; or up to a string
#: that does not end in this chunk. These patterns match anywhere, if only nothing.
_DEEP: Final[Any] = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_FLAT: Final[Any] = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
_COMMA = ord(",")
_NESTS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, _COMMA: 0}
_IN_STRING: Final[Any] = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class ArrayFormat:
    """The elements of one JSON array.

    The array is split while it is read, and each element is parsed by itself, so a bad element fails alone.
    """

    def __init__(self) -> None:
        self.beginning = Beginning()
        self._element = _Parts()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._ended = False
        self._several = False

    def split(self, chunk: bytes) -> Iterable[bytes]:
        """Return the elements that end in ``chunk``; raise `BrokenInputError` if the input is not one whole array."""
        if not chunk and self._depth:
            raise BrokenInputError("the file is cut off: the JSON array has no end")
        chunk = self.beginning.pass_on(chunk)
        if self._depth == 0:
            chunk = self._opened(chunk)
        kept, place = 0, self._after_string(chunk, 0)
        while (place := self._skip(chunk, place)) < len(chunk):
            self._depth += _NESTS[chunk[place]]
            if chunk[place] == _COMMA or self._depth == 0:
                self._element.add(chunk[kept:place])
                kept = place + 1
                yield from self._taken(last=self._depth == 0)
            if self._depth == 0:
                self._end(chunk[kept:])
                return
            place += 1
        self._element.add(chunk[kept:])

    def _skip(self, chunk: bytes, place: int) -> int:
        """Return the place of the next bracket or comma that matters, or the end of the chunk."""
        place = (_FLAT if self._depth == 1 else _DEEP).match(chunk, place).end()
        if chunk[place : place + 1] != b'"':
            return place
        self._in_string = True  # the string continues in the next chunk
        return self._after_string(chunk, place + 1)

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        return _as_json(_text(raw), "the element") if len(raw) <= LONGEST else _cut_short(raw, "an element")

    def _opened(self, chunk: bytes) -> bytes:
        """Return what follows the opening bracket of the array."""
        if self._ended:
            self._end(chunk)
            return b""
        chunk = chunk.lstrip()
        if not chunk:
            return b""
        if chunk[:1] != b"[":
            found = "a JSON object" if chunk[:1] == b"{" else "something else"
            raise BrokenInputError(f"expected a JSON array: [...], got {found} (one value per line: --format jsonl)")
        self._depth = 1
        return chunk[1:]

    def _end(self, rest: bytes) -> None:
        self._ended = True
        if rest.strip():
            raise BrokenInputError("something follows the end of the JSON array (one value per line: --format jsonl)")

    def _after_string(self, chunk: bytes, place: int) -> int:
        """Return the end of the string that ``place`` is inside of; remember whether it continues in the next chunk."""
        if not self._in_string:
            return place
        end = _IN_STRING.match(chunk, place + self._escaped).end()
        self._escaped = chunk[end : end + 1] == b"\\"
        self._in_string = end == len(chunk) or self._escaped
        return len(chunk) if self._in_string else end + 1

    def _taken(self, *, last: bool) -> Iterable[bytes]:
        element = self._element.take().strip()
        if element or self._several or not last:  # [] has no element
            yield element
        self._several = True


# ---- a table


class TableFormat:
    """The rows below a header, as objects: CSV as in RFC 4180, or the same with tabs."""

    def __init__(self, delimiter: str) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        self.beginning = Beginning()
        self._splitter = Splitter()
        self._use(delimiter)
        #: The names of the fields, once the first row has been split.
        self.header: list[str] | None = None
        #: The line on which each row began that was split and is not parsed yet.
        self.began: deque[int] = deque()
        self._number = self._start = 0  # of the current line, and of the first one of the current row
        self._lines: list[bytes] = []
        self._size = 0
        self._open = False

    def _use(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._quoted = f'{delimiter}"'.encode()

    def split(self, chunk: bytes) -> Iterable[bytes]:
        """Return the rows that end in ``chunk``; raise `BrokenInputError` if the header is bad or has a name twice."""
        for line in self._splitter.feed(self.beginning.pass_on(chunk), last=not chunk):
            yield from self._add(line)
        if not chunk:
            yield from self._give_up()

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        """Return a row as an object with text values, or its text and the problem with it."""
        line = self.began.popleft()
        if len(raw) > LONGEST:
            return _cut_short(raw, f"line {line}: a row")
        text, header = _text(raw), self.header or []
        try:
            fields = self._fields(text)
        except csv.Error as error:
            why = "a quote is never closed" if "unexpected end" in str(error) else str(error)
            return text, Problem("CSVError", f"line {line}: {why}")
        if len(fields) != len(header):
            why = f"the row has {len(fields)} fields, but the header has {len(header)}"
            return text, Problem("CSVError", f"line {line}: {why}")
        return dict(zip(header, fields, strict=True)), None

    def _fields(self, text: str) -> list[str]:
        return next(csv.reader([text], delimiter=self._delimiter, strict=True))

    def _add(self, line: bytes) -> Iterable[bytes]:
        """Add a line, and return the row that it ends. While a quote is open, the row continues in the next line."""
        self._number += 1
        if self._open or line.strip():
            self._start = self._start if self._lines else self._number
            self._lines.append(line)
            self._size += len(line) + 1
            self._open = self._is_open(line)
            if not self._open:
                yield from self._row(b"\n".join(self._lines), self._start)
                self._lines, self._size = [], 0
            elif self._size > LONGEST:
                yield from self._give_up()

    def _give_up(self) -> Iterable[bytes]:
        """Return the lines from an unclosed quote on, each as a row: no quote in them can close it."""
        lines, self._lines, self._size, self._open = self._lines, [], 0, False
        for place, line in enumerate(lines, self._start):
            if line.strip():
                yield from self._row(line, place)

    def _is_open(self, line: bytes) -> bool:
        """Return whether a quoted field continues after ``line``. A quote opens a field only at its beginning."""
        inside, place = self._open, 0
        if b'"' not in line:
            return inside
        if not inside and line.startswith(b'"'):
            inside, place = True, 1
        while True:
            if inside:
                closing = _CLOSING.match(line, place)
                if closing is None:
                    return True
                place = closing.end()
            place = line.find(self._quoted, place)
            if place < 0:
                return False
            inside, place = True, place + len(self._quoted)

    def _row(self, raw: bytes, line: int) -> Iterable[bytes]:
        if self.header is not None:
            self.began.append(line)
            yield raw
        elif line == 1 and (told := _TOLD.fullmatch(raw)):
            self._use(told[1].decode())
        else:
            self.header = self._read_header(raw)

    def _read_header(self, raw: bytes) -> list[str]:
        try:
            header = self._fields(_text(raw))
        except csv.Error as error:
            raise BrokenInputError(f"the header cannot be read: {error}") from None
        if (twice := first_twice(header)) is not None:
            raise BrokenInputError(f"the header has {twice!r} twice, so one of the two values would be lost")
        return header


_CLOSING: Final = re.compile(rb'(?:[^"]++|"")*+"')

#: The first line of a table by which Excel knows its delimiter.
_TOLD: Final = re.compile(rb"sep=([\t -~])\r?", re.IGNORECASE)

Format: TypeAlias = LineFormat | NullFormat | ArrayFormat | TableFormat

FORMATS: dict[str, Callable[[], Format]] = {
    "lines": lambda: LineFormat(is_json=False),
    "null": NullFormat,
    "jsonl": lambda: LineFormat(is_json=True),
    "json": ArrayFormat,
    "csv": lambda: TableFormat(","),
    "tsv": lambda: TableFormat("\t"),
}
#: The formats whose delimiter can be another one.
TABLES: Final = frozenset({"csv", "tsv"})
#: The formats whose items may be objects; those of the others are text.
OBJECTS: Final = FORMATS.keys() - {"lines", "null"}
