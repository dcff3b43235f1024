"""A trace in the Trace Event Format, which Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Each run is a process, each
slot a thread of it, each item a complete event ("X"); times are in microseconds, here with three decimals and exact, so
that an item which starts when another of its slot ends does not overlap with it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import paco
from paco._console import safe
from paco._pictures._numbers import in_flight
from paco._pictures._record import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paco._pictures._record import Record

#: Names of the palette of chrome://tracing, by state; Perfetto colours by name.
_COLOURS: Final = ("good", "bad", "terrible", "grey")
#: Points of the curve of items in flight, at most.
_POINTS: Final = 2_000


def chrome(records: Sequence[Record]) -> Iterator[str]:
    """Give the file in pieces."""
    zero = min((record.run.start for record in records), default=0.0)
    yield '{"traceEvents":[\n'
    divider = ""
    for process, record in enumerate(records, 1):
        for event in _events(record, process, zero):
            yield divider + event
            divider = ",\n"
    yield f'\n],"displayTimeUnit":"ms","otherData":{{"producer":"paco {paco.__version__}"}}}}\n'


def _events(record: Record, process: int, zero: float) -> Iterator[str]:
    run = record.run
    limit = f", limit {run.limit}" if run.limit else ""
    yield _about(process, 0, "process_name", name=safe(f"{run.title} (run {run.id}{limit})"))
    yield _about(process, 0, "process_sort_index", sort_index=process)
    for slot in range(max(record.slots, default=-1) + 1):
        # Thread 0 is the idle one to Perfetto.
        yield _about(process, slot + 1, "thread_name", name=f"slot {slot}")
        yield _about(process, slot + 1, "thread_sort_index", sort_index=slot)
    columns = zip(record.positions, record.slots, record.starts, record.ends, record.states, strict=True)
    for position, slot, start, end, state in columns:
        begin, finish = _nanoseconds(start - zero), _nanoseconds(end - zero)
        word = STATES[state]
        yield (
            f'{{"ph":"X","pid":{process},"tid":{slot + 1},"ts":{_micros(begin)},"dur":{_micros(finish - begin)},'
            f'"name":"{word} #{position}","cat":"{word}","cname":"{_COLOURS[state]}"{_details(record, position)}}}'
        )
    for time, count in in_flight(record, _POINTS).points():
        at = _micros(_nanoseconds(time - zero))
        yield f'{{"ph":"C","pid":{process},"ts":{at},"name":"in flight","args":{{"items":{count}}}}}'


def _details(record: Record, position: int) -> str:
    detail = record.failures.get(position)
    if detail is None:
        return ""
    told = {"item": safe(detail.item), "error": safe(detail.error), "attempts": detail.attempts}
    return f',"args":{json.dumps(told)}'


def _about(process: int, thread: int, what: str, **facts: Any) -> str:
    return json.dumps({"ph": "M", "pid": process, "tid": thread, "name": what, "args": facts}, separators=(",", ":"))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _micros(nanoseconds: int) -> str:
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03}"
