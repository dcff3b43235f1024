"""Values as JSON: what is converted, what is refused, and text that no terminal is disturbed by."""

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
import uuid
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


class NotJSONError(TypeError):
    """A value that JSON cannot hold; the text names its type."""


def _sorted(values: set[Any] | frozenset[Any]) -> list[Any]:
    """Return a set as a list in an order that is the same in every process, which hashes of text are not."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


#: Base64 for all bytes, as Go, protobuf and Jackson do: now text and now base64 could not be read back. The first ones
#: are what the standard library makes of subclasses of what JSON has, for orjson.
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
    """Return ``value`` one step nearer to JSON: the hook for what the encoder does not know."""
    for types, conversion in _CONVERSIONS:
        if isinstance(value, types):
            return conversion(value)
    kind = value.__class__
    if dataclasses.is_dataclass(kind):
        return _fields(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise NotJSONError(f"JSON cannot hold a value of type {name}; return dict, list, str, numbers, bool or None")


def _finite(value: Any) -> Any:
    """Return ``value`` with NaN and the infinities as None, which is what JavaScript and orjson write for them."""
    known: object = value
    if known is None or isinstance(known, bool | int | str):
        return known
    if isinstance(known, float):
        return known if math.isfinite(known) else None
    if isinstance(known, dict):
        return {str(key) if isinstance(key, float) else key: _finite(one) for key, one in value.items()}
    if isinstance(known, list | tuple):
        return [_finite(one) for one in value]
    return _finite(convert(value))


_SHAPE: Any = {"allow_nan": False, "separators": (",", ":"), "default": convert}
_READABLE = json.JSONEncoder(ensure_ascii=False, **_SHAPE).encode
_ASCII = json.JSONEncoder(ensure_ascii=True, **_SHAPE).encode


def _fast() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]] | None:
    """Return what orjson encodes and decodes with, if it is installed: in a fifth of the time."""
    try:
        import orjson
    except ImportError:
        return None
    # What it would convert by itself, and otherwise than we do, is left to `convert`. Of a subclass of dict or list it
    # takes what that holds, not what that gives: a dict of the web frameworks holds a list for each key.
    options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
    return functools.partial(orjson.dumps, default=convert, option=options), orjson.loads


#: With the standard library alone it is ``None``.
FAST = _fast()


def encode(value: Any) -> str:
    """Return ``value`` as one line of JSON.

    Printable text stays readable. A value with any other character outside ASCII (C1 controls, direction overrides,
    lone surrogates) is written in ASCII escapes, so that a record shown by ``cat`` cannot disturb a terminal.

    Raises:
        NotJSONError: a value, or the key of a dict, is of a type that JSON cannot hold, or too long to be read back.
    """
    text = None
    if FAST is not None:
        try:
            text = FAST[0](value).decode()
        except (TypeError, RecursionError):  # an int of more than 64 bits, a key that is no text, an error
            pass
    if text is None:
        text = _plainly(value)
    return text if text.isascii() or text.isprintable() else _ASCII(_decoder.decode(text))


def _plainly(value: Any) -> str:
    try:
        try:
            return _READABLE(value)
        except ValueError:  # NaN or an infinity; a value that holds itself ends in the RecursionError below
            return _READABLE(_finite(value))
    except RecursionError:
        raise NotJSONError("JSON cannot hold a value that holds itself or is nested too deeply") from None
    except (TypeError, ValueError) as error:  # ValueError: an int of more digits than Python reads
        raise NotJSONError(str(error)) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
#: Beyond 64 bits orjson makes a float of an integer: from 2^64 up, which has 20 digits, and below -2^63, which has 19.
#: To look for so many nines takes 0.5 us for a line of 300 bytes in which each digit has become one; a regular
#: expression takes 6.
_LONG, _POSITIVE, _NEGATIVE = b"9" * 19, b"9" * 20, b"-" + b"9" * 19
_NINES = bytes.maketrans(b"012345678", b"9" * 9)


def _has_large(text: bytes) -> bool:
    """Say whether a line may hold an integer of more than 64 bits."""
    nines = text.translate(_NINES)
    return _LONG in nines and (_POSITIVE in nines or _NEGATIVE in nines)


def decode(text: bytes) -> Any:
    """Return the value that a line of JSON holds.

    Raises:
        ValueError: It is not JSON.
    """
    if FAST is not None and not _has_large(text):
        try:
            return FAST[1](text)
        except ValueError:  # half of a surrogate pair in escapes, which Python's text can hold, or not JSON
            pass
    try:
        return _decoder.decode(text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
