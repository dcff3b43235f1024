"""Errors of items: notes, trimmed tracebacks, and errors in place of those that would be mistaken for another."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from paco._base.check import NotAwaitable, innermost, made_async, shorten

if TYPE_CHECKING:
    from types import FrameType, TracebackType

#: Modules whose frames are trimmed. `paco.testing` is not among them: its fakes stand for the user's code.
_OURS: Final = ("paco._", "paco.journal", "paco.remote.")


class ItemCancelled(RuntimeError):
    """An item ended cancelled although its run was not; the cause is the item's ``CancelledError``.

    It is an error of that item like any other. A bare ``CancelledError`` would look like a cancellation of the caller,
    which an enclosing task group drops silently.
    """


#: The maximum number of notes of paco on one exception: one that is raised again and again would collect them.
_NOTES: Final = 10


def add_note(error: BaseException, text: str) -> None:
    """Add a note (PEP 678) to an exception, even if it overrides ``add_note``. Do nothing if it accepts no notes.

    Of many notes of paco, the oldest is removed.
    """
    with suppress(Exception):  # __notes__ is not a list, or the error is frozen; the error matters more than the note
        BaseException.add_note(error, text)
        ours = [note for note in error.__notes__ if note.startswith("paco.")]
        if len(ours) > _NOTES:
            error.__notes__.remove(ours[0])


def is_ours(frame: FrameType) -> bool:
    """Return whether a frame is one of paco itself."""
    return str(frame.f_globals.get("__name__", "")).startswith(_OURS)


def called_from() -> str:
    """Return the place from which the user's code calls paco, for the end of a message.

    An empty text, unless Python is to remember where coroutines are made, as it is in asyncio's debug mode: to look
    for the place takes longer than the call.
    """
    if not sys.get_coroutine_origin_tracking_depth():
        return ""
    frame = sys._getframe(1)  # noqa: SLF001 - documented, in spite of its name
    while frame.f_back is not None and is_ours(frame):
        frame = frame.f_back
    return f"; made at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def trim(error: BaseException) -> TracebackType | None:
    """Remove paco's own frames from the top of a traceback. If none remains, return the last one removed.

    Those frames hold the run and its results. A caught error would keep both alive, and an error kept as a result
    would be part of a reference cycle.
    """
    frame = error.__traceback__
    last = None
    while frame is not None and is_ours(frame.tb_frame):
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


def as_raised(error: BaseException) -> BaseException:
    """Return the error that `as_item_error` replaced, or the error itself."""
    cause = error.__cause__
    if not isinstance(cause, asyncio.CancelledError | StopAsyncIteration | GeneratorExit):
        return error
    return cause if type(error) in {ItemCancelled, RuntimeError} else error


def not_awaitable(error: TypeError, where: TracebackType, name: str, fn: object) -> TypeError:
    """Return an error that says how to make ``fn`` async if its result could not be awaited; otherwise ``error``."""
    import dis  # the import takes a millisecond, and only this error needs it

    if where.tb_frame.f_code.co_code[where.tb_lasti] != dis.opmap["GET_AWAITABLE"]:
        return error
    called = getattr(innermost(fn), "__qualname__", None) or shorten(fn)
    return NotAwaitable(
        f"paco.{name}: {called} must be a coroutine function, but its result cannot be awaited ({error}); "
        f"{made_async(fn, called)}"
    )


def install(extra: str) -> str:
    """Return the command that installs an extra of paco. It is quoted because zsh takes brackets for a pattern."""
    return f"pip install 'paco[{extra}]'"
