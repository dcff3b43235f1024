"""How the run goes, for a person: one line while it runs, the failures above it, and a summary at the end."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from typing import TYPE_CHECKING

from paco._cli._latency import Latencies
from paco._console import fit, safe
from paco._figures import clock, duration, latency, per_second

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paco._cli._formats import Problem
    from paco._cli._inputs import Item
    from paco._cli._resume import Earlier
    from paco._console import Console

MODES = ("auto", "plain", "off")


class Display(enum.Enum):
    """What is shown: a repainted line, a line each 10 s, the summary alone, nothing."""

    LIVE = enum.auto()
    PLAIN = enum.auto()
    SUMMARY = enum.auto()
    OFF = enum.auto()


_LIVE_SECONDS = 0.1
_PLAIN_SECONDS = 10.0
#: Repaints that the shown rate is taken over (10 s of a live line), so that it and the eta follow a change.
_WINDOW_TICKS = 100
#: Failures shown between two repaints, and in all where nothing is repainted: a log is no place for 100,000 lines.
_FAILURES_PER_TICK = 10
_FAILURES_PLAIN = 20
_KINDS = 8
_FAILURES = "  failures  "
_BAR = 30
_QUANTILES = (50, 90, 95, 99)


class Tally:
    """What has been started and how it ended."""

    def __init__(self) -> None:
        self.started = 0
        self.ok = 0
        self.failed = 0
        self.cancelled = 0
        #: Further attempts, over all items.
        self.retried = 0
        #: What earlier runs have left.
        self.earlier: Earlier | None = None
        #: How long the items took, failed ones as well.
        self.latencies = Latencies()
        self._kinds: dict[str, tuple[int, str | None]] = {}

    @property
    def done(self) -> int:
        """The items that have a record."""
        return self.ok + self.failed

    @property
    def in_flight(self) -> int:
        """The items that run."""
        return self.started - self.done - self.cancelled

    @property
    def skipped(self) -> int:
        """The items that were not to be run again."""
        return 0 if self.earlier is None else self.earlier.skipped

    def fail(self, problem: Problem) -> None:
        """Count a failure by its type and, as long as they all have the same, its message."""
        self.failed += 1
        count, message = self._kinds.get(problem.type, (0, problem.message))
        self._kinds[problem.type] = count + 1, message if message == problem.message else None

    def kinds(self) -> list[str]:
        """Return ``311 TimeoutError``, ``64 HTTPError: 503``, the most frequent first."""
        ranked = sorted(self._kinds.items(), key=lambda kind: -kind[1][0])
        texts = [f"{count:,} {name}{': ' + fit(text, 50) if text else ''}" for name, (count, text) in ranked]
        return texts[:_KINDS] + ([f"and {len(texts) - _KINDS} other"] if len(texts) > _KINDS else [])


class Progress:
    """Shows a tally: repainted in place on a terminal, else a line each 10 s."""

    def __init__(self, console: Console, tally: Tally, total: Callable[[], int | None], display: Display) -> None:
        self._console = console
        self._tally = tally
        self._total = total
        self._display = display
        self._live = display is Display.LIVE
        self._every = _LIVE_SECONDS if self._live else _PLAIN_SECONDS
        self._samples: deque[tuple[float, int]] = deque()
        self._unshown = 0
        self._shown = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        #: A word about what goes on, shown first: "draining".
        self.state = ""

    def start(self) -> None:
        """Show the line from now on."""
        if self._display in {Display.LIVE, Display.PLAIN}:
            self._samples.append((self._loop.time(), 0))
            self._timer = self._loop.call_later(self._every, self._tick)

    def stop(self) -> None:
        """Show it no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell_unshown()
        self._console.paint("")

    def failure(self, item: Item, problem: Problem) -> None:
        """Tell that an item failed; of many at once, only the first few."""
        if self._display not in {Display.LIVE, Display.PLAIN}:
            return
        if self._shown >= (_FAILURES_PER_TICK if self._live else _FAILURES_PLAIN):
            self._unshown += 1
            return
        self._shown += 1
        value = item.value if isinstance(item.value, str) else repr(item.value)
        cause = f"{problem.type}: {problem.message}" if problem.message else problem.type
        text = fit(f"✗ #{item.id} {fit(value, self._console.width() // 2)}  {cause}", self._console.width())
        self._console.say(self._console.style(text[0], "red") + text[1:])

    def _tell_unshown(self) -> None:
        if self._unshown:
            self._console.say(f"  and {self._unshown:,} more failures: see the records")
        self._unshown = 0

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._every, self._tick)
        if self._live:
            self._tell_unshown()
            self._shown = 0
            self._console.paint(self._line())
        else:
            self._console.say(self._line())

    def _line(self) -> str:
        tally, total, rate = self._tally, self._total(), self._rate()
        done = tally.done + tally.skipped
        counted = f"{done:,}/{total:,}" if total is not None else f"{done:,} done"
        parts = [
            (self.state, "bold"),
            (f"{done / total:.0%}" if total else "", "bold"),
            (counted, ""),
            (f"{tally.ok:,} ok", "green"),
            (f"{tally.failed:,} failed", "red" if tally.failed else ""),
            (per_second(rate), ""),
            (f"{tally.in_flight:,} in flight", ""),
            (f"eta {clock((total - done) / rate)}" if total is not None and rate else "", ""),
        ]
        return self._join([part for part in parts if part[0]], done / total if total else None)

    def _join(self, parts: Sequence[tuple[str, str]], share: float | None) -> str:
        """Return as many of the parts as the width has room for, and a bar if it has room for that as well."""
        room = self._console.width() - 1
        line = ""
        for text, style in parts:
            if (room := room - len(text) - 2) < 0:
                break
            line += "  " + self._console.style(text, style)
        if self._live and share is not None and room > _BAR:
            full = round(min(share, 1) * _BAR)
            line = (
                "  " + self._console.style("━" * full, "green") + self._console.style("─" * (_BAR - full), "dim") + line
            )
        return line

    def _rate(self) -> float:
        now = self._loop.time()
        self._samples.append((now, self._tally.done))
        while len(self._samples) > _WINDOW_TICKS:
            self._samples.popleft()
        since, done = self._samples[0]
        return (self._tally.done - done) / (now - since) if now > since else 0.0

    def summary(self, ended: str = "done", again: str = "") -> None:
        """Say how it went: in all, the failures by kind, and the command that runs what is left."""
        if self._display is Display.OFF:
            return
        tally, seconds = self._tally, self._loop.time() - self._began
        total = self._total()
        whole = total is None or total == tally.done + tally.skipped
        items = f"{tally.done:,} items" if whole else f"{tally.done:,} of {total:,} items"
        parts = [items, f"{tally.ok:,} ok", f"{tally.failed:,} failed"]
        parts += [f"{tally.skipped:,} skipped"] if tally.earlier is not None else []
        parts += [f"{tally.retried:,} retried"] if tally.retried else []
        parts += [f"{tally.cancelled:,} cancelled"] if tally.cancelled else []
        parts += [per_second(tally.done / seconds)] if seconds > 0 else []
        self._console.say(f"{self._console.style(ended, 'bold')} in {duration(seconds)}    {'   '.join(parts)}")
        if tally.latencies.longest:
            times = [f"p{share} {latency(tally.latencies.quantile(share / 100))}" for share in _QUANTILES]
            self._console.say(f"  latency   {'   '.join(times)}   max {latency(tally.latencies.longest)}")
        if tally.failed:
            self._console.say("\n".join(self._failures()))
        if again:
            self._console.say(safe(f"  again     {again}"))

    def _failures(self) -> list[str]:
        """Return the kinds of failures side by side, in as many lines as that takes."""
        width = self._console.width() - len(_FAILURES)
        lines = [""]
        for kind in self._tally.kinds():
            text = fit(kind, width)
            if len(lines[-1]) + len(text) + 3 > width and lines[-1]:
                lines.append("")
            lines[-1] += f"   {text}" if lines[-1] else text
        return [(" " * len(_FAILURES) if number else _FAILURES) + line for number, line in enumerate(lines)]
