"""Encode values as JSON and decode them: conversions, refused types, and output that cannot disturb a terminal."""

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
    """Raised for a value that JSON cannot hold. The message names its type."""


def _sorted(values: set[Any] | frozenset[Any]) -> list[Any]:
    """Return a set as a sorted list. The order of iteration differs between processes, since hashes of text do."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


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
        return _fields(value)
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
        return {str(key) if isinstance(key, float) else key: _finite(one) for key, one in value.items()}
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
            deeply, or is an integer with more digits than Python reads.
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
            return _READABLE(value)
        except ValueError:  # NaN or an infinity; a value that contains itself raises RecursionError in _finite
            return _READABLE(_finite(value))
    except RecursionError:
        raise NotJSONError("JSON cannot hold a value that contains itself or is nested too deeply") from None
    except (TypeError, ValueError) as error:  # ValueError: an int with more digits than Python reads
        raise NotJSONError(str(error)) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
#: orjson reads an integer of more than 64 bits as a float: from 2^64 up, which has 20 digits, and below -2^63, which
#: has 19. To find such integers, each digit of a line is replaced by 9, and runs of nines are searched for. That takes
#: 0.5 us for a line of 300 bytes, a regular expression 6 us.
_LONG, _POSITIVE, _NEGATIVE = b"9" * 19, b"9" * 20, b"-" + b"9" * 19
_NINES = bytes.maketrans(b"012345678", b"9" * 9)


def _has_large(text: bytes) -> bool:
    """Return whether a line may contain an integer of more than 64 bits."""
    nines = text.translate(_NINES)
    return _LONG in nines and (_POSITIVE in nines or _NEGATIVE in nines)


def decode(text: bytes) -> Any:
    """Return the value of a line of JSON.

    Raises:
        ValueError: The line is not JSON.
    """
    if FAST is not None and not _has_large(text):
        try:
            return FAST[1](text)
        except ValueError:  # a lone surrogate in escapes, which a Python string can hold; or not JSON
            pass
    try:
        return _decoder.decode(text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
