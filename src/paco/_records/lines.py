"""The record of an item: one line of JSON that says what went in, what came out, and when."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any, NamedTuple

from paco._records.values import encode


class Span(NamedTuple):
    """When and where an item ran.

    Attributes:
        attempts: So many.
        slot: Its slot; ``None`` if it has not been run.
        start: The time of day, in seconds since 1970.
        ms: How long it took, in milliseconds.
        worker: The name of the worker that it ran in; ``None`` for this process.
    """

    attempts: int
    slot: int | None
    start: float
    ms: float
    worker: str | None = None


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
