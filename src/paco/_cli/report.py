"""`paco report`: write pictures of a finished run, and print its summary, from its records."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from paco._cli.ending import CommandError, Problem, Tally, describe
from paco._cli.files import Use, check_apart, check_pictures
from paco._cli.options import parse_report
from paco._cli.progress import summary
from paco._records.earlier import Index
from paco._records.lines import parse
from paco._view.meter import Sketch
from paco.events import WAITING, ItemEnded, Run, RunEnded

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


def report_command(words: Sequence[str]) -> int:
    """Run `paco report` with these arguments and return the exit code: 1 if an item failed, otherwise 0.

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
    file.write(target, file.REPORT, [page([table])])
    if options.trace:
        file.write(options.trace, file.TRACE, chrome([table]))
    seconds = table.end() - table.run.start
    first, *rest = summary(tally, latencies, None, seconds, width=_WIDTH)
    print("\n".join([f"{options.file} {first}", *rest, f"  pictures  {target}"]), flush=True)
    return 1 if tally.failed else 0


def _read(path: str) -> tuple[ItemTable, Tally, Sketch]:
    """Return the last record of each item, as a trace of the run would have it, their counts and their durations."""
    from paco._pictures.record import ItemTable

    index, first, last, slots, function = Index(), float("inf"), 0.0, set[int](), ""
    for offset, record, span in _records(path):
        index.put(record.key, offset)
        first, last = min(first, span.start), max(last, span.start + span.ms / 1000)
        slots.add(span.slot or 0)
        function = str(record.fields.get("function", ""))
    if not last:
        raise CommandError(f"{path} has no records; expected a file that `paco map --output` or a journal wrote")
    rank = {slot: row for row, slot in enumerate(sorted(slots))}  # an edited record may have any slot
    run = Run("map", function, len(slots), None, [0.0] * len(WAITING))
    run.date = run.start = first
    table, tally, latencies = ItemTable(run), Tally(), Sketch()
    for offset, record, span in _records(path):
        if index.get(record.key) == offset:
            _count(record, span._replace(slot=rank[span.slot or 0]), table, tally)
            latencies.add(span.ms / 1000)
    run.started = tally.done
    run.ok, run.failed = tally.ok, tally.failed
    table.ended = RunEnded(run, last, "ok", None)
    return table, tally, latencies


def _count(record: Record, span: Span, table: ItemTable, tally: Tally) -> None:
    problem = None if record.ok else Problem(*record.error())
    error = None if problem is None else problem.error()
    outcome: Outcome = "ok" if problem is None else "failed"
    attempts, seconds = max(span.attempts, 1), span.ms / 1000
    what = record.fields["id"], span.slot or 0, record.fields.get("input"), span.start, span.start + seconds
    table.add(ItemEnded(table.run, *what, attempts, outcome, error, span.worker))
    table.run.retried += attempts > 1
    tally.retried += attempts - 1
    if problem is None:
        tally.ok += 1
    else:
        tally.fail(problem)


def _records(path: str) -> Iterator[tuple[int, Record, Span]]:
    """Yield the offset, the record and the span of each line. Skip lines that paco cannot have written."""
    offset = 0
    with Path(path).open("rb") as file:
        for text in file:
            try:
                record = parse(text)
            except ValueError:  # such as a line that a killed run left torn
                record = None
            if record is not None and _is_possible(record, span := record.span()):
                yield offset, record, span
            offset += len(text)


def _is_possible(record: Record, span: Span) -> bool:
    """Return whether the position, slot and times of a record are possible."""
    position, slot, end = record.fields.get("id"), span.slot or 0, span.start + span.ms / 1000
    return isinstance(position, int) and 0 <= position < _MOST and 0 <= slot < _MOST and 0 < span.start <= end < _LAST
