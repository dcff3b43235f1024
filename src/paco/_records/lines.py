"""Keys, which identify items, the function that made their results, and the record of an item to a line and back."""

from __future__ import annotations

import functools
import inspect
import json
import math
from array import array
from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco._base.check import shorten
from paco._records.values import convert, decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paco._base.item import Ran

#: Always the encoder of the standard library: others write some floats differently, which would change the keys.
_CANONICAL = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=convert).encode
#: The bytes of a key. A record shows it as twice as many hex digits.
KEY_SIZE: Final = 16
#: The bytes of a key that earlier versions of the command wrote. The index compares only this many bytes.
SHORT_KEY: Final = 8
#: With ten million keys in this many shards, an insertion into an array moves 80 kB.
_SHARDS: Final = 1024
#: The position of a record that does not exist.
NOWHERE: Final = -1


def canonical(value: Any) -> bytes:
    """Return the canonical JSON form of a value: equal values have the same form, in whatever order their fields are.

    Raises:
        TypeError: The value has no JSON form.
        ValueError: The value contains itself.
        RecursionError: The value is nested too deeply.
    """
    return _CANONICAL(value).encode()


def digest(content: bytes, occurrence: int, size: int) -> bytes:
    """Return the key of an item: ``size`` bytes of BLAKE2b (RFC 7693).

    Args:
        content: The canonical form of what identifies the item.
        occurrence: How many equal items came before. From 1 on, a space and this number are hashed too. No canonical
            form ends like that, so the hashed bytes never equal those of another item.
        size: The bytes of the key.
    """
    if occurrence:
        content = b"%b %d" % (content, occurrence)
    return blake2b(content, digest_size=size).digest()


class Seen:
    """A set of 64-bit numbers that only grows.

    Memory: 9 to 14 bytes for each number, where a ``set`` of ints takes 60 to 100. The numbers are in sorted arrays,
    which are searched and moved in C. There are 1024 arrays, so an insertion moves little.
    """

    def __init__(self) -> None:
        self._shards = [array("Q") for _ in range(_SHARDS)]

    def add(self, number: int) -> bool:
        """Add a number; return whether it was in the set before."""
        shard = self._shards[number % _SHARDS]
        place = bisect_left(shard, number)
        if place < len(shard) and shard[place] == number:
            return True
        shard.insert(place, number)
        return False


class Index:
    """Maps keys to the positions of their records.

    Memory: 17 to 27 bytes for each key, where a ``dict`` takes 200. Sorted arrays, as in `Seen`, hold 64 bits of each
    key and 64 bits for its position. In one of 37 million files of a million keys, two keys share their 64 bits; the
    record at the position then has another key.
    """

    def __init__(self) -> None:
        self._shards: defaultdict[int, tuple[array[int], array[int]]] = defaultdict(lambda: (array("Q"), array("Q")))

    def put(self, key: bytes, position: int) -> None:
        """Store the position of the record of a key, in place of an earlier position."""
        number = int.from_bytes(key[:SHORT_KEY])
        numbers, positions = self._shards[number % _SHARDS]
        place = bisect_left(numbers, number)
        if place == len(numbers) or numbers[place] != number:
            numbers.insert(place, number)
            positions.insert(place, position)
        else:
            positions[place] = position

    def get(self, key: bytes) -> int:
        """Return the position of the record of a key, or `NOWHERE`."""
        number = int.from_bytes(key[:SHORT_KEY])
        numbers, positions = self._shards[number % _SHARDS]
        place = bisect_left(numbers, number)
        return positions[place] if place < len(numbers) and numbers[place] == number else NOWHERE


class Keys:
    """Assigns each item its key, and finds the record of that key from an earlier run.

    Memory: 9 to 14 bytes for each item, about 200 for one that equals an earlier one, and 17 to 27 for each record.
    """

    def __init__(self) -> None:
        self._seen = Seen()
        self._index = Index()
        self._repeats: dict[bytes, int] = {}
        self._any = self._short = False  # whether there are records, and some with short keys

    def put(self, key: bytes, position: int) -> None:
        """Store the position of the record of a key, in place of an earlier position."""
        self._index.put(key, position)
        self._any = True
        self._short = self._short or len(key) == SHORT_KEY

    def next(self, content: bytes) -> tuple[bytes, int]:
        """Return the key of the next item, and the position of its record or `NOWHERE`.

        An item that equals an earlier one gets a key of its own. An item that has a record with a short key keeps that
        key, so that all its records share one key.

        Args:
            content: The canonical form of what identifies the item.
        """
        occurrence, key = 0, digest(content, 0, KEY_SIZE)
        if self._seen.add(int.from_bytes(key[:SHORT_KEY])):
            self._repeats[key] = occurrence = self._repeats.get(key, 0) + 1
            key = digest(content, occurrence, KEY_SIZE)
        if not self._any:
            return key, NOWHERE
        position = self._index.get(key)
        if self._short and position == NOWHERE:
            older = digest(content, occurrence, SHORT_KEY)
            if (position := self._index.get(older)) != NOWHERE:
                return older, position
        return key, position


_new: Final[Any] = vars(tuple)["__new__"]  # takes a quarter of the time of the constructor of a named tuple
#: The bytes with which every record begins.
BEGINNING: Final = b'{"id":'


class Span(NamedTuple):
    """When and where an item ran.

    Attributes:
        attempts: The number of calls of the function.
        slot: The slot of the item; ``None`` if it did not run.
        start: The start, in seconds since 1970 (UTC); 0 if unknown.
        ms: The duration in milliseconds, pauses between attempts included.
        worker: The name of the worker that ran it; ``None`` for this process.
    """

    attempts: int
    slot: int | None
    start: float
    ms: float
    worker: str | None = None


def span_of(attempts: int, slot: int, date: float, began: float, ended: float, ran: Ran | None) -> Span:
    """Return the span of an item that has just ended.

    Args:
        attempts: The number of calls of the function.
        slot: The slot of the item.
        date: When the item began, in seconds since 1970.
        began: The same moment on the clock of the run, in seconds.
        ended: When it ended, on the clock of the run.
        ran: If a worker ran the item, when and where it did; this replaces the times above.
    """
    if ran is None:
        span: Span = _new(Span, (attempts, slot, date, 1000 * (ended - began), None))
        return span
    return Span(attempts, slot, date + (ran.start - began), 1000 * (ran.end - ran.start), ran.worker)


# ---- writing


@functools.lru_cache(64)  # formatting takes 2 us; when that matters, many items start in the same second
def _second(number: int) -> str:
    return f"{datetime.fromtimestamp(number, UTC):%Y-%m-%dT%H:%M:%S}"


def opening(position: int, key: str, value: Any) -> str:
    """Return the start of a record. Call it before the item runs, since the function may change the value."""
    return f'{{"id":{position},"key":"{key}","input":{encode(value)}'


def result(value: Any) -> str:
    """Return the part of a record that holds a result.

    Raises:
        NotJSONError: JSON cannot hold the result.
    """
    return success(encode(value))


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


@functools.lru_cache(64)
def _where(worker: str) -> str:
    return f',"worker":{encode(worker)}'


# ---- reading


class Record(NamedTuple):
    """A record that was read from a line.

    Attributes:
        key: The key of the item.
        ok: Whether the item succeeded.
        outcome: The result, or the error as a dict with ``type`` and ``message``.
        fields: All fields of the record.
    """

    key: bytes
    ok: bool
    outcome: Any
    fields: dict[str, Any]

    def span(self) -> Span:
        """Return when and where the item ran. Fields that are missing, as in a line written by hand, get defaults."""
        worker = self.fields.get("worker")
        try:
            start = datetime.fromisoformat(self.fields["start"]).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError):
            start = 0.0
        return Span(
            int(self._number("attempts", 1)),
            None if self.fields.get("slot") is None else int(self._number("slot", 0)),
            start,
            self._number("ms", 0.0),
            worker if isinstance(worker, str) else None,
        )

    def error(self) -> tuple[str, str]:
        """Return the name of the error's type, and its message."""
        return str(self.outcome.get("type")), str(self.outcome.get("message"))

    def _number(self, field: str, default: float) -> float:
        value = self.fields.get(field)
        return value if isinstance(value, int | float) and abs(value) < math.inf else default


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
        outcome = fields["result"]
    elif ok is False and isinstance(fields.get("error"), dict):
        outcome = fields["error"]
    else:
        raise ValueError("it has neither a result nor an error")
    return Record(key, ok, outcome, fields)


def is_torn(line: bytes) -> bool:
    """Return whether a line is the beginning of a record that a killed process or a crashed machine left incomplete.

    Any other line without a line end is not torn: it may be the only line of an unrelated file.
    """
    begun = line.rstrip(b"\0")  # a file system may fill the part that it had not written yet with zeros
    if line.endswith(b"\n") or not (begun.startswith(BEGINNING) or BEGINNING.startswith(begun)):
        return False
    try:
        decode(line)
    except ValueError:
        return True
    return False


_LAMBDA = "<lambda>"


class Maker(NamedTuple):
    """The identity of a function that makes results.

    Attributes:
        name: The qualified name, without the module.
        source: A hash of the source, 16 hex digits; ``None`` if the source is unknown.
    """

    name: str
    source: str | None

    def fields(self, version: int | str | None = None) -> str:
        """Return the fields of a record that name the function, as JSON with a leading comma."""
        known = {"function": self.name, "source": self.source, "version": version}
        return "".join(f',"{name}":{encode(value)}' for name, value in known.items() if value is not None)

    def has_made(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record names the same function, or none."""
        return record.get("function") in (None, self.name)  # not a set: the field may hold any JSON, even a list

    def has_changed(self, source: str | None) -> bool:
        """Return whether ``source``, the hash in a record, differs from this one. An unknown source does not differ."""
        return None not in (source, self.source) and source != self.source


def made_by(fn: Any) -> Maker:
    """Return the identity of the innermost function, inside decorators and `functools.partial` objects.

    The module is left out, since a script is named ``__main__`` when it is run but not when it is imported. The source
    of a lambda counts as unknown, since `inspect` returns the whole line that contains it.
    """
    while True:
        if isinstance(fn, partial):
            fn = fn.func
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        else:
            break
    if not hasattr(fn, "__qualname__"):
        fn = fn.__class__
    return Maker(fn.__qualname__, None if fn.__qualname__.endswith(_LAMBDA) else _source(fn))


def _source(fn: Any) -> str | None:
    try:
        text = inspect.getsource(fn)
    except (OSError, TypeError):  # typed into an interpreter, or written in C
        return None
    return blake2b(inspect.cleandoc(text).encode(), digest_size=8).hexdigest()
