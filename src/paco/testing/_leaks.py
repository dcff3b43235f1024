"""Checks for what a block of code leaves behind: tasks, generators, unreported errors, open resources."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import sys
import tracemalloc
import warnings
import weakref
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from paco._functions.threads import until_shutdown
from paco.testing._loop import Deadlock, describe, origin, place

if TYPE_CHECKING:
    from collections.abc import Generator

#: Frames to remember for each coroutine that is made: those of `paco.each`, and the user's.
_ORIGIN: Final = 5
#: A frame in the message about a coroutine that was never awaited.
_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


class Leak(AssertionError):
    """Code left something behind. The message names each leak and its place in the source."""


@contextmanager
def check_leaks() -> Generator[None]:
    """Raise `Leak` if the block leaves something behind.

    Inside a running loop the check finds tasks that the block started and that have not ended, and async generators
    that it started and that are open. Everywhere it finds coroutines that were never awaited, exceptions of tasks and
    futures that were never retrieved, anything else that a loop reports to its default exception handler, unraisable
    exceptions (errors in ``__del__``) and unclosed resources. If the block itself raises, its error wins and the leaks
    are added to it as notes.

    An object that a local variable of the calling function still refers to is not reported. `run` and the pytest plugin
    report it too, because they check after the function has returned. The check takes about 0.05 ms.

    Examples:
        >>> from paco.testing import run
        >>> async def forgets():
        ...     with check_leaks():
        ...         asyncio.create_task(asyncio.sleep(10), name="nap")
        >>> run(forgets)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        paco.testing._leaks.Leak: left behind:
          task 'nap', at ...
    """
    leaks: list[str] = []
    running = asyncio._get_running_loop() is not None
    with raising(leaks), collecting_reports(leaks), collecting_from_loop(leaks) if running else nullcontext():
        yield


@contextmanager
def raising(leaks: list[str]) -> Generator[None]:
    """Raise `Leak` if ``leaks`` is not empty after the block. If the block raises, add them to its error as notes."""
    try:
        yield
    except Deadlock:  # its message names the tasks already, and they had no chance to end
        raise
    except BaseException as error:
        for leak in leaks:
            error.add_note(f"left behind: {leak}")
        raise
    if leaks:
        raise Leak("\n  ".join(["left behind:", *leaks]))


@contextmanager
def collecting_from_loop(leaks: list[str]) -> Generator[None]:
    """Add to ``leaks`` the tasks and async generators of the running loop that the block leaves behind."""
    loop = asyncio.get_running_loop()
    before = weakref.WeakSet(asyncio.all_tasks(loop))
    opened = weakref.WeakSet[Any]()
    hooks: Any = sys.get_asyncgen_hooks()

    def started(generator: Any) -> None:
        if generator.ag_code is not until_shutdown.__code__:  # it is open as long as the loop, to close what is in it
            opened.add(generator)
        hooks.firstiter(generator)

    def dropped(generator: Any) -> None:
        opened.add(generator)  # again: its weak references were cleared, and the loop closes it only in a later step
        hooks.finalizer(generator)

    sys.set_asyncgen_hooks(started, dropped)
    try:
        yield
    finally:
        if sys.get_asyncgen_hooks().firstiter is started:  # a loop that ended inside the block has reset the hooks
            sys.set_asyncgen_hooks(*hooks)
        leaks += describe(task for task in asyncio.all_tasks(loop) if task not in before)
        alive = [generator for generator in opened if generator.ag_frame is not None]
        leaks += sorted(f"async generator {generator.__qualname__!r}, at {place(generator)}" for generator in alive)


@contextmanager
def collecting_reports(leaks: list[str]) -> Generator[None]:
    """Add to ``leaks`` what Python and asyncio report when an object is dropped."""

    def unraisable(args: sys.UnraisableHookArgs) -> None:  # stores text only: a reference would revive the object
        message = str(args.exc_value).partition("\n")[0]  # a stack may follow
        where = "" if "; made at " in message else f"; {_made(args)}"
        leaks.append(f"{args.exc_type.__name__}: {message}{where}")

    def logged(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            error = [repr(record.exc_info[1])] if record.exc_info else []
            leaks.append(", ".join(record.getMessage().splitlines()[:2] + error))
        return True

    depth = sys.get_coroutine_origin_tracking_depth()
    logger = logging.getLogger("asyncio")  # the default exception handler of every loop logs here, uvloop's too
    previous = sys.unraisablehook
    # Objects in reference cycles are reported only when they are collected. With 10^6 live objects a full collection
    # takes 200 ms. Collecting only the young generations takes 0.2 µs but misses objects that have grown old. So the
    # objects from before the block are frozen: a full collection then takes 0.2 µs, misses nothing, and does not report
    # the garbage of earlier tests.
    gc.freeze()
    with warnings.catch_warnings():
        # These warnings are given while an object is dropped. As errors, they reach the unraisable hook.
        warnings.filterwarnings("error", ".*was never awaited", RuntimeWarning)
        warnings.filterwarnings("error", category=ResourceWarning)
        sys.unraisablehook = unraisable
        sys.set_coroutine_origin_tracking_depth(max(depth, _ORIGIN))
        logger.addFilter(logged)
        try:
            yield
        finally:
            gc.collect()
            gc.unfreeze()
            logger.removeFilter(logged)
            sys.set_coroutine_origin_tracking_depth(depth)
            sys.unraisablehook = previous


def _made(args: sys.UnraisableHookArgs) -> str:
    """Return where the object was made that Python reports while it drops it, or else what that object is."""
    if made := origin(reversed(_FRAME.findall(str(args.exc_value)))):
        return f"made at {made}"
    seen = ""
    if issubclass(args.exc_type, ResourceWarning) and args.object is not None:  # Python 3.14 keeps the object to itself
        allocated = tracemalloc.get_object_traceback(args.object)
        if allocated is not None:
            return f"made at {allocated[-1]}"
        seen = "; python -X tracemalloc shows where it was made"
    return f"{args.err_msg or 'ignored in'} {args.object!r}{seen}"
