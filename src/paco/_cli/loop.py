"""The event loop of a run: which one it is, how it ends, and how often garbage is collected in it."""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from paco._base.errors import install
from paco._cli.ending import PATIENCE, CommandError, is_interrupt, still_running
from paco._view.console import safe_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from paco._base.types import T
    from paco._cli.ending import Interrupts
    from paco._view.console import Console

#: The loops that ``--loop`` may name.
LOOPS: Final = ("asyncio", "uvloop")
#: The fewest new objects between two garbage collections. Python's default is 700 to 2,000.
_NEW: Final = 10_000


def loop_factory(name: str | None) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that creates a loop: of uvloop if it is installed, since requests take less CPU there.

    Raises:
        CommandError: uvloop is named, and is not installed.
    """
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if name is not None:
            raise CommandError(f"--loop uvloop needs uvloop: {install('fast')}") from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def completed(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], interrupts: Interrupts) -> T:
    """Run a coroutine to its end, although the items may end the loop: their tasks by `SystemExit`, or by ``stop()``.

    Asyncio raises such an error from the loop, besides storing it for whatever awaits the task. The error of a loop
    that was stopped is a `RuntimeError`.
    """
    main = asyncio.ensure_future(coro, loop=loop)
    while True:
        try:
            return loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            if main.done() or loop.is_closed() or is_interrupt(error):
                raise
            loop.call_soon(interrupts.resumed)


async def end_tasks(console: Console) -> None:
    """Cancel the tasks that TARGET has left, and close its async generators; name what does not end in time."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    left = asyncio.all_tasks() - {this}
    for task in left:
        task.cancel()
    await asyncio.wait({*left, asyncio.ensure_future(loop.shutdown_asyncgens())}, timeout=PATIENCE)
    if left := asyncio.all_tasks() - {this}:
        from paco.testing._loop import describe

        console.say(safe_lines(still_running(describe(left))))
        loop.set_exception_handler(_say_nothing)  # they are destroyed at the end, which asyncio would report again


def _say_nothing(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Report nothing."""


@contextmanager
def collected_seldom() -> Generator[None]:
    """Make garbage collection cheaper within the block. In a run of HTTP requests it takes a tenth of the time.

    HTTP clients create many cycles, so Python searches the objects of all imported modules again and again. The block
    exempts these with `gc.freeze`, unless some objects are exempt already, and collects less often. A collector that is
    turned off, or collects even less often, stays so.
    """
    thresholds = gc.get_threshold()
    exempts = gc.get_freeze_count() == 0
    if thresholds[0]:
        gc.set_threshold(max(thresholds[0], _NEW), *thresholds[1:])
    if exempts:
        gc.freeze()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if exempts:
            gc.unfreeze()
