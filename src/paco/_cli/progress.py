"""How the run goes, for a person: lines that are repainted while it runs, failures above them, a summary at the end."""

from __future__ import annotations

import asyncio
import enum
import json
from typing import TYPE_CHECKING

from paco._cli.summary import summary
from paco._cli.view import View
from paco._cli.workers import WorkerLines
from paco._view.console import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import paco
    from paco import events
    from paco._cli.formats import Problem
    from paco._cli.inputs import Item
    from paco._cli.tally import Tally
    from paco._view.console import Console

MODES = ("auto", "bar", "plain", "json", "off")


class Display(enum.Enum):
    """What is shown: lines repainted in place, a line each 10 s, JSON each second, the summary alone, nothing."""

    LIVE = enum.auto()
    PLAIN = enum.auto()
    JSON = enum.auto()
    SUMMARY = enum.auto()
    OFF = enum.auto()


_EVERY = {Display.LIVE: 0.1, Display.PLAIN: 10.0, Display.JSON: 1.0}
#: Failures shown between two repaints, and in all where nothing is repainted: a log is no place for 100,000 lines.
_FAILURES_PER_TICK = 10
_FAILURES_PLAIN = 20


class Progress:
    """Shows a tally.

    Args:
        console: Where.
        tally: What has been counted.
        total: How many items there are, as far as that is known.
        display: How.
        title: What to call the run.
        limit: That of the run.
        cap: The highest rate, as it was said.
    """

    def __init__(
        self,
        console: Console,
        tally: Tally,
        total: Callable[[], int | None],
        display: Display,
        *,
        title: str = "",
        limit: int | paco.Limiter = 0,
        cap: str = "",
    ) -> None:
        self._console = console
        self._tally = tally
        self._total = total
        self._display = display
        self._live = display is Display.LIVE
        self._loop = asyncio.get_running_loop()
        self._view = View(tally, total, title=title, limit=limit, cap=cap)
        self._unshown = 0
        self._shown = 0
        self._timer: asyncio.TimerHandle | None = None
        self._began = self._loop.time()

    def say_state(self, state: str) -> None:
        """Show a word about what goes on first: ``draining``."""
        self._view.state = state

    def place(self, workers: Mapping[str, events.Worker] | None) -> None:
        """Show those who have the items as well; ``None`` for this process."""
        self._view.workers = None if workers is None else WorkerLines(workers)

    def watch(self, event: events.RunStarted) -> None:
        """Hear of the run, which knows what it waits for."""
        self._view.run = event.run

    @property
    def watches(self) -> bool:
        """Whether it shows what the run waits for."""
        return self._live or self._display is Display.PLAIN

    def start(self) -> None:
        """Show it from now on."""
        self._view.look(self._loop.time())
        if self._display in _EVERY:
            self._timer = self._loop.call_later(_EVERY[self._display], self._tick)

    def stop(self) -> None:
        """Show it no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell_unshown()
        self._console.paint("")

    def failure(self, item: Item, problem: Problem, attempts: int = 1) -> None:
        """Tell that an item failed; of many at once, only the first few."""
        if self._display not in {Display.LIVE, Display.PLAIN}:
            return
        if self._shown >= (_FAILURES_PER_TICK if self._live else _FAILURES_PLAIN):
            self._unshown += 1
            return
        self._shown += 1
        value = item.value if isinstance(item.value, str) else repr(item.value)
        cause = f"{problem.type}: {problem.message}" if problem.message else problem.type
        tries = f"  ({attempts} attempts)" if attempts > 1 else ""
        width = self._console.width()
        text = fit(f"✗ #{item.id} {fit(value, width // 2)}  {cause}", max(width - len(tries), 0)) + tries
        self._console.say(self._console.style(text[0], "red") + text[1:])

    def _tell_unshown(self) -> None:
        if self._unshown:
            self._console.say(f"  and {self._unshown:,} more failures: see the records")
        self._unshown = 0

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_EVERY[self._display], self._tick)
        self._view.look(self._loop.time())
        if self._live:
            self._tell_unshown()
            self._shown = 0
            self._console.paint("\n".join(self._view.lines(self._console.width() - 1, self._console.style)))
        elif self._display is Display.JSON:
            self._console.say(json.dumps(self._view.facts()))
        else:
            self._console.say(self._view.line(self._console.width() - 1, self._console.style))

    # ---- the end

    def summary(self, ended: str = "done", again: str = "", found: int = 0) -> None:
        """Say how it went: in all, the limit found, the failures by kind, and the command that runs what is left."""
        if self._display is Display.OFF:
            return
        seconds = self._loop.time() - self._began
        if self._display is Display.JSON:
            self._view.look(self._loop.time())
            facts = {**self._view.facts(), "ended": ended, "seconds": round(seconds, 3), "again": again or None}
            self._console.say(json.dumps(facts))
            return
        width = self._console.width()
        first, *rest = summary(self._tally, self._total(), seconds, width=width, found=found, again=again)
        self._console.say("\n".join([f"{self._console.style(ended, 'bold')} {first}", *rest]))
