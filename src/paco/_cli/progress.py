"""Shows a run: the lines of `paco.progress`, failures above them, and a summary at the end; or JSON for programs."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from paco._view.console import fit, safe
from paco._view.display import Display
from paco._view.lines import plain
from paco._view.meter import Meter, Reading, Sketch, copies, duration, latency, per_second
from paco._view.progress import LiveLines, PlainLines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import paco
    from paco import events
    from paco._cli.ending import Problem, Tally
    from paco._cli.inputs import InputItem
    from paco._records.file import RecordFile
    from paco._view.console import Console

_FAILURES = "  failures  "
#: The longest word before a summary.
_LONGEST = "stopped "
_QUANTILES = (50, 95, 99)


def summary(
    tally: Tally,
    latencies: Sketch,
    total: int | None,
    seconds: float,
    *,
    width: int,
    found: int = 0,
    again: str = "",
    place: str = "",
) -> list[str]:
    """Return the lines of a summary; the first one goes after a word such as ``done``.

    ``found`` is the last limit of ``--limit auto``, otherwise 0; ``again`` is the command line that runs the items
    left, if there are any; ``place`` says where the first error was raised.
    """
    start = f"in {duration(seconds)}    "
    lines = _rows(_counts(tally, total, seconds), width - len(_LONGEST) - len(start))
    lines = [start + lines[0], *(" " * len(_FAILURES) + line for line in lines[1:])]
    if longest := latencies.longest():
        times = [f"p{percent} {latency(latencies.quantile(percent / 100))}" for percent in _QUANTILES]
        lines.append(f"  latency   {'   '.join(times)}   max {latency(longest)}")
    if found:
        lines.append(f"  limit     {found:,}   (auto)")
    if tally.failed:
        lines += _failures(tally, width - len(_FAILURES))
        lines += [safe(f"  first     {place}")] if place else []
    return [*lines, safe(f"  again     {again}")] if again else lines


def _counts(tally: Tally, total: int | None, seconds: float) -> list[str]:
    whole = total is None or total == tally.done + tally.skipped
    parts = [f"{tally.done:,} items" if whole else f"{tally.done:,} of {total:,} items"]
    parts += [f"{tally.ok:,} ok", f"{tally.failed:,} failed"]
    for count, word in ((tally.skipped, "skipped"), (tally.retried, "retried"), (tally.cancelled, "cancelled")):
        parts += [f"{count:,} {word}"] if count else []
    return parts + ([per_second(tally.done / seconds)] if seconds > 0 else [])


def _failures(tally: Tally, width: int) -> list[str]:
    """Return lines that show the kinds of failures side by side."""
    rows = _rows([fit(kind, width) for kind in tally.kinds()], width)
    return [(" " * len(_FAILURES) if number else _FAILURES) + row for number, row in enumerate(rows)]


def _rows(parts: Sequence[str], width: int) -> list[str]:
    """Return lines of this width with the parts side by side; a longer part has a line of its own."""
    rows = [""]
    for part in parts:
        if len(rows[-1]) + len(part) + 3 > width and rows[-1]:
            rows.append("")
        rows[-1] += f"   {part}" if rows[-1] else part
    return rows


#: The most failures shown between two repaints; and in all where nothing is repainted, since a log keeps every line.
_FAILURES_PER_TICK = 10
_FAILURES_PLAIN = 20


class JSONLines(Display):
    """A JSON object for each run every second."""

    every = 1.0

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, meters: Sequence[Meter]) -> None:
        for meter in meters:
            self._console.say(json.dumps(_facts(meter)))


def display_for(wanted: str, console: Console, output: RecordFile, *, typing: bool) -> Display | None:
    """Return the display of a run for ``--progress``, but not ``off``; ``None`` if only the summary is shown.

    Repaint no lines on a terminal that also shows the records or, with ``typing``, the items that the user types.
    """
    if wanted == "json":
        return JSONLines(console)
    if wanted == "bar" and console.live:
        return LiveLines(console)
    if output.is_terminal():
        return None
    return LiveLines(console) if wanted == "auto" and console.live and not typing else PlainLines(console)


def _facts(meter: Meter) -> dict[str, Any]:
    """Return the fields of a JSON object of progress; times are in seconds."""
    now, eta, times = meter.now, meter.eta(), meter.latencies
    facts: dict[str, Any] = {
        **{name: getattr(now, name) for name in ("done", "total", "ok", "failed", "skipped", "retried", "in_flight")},
        "limit": now.limit or None,
        "rate": round(meter.rate(), 6),
        "eta": None if eta is None else round(eta, 1),
        **{f"p{percent}": round(times.quantile(percent / 100), 6) for percent in _QUANTILES},
    }
    if now.workers:
        facts["workers"] = [
            {
                "worker": worker.name,
                **{name: getattr(worker, name) for name in ("in_flight", "ok", "failed", "lost")},
                "rate": round(meter.rate_of(worker), 6),
            }
            for worker in now.workers.values()
        ]
    return facts


class Progress:
    """Shows the counts of a run, or only the summary without a display. ``cap`` is the value of ``--rate``.

    With ``tells_all`` it shows every failure, since no record has it.
    """

    def __init__(
        self,
        console: Console,
        tally: Tally,
        total: Callable[[], int | None],
        display: Display | None,
        *,
        title: str = "",
        limit: int | paco.Limiter = 0,
        cap: str = "",
        tells_all: bool = False,
    ) -> None:
        self._console = console
        self._tally = tally
        self._total = total
        self._display = display
        #: Whether what the run waits for is shown.
        self.watches = isinstance(display, PlainLines)
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._run: events.Run | None = None
        #: The durations of the items, failed ones included, in seconds.
        self.latencies = Sketch()
        self._meter = Meter(title, self._read, self.latencies, cap=cap)
        self._tells_all = tells_all
        self._unshown = 0
        self._shown = 0
        self._timer: asyncio.TimerHandle | None = None

    def _read(self) -> Reading:
        tally, run = self._tally, self._run
        most = self._limit if isinstance(self._limit, int) else self._limit.most
        limit = 0 if most == sys.maxsize else most
        counts = tally.ok, tally.failed, tally.cancelled, tally.retried, tally.in_flight, limit, self._total()
        waited, workers = ({}, {}) if run is None else (run.waited, copies(run.workers))
        return Reading(self._loop.time(), *counts, waited, workers, tally.skipped)

    def say_state(self, state: str) -> None:
        """Show a word before the title, such as ``draining``."""
        self._meter.state = state

    def say(self) -> None:
        """Write the progress as a line that stays."""
        self._meter.look()
        self._console.say(self._console.styled(plain(self._meter)))

    def watch(self, event: events.RunStarted) -> None:
        """Show what this run waits for, and its workers."""
        self._run = event.run

    def start(self) -> None:
        if self._display is not None:
            self._timer = self._loop.call_later(self._display.every, self._tick, self._display)

    def _tick(self, display: Display) -> None:
        self._timer = self._loop.call_later(display.every, self._tick, display)
        if isinstance(display, LiveLines):
            self._tell_unshown()
            self._shown = 0
        self._meter.look()
        display.show([self._meter])

    def stop(self) -> None:
        """Stop showing the run, and remove the repainted lines."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell_unshown()
        if self._display is not None:
            self._display.rest()

    def failure(self, item: InputItem, problem: Problem, attempts: int = 1) -> None:
        """Show a failed item. If many fail, show the first ones and count the others."""
        if not (self.watches or self._tells_all):
            return
        most = _FAILURES_PER_TICK if isinstance(self._display, LiveLines) else _FAILURES_PLAIN
        if self._shown >= most and not self._tells_all:
            self._unshown += 1
            return
        self._shown += 1
        value = item.value if isinstance(item.value, str) else repr(item.value)
        cause = f"{problem.type}: {problem.message}" if problem.message else problem.type
        tries = f"  ({attempts} attempts)" if attempts > 1 else ""
        width = self._console.width()
        mark = "✗" if self._console.unicode else "x"
        text = fit(f"{mark} #{item.id} {fit(value, width // 2)}  {cause}", max(width - len(tries), 0)) + tries
        self._console.say(self._console.style(text[0], "red") + text[1:])

    def _tell_unshown(self) -> None:
        if self._unshown:
            self._console.say(f"  and {self._unshown:,} more failures; see the records")
        self._unshown = 0

    def summary(self, ended: str = "done", again: str = "", found: int = 0, place: str = "") -> None:
        """Write the summary of a run that ended as ``done``, ``stopped`` or ``halted``; see `summary` for the rest."""
        self._meter.look()
        seconds, width = self._meter.elapsed(), self._console.width()
        if isinstance(self._display, JSONLines):
            facts = {**_facts(self._meter), "ended": ended, "seconds": round(seconds, 3), "again": again or None}
            self._console.say(json.dumps(facts))
            return
        counts = self._tally, self.latencies, self._total(), seconds
        first, *rest = summary(*counts, width=width, found=found, again=again, place=place)
        self._console.say("\n".join([f"{self._console.style(ended, 'bold')} {first}", *rest]))
