"""Shows a run: the lines of `paco.progress`, failures above them, and a summary at the end; or JSON for programs."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from paco._view.console import fit, safe
from paco._view.meter import Meter, Reading, Sketch, copies, duration, latency, per_second
from paco._view.progress import Display, LiveLines, PlainLines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import paco
    from paco import events
    from paco._cli.ending import Problem, Tally
    from paco._cli.inputs import InputItem
    from paco._records.file import RecordFile
    from paco._view.console import Console

_FAILURES = "  failures  "
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
) -> list[str]:
    """Return the lines of a summary; the first one goes after a word such as ``done``.

    Args:
        tally: The counts.
        latencies: The durations of the items.
        total: The number of items, if known.
        seconds: The duration of the run.
        width: The columns of a line.
        found: The last limit of ``--limit auto``; otherwise 0.
        again: The command line that runs the items left, if there are any.
    """
    lines = [f"in {duration(seconds)}    {_counts(tally, total, seconds)}"]
    if longest := latencies.longest():
        times = [f"p{percent} {latency(latencies.quantile(percent / 100))}" for percent in _QUANTILES]
        lines.append(f"  latency   {'   '.join(times)}   max {latency(longest)}")
    if found:
        lines.append(f"  limit     {found:,}   (auto)")
    if tally.failed:
        lines += _failures(tally, width - len(_FAILURES))
    return [*lines, safe(f"  again     {again}")] if again else lines


def _counts(tally: Tally, total: int | None, seconds: float) -> str:
    whole = total is None or total == tally.done + tally.skipped
    parts = [f"{tally.done:,} items" if whole else f"{tally.done:,} of {total:,} items"]
    parts += [f"{tally.ok:,} ok", f"{tally.failed:,} failed"]
    for count, word in ((tally.skipped, "skipped"), (tally.retried, "retried"), (tally.cancelled, "cancelled")):
        parts += [f"{count:,} {word}"] if count else []
    parts += [per_second(tally.done / seconds)] if seconds > 0 else []
    return "   ".join(parts)


def _failures(tally: Tally, width: int) -> list[str]:
    """Return lines that show the kinds of failures side by side."""
    lines = [""]
    for kind in tally.kinds():
        text = fit(kind, width)
        if len(lines[-1]) + len(text) + 3 > width and lines[-1]:
            lines.append("")
        lines[-1] += f"   {text}" if lines[-1] else text
    return [(" " * len(_FAILURES) if number else _FAILURES) + line for number, line in enumerate(lines)]


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
    """Return the display of a run; ``None`` if only the summary is shown.

    Repaint no lines on a terminal that also shows the records or what the user types.

    Args:
        wanted: The value of ``--progress``, but not ``off``.
        console: The console to write to.
        output: The file of the records.
        typing: Whether items are typed at a terminal.
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
        "rate": round(meter.rate(), 3),
        "eta": None if eta is None else round(eta, 1),
        **{f"p{percent}": round(times.quantile(percent / 100), 6) for percent in _QUANTILES},
    }
    if now.workers:
        facts["workers"] = [
            {
                "worker": worker.name,
                "in_flight": worker.in_flight,
                "ok": worker.ok,
                "failed": worker.failed,
                "rate": round(meter.rate_of(worker), 3),
                "lost": worker.lost,
            }
            for worker in now.workers.values()
        ]
    return facts


class Progress:
    """Shows the counts of a run.

    Args:
        console: The console to write to.
        tally: The counts.
        total: Returns the number of items; ``None`` while it is unknown.
        display: Shows the progress; ``None`` to show only the summary.
        title: The title of the run.
        limit: The limit of the run.
        cap: The maximum rate as the user wrote it.
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
    ) -> None:
        self._console = console
        self._tally = tally
        self._total = total
        self._display = display
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._run: events.Run | None = None
        #: The durations of the items, failed ones included, in seconds.
        self.latencies = Sketch()
        self._meter = Meter(title, self._read, self.latencies, cap=cap)
        self._unshown = 0
        self._shown = 0
        self._timer: asyncio.TimerHandle | None = None

    def _read(self) -> Reading:
        tally, most = self._tally, self._limit if isinstance(self._limit, int) else self._limit.most
        return Reading(
            self._loop.time(),
            tally.ok,
            tally.failed,
            tally.cancelled,
            tally.retried,
            tally.in_flight,
            0 if most == sys.maxsize else most,
            self._total(),
            {} if self._run is None else self._run.waited,
            {} if self._run is None else copies(self._run.workers),
            tally.skipped,
        )

    def say_state(self, state: str) -> None:
        """Show a word before the title, such as ``draining``."""
        self._meter.state = state

    def watch(self, event: events.RunStarted) -> None:
        """Show what this run waits for, and its workers."""
        self._run = event.run

    @property
    def watches(self) -> bool:
        """Whether what the run waits for is shown."""
        return isinstance(self._display, PlainLines)

    def start(self) -> None:
        """Start showing the run."""
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
        if not self.watches:
            return
        if self._shown >= (_FAILURES_PER_TICK if isinstance(self._display, LiveLines) else _FAILURES_PLAIN):
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

    def summary(self, ended: str = "done", again: str = "", found: int = 0) -> None:
        """Write the summary.

        Args:
            ended: How the run ended: ``done``, ``stopped`` or ``halted``.
            again: The command line that runs the items left, if there are any.
            found: The last limit of ``--limit auto``; otherwise 0.
        """
        self._meter.look()
        seconds, width = self._meter.elapsed(), self._console.width()
        if isinstance(self._display, JSONLines):
            facts = {**_facts(self._meter), "ended": ended, "seconds": round(seconds, 3), "again": again or None}
            self._console.say(json.dumps(facts))
            return
        counts = self._tally, self.latencies, self._total(), seconds
        first, *rest = summary(*counts, width=width, found=found, again=again)
        self._console.say("\n".join([f"{self._console.style(ended, 'bold')} {first}", *rest]))
