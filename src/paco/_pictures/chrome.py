"""A trace in the Trace Event Format, for Perfetto (https://ui.perfetto.dev) and chrome://tracing.

The format is described in https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Each run is
a process, each slot a thread, and each item a complete event ("X"). Each worker is a process too. Times are in
microseconds, with three exact decimals, so that an item that starts when another item of its slot ends does not overlap
with it.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from paco._base import __version__
from paco._pictures.file import TRACE
from paco._pictures.record import STATES, ItemTable, in_flight, rows
from paco._view.console import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Color names of chrome://tracing, by state. Perfetto colors items by their names.
_COLOURS: Final = ("good", "bad", "terrible", "grey")
#: The largest number of points of the curve of items in flight.
_POINTS: Final = 2_000


def chrome(records: Sequence[ItemTable]) -> Iterator[str]:
    """Yield the file in pieces."""
    zero = min((record.run.start for record in records), default=0.0)
    processes = itertools.count(1)
    yield f'{TRACE}{__version__}"}},"displayTimeUnit":"ms","traceEvents":[\n'
    divider = ""
    for record in records:
        for event in _events(record, processes, zero):
            yield divider + event
            divider = ",\n"
    yield "\n]}\n"


def _events(record: ItemTable, processes: Iterator[int], zero: float) -> Iterator[str]:
    run, process = record.run, next(processes)
    limit = f", limit {run.limit}" if run.limit else ""
    yield from _process(process, f"{run.title} (run {run.id}{limit})")
    for time, count in in_flight(record, _POINTS).points():
        at = _micros(_nanoseconds(time - zero))
        yield f'{{"ph":"C","pid":{process},"ts":{at},"name":"in flight","args":{{"items":{count}}}}}'
    where = rows(record)
    for lane in where.lanes:
        number = process if lane.name is None else next(processes)
        if lane.name is not None:
            yield from _process(number, f"{run.title} (run {run.id}): {lane.name}")
        for slot in range(lane.rows):
            # Perfetto treats thread 0 as the idle thread.
            yield _about(number, slot + 1, "thread_name", name=f"slot {slot}")
            yield _about(number, slot + 1, "thread_sort_index", sort_index=slot)
        for item in lane.items:
            yield _span(record, item, number, where.row[item] - lane.first, zero)


def _process(number: int, name: str) -> Iterator[str]:
    yield _about(number, 0, "process_name", name=safe(name))
    yield _about(number, 0, "process_sort_index", sort_index=number)


def _span(record: ItemTable, item: int, process: int, slot: int, zero: float) -> str:
    begin, finish = _nanoseconds(record.starts[item] - zero), _nanoseconds(record.ends[item] - zero)
    state, position = record.states[item], record.positions[item]
    word, more, detail = STATES[state], "", record.failures.get(position)
    if detail is not None:
        told = {"item": safe(detail.item), "error": safe(detail.error), "attempts": detail.attempts}
        more = f',"args":{json.dumps(told)}'
    return (
        f'{{"ph":"X","pid":{process},"tid":{slot + 1},"ts":{_micros(begin)},"dur":{_micros(finish - begin)},'
        f'"name":"{word} #{position}","cat":"{word}","cname":"{_COLOURS[state]}"{more}}}'
    )


def _about(process: int, thread: int, what: str, **facts: Any) -> str:
    return json.dumps({"ph": "M", "pid": process, "tid": thread, "name": what, "args": facts}, separators=(",", ":"))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _micros(nanoseconds: int) -> str:
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03}"
