"""`paco report`: pictures and a summary of a run, afterwards, from the records that it has left."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._cli.errors import CommandError, describe
from paco._cli.formats import Problem, recreated
from paco._cli.options import parse_report
from paco._cli.tally import Tally, summary
from paco._records.keys import Index
from paco._records.values import decode
from paco.events import WAITING, ItemEnded, Run, RunEnded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paco._cli.options import ReportOptions
    from paco._pictures.record import ItemTable
    from paco.events import Outcome

_WIDTH = 120
#: Items and slots that there can be, and the last second of the year 9999.
_MOST = 1 << 32
_LAST = 253_402_300_799


class _Line(NamedTuple):
    """What a record says."""

    key: bytes
    position: int
    slot: int
    item: Any
    start: float
    end: float
    attempts: int
    problem: Problem | None
    function: str
    worker: str | None


def report_command(words: Sequence[str]) -> int:
    """Run `paco report` with these words and return the exit code: 1 if an item has failed.

    Raises:
        CommandError: The file holds no records, or the pictures cannot be written.
    """
    options = parse_report(words)
    if isinstance(options, str):
        print(options, end="")
        return 0
    try:
        return _report(options)
    except OSError as error:
        raise CommandError(describe(error)) from None


def _report(options: ReportOptions) -> int:
    """Read the records, write the pictures, and print the summary."""
    from paco._pictures.chrome import chrome
    from paco._pictures.page import page

    record, tally = _read(options.file)
    target = options.output or str(Path(options.file).with_suffix(".html"))
    if Path(target).exists() and Path(target).samefile(options.file):
        raise CommandError(f"{target} is the file of the records; name another one with --output")
    Path(target).write_text(page([record]), "utf-8")
    if options.trace:
        with Path(options.trace).open("w", encoding="utf-8") as file:
            file.writelines(chrome([record]))
    seconds = record.end() - record.run.start
    first, *rest = summary(tally, None, seconds, width=_WIDTH)
    print("\n".join([f"{options.file} {first}", *rest, f"  pictures  {target}"]))
    return 1 if tally.failed else 0


def _read(path: str) -> tuple[ItemTable, Tally]:
    """Return what the last record of each item says, as it would have been recorded."""
    from paco._pictures.record import ItemTable

    index, first, last, slots, function = Index(), float("inf"), 0.0, 0, ""
    for offset, line in _lines(path):
        index.put(line.key, offset)
        first, last, slots = min(first, line.start), max(last, line.end), max(slots, line.slot + 1)
        function = line.function
    if not last:
        raise CommandError(f"{path} holds no records: expected what `paco map --output` writes")
    run, tally = Run("map", function, slots, None, [0.0] * len(WAITING), fed=False), Tally()
    run.date = run.start = first
    record = ItemTable(run)
    for offset, line in _lines(path):
        if index.get(line.key) == offset:
            _count(line, record, tally)
    run.started = tally.done
    run.ok, run.failed = tally.ok, tally.failed
    record.ended = RunEnded(run, last, "ok", None)
    return record, tally


def _count(line: _Line, record: ItemTable, tally: Tally) -> None:
    problem = line.problem
    error = None if problem is None else recreated(problem)
    outcome: Outcome = "ok" if problem is None else "failed"
    attempts = max(line.attempts, 1)
    what = record.run, line.position, line.slot, line.item, line.start, line.end
    record.hear(ItemEnded(*what, attempts, outcome, error, line.worker))
    record.run.retried += attempts > 1
    tally.retried += attempts - 1
    tally.took(line.end - line.start)
    if problem is None:
        tally.ok += 1
    else:
        tally.fail(problem)


def _lines(path: str) -> Iterator[tuple[int, _Line]]:
    """Yield the records, each with its offset; what is none is passed over."""
    offset = 0
    with Path(path).open("rb") as file:
        for text in file:
            try:
                yield offset, _parsed(decode(text))
            except (ValueError, TypeError, LookupError, OverflowError):
                pass  # a line that a killed run has left torn
            offset += len(text)


def _parsed(fields: Any) -> _Line:
    start = datetime.fromisoformat(fields["start"]).timestamp()
    end = start + float(fields["ms"]) / 1000
    problem = None if fields["ok"] else Problem(str(fields["error"]["type"]), str(fields["error"]["message"]))
    position, slot, key = int(fields["id"]), int(fields["slot"] or 0), bytes.fromhex(fields["key"])
    attempts, function = int(fields["attempts"]), str(fields.get("function", ""))
    worker = str(fields["worker"]) if "worker" in fields else None
    if not (0 <= position < _MOST and 0 <= slot < _MOST and 0 < start <= end < _LAST):
        raise ValueError("a record that paco has not written")
    return _Line(key, position, slot, fields["input"], start, end, attempts, problem, function, worker)
