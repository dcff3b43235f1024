"""Formats: how the bytes of an input are cut into items, and what the value of each is.

A format has ``split`` and ``last``, which give the raw items of a chunk and of the end, blank ones left out, and
``parse``, which gives the value of a raw item. They are apart so that items can be counted without being parsed.
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
    """Why an item cannot be run: the ``error`` of its record."""

    type: str
    message: str


def recreated(problem: Problem) -> Exception:
    """Return an exception that looks as ``problem`` says: for listeners, which know errors by their type."""
    kind: type[Exception] = type(problem.type, (Exception,), {})
    return kind(problem.message)


class Format(Protocol):
    """Cuts one input into items."""

    def split(self, chunk: bytes, /) -> Iterable[bytes]:
        """Give the raw items that ``chunk`` ends."""
        ...

    def last(self) -> Iterable[bytes]:
        """Give the raw items that the end of the input ends."""
        ...

    def parse(self, raw: bytes, /) -> tuple[Any, Problem | None]:
        """Return the value of a raw item, or its text and what is wrong with it."""
        ...


def _text(raw: bytes) -> str:
    return raw.removesuffix(b"\r").decode(errors="backslashreplace")


def _cut_short(raw: bytes, what: str) -> tuple[Any, Problem]:
    shown = _text(raw[:_SHOWN]) + "..."
    return shown, Problem("LineTooLong", f"{what} may have {LONGEST_LINE >> 20} MiB")


class LineFormat:
    """Lines, as text or as JSON."""

    def __init__(self, parse: Callable[[str], tuple[Any, Problem | None]]) -> None:
        self._splitter = Splitter()
        self._parse = parse

    def split(self, chunk: bytes) -> Iterable[bytes]:
        """Give the lines that ``chunk`` ends."""
        return filter(bytes.strip, self._splitter.feed(chunk))

    def last(self) -> Iterable[bytes]:
        """Give the last line, if it came without a line end."""
        return filter(bytes.strip, self._splitter.end())

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        """Return the value of a line."""
        return self._parse(_text(raw)) if len(raw) <= LONGEST_LINE else _cut_short(raw, "a line")


def _as_text(text: str) -> tuple[Any, Problem | None]:
    return text, None


def _as_json(text: str, what: str = "the line") -> tuple[Any, Problem | None]:
    try:
        return _DECODER.decode(text), None
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}"
    except ValueError as error:  # NaN, a key that comes twice, or a number of thousands of digits
        reason = str(error)
    except RecursionError:
        reason = "it is nested too deeply"
    return text, Problem("JSONDecodeError", f"{what} is not JSON: {reason}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of a key that comes twice, one value would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {json.dumps(twice)} comes twice in an object")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_object)
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
#: All up to the next sign that nests or, where there is nothing to nest out of, divides; or to an unclosed string.
_DEEP: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_FLAT: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
_COMMA = ord(",")
_NESTS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, _COMMA: 0}
_IN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BOM = b"\xef\xbb\xbf"


def _past(pattern: re.Pattern[bytes], chunk: bytes, place: int) -> int:
    """Return where the match of a pattern ends that matches everywhere, if only nothing."""
    match = pattern.match(chunk, place)
    return place if match is None else match.end()


class ArrayFormat:
    """The elements of one JSON array, cut out as they come, each parsed by itself: a bad one is an error of its own.

    Of an element over the longest, one byte too many is kept, which tells it.
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
        """Give the elements that ``chunk`` ends."""
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
        """Return where the next sign of structure is, if it is in this chunk."""
        pattern = _FLAT if self._depth == 1 else _DEEP
        place = _past(pattern, chunk, place)
        if chunk[place : place + 1] != b'"':
            return place
        self._in_string = True  # it goes on in the next chunk
        return self._after_string(chunk, place + 1)

    def last(self) -> Iterable[bytes]:
        """Hear of the end.

        Raises:
            BrokenInputError: The array has none.
        """
        if self._depth:
            raise BrokenInputError("it is cut off: the JSON array has no end")
        return ()

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        """Return the value of an element."""
        return _as_json(_text(raw), "the element") if len(raw) <= LONGEST_LINE else _cut_short(raw, "an element")

    def _opened(self, chunk: bytes) -> bytes:
        """Return what stands behind the bracket that opens the array."""
        if self._ended:
            self._end(chunk)
            return b""
        chunk = (b"".join(self._parts) + chunk).removeprefix(_BOM).lstrip()
        self._parts = []
        if not chunk or _BOM.startswith(chunk):
            self._parts = [chunk]
            return b""
        if chunk[:1] != b"[":
            what = "a JSON object" if chunk[:1] == b"{" else "no JSON array"
            raise BrokenInputError(f"it holds {what}; expected an array: [...] (for one value a line: --format jsonl)")
        self._depth = 1
        return chunk[1:]

    def _end(self, rest: bytes) -> None:
        self._ended = True
        if rest.strip():
            raise BrokenInputError("something follows the end of the JSON array (for one value a line: --format jsonl)")

    def _after_string(self, chunk: bytes, place: int) -> int:
        """Return where the string that ``place`` is in ends, and remember if it goes on."""
        if not self._in_string:
            return place
        end = _past(_IN_STRING, chunk, place + self._escaped)
        self._escaped = chunk[end : end + 1] == b"\\"
        self._in_string = end == len(chunk) or self._escaped
        return len(chunk) if self._in_string else end + 1

    def _element(self, *, last: bool) -> Iterable[bytes]:
        element = b"".join(self._parts).strip()
        self._parts, self._size = [], 0
        if element or self._several or not last:  # not for []
            yield element
        self._several = True

    def _keep(self, part: bytes) -> None:
        part = part[: LONGEST_LINE + 1 - self._size]
        self._parts.append(part)
        self._size += len(part)


class TableFormat:
    """The rows below a header, as objects: CSV as in RFC 4180, and the same between tabs."""

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
        """Give the rows that ``chunk`` ends."""
        for line in self._splitter.feed(chunk):
            yield from self._add(line)

    def last(self) -> Iterable[bytes]:
        """Give the last row."""
        for line in self._splitter.end():
            yield from self._add(line)
        yield from self._give_up()

    def parse(self, raw: bytes) -> tuple[Any, Problem | None]:
        """Return a row as an object, all its values text."""
        if len(raw) > LONGEST_LINE:
            return _cut_short(raw, "a row")
        text, header = _text(raw), self._header or []
        try:
            fields = self._fields(text)
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            return text, Problem("CSVError", "a quote is opened and not closed" if unclosed else str(error))
        if len(fields) != len(header):
            return text, Problem("CSVError", f"the row has {len(fields)} fields, the header {len(header)}")
        return dict(zip(header, fields, strict=True)), None

    def _fields(self, text: str) -> list[str]:
        return next(csv.reader([text], delimiter=self._delimiter, strict=True))

    def _add(self, line: bytes) -> Iterable[bytes]:
        """Take a line; a row goes on in the next while a quote is open."""
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
        """Give the lines behind a quote that is never closed one by one: none of them has a quote that could be one."""
        lines, self._lines, self._size, self._open = self._lines, [], 0, False
        for line in filter(bytes.strip, lines):
            yield from self._row(line)

    def _is_open(self, line: bytes) -> bool:
        """Say whether a quoted field goes on behind ``line``; a quote counts at the beginning of a field only."""
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
            raise BrokenInputError("it is UTF-16; expected UTF-8 (iconv -f UTF-16 -t UTF-8)")
        try:
            header = self._fields(_text(raw))
        except csv.Error as error:
            raise BrokenInputError(f"its header cannot be read: {error}") from None
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise BrokenInputError(f"its header names {twice!r} twice: one of the two values would be lost")
        return header


_CLOSING: Final = re.compile(rb'(?:[^"]++|"")*+"')

FORMATS: dict[str, Callable[[], Format]] = {
    "lines": lambda: LineFormat(_as_text),
    "jsonl": lambda: LineFormat(_as_json),
    "json": ArrayFormat,
    "csv": lambda: TableFormat(","),
    "tsv": lambda: TableFormat("\t"),
}
#: Those whose items are objects.
OBJECTS: Final = FORMATS.keys() - {"lines"}
