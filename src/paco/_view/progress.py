"""How runs go, for a person: live lines on a terminal, a line now and then elsewhere, or somebody else's bar."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from paco import events
from paco._view.console import Console, safe
from paco._view.meter import Meter, fitting, lines, progress_of, state_of, summary_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.live import Live

    from paco._view.meter import Part
    from paco.events import ItemEnded, Run, RunEnded, RunStarted

#: Seconds between two paintings of the live lines, and between two lines where nothing is repainted.
LIVE, PLAIN = 0.1, 10.0
#: Of the runs that take less than a second, this many leave a line.
_SHORT: Final = 10


class Display:
    """Where it is shown; how often, in seconds."""

    every = PLAIN

    def show(self, meters: Sequence[Meter]) -> None:
        """Show how the runs go."""

    def end(self, meter: Meter) -> None:
        """Show that a run has ended, the others go on."""

    def rest(self) -> None:
        """Show nothing, as no run goes on."""

    def close(self) -> None:
        """Show nothing more."""


class Lines(Display):
    """Lines that stay: one for each run each 10 s, and one when it has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._short = 0

    def show(self, meters: Sequence[Meter]) -> None:
        for meter in meters:
            self.say([(safe(meter.run.title), "bold"), *progress_of(meter), *state_of(meter)])

    def end(self, meter: Meter) -> None:
        if meter.elapsed() < 1:
            self._short += 1
            if self._short > _SHORT:
                return
        self.say(summary_of(meter))

    def close(self) -> None:
        if self._short > _SHORT:
            self.say([(f"and {self._short - _SHORT:,} more runs of less than a second", "")])

    def say(self, parts: Sequence[Part]) -> None:
        """Write a line."""
        parts = fitting(parts, self._console.width())
        self._console.say("  ".join(self._console.style(text, style) for text, style in parts))


class LiveLines(Lines):
    """Lines that are repainted in place on a terminal, by rich; runs that have ended leave a line above."""

    every = LIVE

    def __init__(self, console: Console, stream: Any) -> None:
        from rich.console import Console as Terminal
        from rich.live import Live

        super().__init__(console)
        self._meters: Sequence[Meter] = ()
        self._terminal = Terminal(file=stream, highlight=False)
        self._new = partial(
            Live,
            cast("Any", self),
            console=self._terminal,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # data that goes elsewhere stays there
        )
        self._live: Live | None = None

    def __rich_console__(self, console: Any, options: Any) -> Iterable[Any]:
        return (_rich(parts) for parts in lines(self._meters, options.max_width - 1))

    def show(self, meters: Sequence[Meter]) -> None:
        self._meters = meters
        if self._live is None:
            self._live = self._new()  # each time: one that is started again overwrites what has come since
            self._live.start()
        self._live.refresh()

    def say(self, parts: Sequence[Part]) -> None:
        self._terminal.print(_rich(fitting(parts, self._terminal.width - 1)))

    def rest(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self) -> None:
        self.rest()
        super().close()


def _rich(parts: Sequence[Part]) -> Any:
    from rich.text import Text

    return Text("  ", no_wrap=True, overflow="crop").join(Text(words, style) for words, style in parts)


class Fed(Display):
    """A bar of somebody else: anything with ``update(n)``, told how many items more are done."""

    every = LIVE

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._told: dict[Run, int] = {}

    def show(self, meters: Sequence[Meter]) -> None:
        for meter in meters:
            if not meter.run.fed:  # of a pipeline the first stage counts
                more = meter.run.done - self._told.get(meter.run, 0)
                self._told[meter.run] = meter.run.done
                if more:
                    self.advance(meter, more)

    def end(self, meter: Meter) -> None:
        self.show([meter])
        self._told.pop(meter.run, None)

    def advance(self, meter: Meter, more: int) -> None:
        """Tell the bar."""
        self._bar.update(more)


class FedTasks(Fed):
    """A ``rich.progress.Progress``: each run is a task of it."""

    def __init__(self, bar: Any) -> None:
        super().__init__(bar)
        self._tasks: dict[Run, Any] = {}

    def advance(self, meter: Meter, more: int) -> None:
        if meter.run not in self._tasks:
            title = safe(meter.run.title).replace("[", r"\[")  # it would be markup
            self._tasks[meter.run] = self._bar.add_task(title, total=meter.total)
        self._bar.advance(self._tasks[meter.run], more)

    def end(self, meter: Meter) -> None:
        super().end(meter)
        self._tasks.pop(meter.run, None)


def display_for(bar: Any) -> Display:
    """Return where to show it: on the bar if there is one, else on stderr, as fits that."""
    if bar is not None:
        return FedTasks(bar) if hasattr(bar, "add_task") else Fed(bar)
    console = Console(sys.stderr, os.environ)
    if console.live:
        try:
            return LiveLines(console, sys.stderr)
        except ImportError:
            pass
    return Lines(console)


# ---- the listener


class Board:
    """Follows the runs that are not inside an item of another, and has them shown while any of them goes on."""

    def __init__(self, display: Display, total: int | None) -> None:
        self._display = display
        self._total = total
        self._meters: dict[Run, Meter] = {}
        self._timers: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}

    def started(self, event: RunStarted) -> None:
        if event.run.parent is not None:
            return
        loop = asyncio.get_running_loop()
        self._meters[event.run] = Meter(event.run, events.clock(), self._total)
        if loop not in self._timers:
            self._timers[loop] = loop.call_later(self._display.every, self._tick, loop)

    def item(self, event: ItemEnded) -> None:
        meter = self._meters.get(event.run)
        if meter is not None and event.outcome != "cancelled":
            meter.latencies.add(event.end - event.start)

    def ended(self, event: RunEnded) -> None:
        meter = self._meters.pop(event.run, None)
        if meter is None:
            return
        if not self._meters:
            self._stop()
            self._display.rest()
        self._display.end(meter)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        for meter in self._meters.values():
            meter.look()
        self._display.show(sorted(self._meters.values(), key=lambda meter: meter.run.order))
        self._timers[loop] = loop.call_later(self._display.every, self._tick, loop)

    def _stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def close(self) -> None:
        """Show nothing more."""
        self._stop()
        for meter in self._meters.values():
            self._display.end(meter)
        self._meters.clear()
        self._display.close()
