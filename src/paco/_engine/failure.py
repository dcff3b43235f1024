"""The errors of a run: what they do to it, the first and those that come later, and how the caller gets them."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import shorten
from paco._base.errors import add_note, as_item_error, not_awaitable, trim
from paco._engine.outcomes import Err, TooManyErrors, err_of, is_outcome

if TYPE_CHECKING:
    from paco._base.types import OnError
    from paco._engine.nursery import Nursery
    from paco._engine.run import Scheduler
    from paco._engine.sinks import Collector, Store

#: Errors that end a program, as asyncio sees it. They are raised however late they come.
EXITS: Final = (KeyboardInterrupt, SystemExit)

#: The number of results from which a fraction of errors is judged: one error in two results says nothing.
_ENOUGH: Final = 20
#: How many errors after the first are shown; the rest are only counted.
_SHOWN: Final = 3


class Failure:
    """The first error of a run, and those after it. Raising or reporting them releases them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: BaseException | None = None
        self._late: list[str] = []
        self._count = 0

    def first(self, error: BaseException, note: str) -> None:
        """Record the error that ends the run."""
        self._first = error
        if note:
            add_note(error, f"paco.{self._name}: {note}")

    def late(self, error: BaseException | None, where: str) -> None:
        """Record an error that came while the run was ending. A cancellation is not an error then.

        An exit takes the place of the first error.
        """
        if error is None or error is self._first or isinstance(error, asyncio.CancelledError | GeneratorExit):
            return
        if isinstance(error, EXITS) and not self.exits:
            where += "" if self._first is None else f", while failing with {shorten(self._first)}"
            self.first(error, where)
            return
        self._count += 1
        if self._count <= _SHOWN:
            self._late.append(f"{where}: {shorten(error)}")

    def throw(self, loop: asyncio.AbstractEventLoop, cancelled: asyncio.CancelledError | None = None) -> None:
        """Raise the cancellation of the caller, with the errors in its notes; otherwise raise the first error.

        An error that ends the program is raised in any case. If there is nothing to raise, report later errors to the
        event loop: the caller has its result.
        """
        first, late = self._take()
        try:
            if cancelled is not None and not isinstance(first, EXITS):
                if first is not None:
                    add_note(cancelled, f"paco.{self._name}: cancelled while failing with {shorten(first)}")
                if late:
                    add_note(cancelled, late)
                raise cancelled
            if first is not None:
                raise first
            _report(loop, late)
        finally:
            del first, cancelled

    def report(self, loop: asyncio.AbstractEventLoop, *, handed_on: bool) -> None:
        """Report the errors to the event loop, since no caller is left; leave out one that the next stage raises.

        An exit is raised in the loop, unless a caller takes it before.
        """
        if self.exits and not handed_on:
            loop.call_soon(self.throw, loop)
            return
        first, late = self._take()
        if first is None:
            _report(loop, late)
        elif not handed_on:
            _report(loop, f"paco.{self._name}: failed after the caller stopped waiting for it", first)

    @property
    def exits(self) -> bool:
        """Whether the first error is one that ends the program."""
        return isinstance(self._first, EXITS)

    def _take(self) -> tuple[BaseException | None, str]:
        first, shown, count, late = self._first, self._late, self._count, ""
        self._first, self._late, self._count = None, [], 0
        if count:
            late = f"paco.{self._name}: {count} more failed while stopping: " + "; ".join(shown)
            if count > len(shown):
                late += f"; and {count - len(shown)} more"
            if first is not None:
                add_note(first, late)
        return first, late


def _report(loop: asyncio.AbstractEventLoop, message: str, error: BaseException | None = None) -> None:
    if message:
        loop.call_exception_handler({"message": message} if error is None else {"message": message, "exception": error})


# ---- the errors of items and of the source


def item_failed(run: Scheduler, error: BaseException, index: int, item: object) -> bool:
    """Apply the error policy of a run to the error of an item; return whether its worker may continue."""
    where = trim(error)
    if where is not None and isinstance(error, TypeError):
        error = not_awaitable(error, where, run.name, run.fn)
    position = f"item {index - run.offset}"
    if run.on_error == "collect":
        return _collected(run, error, index)
    if run.is_ending:
        run.late(error, position)
        return False
    _leave_if_collected(run, error)
    error = as_item_error(error)
    if run.on_error == "return" and isinstance(error, Exception):
        run.sink.store[index] = error
        return True
    if run.on_error == "settle" and is_outcome(error):
        run.sink.store[index] = err_of(item, error)
        return True
    run.fail(error, f"{position}: {shorten(item)}")
    return False


def _collected(run: Scheduler, error: BaseException, index: int) -> bool:
    """Pass an error to the sink; return whether its worker may continue."""
    _leave_if_collected(run, error)
    goes_on = cast("Collector", run.sink).failed(index, error if run.is_ending else as_item_error(error))
    if not (goes_on or run.is_ending):
        run.fail(as_item_error(error))  # without a note: the collector describes the item
    return goes_on and not run.is_ending


def source_failed(run: Scheduler, error: BaseException) -> None:
    """End a run because its source raised, or because a waiting worker was cancelled from outside."""
    trim(error)
    if run.is_ending:
        run.late(error, "the source")
        return
    _leave_if_collected(run, error)
    run.fail(as_item_error(error), f"its source, after {run.started - run.offset} items")


def _leave_if_collected(run: Scheduler, error: BaseException) -> None:
    """Re-raise a GeneratorExit that no item raised: the loop is gone, and this coroutine is garbage-collected."""
    if isinstance(error, GeneratorExit) and asyncio.current_task(run.loop) is None:
        raise error


class ErrorBudget:
    """A store that ends the run if too many results are errors.

    Args:
        most: The maximum number of errors; or a float, the maximum fraction, judged from `_ENOUGH` results on.
        on_error: The error policy. With ``return``, returned exceptions count as errors.
    """

    def __init__(self, name: str, store: Store, most: float, on_error: OnError) -> None:
        self._name = name
        self._store = store
        self._most = most
        self._kinds = (Err, Exception) if on_error == "return" else (Err,)
        self._results = self._errors = 0
        self._last: Any = None  # the last error

    def ends(self, run: Nursery) -> None:
        """Store the run that is ended when there are too many errors. The reference is weak: the run refers to this."""
        self._run = weakref.ref(run)

    def __setitem__(self, index: int, result: Any, /) -> None:
        """Store the result, then end the run if there are too many errors. Its outcomes include this result."""
        self._store[index] = result
        self._results += 1
        if isinstance(result, self._kinds):
            self._errors += 1
            self._last = cast("Any", result).error if isinstance(result, Err) else result
        run = self._run()
        if self._is_too_much() and run is not None and not run.ending():
            said = f"paco.{self._name}: {self._errors} of {self._results} items failed, and max_errors is {self._most}"
            error = TooManyErrors(said, run.outcomes())
            error.__cause__ = self._last
            run.fail(error)

    def _is_too_much(self) -> bool:
        if isinstance(self._most, int):
            return self._errors > self._most
        return self._results >= _ENOUGH and self._errors / self._results > self._most
