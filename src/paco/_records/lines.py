"""Records as lines of JSON: values to JSON and back, and the record of an item to its line and back."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import math
import pathlib
import re
import sys
import uuid
from binascii import hexlify
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeAlias

from paco._base.check import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from paco._base.item import Ran


#: The most characters of a number in a message.
_SHOWN: Final = 200

# ---- values


class NotJSONError(TypeError):
    """Raised for a value that JSON cannot hold. The message names its type."""


def _sorted(values: set[Any] | frozenset[Any]) -> list[Any]:
    """Return a set as a sorted list. The order of iteration differs between processes, since hashes of text do.

    So does the result of sorting by ``<`` alone: sets have no total order, and neither have floats with a NaN.
    """
    steady = sorted(values, key=_plainly)
    try:
        return sorted(steady)
    except TypeError:
        return steady


#: The conversions, tried in this order. All bytes become base64, as in Go, protobuf and Jackson: if some became text,
#: no reader could tell the two apart. The first five make orjson treat subclasses of JSON's types as `json` does.
_CONVERSIONS: list[tuple[type | tuple[type, ...], Callable[[Any], Any]]] = [
    (dict, lambda value: dict(value.items())),
    ((list, tuple), list),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    ((set, frozenset), _sorted),
    ((dt.date, dt.time), lambda value: value.isoformat()),  # a datetime is a date
    (dt.timedelta, lambda value: value.total_seconds()),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    ((pathlib.PurePath, uuid.UUID, decimal.Decimal), str),
    (enum.Enum, lambda value: value.value),
]


def convert(value: Any) -> Any:
    """Return a value that is one step closer to JSON. The encoder calls this for types that it does not support.

    Raises:
        NotJSONError: There is no conversion for the type of ``value``.
    """
    for types, conversion in _CONVERSIONS:
        if isinstance(value, types):
            return conversion(value)
    kind = value.__class__
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    advice = "return dict, list, str, numbers, bool or None (of NumPy or pandas: .item(), .tolist(), .to_dict())"
    raise NotJSONError(f"JSON cannot hold a value of type {name}; {advice}")


def _finite(value: Any) -> Any:
    """Return ``value`` with ``None`` for NaN and the infinities, as JavaScript and orjson write them."""
    known: object = value
    if known is None or isinstance(known, bool | int | str):
        return known
    if isinstance(known, float):
        return known if math.isfinite(known) else None
    if isinstance(known, dict):
        return members([(str(key) if isinstance(key, float) else key, _finite(one)) for key, one in value.items()])
    if isinstance(known, list | tuple):
        return [_finite(one) for one in value]
    return _finite(convert(value))


_SHAPE: Any = {"allow_nan": False, "separators": (",", ":"), "default": convert}
_READABLE = json.JSONEncoder(ensure_ascii=False, **_SHAPE).encode
_ASCII = json.JSONEncoder(ensure_ascii=True, **_SHAPE).encode


def _fast() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]] | None:
    """Return the encoder and the decoder of orjson, if it is installed: they take a fifth of the time."""
    try:
        import orjson
    except ImportError:
        return None
    # `convert` handles the types that orjson would convert differently. Without PASSTHROUGH_SUBCLASS, orjson reads what
    # a subclass of dict stores, not what its methods return: multi-dicts of web frameworks store a list for each key.
    options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
    return functools.partial(orjson.dumps, default=convert, option=options), orjson.loads


_quoted: Final = json.encoder.encode_basestring_ascii
#: The encoder and the decoder of orjson; ``None`` if it is not installed.
FAST = _fast()


#: Integers from here on are left to the encoders.
_LARGE: Final = 1 << 63


def scalar(value: Any) -> bytes | None:
    """Return the JSON form of an int or of ASCII text, whose canonical form it is too; ``None`` for any other value."""
    if type(value) is str:
        return _quoted(value).encode() if value.isascii() else None
    try:
        return b"%d" % value if type(value) is int else None
    except ValueError:  # it has more digits than Python reads
        return None


def encode(value: Any) -> bytes:
    """Return ``value`` as one line of JSON.

    Printable text stays readable. A value with any other character outside ASCII (C1 controls, direction overrides,
    lone surrogates) is written in ASCII escapes, so that a record shown by ``cat`` cannot disturb a terminal.

    Raises:
        NotJSONError: A value or a key of a dict has a type that JSON cannot hold, contains itself, is nested too
            deeply, or is an integer with more digits than Python reads; or two keys, as ``1`` and ``"1"``, become one.
    """
    if (text := scalar(value)) is not None:
        return text
    if FAST is not None:
        try:
            data = bytes(memoryview(FAST[0](value)))  # a copy, since what orjson returns keeps a buffer of 4 KB
        except (TypeError, RecursionError):  # an int of more than 64 bits, a key that is not text, or a real error
            pass
        else:
            return data if data.isascii() else _printable(data.decode())
    return _printable(_plainly(value))


def _printable(text: str) -> bytes:
    return (text if text.isascii() or text.isprintable() else _ASCII(_decoder.decode(text))).encode()


def _plainly(value: Any) -> str:
    try:
        try:
            text = _READABLE(value)
        except ValueError:  # NaN or an infinity; a value that contains itself raises RecursionError in _finite
            text = _READABLE(_finite(value))
        if _UNLIKE_TEXT.search(text):  # two keys may have become one; to decode every value would take 6 us more
            _distinct.decode(text)
    except RecursionError:
        raise NotJSONError("JSON cannot hold a value that contains itself or is nested too deeply") from None
    except (TypeError, ValueError) as error:  # ValueError: two equal keys, or an int with more digits than Python reads
        raise NotJSONError(str(error)) from None
    return text


def refuse(constant: str) -> NoReturn:
    """Raise ``ValueError`` for NaN and the infinities, which JSON does not have."""
    raise ValueError(f"{constant} is not JSON")


def number(text: str) -> float:
    """Return a number of digits. Refuse one that a float cannot hold: it would be infinity, and null in a record."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:_SHOWN]} is too large for a float")
    return value


def members(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return an object; raise ``ValueError`` if it has a key twice, since one of the values would be lost silently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object has the key {json.dumps(first_twice(key for key, _ in pairs))} twice")
    return found


def first_twice(names: Iterable[Any]) -> Any:
    """Return the first name that came before, if there is one."""
    seen = set[Any]()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


_decoder = json.JSONDecoder(parse_constant=refuse)
#: Finds where a key may have been a number, a bool or None, which become text.
_UNLIKE_TEXT: Final = re.compile(r'[{,]"(?:-?[\dIi]|true"|false"|null"|[Nn]a[Nn]")')
_distinct = json.JSONDecoder(object_pairs_hook=members)
#: orjson reads an integer of more than 64 bits as a float: from 2^64 up, which has 20 digits, and below -2^63, which
#: has 19. To find such integers, each digit of a line is replaced by 9, and runs of nines are searched for. That takes
#: 0.5 us for a line of 300 bytes, a regular expression 6 us.
_LONG, _POSITIVE, _NEGATIVE = b"9" * 19, b"9" * 20, b"-" + b"9" * 19
_NINES = bytes.maketrans(b"012345678", b"9" * 9)


def decode(text: bytes) -> Any:
    """Return the value of a line of JSON.

    Raises:
        ValueError: The line is not JSON.
    """
    if FAST is not None:
        nines = text.translate(_NINES)
        # Not ``in``, which first tries to use the bytes as a number: it takes three times as long.
        if nines.find(_LONG) < 0 or (nines.find(_POSITIVE) < 0 and nines.find(_NEGATIVE) < 0):
            try:
                return FAST[1](text)
            except ValueError:  # a lone surrogate in escapes, which a Python string can hold; or not JSON
                pass
    try:
        return _decoder.decode(text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


#: Types whose values JSON returns unchanged. Not float: NaN comes back as None.
SAME: Final = frozenset({str, int, bool, type(None)})


# ---- records to lines

#: The bytes of a key that earlier versions of the command wrote. Others are longer.
SHORT_KEY: Final = 8


class Span(NamedTuple):
    """When and where an item ran."""

    attempts: int  # calls of the function
    slot: int | None  # None if the item did not run
    start: float  # in seconds since 1970 (UTC); 0 if unknown
    ms: float  # the duration in milliseconds, pauses between attempts included
    worker: str | None = None  # the name of the worker that ran it; None for this process


def span_there(attempts: int, slot: int | None, date: float, began: float, ran: Ran) -> Span:
    """Return the span of an item that a worker ran.

    The start here is given twice: ``date`` is in seconds since 1970, ``began`` is on the clock of the run.
    """
    return Span(attempts, slot, date + (ran.start - began), 1000 * (ran.end - ran.start), ran.worker)


#: The start of a record: its position, its key in hex digits, and the item as JSON.
OPENING: Final = b'{"id":%d,"key":"%b","input":%b'


def opening(position: int, key: bytes, text: bytes) -> bytes:
    """Return the start of a record; ``text`` is the item as JSON, made before it runs: the function may change it."""
    return OPENING % (position, hexlify(key), text)


def success(text: bytes) -> bytes:
    """Return the part of a record that holds a result, given as JSON."""
    return SUCCESS + text


#: The start of the part of a record that holds a result.
SUCCESS: Final = b'"ok":true,"result":'


def failure(kind: str, text: str, more: bytes = b"") -> bytes:
    """Return the part of a record that holds an error; ``more`` has further fields of it, with a leading comma."""
    return b'"ok":false,"error":{"type":%b,"message":%b%b}' % (encode(kind), encode(text), more)


#: The fields of a `Span`, as a tuple that is made in a tenth of the time.
SpanFields: TypeAlias = tuple[int, int | None, float, float, str | None]
#: The arguments of `line`.
Row: TypeAlias = tuple[bytes, bytes, SpanFields, bytes]


def line(opening: bytes, outcome: bytes, span: SpanFields, more: bytes = b"") -> bytes:
    """Return a record as a line; ``span`` has the fields of a `Span`, ``more`` further fields, with a leading comma.

    Formatting bytes takes half the time of formatting text and encoding it.
    """
    attempts, slot, start, ms, worker = span
    moment = moment_of(int(1e3 * start + HALF))
    if worker is not None:
        more = worker_of(worker) + more
    if slot is None:
        return _NOT_RUN % (opening, outcome, attempts, moment, ms, more)
    return _RAN % (opening, outcome, attempts, slot, moment, ms, more)


#: The end of a record: attempts, slot, start, milliseconds, and further fields with a leading comma.
ENDING: Final = b',"attempts":%d,"slot":%d,"start":"%b","ms":%.1f%b}\n'
_RAN: Final = b"%b,%b" + ENDING
_NOT_RUN: Final = b'%b,%b,"attempts":%d,"slot":null,"start":"%b","ms":%.1f%b}\n'


#: Of a start in milliseconds, the part of a microsecond that rounds it, since no float is exact. The rest is cut off.
HALF: Final = 5e-4


@functools.lru_cache(64)  # formatting takes 2 us; when that matters, many items start in the same millisecond
def moment_of(milliseconds: int) -> bytes:
    second, fraction = divmod(milliseconds, 1000)
    return f"{dt.datetime.fromtimestamp(second, dt.UTC):%Y-%m-%dT%H:%M:%S}.{fraction:03}Z".encode()


@functools.lru_cache(64)
def worker_of(worker: str) -> bytes:
    return b',"worker":' + encode(worker)


# ---- lines to records


class Record(NamedTuple):
    """A record that was read from a line."""

    key: bytes
    ok: bool
    outcome: Any  # the result, or the error as a dict with `type` and `message`
    fields: dict[str, Any]  # all of them

    def span(self) -> Span:
        """Return when and where the item ran. Fields that are missing, as in a line written by hand, get defaults."""
        get = self.fields.get
        attempts, slot, start, ms, worker = get("attempts"), get("slot"), get("start"), get("ms"), get("worker")
        if type(attempts) is not int or attempts > _LARGE:
            attempts = int(_number(attempts, 1))
        if slot is not None and (type(slot) is not int or slot > _LARGE):
            slot = int(_number(slot, 0))
        if type(ms) is not float:
            ms = _number(ms, 0.0)
        where = worker if isinstance(worker, str) else None
        span: Span = _new(Span, (attempts, slot, _date(start), ms, where))
        return span

    def error(self) -> tuple[str, str]:
        """Return the name of the error's type, and its message."""
        return str(self.outcome.get("type")), str(self.outcome.get("message"))


def _number(value: object, default: float) -> float:
    return value if isinstance(value, int | float) and abs(value) <= sys.float_info.max else default


def _date(text: Any) -> float:
    """Return the seconds since 1970 of a date in ISO 8601; 0 if it is none."""
    try:
        if text[19] == "." and text[23:] == "Z" and text[20:23].isdecimal():  # as `moment_of` writes it
            return _seconds(text[:19]) + int(text[20:23]) / 1000
        return dt.datetime.fromisoformat(text).timestamp()
    except (LookupError, TypeError, ValueError, OverflowError):
        return 0.0


@functools.lru_cache(64)  # parsing takes 1 us, and many items start in the same second
def _seconds(text: str) -> float:
    return dt.datetime.fromisoformat(f"{text}Z").timestamp()


_new: Final[Any] = vars(tuple)["__new__"]  # takes a quarter of the time of the constructor of a named tuple


def parse(line: bytes) -> Record:
    """Return the record in a line.

    Raises:
        ValueError: The line is not a record; the message says why.
    """
    found: Any = decode(line)
    fields: dict[str, Any] = found
    if not isinstance(found, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - the callers catch one type of error
    digits, ok = fields.get("key"), fields.get("ok")
    key = bytes.fromhex(digits) if isinstance(digits, str) else b""
    if len(key) < SHORT_KEY:
        raise ValueError(f"its key is {shorten(digits)}")
    if ok is True and "result" in fields:
        record: Record = _new(Record, (key, ok, fields["result"], fields))
        return record
    if ok is False and isinstance(fields.get("error"), dict):
        return Record(key, ok, fields["error"], fields)
    raise ValueError("it has neither a result nor an error")
