"""The record of an item: one line of JSON that says what went in, what came out, and when; written and read."""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco._base.check import shorten
from paco._records.keys import SHORT_KEY
from paco._records.values import decode, encode

if TYPE_CHECKING:
    from paco._base.worker_info import Ran

_new: Final[Any] = vars(tuple)["__new__"]  # a quarter of what the constructor of a named tuple takes
#: How every record begins.
BEGINNING: Final = b'{"id":'


class Span(NamedTuple):
    """When and where an item ran.

    Attributes:
        attempts: How often the function was called.
        slot: Its slot; ``None`` if it has not been run.
        start: The time of day, in seconds since 1970; 0 if that is not known.
        ms: How long it took, in milliseconds.
        worker: The name of the worker that it ran in; ``None`` for this process.
    """

    attempts: int
    slot: int | None
    start: float
    ms: float
    worker: str | None = None


def span_of(attempts: int, slot: int, date: float, began: float, ended: float, ran: Ran | None) -> Span:
    """Return the span of an item that began at a time of day; ``ran`` says when and where that really was."""
    if ran is None:
        span: Span = _new(Span, (attempts, slot, date, 1000 * (ended - began), None))
        return span
    return Span(attempts, slot, date + (ran.start - began), 1000 * (ran.end - ran.start), ran.worker)


# ---- writing


@functools.lru_cache(64)  # a moment takes 2 us, and where that matters, many items start in the same second
def _second(number: int) -> str:
    return f"{datetime.fromtimestamp(number, UTC):%Y-%m-%dT%H:%M:%S}"


def opening(position: int, key: str, value: Any) -> str:
    """Return the part of the record that is known before the item runs, which may change its value."""
    return f'{{"id":{position},"key":"{key}","input":{encode(value)}'


def result(value: Any) -> str:
    """Return the part of the record that holds a result.

    Raises:
        NotJSONError: JSON cannot hold it.
    """
    return success(encode(value))


def success(text: str) -> str:
    """Return the part of the record that holds a result, which has been encoded already."""
    return f'"ok":true,"result":{text}'


def failure(kind: str, text: str) -> str:
    """Return the part of the record that holds an error: the name of its type, and its message."""
    return f'"ok":false,"error":{{"type":{encode(kind)},"message":{encode(text)}}}'


def line(opening: str, outcome: str, span: Span, more: str = "") -> bytes:
    """Return the record as a line; ``more`` are further fields, after a comma."""
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
    """A record that was read: its key, the outcome (the result, or the fields of the error), and all its fields."""

    key: bytes
    ok: bool
    outcome: Any
    fields: dict[str, Any]

    def span(self) -> Span:
        """Return when and where the item ran; the record may lack any of it, if it was written by hand."""
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
        """Return the type of the error, and its message."""
        return str(self.outcome.get("type")), str(self.outcome.get("message"))

    def _number(self, field: str, default: float) -> float:
        value = self.fields.get(field)
        return value if isinstance(value, int | float) and abs(value) < math.inf else default


def parse(line: bytes) -> Record:
    """Return what a line tells.

    Raises:
        ValueError: It is not a record.
    """
    value: object = decode(line)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - of JSON; readers of lines catch one kind
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
    """Say whether a line is the beginning of a record, in whose middle the process or the machine has ended.

    What else has no end of line is left alone: it may be the only line of some other file.
    """
    begun = line.rstrip(b"\0")  # which is what a file system may leave of what it had not written yet
    if line.endswith(b"\n") or not (begun.startswith(BEGINNING) or BEGINNING.startswith(begun)):
        return False
    try:
        decode(line)
    except ValueError:
        return True
    return False
