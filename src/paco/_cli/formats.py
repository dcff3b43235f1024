"""Formats: split the bytes of an input into items, and parse each item.

The methods ``split`` and ``last`` of a format return the bytes of each item, without blank ones; ``parse`` returns the
value of an item. They are separate, so that items can be counted without being parsed.
"""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol

from paco._cli.chunks import LONGEST_LINE, BrokenInputError, Splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHOWN = 200


class Problem(NamedTuple):
    """The error of an item, as its record has it: the name of a type, and a message."""

    type: str
    message: str


def recreated(problem: Problem) -> Exception:
    """Return an exception with the type name and message of ``problem``, for listeners, which receive exceptions."""
    kind: type[Exception] = type(problem.type, (Exception,), {})
    return kind(problem.message)


class Format(Protocol):
    """Splits one input into items and parses them."""

    def split(self, chunk: bytes, /) -> Iterable[bytes]:
        """Return the bytes of the items that end in ``chunk``."""
        ...

    def last(self) -> Iterable[bytes]:
        """Return the bytes of the items that end at the end of the input."""
        ...

    def parse(self, raw: bytes, /) -> tuple[Any, Problem | None]:
        """Return the value of an item, or its text and the problem with it."""
        ...


def _text(raw: bytes) -> str:
    return raw.removesuffix(b"\r").decode(errors="backslashreplace")


def _cut_short(raw: bytes, what: str) -> tuple[Any, Problem]:
    shown = _text(raw[:_SHOWN]) + "..."
    return shown, Problem("LineTooLong", f"{what} must not exceed {LONGEST_LINE >> 20} MiB")


class LineFormat:
    """Lines, as text or as JSON."""

    def __init__(self, parse: Callable[[str], tuple[Any, Problem | None]]) -> None:
        self._splitter = Splitter()
        self._parse = parse

    def split(self, chunk: bytes) -> Iterable[bytes]:
        """Return the lines that end in ``chunk``."""
        return filter(bytes.strip, self._splitter.feed(chunk))

    def last(self) -> Iterable[bytes]:
        """Return the last line, if the input does not end in a line end."""
        return filter(bytes.strip, self._splitter.end())

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        """Return the value of a line, or its text and the problem with it."""
        return self._parse(_text(raw)) if len(raw) <= LONGEST_LINE else _cut_short(raw, "a line")


def _as_text(text: str) -> tuple[Any, Problem | None]:
    return text, None


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


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Refuse a duplicate key, since one of its values would be lost silently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {json.dumps(twice)} twice")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_object)
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
#: Matches up to the next bracket (`_DEEP`), or the next bracket or comma (`_FLAT`), outside strings; or up to a string
#: that does not end in this chunk.
_DEEP: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_FLAT: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
_COMMA = ord(",")
_NESTS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, _COMMA: 0}
_IN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BOM = b"\xef\xbb\xbf"


def _past(pattern: re.Pattern[bytes], chunk: bytes, place: int) -> int:
    """Return where the match of ``pattern`` at ``place`` ends."""
    match = pattern.match(chunk, place)
    return place if match is None else match.end()


class ArrayFormat:
    """The elements of one JSON array.

    The array is split while it is read, and each element is parsed by itself, so a bad element fails alone. An element
    that is too long is cut to one byte above `LONGEST_LINE`.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._ended = False
        self._several = False

    def split(self, chunk: bytes) -> Iterable[bytes]:
        """Return the elements that end in ``chunk``.

        Raises:
            BrokenInputError: The input does not begin with an array, or something follows it.
        """
        if self._depth == 0:
            chunk = self._opened(chunk)
        kept, place = 0, self._after_string(chunk, 0)
        while (place := self._skip(chunk, place)) < len(chunk):
            self._depth += _NESTS[chunk[place]]
            if chunk[place] == _COMMA or self._depth == 0:
                self._keep(chunk[kept:place])
                kept = place + 1
                yield from self._element(last=self._depth == 0)
            if self._depth == 0:
                self._end(chunk[kept:])
                return
            place += 1
        self._keep(chunk[kept:])

    def _skip(self, chunk: bytes, place: int) -> int:
        """Return the place of the next bracket or comma that matters, or the end of the chunk."""
        pattern = _FLAT if self._depth == 1 else _DEEP
        place = _past(pattern, chunk, place)
        if chunk[place : place + 1] != b'"':
            return place
        self._in_string = True  # the string continues in the next chunk
        return self._after_string(chunk, place + 1)

    def last(self) -> Iterable[bytes]:
        """Return no elements, since each ends before the end of the array.

        Raises:
            BrokenInputError: The array has no end.
        """
        if self._depth:
            raise BrokenInputError("the file is cut off: the JSON array has no end")
        return ()

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        """Return the value of an element, or its text and the problem with it."""
        return _as_json(_text(raw), "the element") if len(raw) <= LONGEST_LINE else _cut_short(raw, "an element")

    def _opened(self, chunk: bytes) -> bytes:
        """Return what follows the opening bracket of the array."""
        if self._ended:
            self._end(chunk)
            return b""
        chunk = (b"".join(self._parts) + chunk).removeprefix(_BOM).lstrip()
        self._parts = []
        if not chunk or _BOM.startswith(chunk):
            self._parts = [chunk]
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
        end = _past(_IN_STRING, chunk, place + self._escaped)
        self._escaped = chunk[end : end + 1] == b"\\"
        self._in_string = end == len(chunk) or self._escaped
        return len(chunk) if self._in_string else end + 1

    def _element(self, *, last: bool) -> Iterable[bytes]:
        element = b"".join(self._parts).strip()
        self._parts, self._size = [], 0
        if element or self._several or not last:  # [] has no element
            yield element
        self._several = True

    def _keep(self, part: bytes) -> None:
        part = part[: LONGEST_LINE + 1 - self._size]
        self._parts.append(part)
        self._size += len(part)


class TableFormat:
    """The rows below a header, as objects: CSV as in RFC 4180, or the same with tabs."""

    def __init__(self, delimiter: str) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        self._splitter = Splitter()
        self._delimiter = delimiter
        self._quoted = f'{delimiter}"'.encode()
        self._header: list[str] | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self._open = False

    def split(self, chunk: bytes) -> Iterable[bytes]:
        """Return the rows that end in ``chunk``.

        Raises:
            BrokenInputError: The header cannot be read, or has a name twice.
        """
        for line in self._splitter.feed(chunk):
            yield from self._add(line)

    def last(self) -> Iterable[bytes]:
        """Return the last row; or, from a quote that is never closed on, each line as a row."""
        for line in self._splitter.end():
            yield from self._add(line)
        yield from self._give_up()

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        """Return a row as an object with text values, or its text and the problem with it."""
        if len(raw) > LONGEST_LINE:
            return _cut_short(raw, "a row")
        text, header = _text(raw), self._header or []
        try:
            fields = self._fields(text)
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            return text, Problem("CSVError", "a quote is never closed" if unclosed else str(error))
        if len(fields) != len(header):
            return text, Problem("CSVError", f"the row has {len(fields)} fields, but the header has {len(header)}")
        return dict(zip(header, fields, strict=True)), None

    def _fields(self, text: str) -> list[str]:
        return next(csv.reader([text], delimiter=self._delimiter, strict=True))

    def _add(self, line: bytes) -> Iterable[bytes]:
        """Add a line, and return the row that it ends. While a quote is open, the row continues in the next line."""
        if self._open or line.strip():
            self._lines.append(line)
            self._size += len(line) + 1
            self._open = self._is_open(line)
            if not self._open:
                yield from self._row(b"\n".join(self._lines))
                self._lines, self._size = [], 0
            elif self._size > LONGEST_LINE:
                yield from self._give_up()

    def _give_up(self) -> Iterable[bytes]:
        """Return the lines from an unclosed quote on, each as a row: no quote in them can close it."""
        lines, self._lines, self._size, self._open = self._lines, [], 0, False
        for line in filter(bytes.strip, lines):
            yield from self._row(line)

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

    def _row(self, raw: bytes) -> Iterable[bytes]:
        if self._header is None:
            self._header = self._read_header(raw)
        else:
            yield raw

    def _read_header(self, raw: bytes) -> list[str]:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise BrokenInputError("expected UTF-8, got UTF-16; convert the file with: iconv -f UTF-16 -t UTF-8")
        try:
            header = self._fields(_text(raw))
        except csv.Error as error:
            raise BrokenInputError(f"the header cannot be read: {error}") from None
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise BrokenInputError(f"the header has {twice!r} twice, so one of the two values would be lost")
        return header


_CLOSING: Final = re.compile(rb'(?:[^"]++|"")*+"')

FORMATS: dict[str, Callable[[], Format]] = {
    "lines": lambda: LineFormat(_as_text),
    "jsonl": lambda: LineFormat(_as_json),
    "json": ArrayFormat,
    "csv": lambda: TableFormat(","),
    "tsv": lambda: TableFormat("\t"),
}
#: The formats whose items may be objects; those of ``lines`` are text.
OBJECTS: Final = FORMATS.keys() - {"lines"}
