"""What is done for one item: it is run, its record is handed on, its failure is shown."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import paco
from paco._cli._errors import explain
from paco._cli._formats import Problem, recreated
from paco._cli._records import Slots, Span, failure, line, opening
from paco._console import message
from paco._records._lines import success
from paco._records._values import encode
from paco.events import clock, failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._cli._elsewhere import Place
    from paco._cli._inputs import Item
    from paco._cli._order import Output
    from paco._cli._progress import Progress
    from paco._cli._tally import Tally


_new: Final[Any] = vars(tuple)["__new__"]  # a quarter of what the constructor of a named tuple takes


class Outcome(NamedTuple):
    """How an item ended: its result as JSON, or what was wrong; and after how many attempts."""

    value: str
    problem: Problem | None
    attempts: int
    error: Exception | None = None


class Work:
    """Runs an item, when it is called. Raises what the item failed with, for a limit that learns from errors.

    Args:
        place: Where the items run; the function is the user's, settled if ``retried``.
        output: Where the lines go.
        tally: What is counted.
        progress: What is shown.
        failed: Called after each failure.
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
        made_by: str,
        values: bool,
        retried: bool,
    ) -> None:
        self._function, _, _, self._last = place
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
        """Run ``item``. Its line is handed on before anything is awaited: a cancelled run loses none."""
        number = self._tally.started
        self._tally.started += 1
        if item.problem is not None:
            outcome = Outcome("", item.problem, 0, recreated(item.problem))
            self._finish(item, number, opening(item), outcome, Span(0, None, time.time(), 0.0))
        else:
            outcome = await self._run(item, number)
        if self._output.full:
            await self._output.room()
        try:
            if outcome.error is not None:
                raise outcome.error
        finally:
            del outcome  # its error leads back here

    async def _run(self, item: Item, number: int) -> Outcome:
        head, slot, start, began = opening(item), self._slots.take(), time.time(), self._now()
        try:
            value = await self._function(item.value)
            outcome = self._outcome(value) if self._retried else _new(Outcome, (encode(value), None, 1, None))
        except asyncio.CancelledError as error:
            if self.cancelled:
                self._tally.cancelled += 1
                raise
            outcome = self._problem(error)
        except (Exception, SystemExit) as error:  # of the function, or because JSON cannot hold its result
            outcome = self._problem(error)
        finally:
            self._slots.give(slot)
        seconds, ran, worker = self._now() - began, self._last(), None
        if ran is not None:
            start, seconds, worker = start + (ran.start - began), ran.end - ran.start, ran.worker
        self._tally.took(seconds)
        self._tally.retried += outcome.attempts - 1
        self._finish(item, number, head, outcome, _new(Span, (outcome.attempts, slot, start, 1000 * seconds, worker)))
        return outcome

    def _outcome(self, settled: paco.Ok[Any, Any] | paco.Err[Any]) -> Outcome:
        if isinstance(settled, paco.Err):
            return self._problem(settled.error, settled.attempts)
        try:
            return Outcome(encode(settled.value), None, settled.attempts)
        except Exception as error:
            return self._problem(error, settled.attempts)

    def _problem(self, error: BaseException, attempts: int = 1) -> Outcome:
        if not self._tally.failed:
            self.first_error = explain(error)
        failed(error)  # for listeners, since one that is no Exception is not raised
        raised = error if isinstance(error, Exception) else None
        if isinstance(error, paco.ItemCancelled) and error.__cause__ is not None:
            error = error.__cause__  # that it is one of the item the record says anyway
        return Outcome("", Problem(type(error).__name__, message(error)), attempts, raised)

    def _finish(self, item: Item, number: int, head: str, outcome: Outcome, span: Span) -> None:
        problem = outcome.problem
        if problem is None:
            self._output.add(number, self._line(head, outcome.value, span))
            self._tally.ok += 1
            return
        self._output.add(number, b"" if self._values else self._record(head, failure(problem), span))
        self._tally.fail(problem)
        self._progress.failure(item, problem, outcome.attempts)
        self._failed()

    def _line(self, head: str, value: str, span: Span) -> bytes:
        return f"{value}\n".encode() if self._values else self._record(head, success(value), span)

    def _record(self, head: str, outcome: str, span: Span) -> bytes:
        return line(head, outcome, span, self._made_by)
