"""What is done for one item: it is run, its record is handed on, its failure is shown."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import paco
from paco._base.worker_info import Slots
from paco._cli.errors import explain
from paco._cli.formats import Problem, recreated
from paco._records.lines import Span, failure, line, success
from paco._records.values import encode
from paco._view.console import message
from paco.events import clock, failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._cli.elsewhere import Place
    from paco._cli.inputs import Item
    from paco._cli.order import Output
    from paco._cli.progress import Progress
    from paco._cli.tally import Tally


_new: Final[Any] = vars(tuple)["__new__"]  # a quarter of what the constructor of a named tuple takes


class Work:
    """Runs an item, when it is called. Raises what the item failed with, for a limit that learns from errors.

    Args:
        place: Where the items run; the function is the user's, settled if ``retried``.
        output: Where the lines go.
        tally: What is counted.
        progress: What is shown.
        failed: Called after each failure.
        title: What the function is called.
        made_by: The part of a record that tells what has made it.
        values: Whether a line is the result alone.
        retried: Whether the function makes several attempts.
    """

    def __init__(
        self,
        place: Place,
        output: Output,
        tally: Tally,
        progress: Progress,
        failed: Callable[[], None],
        *,
        title: str,
        made_by: str,
        values: bool,
        retried: bool,
    ) -> None:
        self.__name__ = title  # by which the tasks are named that run it
        self._function = place.function
        self._last = place.last
        self._retried = retried
        self._output = output
        self._tally = tally
        self._progress = progress
        self._failed = failed
        self._made_by = made_by
        self._values = values
        self._slots = Slots()
        self._now = clock()
        #: Whether the run is being cancelled; a CancelledError before that is an item's own, and an error of that item.
        self.cancelled = False
        #: The traceback of the first failure.
        self.first_error = ""

    async def __call__(self, item: Item) -> None:
        """Run ``item``. Its line is handed on before anything is awaited: a cancelled run loses none.

        It is one coroutine, since each further one would take its time whenever the item goes on after it has waited.
        """
        tally, number = self._tally, self._tally.started
        tally.started = number + 1
        error: BaseException | None = None
        if item.problem is not None:
            error = recreated(item.problem)
            self._finish(item, number, "", error, Span(0, None, time.time(), 0.0))
        else:
            attempts, text, slot, start, began = 1, "", self._slots.take(), time.time(), self._now()
            try:
                value = await self._function(item.value)
                if self._retried:
                    attempts = value.attempts
                    value = _result(value)
                text = encode(value)
            except asyncio.CancelledError as cancelled:
                if self.cancelled:
                    tally.cancelled += 1
                    raise
                error = cancelled
            except (Exception, SystemExit) as raised:  # of the function, or because JSON cannot hold its result
                error = raised
            finally:
                self._slots.give(slot)
            self._finish(item, number, text, error, self._span(attempts, slot, start, began))
        if self._output.full:
            await self._output.room()
        try:
            if isinstance(error, Exception):
                raise error
        finally:
            del error  # it leads back here

    def _span(self, attempts: int, slot: int, start: float, began: float) -> Span:
        """Return when and where the item ran that has just ended, and count that."""
        seconds, ran, worker = self._now() - began, self._last(), None
        if ran is not None:
            start, seconds, worker = start + (ran.start - began), ran.end - ran.start, ran.worker
        self._tally.took(seconds)
        self._tally.retried += attempts - 1
        span: Span = _new(Span, (attempts, slot, start, 1000 * seconds, worker))
        return span

    def _finish(self, item: Item, number: int, text: str, error: BaseException | None, span: Span) -> None:
        """Hand on the line of an item that has ended, with its result as JSON or with its error, and count it."""
        if error is None:
            self._output.add(number, f"{text}\n".encode() if self._values else self._line(item, success(text), span))
            self._tally.ok += 1
            return
        problem = item.problem or self._problem(error)
        self._output.add(
            number, b"" if self._values else self._line(item, failure(problem.type, problem.message), span)
        )
        self._tally.fail(problem)
        self._progress.failure(item, problem, span.attempts)
        self._failed()

    def _line(self, item: Item, outcome: str, span: Span) -> bytes:
        return line(item.head, outcome, span, self._made_by)

    def _problem(self, error: BaseException) -> Problem:
        if not self._tally.failed:
            self.first_error = explain(error)
        failed(error)  # for listeners, since one that is no Exception is not raised
        if isinstance(error, paco.ItemCancelled) and error.__cause__ is not None:
            error = error.__cause__  # that it is one of the item the record says anyway
        return Problem(type(error).__name__, message(error))


def _result(outcome: paco.Ok[Any, Any] | paco.Err[Any]) -> Any:
    if isinstance(outcome, paco.Err):
        raise outcome.error
    return outcome.value
