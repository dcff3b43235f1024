"""Errors of a run: the first is raised as itself, with notes; later ones are counted and shown in a note."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from paco._base.check import shorten

if TYPE_CHECKING:
    from types import TracebackType

#: How many errors after the first are shown; the rest are only counted.
_SHOWN: Final = 3
#: Modules whose frames are trimmed. `paco.testing` is not among them: its fakes stand for the user's code.
_OURS: Final = ("paco._", "paco.remote.")


class ItemCancelled(RuntimeError):
    """An item ended cancelled although its run was not; the cause is the item's ``CancelledError``.

    It is an error of that item like any other. A bare ``CancelledError`` would look like a cancellation of the caller,
    which an enclosing task group drops silently.
    """


def add_note(error: BaseException, text: str) -> None:
    """Add a note (PEP 678) to an exception, even if it overrides ``add_note``. Do nothing if it accepts no notes."""
    with suppress(Exception):  # __notes__ is not a list, or the error is frozen; the error matters more than the note
        BaseException.add_note(error, text)


def trim(error: BaseException) -> TracebackType | None:
    """Remove paco's own frames from the top of a traceback. If none remains, return the last one removed.

    Those frames hold the run and its results. A caught error would keep both alive, and an error kept as a result
    would be part of a reference cycle.
    """
    frame = error.__traceback__
    last = None
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        last, frame = frame, frame.tb_next
    BaseException.with_traceback(error, frame)  # not by assignment, which a frozen exception refuses
    return last if frame is None else None


def as_item_error(error: BaseException) -> BaseException:
    """Return an ordinary error in place of one that the caller would take for a cancellation or the end of a loop."""
    replaced: BaseException
    if isinstance(error, asyncio.CancelledError):
        replaced = ItemCancelled("an item raised CancelledError, although its run was not cancelled")
    elif isinstance(error, StopIteration | StopAsyncIteration | GeneratorExit):
        kind = type(error).__name__
        replaced = RuntimeError(f"an item raised {kind}, which ends iterators and generators; raise another exception")
    else:
        return error
    replaced.__cause__ = error
    return replaced


def not_awaitable(error: TypeError, where: TracebackType, name: str, fn: object) -> TypeError:
    """Return an error that says how to make ``fn`` async if its result could not be awaited; otherwise ``error``."""
    import dis  # the import takes a millisecond, and only this error needs it

    if where.tb_frame.f_code.co_code[where.tb_lasti] != dis.opmap["GET_AWAITABLE"]:
        return error
    called = getattr(fn, "__qualname__", None) or shorten(fn)
    return TypeError(
        f"paco.{name}: {called} must be a coroutine function, but its result cannot be awaited ({error}); write "
        f"it as `async def`, wrap a fast function as paco.wraps({called}), or run a blocking one in a thread: "
        f"lambda item: asyncio.to_thread({called}, item)"
    )


class Failure:
    """The first error of a run, and those after it. Raising or reporting them releases them."""

    __slots__ = ("_count", "_first", "_late", "_name", "handed_on")

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: BaseException | None = None
        self._late: list[str] = []
        self._count = 0
        #: Whether the next stage of the pipeline raises the error, so that it need not be reported here.
        self.handed_on: bool = False

    def first(self, error: BaseException, note: str) -> None:
        """Record the error that ends the run."""
        self._first = error
        if note:
            add_note(error, f"paco.{self._name}: {note}")

    def late(self, error: BaseException | None, where: str) -> None:
        """Record an error that came while the run was ending. A cancellation is not an error then."""
        if error is None or error is self._first or isinstance(error, asyncio.CancelledError | GeneratorExit):
            return
        self._count += 1
        if self._count <= _SHOWN:
            self._late.append(f"{where}: {shorten(error)}")

    def throw(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise the first error. If there is none, report later errors to the event loop: the caller has its result."""
        first, late = self._take()
        if first is None:
            _report(loop, late)
            return
        try:
            raise first
        finally:
            del first

    def throw_cancelled(self, cancelled: asyncio.CancelledError) -> None:
        """Raise the cancellation of the caller. It takes precedence over errors, which go into its notes."""
        first, late = self._take()
        if first is not None:
            add_note(cancelled, f"paco.{self._name}: cancelled while failing with {shorten(first)}")
        if late:
            add_note(cancelled, late)
        try:
            raise cancelled
        finally:
            del first, cancelled

    def report(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report all errors to the event loop, because no caller is left to receive them."""
        first, late = self._take()
        if first is None:
            _report(loop, late)
        elif not self.handed_on:
            _report(loop, f"paco.{self._name}: failed after the caller stopped waiting for it", first)

    def _take(self) -> tuple[BaseException | None, str]:
        first, self._first = self._first, None
        count, self._count = self._count, 0
        if not count:
            return first, ""
        late = f"paco.{self._name}: {count} more failed while stopping: " + "; ".join(self._late)
        if count > len(self._late):
            late += f"; and {count - len(self._late)} more"
        self._late = []
        if first is not None:
            add_note(first, late)
        return first, late


def _report(loop: asyncio.AbstractEventLoop, message: str, error: BaseException | None = None) -> None:
    if message:
        context: dict[str, Any] = {"message": message}
        if error is not None:
            context["exception"] = error
        loop.call_exception_handler(context)
