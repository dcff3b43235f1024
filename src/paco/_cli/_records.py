"""The record of an item: one line of JSON that says what went in, what came out, and when."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._cli._values import encode

if TYPE_CHECKING:
    from paco._cli._formats import Problem
    from paco._cli._inputs import Item


class Span(NamedTuple):
    """When and where an item ran: the attempts, its slot, the time of day (seconds since 1970), milliseconds."""

    attempts: int
    slot: int | None
    start: float
    ms: float


class Slots:
    """Hands out the lowest free number, so that the records of one slot never overlap: a row of a timeline."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._made = 0

    def take(self) -> int:
        """Return the lowest free slot."""
        if self._free:
            return heapq.heappop(self._free)
        self._made += 1
        return self._made - 1

    def give(self, slot: int) -> None:
        """Make a slot free again."""
        heapq.heappush(self._free, slot)


def opening(item: Item) -> str:
    """Return the part of the record that is known before the item runs, which may change its value."""
    return f'{{"id":{item.id},"key":"{item.key}","input":{encode(item.value)}'


def result(value: Any) -> str:
    """Return the part of the record that holds a result.

    Raises:
        NotJSONError: JSON cannot hold it.
    """
    return f'"ok":true,"result":{encode(value)}'


def failure(problem: Problem) -> str:
    """Return the part of the record that holds an error."""
    return f'"ok":false,"error":{{"type":{encode(problem.type)},"message":{encode(problem.message)}}}'


def line(opening: str, outcome: str, span: Span) -> bytes:
    """Return the record as a line."""
    slot = "null" if span.slot is None else span.slot
    start = datetime.fromtimestamp(span.start, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    timing = f'"attempts":{span.attempts},"slot":{slot},"start":"{start}","ms":{round(span.ms, 1)}'
    return f"{opening},{outcome},{timing}}}\n".encode()
