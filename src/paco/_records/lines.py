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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

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
    raise NotJSONError(f"JSON cannot hold a value of type {name}; return dict, list, str, numbers, bool or None")


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


#: The encoder and the decoder of orjson; ``None`` if it is not installed.
FAST = _fast()


def encode(value: Any) -> str:
    """Return ``value`` as one line of JSON.

    Printable text stays readable. A value with any other character outside ASCII (C1 controls, direction overrides,
    lone surrogates) is written in ASCII escapes, so that a record shown by ``cat`` cannot disturb a terminal.

    Raises:
        NotJSONError: A value or a key of a dict has a type that JSON cannot hold, contains itself, is nested too
            deeply, or is an integer with more digits than Python reads; or two keys, as ``1`` and ``"1"``, become one.
    """
    text = None
    if FAST is not None:
        try:
            text = FAST[0](value).decode()
        except (TypeError, RecursionError):  # an int of more than 64 bits, a key that is not text, or a real error
            pass
    if text is None:
        text = _plainly(value)
    return text if text.isascii() or text.isprintable() else _ASCII(_decoder.decode(text))


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
        if _LONG not in nines or (_POSITIVE not in nines and _NEGATIVE not in nines):
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
#: The beginning of a lone surrogate in JSON: two lone surrogates in a row come back as one character.
SURROGATE: Final = "\\ud"


def through_json(value: Any) -> tuple[str, Any]:
    """Return a value as JSON, and the value that reading this JSON returns.

    Raises:
        NotJSONError: JSON cannot hold the value.
    """
    text = encode(value)
    return text, value if type(value) in SAME and SURROGATE not in text else decode(text.encode())


# ---- records to lines

#: The bytes of a key that earlier versions of the command wrote. Others are longer.
SHORT_KEY: Final = 8
_new: Final[Any] = vars(tuple)["__new__"]  # takes a quarter of the time of the constructor of a named tuple


class Span(NamedTuple):
    """When and where an item ran."""

    attempts: int  # calls of the function
    slot: int | None  # None if the item did not run
    start: float  # in seconds since 1970 (UTC); 0 if unknown
    ms: float  # the duration in milliseconds, pauses between attempts included
    worker: str | None = None  # the name of the worker that ran it; None for this process


def span_of(attempts: int, slot: int, date: float, began: float, ended: float, ran: Ran | None) -> Span:
    """Return the span of an item that has just ended. If a worker ran the item, its times replace the given ones.

    The start is given twice: ``date`` is in seconds since 1970; ``began``, like ``ended``, is on the clock of the run.
    """
    if ran is None:
        span: Span = _new(Span, (attempts, slot, date, 1000 * (ended - began), None))
        return span
    return Span(attempts, slot, date + (ran.start - began), 1000 * (ran.end - ran.start), ran.worker)


def opening(position: int, key: str, value: Any) -> str:
    """Return the start of a record. Call it before the item runs, since the function may change the value."""
    return f'{{"id":{position},"key":"{key}","input":{encode(value)}'


def success(text: str) -> str:
    """Return the part of a record that holds a result, given as JSON."""
    return f'"ok":true,"result":{text}'


def failure(kind: str, text: str) -> str:
    """Return the part of a record that holds an error: the name of its type, and its message."""
    return f'"ok":false,"error":{{"type":{encode(kind)},"message":{encode(text)}}}'


def line(opening: str, outcome: str, span: Span, more: str = "") -> bytes:
    """Return a record as a line; ``more`` holds further fields, with a leading comma."""
    attempts, slot, start, ms, worker = span
    second, fraction = divmod(round(start * 1e6), 1_000_000)
    where = "" if worker is None else _where(worker)
    return (
        f'{opening},{outcome},"attempts":{attempts},"slot":{"null" if slot is None else slot},'
        f'"start":"{_second(second)}.{fraction // 1000:03}Z","ms":{ms:.1f}{where}{more}}}\n'
    ).encode()


@functools.lru_cache(64)  # formatting takes 2 us; when that matters, many items start in the same second
def _second(number: int) -> str:
    return f"{dt.datetime.fromtimestamp(number, dt.UTC):%Y-%m-%dT%H:%M:%S}"


@functools.lru_cache(64)
def _where(worker: str) -> str:
    return f',"worker":{encode(worker)}'


# ---- lines to records


class Record(NamedTuple):
    """A record that was read from a line."""

    key: bytes
    ok: bool
    outcome: Any  # the result, or the error as a dict with `type` and `message`
    fields: dict[str, Any]  # all of them

    def span(self) -> Span:
        """Return when and where the item ran. Fields that are missing, as in a line written by hand, get defaults."""
        worker = self.fields.get("worker")
        try:
            start = dt.datetime.fromisoformat(self.fields["start"]).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError):
            start = 0.0
        slot = None if self.fields.get("slot") is None else int(self._number("slot", 0))
        where = worker if isinstance(worker, str) else None
        return Span(int(self._number("attempts", 1)), slot, start, self._number("ms", 0.0), where)

    def error(self) -> tuple[str, str]:
        """Return the name of the error's type, and its message."""
        return str(self.outcome.get("type")), str(self.outcome.get("message"))

    def _number(self, field: str, default: float) -> float:
        value = self.fields.get(field)
        return value if isinstance(value, int | float) and abs(value) <= sys.float_info.max else default


def parse(line: bytes) -> Record:
    """Return the record in a line.

    Raises:
        ValueError: The line is not a record; the message says why.
    """
    value: object = decode(line)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - the callers catch one type of error
    fields = cast("dict[str, Any]", value)
    digits, ok = fields.get("key"), fields.get("ok")
    key = bytes.fromhex(digits) if isinstance(digits, str) else b""
    if len(key) < SHORT_KEY:
        raise ValueError(f"its key is {shorten(digits)}")
    if ok is True and "result" in fields:
        return Record(key, ok, fields["result"], fields)
    if ok is False and isinstance(fields.get("error"), dict):
        return Record(key, ok, fields["error"], fields)
    raise ValueError("it has neither a result nor an error")


def is_record(line: bytes) -> bool:
    """Return whether a line is a record."""
    try:
        parse(line)
    except ValueError:
        return False
    return True


#: The id of a record at its beginning, and what a record with the id 0 begins with.
_ID: Final = re.compile(rb'\{"id":\d+')
_BEGINNING: Final = b'{"id":0,"key":"'


def is_torn(line: bytes, *, after_record: bool) -> bool:
    """Return whether a line is the beginning of a record that a killed process or a crashed machine left incomplete.

    Any other line is not torn: it may be part of an unrelated file. So zeros, with which a file system fills what it
    had not written yet, are torn only after a record.
    """
    begun = line.rstrip(b"\0\n")
    known = _ID.sub(b'{"id":0', begun, count=1)
    if not (known.startswith(_BEGINNING) or _BEGINNING.startswith(known)) or not (begun or after_record):
        return False
    try:
        decode(line)
    except ValueError:
        return True
    return False
