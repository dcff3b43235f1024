"""`run`: run an awaitable from sync code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from paco._base import check

if TYPE_CHECKING:
    from paco._base.types import T


def run(
    coro: Awaitable[T],
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run an awaitable from sync code and return its result.

    Without ``loop``, the awaitable runs in a new event loop, which is closed afterwards as in `asyncio.run`: remaining
    tasks are cancelled and waited for, and async generators are closed. Ctrl-C cancels the call, then raises
    ``KeyboardInterrupt``. If a ``loop`` is passed, it is used and left open. A future or task runs in its own loop.

    Args:
        coro: An awaitable, such as a coroutine object, a stream that `paco.map` returns, or a future.
        loop: The event loop to use, which must not be running; ``None`` for a new one.
        debug: Whether the loop runs in asyncio's debug mode; ``None`` to leave it as it is, which for a new loop
            depends on ``PYTHONASYNCIODEBUG``. A ``loop`` that is passed gets its own mode back.
        loop_factory: Called to make the new event loop, such as ``uvloop.new_event_loop``; ``None`` for asyncio's own.

    Raises:
        TypeError: ``coro`` is not awaitable, such as a function that was not called: write ``paco.run(main())``. Or
            ``loop`` or what ``loop_factory`` returns is not an event loop, or there is a loop already for which
            ``loop_factory`` is not needed.
        RuntimeError: An event loop is already running in this thread; use ``await`` there.

    Examples:
        >>> async def double(number):
        ...     return number * 2
        >>> paco.run(double(21))
        42
    """
    _demand_awaitable(coro)
    if asyncio._get_running_loop() is not None:
        if inspect.iscoroutine(coro):  # close it, so that Python does not also warn that it was never awaited
            check.discard(coro)
        elif isinstance(coro, Coroutine):
            coro.close()
        raise RuntimeError("paco.run: an event loop is already running; write `await ...` instead of paco.run(...)")
    if loop is None and asyncio.isfuture(coro):
        loop = coro.get_loop()
    main: Coroutine[Any, Any, T] = coro if inspect.iscoroutine(coro) else _await(coro)
    try:
        check.flag("run", "debug", debug, optional=True)
        make = _checked(loop_factory, loop)
        if loop is None:
            with asyncio.Runner(debug=debug, loop_factory=make) as runner:
                return runner.run(main)
        check.loop("run", loop)
        return _run_in(loop, main, debug)
    except BaseException:
        check.discard(main, coro)
        raise


def _run_in(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T], debug: bool | None) -> T:
    """Run a coroutine in a loop that is left open, in debug mode or not."""
    was = loop.get_debug()
    try:
        loop.set_debug(was if debug is None else debug)
        return loop.run_until_complete(main)
    finally:
        loop.set_debug(was)


def _checked(
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None, loop: asyncio.AbstractEventLoop | None
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return a function that makes a loop and refuses anything else; ``None`` for asyncio's own."""
    if loop_factory is None:
        return None
    check.plain_function("run", loop_factory, "loop_factory")
    if loop is not None:
        raise TypeError("paco.run: loop_factory makes a new event loop, but there is one already; pass only one")

    def make() -> asyncio.AbstractEventLoop:
        made = loop_factory()
        if not isinstance(cast("object", made), asyncio.AbstractEventLoop):
            raise TypeError(check.refusal("run", "what loop_factory returns", "an event loop", made))
        return made

    return make


def _demand_awaitable(coro: object) -> None:
    if inspect.isawaitable(coro):
        return
    if callable(coro):
        fn = check.called(coro)
        correct = f"pass the call, not the function: paco.run({fn}(...))"
        raise TypeError(f"paco.run: coro must be an awaitable, got the function {fn}; {correct}")
    raise TypeError(f"paco.run: coro must be an awaitable, such as a coroutine object, got {check.shorten(coro)}")


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable
