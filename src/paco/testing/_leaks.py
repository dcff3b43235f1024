"""What a block of code left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from paco.testing._loop import Deadlock, describe, place

if TYPE_CHECKING:
    from collections.abc import Generator


class Leak(AssertionError):
    """Something was left behind; the message names each thing and where it is."""


@contextmanager
def check_leaks() -> Generator[None]:
    """Fail with `Leak` if the block leaves something behind.

    Inside a running loop: tasks that the block started and that are alive; async generators that it started and that
    are open. Anywhere: coroutines never awaited, exceptions of tasks and futures never retrieved and whatever else a
    loop tells its default exception handler, unraisable exceptions (errors in ``__del__``), unclosed resources. If the
    block fails itself, its error wins and the leaks are its notes.

    What the block's own function still holds in its variables is not dropped yet: `run` and the pytest plugin, which
    look when the test's frame is gone, see more. The check costs about 0.05 ms.

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
    with reported(leaks), heard(leaks):
        if in_loop():
            with found_in_loop(leaks):
                yield
        else:
            yield


def in_loop() -> bool:
    """Return whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def reported(leaks: list[str]) -> Generator[None]:
    """Raise `Leak` if the block ends with ``leaks``; add them as notes to an error of the block."""
    try:
        yield
    except Deadlock:  # it names the tasks, and they were cut short
        raise
    except BaseException as error:
        for leak in leaks:
            error.add_note(f"left behind: {leak}")
        raise
    if leaks:
        raise Leak("\n  ".join(["left behind:", *leaks]))


@contextmanager
def found_in_loop(leaks: list[str]) -> Generator[None]:
    """Collect the tasks and async generators of the running loop that the block leaves behind."""
    loop = asyncio.get_running_loop()
    before = weakref.WeakSet(asyncio.all_tasks(loop))
    opened = weakref.WeakSet[Any]()
    hooks: Any = sys.get_asyncgen_hooks()

    def started(generator: Any) -> None:
        opened.add(generator)
        hooks.firstiter(generator)

    def dropped(generator: Any) -> None:
        opened.add(generator)  # again, since weak references were cleared; the loop will close it in a later step
        hooks.finalizer(generator)

    sys.set_asyncgen_hooks(started, dropped)
    try:
        yield
    finally:
        if sys.get_asyncgen_hooks().firstiter is started:  # not so when a loop ended before the block: it reset them
            sys.set_asyncgen_hooks(*hooks)
        leaks += describe(task for task in asyncio.all_tasks(loop) if task not in before)
        alive = [generator for generator in opened if generator.ag_frame is not None]
        leaks += sorted(f"async generator {generator.__qualname__!r}, at {place(generator)}" for generator in alive)


@contextmanager
def heard(leaks: list[str]) -> Generator[None]:
    """Collect what Python and asyncio tell when something is dropped."""

    def unraisable(told: sys.UnraisableHookArgs) -> None:  # takes text, since a reference would revive the object
        message = str(told.exc_value).partition("\n")[0]  # in debug mode a stack follows
        leaks.append(f"{told.exc_type.__name__}: {message}; {told.err_msg or 'ignored in'} {told.object!r}")

    def logged(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            error = [repr(record.exc_info[1])] if record.exc_info else []
            leaks.append(", ".join(record.getMessage().splitlines()[:2] + error))
        return True

    logger = logging.getLogger("asyncio")  # to which the default exception handler of every loop reports, uvloop's too
    previous = sys.unraisablehook
    # What is left in reference cycles is told only when it is collected. Beside 10^6 objects a full collection takes
    # 200 ms; one of the young generations 0.2 us, but it misses what grew old meanwhile. With all from before the block
    # frozen, a full collection takes 0.2 us too, misses nothing, and does not find the garbage of earlier tests.
    gc.freeze()
    with warnings.catch_warnings():
        # As errors both end in the unraisable hook, since they are given while an object is being dropped.
        warnings.filterwarnings("error", ".*was never awaited", RuntimeWarning)
        warnings.filterwarnings("error", category=ResourceWarning)
        sys.unraisablehook = unraisable
        logger.addFilter(logged)
        try:
            yield
        finally:
            gc.collect()
            gc.unfreeze()
            logger.removeFilter(logged)
            sys.unraisablehook = previous
