"""`paco report`: write pictures of a finished run, and print its summary, from its records."""

from __future__ import annotations

import re
import stat
from bisect import bisect
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paco._cli.ending import CommandError, Problem, Tally, describe
from paco._cli.files import Use, check_apart, check_pictures
from paco._cli.options import parse_report
from paco._cli.progress import summary
from paco._records.keys import NOWHERE, Index
from paco._records.lines import parse
from paco._view.meter import Sketch, duration
from paco.events import ItemEnded, Run, RunEnded
from paco.events._kinds import WAITING

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from paco._pictures.record import ItemTable
    from paco._records.lines import Record, Span
    from paco.events import Outcome

_WIDTH = 120
#: The bound of items and slots in a plausible record, and the end of the year 9999 in seconds since 1970.
_MOST = 1 << 32
_LAST = 253_402_300_799
#: A pause between two runs: nothing runs for more than this many seconds, and this many times the usual time between
#: two starts.
_PAUSE, _USUAL = 10.0, 10


def report_command(words: Sequence[str]) -> int:
    """Run `paco report` with these arguments and return the exit code.

    Raises:
        CommandError: The file cannot be read or has no records, or the pictures cannot be written.
    """
    options = parse_report(words)
    if isinstance(options, str):
        print(options, end="", flush=True)
        return 0
    try:
        return _report(options)
    except OSError as error:
        raise CommandError(describe(error)) from None


def _report(options: Namespace) -> int:
    """Read the records, write the pictures, and print the summary."""
    from paco._pictures import file
    from paco._pictures.chrome import chrome
    from paco._pictures.page import page

    if not stat.S_ISREG(Path(options.file).stat().st_mode):
        raise CommandError(f"{options.file} is not a regular file, and it is read twice; save the records in a file")
    target = options.output or str(Path(options.file).with_suffix(".html"))
    pictures = [Use("report", target, target), *(Use("trace", name, name) for name in [options.trace] if name)]
    check_apart([Use("the file of the records", options.file, options.file)], pictures)
    check_pictures(pictures)
    table, tally, latencies = _read(options.file)
    left_out = _leave_out_pauses(table)
    table.run.start, table.ended = min(table.starts), RunEnded(table.run, max(table.ends), "ok", None)
    pauses = [f"{duration(left_out)} in which nothing ran"] if left_out else []
    table.facts = [f"without {pause}" for pause in pauses]
    file.write(target, file.REPORT, [page([table])])
    if options.trace:
        file.write(options.trace, file.TRACE, chrome([table]))
    seconds = table.end() - table.run.start
    first, *rest = summary(tally, latencies, None, seconds, width=_WIDTH)
    rest += [f"  left out  {pause}" for pause in pauses]
    print("\n".join([f"{options.file} {first}", *rest, f"  pictures  {target}"]), flush=True)
    return 0


def _read(path: str) -> tuple[ItemTable, Tally, Sketch]:
    """Return the last record of each item, as a trace of the run would have it, their counts and their durations."""
    from paco._pictures.record import ItemTable

    run = Run("map", "", 0, None, [0.0] * len(WAITING))
    table, tally, latencies, function = ItemTable(run), Tally(), Sketch(), ""
    earlier = _earlier(path)
    replaced = set(earlier.values())
    for offset, text in _lines(path):
        if offset in replaced:
            continue
        found = _possible(text) or _before(path, offset, earlier)
        if found is not None:
            record, span = found
            _count(record, span, table, tally)
            latencies.add(span.ms / 1000)
            function = record.fields.get("function", "")
    if not table:
        raise CommandError(f"{path} has no records; expected a file that `paco map --output` or a journal wrote")
    table.renumber()
    run.function = str(function)
    run.date = min(table.starts)
    run.started = tally.done
    run.ok, run.failed = tally.ok, tally.failed
    return table, tally, latencies


def _leave_out_pauses(table: ItemTable) -> float:
    """Move the items of later runs to the end of earlier ones. Return the seconds between the runs."""
    starts, ends = sorted(table.starts), sorted(table.ends)
    between = sorted(later - start for start, later in pairwise(starts))
    least = max(_PAUSE, _USUAL * between[(len(between) - 1) // 2]) if between else 0.0
    # As many items have ended before a start as started before it: nothing runs.
    pauses = [(start, start - end) for end, start in zip(ends, starts[1:], strict=False) if start - end > least]
    if not pauses:
        return 0.0
    after, until = [start for start, _ in pauses], [0.0, *accumulate(seconds for _, seconds in pauses)]
    for item, start in enumerate(table.starts):
        before = until[bisect(after, start)]
        table.starts[item] -= before
        table.ends[item] -= before
    return until[-1]


def _before(path: str, offset: int, earlier: dict[int, int]) -> tuple[Record, Span] | None:
    """Return the last record before a line that looks like one of the same item, but is none."""
    found = None
    while found is None and offset in earlier:
        offset = earlier[offset]
        with Path(path).open("rb") as file:
            file.seek(offset)
            found = _possible(file.readline())
    return found


def _count(record: Record, span: Span, table: ItemTable, tally: Tally) -> None:
    attempts, slot, start, ms, worker = span
    position, end = record.fields["id"], start + ms / 1000
    if record.ok and attempts <= 1 and end - start <= table.quick:
        tally.ok += 1
        tally.retried += attempts - 1
        table.put(position, slot or 0, start, end, worker)
        return
    problem = None if record.ok else _problem(record)
    error = None if problem is None else problem.error()
    outcome: Outcome = "ok" if problem is None else "failed"
    what = position, slot or 0, record.fields.get("input"), start, end
    table.add(ItemEnded(table.run, *what, max(attempts, 1), outcome, error, worker))
    table.run.retried += attempts > 1
    tally.retried += attempts - 1
    if problem is None:
        tally.ok += 1
    else:
        tally.fail(problem)


def _problem(record: Record) -> Problem:
    code, stderr = record.outcome.get("code"), record.outcome.get("stderr")
    return Problem(*record.error(), code, str(stderr)) if type(code) is int else Problem(*record.error())


#: The beginning of a line that paco writes, with the key of the record.
_KEY: Final = re.compile(rb'\{"id":\d+,"key":"((?:[0-9a-f]{2}){8,})"')


def _earlier(path: str) -> dict[int, int]:
    """Return the offset of the record before it, for each record of an item that has several.

    This reads only the keys, which takes a fifth of the time of parsing.
    """
    index, earlier = Index(), dict[int, int]()
    put, key_of, from_hex = index.put, _KEY.match, bytes.fromhex
    for offset, text in _lines(path):
        found = key_of(text)
        if found is not None and text.endswith(b"}\n"):
            key = from_hex(found[1].decode())
        elif (record := _record(text)) is not None:  # a line written by hand, or the last one
            key = record.key
        else:
            continue
        if (before := put(key, offset)) != NOWHERE:
            earlier[offset] = before
    return earlier


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each line."""
    offset = 0
    with Path(path).open("rb") as file:
        for text in file:
            yield offset, text
            offset += len(text)


def _record(text: bytes) -> Record | None:
    """Return the record in a line; ``None`` if it is none, such as a line that a killed run left torn."""
    try:
        return parse(text)
    except ValueError:
        return None


def _possible(text: bytes) -> tuple[Record, Span] | None:
    """Return the record in a line and its span, if its position, slot and times are possible."""
    record = _record(text)
    if record is None:
        return None
    span, position = record.span(), record.fields.get("id")
    _, slot, start, ms, _ = span
    if not isinstance(position, int) or not 0 <= position < _MOST or not 0 <= (slot or 0) < _MOST:
        return None
    return (record, span) if 0 < start <= start + ms / 1000 < _LAST else None
