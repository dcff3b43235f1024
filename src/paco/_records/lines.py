"""Write and read the record of an item: one line of JSON with the item, its outcome, and when and where it ran."""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco._base.check import shorten
from paco._records.keys import SHORT_KEY
from paco._records.values import decode, encode

if TYPE_CHECKING:
    from paco._base.item import Ran

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
