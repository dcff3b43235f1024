"""What is done for one item: it runs, its record is written, its failure is shown. The run is one of `paco.map`."""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

import paco
from paco._base.worker_info import Slots
from paco._cli.errors import explain
from paco._cli.formats import Problem, recreated
from paco._engine.sinks import FORGET
from paco._records.group_commit import GroupCommit
from paco._records.lines import Span, failure, line, span_of, success
from paco._records.values import encode
from paco._view.console import message
from paco.events import clock, failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.item_function import ItemFunction
    from paco._base.types import OnError
    from paco._base.worker_info import Ran
    from paco._cli.inputs import InputItem
    from paco._cli.progress import Progress
    from paco._cli.tally import Tally
    from paco._engine.run import Scheduler
    from paco._engine.sinks import InOrder
    from paco._records.file import RecordFile
    from paco.limits import Limiter


class ItemWork:
    """Has a run of the command leave its records, as `paco.journal` does for one of the library.

    Args:
        title: What listeners call the function.
        file: Where the lines go.
        tally: What is counted.
        progress: What is shown.
        item_failed: Called after each failure.
        made_by: The part of a record that tells what has made it.
        keep_order: Whether the lines are written in the order of the items.
        values: Whether a line is the result alone.
        settled: Whether the function returns outcomes.
    """

    def __init__(
        self,
        title: str,
        file: RecordFile,
        tally: Tally,
        progress: Progress,
        item_failed: Callable[[], None],
        *,
        made_by: str,
        keep_order: bool,
        values: bool,
        settled: bool,
    ) -> None:
        self.role = "records"
        self._title = title
        self._tally = tally
        self._progress = progress
        self._item_failed = item_failed
        self._made_by = made_by
        self._values = values
        self._settled = settled
        self._commit = GroupCommit(file, keep_order=keep_order)
        #: Writes what is there before the process leaves at once.
        self.abandon: Callable[[], None] = self._commit.abandon
        #: Hears that all items have ended.
        self.alone: Callable[[], None] = self._commit.alone
        #: The traceback of the first failure.
        self.first_error = ""

    @property
    def output_error(self) -> BaseException | None:
        """Why the lines could not be written, if they could not."""
        return self._commit.error

    # ---- what the run asks of a journal

    def begin(
        self,
        name: str,
        fn: ItemFunction,
        sink: InOrder,
        limit: int | Limiter,
        *,
        on_error: OnError,
        ran: Callable[[], Ran | None],
    ) -> tuple[ItemWork, ItemFunction, int | Limiter]:
        """Return this, the function that also leaves the records, and the limit; no results are kept."""
        sink.store, sink.window = FORGET, sys.maxsize
        return self, self._recorded(fn, ran), limit

    def prepare(self, run: Scheduler) -> None:
        """Be called before the run has any tasks."""
        self._run: Scheduler = weakref.proxy(run)

    async def keep(self) -> None:
        """Write the lines: a task of the run, which outlives the others."""
        await self._commit.keep(self._run)

    # ---- an item

    def _recorded(  # noqa: C901 - a call costs for each item
        self, fn: ItemFunction, ran: Callable[[], Ran | None]
    ) -> ItemFunction:
        """Make the function that runs an item and adds its line before anything is awaited: a cancelled run loses none.

        It raises what the item failed with, for a limit that learns from errors. It is one coroutine, since each
        further one would take its time whenever the item goes on after it has waited.
        """
        tally, commit, slots, settled = self._tally, self._commit, Slots(), self._settled
        now, wall = clock(), time.time

        async def recorded(item: InputItem) -> None:
            number = tally.started
            tally.started = number + 1
            error: BaseException | None = None
            if item.problem is not None:
                error = recreated(item.problem)
                self._finish(item, number, "", error, Span(0, None, wall(), 0.0))
            else:
                attempts, text, slot, start, began = 1, "", slots.take(), wall(), now()
                try:
                    value = await fn(item.value)
                    if settled:
                        attempts = value.attempts
                        value = _result(value)
                    text = encode(value)
                except asyncio.CancelledError as cancelled:
                    if self._run.ending() or self._run.was_let_go():
                        tally.cancelled += 1
                        raise
                    error = cancelled
                except (Exception, SystemExit) as raised:  # of the function, or because JSON cannot hold its result
                    error = raised
                finally:
                    slots.give(slot)
                span = span_of(attempts, slot, start, began, now(), ran())
                tally.took(span.ms / 1000)
                tally.retried += attempts - 1
                self._finish(item, number, text, error, span)
            if commit.full:
                await commit.room()
            try:
                if isinstance(error, Exception):
                    raise error
            finally:
                del error  # it leads back here

        recorded.__name__ = recorded.__qualname__ = self._title
        return recorded

    def _finish(self, item: InputItem, number: int, text: str, error: BaseException | None, span: Span) -> None:
        """Hand on the line of an item that has ended, with its result as JSON or with its error, and count it."""
        if error is None:
            whole = f"{text}\n".encode() if self._values else line(item.head, success(text), span, self._made_by)
            self._commit.add(whole, number)
            self._tally.ok += 1
            return
        problem = item.problem or self._problem(error)
        outcome = failure(problem.type, problem.message)
        self._commit.add(b"" if self._values else line(item.head, outcome, span, self._made_by), number)
        self._tally.fail(problem)
        self._progress.failure(item, problem, span.attempts)
        self._item_failed()

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
