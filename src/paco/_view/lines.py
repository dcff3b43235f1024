"""The lines that show the progress of a run: three lines to repaint, or one line to write every 10 s."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from paco._view.console import columns, fit
from paco._view.meter import clock, duration, latency, per_second, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paco._view.console import Line, Part
    from paco._view.meter import Meter
    from paco.events import Worker

#: The columns of the longest bar, and of the shortest that is drawn.
_BAR, _SHORTEST_BAR = 30, 8
_QUANTILES: Final = (50, 95, 99)
#: The most columns of a line that is not repainted.
_WIDE: Final = 300
#: The most runs that are shown at once, and the most lines for workers.
_RUNS, _WORKERS = 4, 5
#: The most kinds of failures that the summary of a run names, and its most columns for them.
_KINDS, _LONGEST = 3, 60


def live(meters: Sequence[Meter], width: int, *, unicode: bool = True) -> list[Line]:
    """Return the lines to repaint: three for each of the first runs, and if there is only one, a line for each worker.

    They have at most ``width`` columns, and without ``unicode`` only ASCII characters.
    """
    shown: list[Line] = []
    for meter in meters[:_RUNS]:
        rows = _worker_rows(meter, width) if len(meters) == 1 else []
        shown.append(_head(meter, width, "━─" if unicode else "=-"))
        shown.append(joined(_pace(meter), width, "   ", "  "))
        shown.append(joined(_times(meter, counted=not rows), width, "   ", "  "))
        shown += rows
    if len(meters) > _RUNS:
        shown.append(joined([(f"and {len(meters) - _RUNS} more runs", "dim")], width))
    return [line for line in shown if line]


def plain(meter: Meter) -> Line:
    """Return the progress of a run as one line. A narrow terminal wraps it; only repainted lines are cut off."""
    return joined([*_name(meter, _WIDE), *_progress(meter), *_pace(meter), *_times(meter)], _WIDE)


def ended(meter: Meter, width: int) -> Line:
    """Return the summary of an ended run as one line."""
    now, seconds = meter.now, meter.elapsed()
    counted = f"{now.done:,}" if now.total in {None, now.done + now.skipped} else f"{now.done:,} of {now.total:,}"
    items = "item" if counted == "1" else "items"
    took = duration(seconds) if seconds >= 1 else latency(seconds)
    rate = per_second(now.done / seconds) if seconds > 0 else ""
    parts = [(f"{counted} {items} in {took}", ""), (rate, ""), _failed(meter), _kinds(meter), _skipped(meter)]
    parts += [*_rare(meter), *_latencies(meter)]
    return joined([(fit(meter.title, max(width // 3, 1)), "bold"), *parts], width)


def joined(parts: Iterable[Part], width: int, gap: str = "  ", start: str = "") -> Line:
    """Return a line of the non-empty parts with gaps between them, up to the first that does not fit in the width."""
    line: Line = []
    for text, style in parts:
        if text:
            before = gap if line else start
            width -= columns(before) + columns(text)
            if width < 0:
                break
            line += [(before, ""), (text, style)] if before else [(text, style)]
    return line


# ---- the parts


def _head(meter: Meter, width: int, bar: str) -> Line:
    names, rest, part = _name(meter, width), _progress(meter), meter.part()
    taken = sum(columns(text) + 2 for text, _ in [*names, *rest] if text)
    room = min(width - taken, _BAR)
    if part is None or room < _SHORTEST_BAR:
        return joined([*names, *rest], width)
    full = round(part * room)
    whole = bar[0] * full + bar[1] * (room - full), "green"
    line = joined([*names, whole, *rest], width)
    at = line.index(whole)
    line[at : at + 1] = [(whole[0][:full], "green"), (whole[0][full:], "dim")]
    return line


def _name(meter: Meter, width: int) -> Line:
    return [(meter.state, "bold"), (fit(meter.title, max(width // 3, 1)), "bold")]


def _progress(meter: Meter) -> Line:
    now, part, eta = meter.now, meter.part(), meter.eta()
    done = now.done + now.skipped
    return [
        ("" if part is None else f"{part:.0%}", "bold"),
        (f"{done:,} done" if now.total is None else f"{done:,}/{now.total:,}", ""),
        ("" if eta is None else f"eta {clock(eta)}", ""),
    ]


def _pace(meter: Meter) -> Line:
    now = meter.now
    return [
        (f"rate {per_second(meter.rate())}{f' (cap {meter.cap})' if meter.cap else ''}", ""),
        (f"in flight {now.in_flight:,}{f'/{now.limit:,}' if now.limit else ''}", ""),
        (f"ok {now.ok:,}", "green"),
        _failed(meter),
    ]


def _times(meter: Meter, *, counted: bool = True) -> Line:
    waiting = meter.waiting()
    reason = "" if waiting is None else f"waiting on {waiting[0]} {share(waiting[1], 1)}"
    workers = count_of_workers(meter.now.workers.values()) if counted else ""
    return [_skipped(meter), *_latencies(meter), *_rare(meter), (workers, ""), (reason, "bold")]


def _failed(meter: Meter) -> Part:
    """Return the failures, and their share of the items that have a result, from this run or an earlier one."""
    now = meter.now
    part = share(now.failed, now.done + now.skipped)
    return (f"failed {now.failed:,} ({part})", "red") if now.failed else ("failed 0", "")


def _kinds(meter: Meter) -> Part:
    """Return the most frequent kinds of failures."""
    ranked = meter.kinds.most_common()
    shown = [f"{count:,} {name}" for name, count in ranked[:_KINDS]]
    more = len(ranked) - _KINDS
    return fit(", ".join([*shown, *([f"{more} other kinds"] if more > 0 else [])]), _LONGEST), "red"


def _skipped(meter: Meter) -> Part:
    return (f"skipped {meter.now.skipped:,}" if meter.now.skipped else "", "")


def _latencies(meter: Meter) -> Line:
    times = meter.latencies
    some = times.longest() > 0
    return [(f"p{percent} {latency(times.quantile(percent / 100))}", "") for percent in _QUANTILES if some]


def _rare(meter: Meter) -> Line:
    counts = (("retried", meter.now.retried), ("cancelled", meter.now.cancelled))
    return [(f"{word} {count:,}" if count else "", "") for word, count in counts]


# ---- workers


def count_of_workers(workers: Iterable[Worker]) -> str:
    """Return a count such as ``2 workers, 1 lost``; an empty text if there are no workers."""
    lost = [worker.lost for worker in workers]
    count = len(lost) - sum(lost)
    words = f"{count:,} worker{'' if count == 1 else 's'}{f', {sum(lost):,} lost' if any(lost) else ''}"
    return words if lost else ""


def _worker_rows(meter: Meter, width: int) -> list[Line]:
    """Return a line for each worker that runs or was lost in the last ten seconds, and one line that counts the others.

    If that is too many lines, show the first workers that run, and count all others.
    """
    workers, before = meter.now.workers, meter.before.workers
    there = [worker for worker in workers.values() if not worker.lost]
    gone = [worker for name, worker in workers.items() if worker.lost and not (name in before and before[name].lost)]
    lost, more = len(workers) - len(there) - len(gone), 0
    if len(there) + len(gone) > _WORKERS:
        there, lost, gone, more = there[: _WORKERS - 1], lost + len(gone), [], max(len(there) - _WORKERS + 1, 0)
    name = dict(zip(workers, _short([fit(one, max(width // 3, 1)) for one in workers]), strict=True))
    rows = _table([[name[worker.name], *_worker_words(meter, worker)] for worker in there])
    marks = [f"{name[worker.name]}   lost: its items run again" for worker in gone]
    rest = "   ".join(filter(None, [f"and {more:,} more workers" if more else "", f"{lost:,} lost" if lost else ""]))
    lines = [*((row, "") for row in rows), *((mark, "red") for mark in marks), *([(rest, "dim")] if rest else [])]
    return [[(f"  {text}"[:width], style)] for text, style in lines]


def _worker_words(meter: Meter, worker: Worker) -> list[str]:
    flight = [] if worker.in_flight is None else [f"in flight {worker.in_flight:,}"]
    failed = [f"failed {worker.failed:,}"] if worker.failed else []
    return [*flight, f"done {worker.done:,}", per_second(meter.rate_of(worker)), *failed]


def _short(names: Sequence[str]) -> list[str]:
    """Return the names of workers, without their machine if all are on the same one."""
    machines = {name.partition(" on ")[2] for name in names}
    return [name.partition(" on ")[0] for name in names] if len(machines) == 1 else list(names)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    return ["   ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip() for row in rows]
