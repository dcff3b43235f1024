"""What becomes of errors: the first is raised as it came, with notes; those after it are counted and told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from paco._base.check import shorten

if TYPE_CHECKING:
    from types import TracebackType

#: Of the errors that came after the first one, this many are shown; the rest is counted.
_SHOWN: Final = 3
#: Our modules, not those that users import: a fake of `paco.testing` is as good as the user's own.
_OURS: Final = ("paco._", "paco.remote.")


class ItemCancelled(RuntimeError):
    """An item ended cancelled by itself, while nobody had cancelled the run; the cause is its ``CancelledError``.

    It is an error of that item like any other. A bare ``CancelledError`` would be taken for a cancellation of the
    caller, which a task group around it drops without a word.
    """


def add_note(error: BaseException, text: str) -> None:
    """Add a note (PEP 678), also to an exception that overrides ``add_note``; one that takes none goes without."""
    with suppress(Exception):  # its __notes__ is not a list, or it is frozen: the error matters more than our note
        BaseException.add_note(error, text)


def trim(error: BaseException) -> TracebackType | None:
    """Cut our own frames off the top of a traceback and return the last one cut, if it was all there was.

    Those frames hold the run and its results: a caught error would keep both alive, and an error that is kept as a
    result would be part of a cycle.
    """
    frame = error.__traceback__
    last = None
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        last, frame = frame, frame.tb_next
    BaseException.with_traceback(error, frame)  # not by assignment: a frozen exception refuses that
    return last if frame is None else None


def as_item_error(error: BaseException) -> BaseException:
    """Turn what would be taken for something else in the caller (a cancellation, the end of a loop) into errors."""
    replaced: BaseException
    if isinstance(error, asyncio.CancelledError):
        replaced = ItemCancelled("an item ended cancelled by itself, while nobody had cancelled the run")
    elif isinstance(error, StopIteration | StopAsyncIteration | GeneratorExit):
        replaced = RuntimeError(f"{type(error).__name__} came out of an item")
    else:
        return error
    replaced.__cause__ = error
    return replaced


def not_awaitable(error: TypeError, where: TracebackType, name: str, fn: object) -> TypeError:
    """Replace the interpreter's message if ``await`` itself failed: the function is not a coroutine function."""
    import dis  # takes a millisecond, and is needed for this error only

    if where.tb_frame.f_code.co_code[where.tb_lasti] != dis.opmap["GET_AWAITABLE"]:
        return error
    called = getattr(fn, "__qualname__", None) or shorten(fn)
    return TypeError(
        f"paco.{name}: {called} must be a coroutine function, but what it returned cannot be awaited ({error}); write "
        f"it as `async def`, wrap a fast function as paco.wraps({called}), or run a blocking one in a thread: "
        f"lambda item: asyncio.to_thread({called}, item)"
    )


class Failure:
    """The first error of a run, and what came after it. It is handed out once, and then held no longer."""

    __slots__ = ("_count", "_first", "_late", "_name", "handed_on")

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: BaseException | None = None
        self._late: list[str] = []
        self._count = 0
        #: Whether the run that reads from this one raises the error.
        self.handed_on: bool = False

    def first(self, error: BaseException, note: str) -> None:
        """Take the error that ends the run."""
        self._first = error
        if note:
            add_note(error, f"paco.{self._name}: {note}")

    def late(self, error: BaseException | None, where: str) -> None:
        """Take an error that came while the run was ending; a cancellation then is not one."""
        if error is None or error is self._first or isinstance(error, asyncio.CancelledError | GeneratorExit):
            return
        self._count += 1
        if self._count <= _SHOWN:
            self._late.append(f"{where}: {shorten(error)}")

    def throw(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise the first error, if there is one; errors that only followed a decision are reported."""
        first, late = self._take()
        if first is None:
            _report(loop, late)
            return
        try:
            raise first
        finally:
            del first

    def throw_cancelled(self, cancelled: asyncio.CancelledError) -> None:
        """Raise the cancellation of the caller, which wins over an error: that goes into its note."""
        first, late = self._take()
        if first is not None:
            add_note(cancelled, f"paco.{self._name}: cancelled while it was failing with {shorten(first)}")
        if late:
            add_note(cancelled, late)
        try:
            raise cancelled
        finally:
            del first, cancelled

    def report(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell the event loop of errors that nobody is there to receive."""
        first, late = self._take()
        if first is None:
            _report(loop, late)
        elif not self.handed_on:
            _report(loop, f"paco.{self._name}: failed after its results had been abandoned", first)

    def _take(self) -> tuple[BaseException | None, str]:
        first, self._first = self._first, None
        count, self._count = self._count, 0
        if not count:
            return first, ""
        late = f"paco.{self._name}: {count} more failed meanwhile: " + "; ".join(self._late)
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
