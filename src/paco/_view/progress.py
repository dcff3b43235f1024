"""Shows the progress of runs: repainted lines, an output of a notebook, a line every 10 s, or the user's own bar."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from paco import events
from paco._view.console import Console, safe
from paco._view.display import Display
from paco._view.lines import ended, live, plain
from paco._view.meter import Meter, Sketch, reading_of
from paco._view.notebook import NotebookLines, runs_in_notebook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paco.events import ItemEnded, Run, RunEnded, RunStarted

#: The most lines for runs that take less than a second. The others are only counted.
_SHORT: Final = 10


class PlainLines(Display):
    """Lines that stay: one for each run every 10 s, and one at its end."""

    every = 10.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._short = 0

    def show(self, meters: Sequence[Meter]) -> None:
        for meter in meters:
            self._console.say(self._console.styled(plain(meter)))

    def end(self, meter: Meter) -> None:
        if meter.elapsed() < 1:
            self._short += 1
            if self._short > _SHORT:
                return
        self._console.say(self._console.styled(ended(meter, self._console.width() - 1)))

    def close(self) -> None:
        if self._short > _SHORT:
            self._console.say(f"and {self._short - _SHORT:,} more runs of less than a second")
        self._console.close()


class LiveLines(PlainLines):
    """Repainted lines. A run leaves a line above them at its end."""

    every = 0.1

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._guard = ExitStack()
        self._painted = False

    def show(self, meters: Sequence[Meter]) -> None:
        if not self._painted:
            self._painted = True
            self._guard.enter_context(self._console.guarding())
        self._console.paint(live(meters, self._console.width() - 1, unicode=self._console.unicode))

    def rest(self) -> None:
        self._console.paint([])
        self._guard.close()
        self._painted = False

    def close(self) -> None:
        self.rest()
        super().close()


class FedBar(Display):
    """The user's own bar, which is told the number of newly done items.

    It has ``update(n)``, such as a bar of tqdm; or it is a ``rich.progress.Progress``, which gets a task for each run.
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._told: dict[Meter, int] = {}
        self._tasks: dict[Meter, Any] = {}

    def show(self, meters: Sequence[Meter]) -> None:
        for meter in meters:
            over = meter.now.done + meter.now.skipped
            more = over - self._told.get(meter, 0)
            if more and not meter.now.fed:  # in a pipeline only the first stage counts
                self._told[meter] = over
                self._advance(meter, more)

    def end(self, meter: Meter) -> None:
        self.show([meter])
        self._told.pop(meter, None)
        self._tasks.pop(meter, None)

    def _advance(self, meter: Meter, more: int) -> None:
        if not hasattr(self._bar, "add_task"):
            self._bar.update(more)
            return
        if meter not in self._tasks:
            title = safe(meter.title).replace("[", r"\[")  # rich would read it as markup
            self._tasks[meter] = self._bar.add_task(title, total=meter.now.total)
        self._bar.advance(self._tasks[meter], more)


def display_for(bar: Any) -> Display:
    """Return the display for the user's own bar, or for the notebook or stderr if ``bar`` is ``None``."""
    if bar is not None:
        return FedBar(bar)
    if runs_in_notebook():
        return NotebookLines()
    console = Console(sys.stderr, os.environ)
    return LiveLines(console) if console.live else PlainLines(console)


class Board:
    """Shows all runs that do not start inside an item of another run, for as long as any of them runs.

    ``total`` is the number of items of runs that do not know it.
    """

    def __init__(self, display: Display, total: int | None) -> None:
        self._display = display
        self._total = total
        self._meters: dict[Run, Meter] = {}
        self._timers: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}

    def started(self, event: RunStarted) -> None:
        """Measure and show a run from its start."""
        run = event.run
        if run.parent is not None:
            return
        read = partial(reading_of, run, events.clock(), self._total)
        self._meters[run] = Meter(run.title, read, Sketch())
        loop = asyncio.get_running_loop()
        if loop not in self._timers:
            self._timers[loop] = loop.call_later(self._display.every, self._tick, loop)

    def item(self, event: ItemEnded) -> None:
        """Add the duration of an item, and the type of its error."""
        meter = self._meters.get(event.run)
        if meter is not None and not event.skipped and event.outcome != "cancelled":
            meter.latencies.add(event.end - event.start)
            if event.error is not None:
                meter.kinds[type(event.error).__name__] += 1

    def ended(self, event: RunEnded) -> None:
        """Show that a run has ended."""
        meter = self._meters.pop(event.run, None)
        if meter is None:
            return
        if not self._meters:
            self._stop()
            self._display.rest()
        meter.look()
        self._display.end(meter)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        for meter in self._meters.values():
            meter.look()
        self._display.show([self._meters[run] for run in sorted(self._meters, key=lambda run: run.order)])
        self._timers[loop] = loop.call_later(self._display.every, self._tick, loop)

    def _stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def close(self) -> None:
        """Show the runs that are still running as ended, and end the display."""
        self._stop()
        for meter in self._meters.values():
            meter.look()
            self._display.end(meter)
        self._meters.clear()
        self._display.close()
