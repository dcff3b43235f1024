"""`run`: run an awaitable from sync code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

from paco._base import check

if TYPE_CHECKING:
    from paco._base.types import T


def run(coro: Awaitable[T], loop: asyncio.AbstractEventLoop | None = None) -> T:
    """Run an awaitable from sync code and return its result.

    Without ``loop``, the awaitable runs in a new event loop, which is closed afterwards as in `asyncio.run`: remaining
    tasks are cancelled and waited for, and async generators are closed. Ctrl-C cancels the call, then raises
    ``KeyboardInterrupt``. If a ``loop`` is passed, it is used and left open. A future or task runs in its own loop.

    Args:
        coro: An awaitable, such as a coroutine object, a stream that `paco.map` returns, or a future.
        loop: The event loop to use, which must not be running; ``None`` for a new one.

    Raises:
        TypeError: ``coro`` is not awaitable, such as a function that was not called: write ``paco.run(main())``. Or
            ``loop`` is not an event loop.
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
        if loop is None:
            with asyncio.Runner() as runner:
                return runner.run(main)
        check.loop("run", loop)
        return loop.run_until_complete(main)
    except BaseException:
        check.discard(main, coro)
        raise


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
