"""The work for each item of the command: run it, write its record, count it, show its failure."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import paco
from paco._base.check import message
from paco._base.item import Slots
from paco._cli.errors import explain
from paco._cli.formats import Problem, recreated
from paco._engine.sinks import FORGET
from paco._records.group_commit import GroupCommit
from paco._records.lines import Span, encode, failure, line, span_of, success
from paco.events import clock, failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.check import ItemFunction
    from paco._base.item import WorkerTask
    from paco._base.types import OnError
    from paco._cli.inputs import InputItem
    from paco._cli.progress import Progress, Tally
    from paco._engine.sinks import InOrder
    from paco._records.file import RecordFile
    from paco.limits import Limiter


class ItemWork:
    """Writes the records of a run of the command. It takes the place of a journal in a run of `paco.map`.

    Args:
        title: The name of the function for listeners.
        file: Receives the lines.
        tally: Counts the items.
        progress: Shows failures.
        item_failed: Called after each failure.
        made_by: The fields of a record that name the function, as JSON with a leading comma.
        keep_order: Whether lines are written in the order of the items.
        values: Whether to write only results, not records.
        settled: Whether the function returns outcomes (`paco.settle`).
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
        self._title = title
        self._tally = tally
        self._progress = progress
        self._item_failed = item_failed
        self._made_by = made_by
        self._values = values
        self._settled = settled
        self._commit = GroupCommit(file, keep_order=keep_order)
        #: Writes the lines that are left, before the process exits at once.
        self.abandon: Callable[[], None] = self._commit.abandon
        #: The traceback of the first failure; empty if there is none.
        self.first_error = ""

    @property
    def output_error(self) -> BaseException | None:
        """The error that ended the output, if there was one."""
        return self._commit.error

    # ---- the interface of a journal

    def begin(
        self,
        name: str,
        fn: ItemFunction,
        sink: InOrder,
        limit: int | Limiter,
        *,
        on_error: OnError,
    ) -> tuple[GroupCommit, ItemFunction, int | Limiter]:
        """Return the service that writes, the function that also adds records, and the same limit. Keep no results."""
        sink.store, sink.window = FORGET, sys.maxsize
        return self._commit, self._recorded(fn), limit

    # ---- an item

    def _recorded(self, fn: ItemFunction) -> ItemFunction:  # noqa: C901 - further calls would cost time for each item
        """Return a function that runs an item and adds its line.

        The line is added before the function awaits anything else, so a cancelled run loses no finished item. An error
        of the item is raised again, for limits that adapt to errors. All of it is one coroutine, since each further one
        would take time whenever the item resumes.
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
                    if commit.run.is_ending or commit.run.was_let_go():
                        tally.cancelled += 1
                        raise
                    error = cancelled
                except (Exception, SystemExit) as raised:  # by the function, or because JSON cannot hold its result
                    error = raised
                finally:
                    slots.give(slot)
                record = cast("WorkerTask", asyncio.current_task()).item if commit.run.noted else None
                span = span_of(attempts, slot, start, began, now(), None if record is None else record.ran)
                tally.took(span.ms / 1000)
                tally.retried += attempts - 1
                self._finish(item, number, text, error, span)
            if commit.full:
                await commit.room()
            try:
                if isinstance(error, Exception):
                    raise error
            finally:
                del error  # its traceback refers to this frame: break the cycle

        recorded.__name__ = recorded.__qualname__ = self._title
        return recorded

    def _finish(self, item: InputItem, number: int, text: str, error: BaseException | None, span: Span) -> None:
        """Add the line of an ended item and count the item; if it failed, show that too.

        Args:
            item: The item.
            number: The order of its start, from 0.
            text: Its result as JSON.
            error: Its error; ``None`` if it succeeded.
            span: When and where it ran.
        """
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
        failed(error)  # tells listeners, since an error that is not an Exception is not raised
        if isinstance(error, paco.ItemCancelled) and error.__cause__ is not None:
            error = error.__cause__  # the record shows anyway that the error is one of the item
        return Problem(type(error).__name__, message(error))


def _result(outcome: paco.Ok[Any, Any] | paco.Err[Any]) -> Any:
    if isinstance(outcome, paco.Err):
        raise outcome.error
    return outcome.value
