"""Threads of this process: each item runs in a thread of a ``ThreadPoolExecutor``. Nothing is pickled."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from paco._base import check
from paco.remote._executors import is_pool, slots_of

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from paco._base.check import ItemFunction
    from paco.limits import Limiter


def on_threads(
    name: str, engine: ThreadPoolExecutor, slots: int | None, fn: ItemFunction, limit: int | Limiter
) -> tuple[ItemFunction, int | Limiter] | None:
    """Return the function and the limit of a run whose items run in threads; ``None`` if they run in interpreters.

    The arguments are those of `engine_of`, and the function and the limit of the run.
    """
    if is_pool(engine):  # a subclass
        return None
    most = slots_of(engine) if slots is None else check.integer(name, "slots", slots, 1)
    return in_threads(engine, fn), min(limit or most, most) if isinstance(limit, int) else limit


def in_threads(executor: ThreadPoolExecutor, fn: ItemFunction) -> ItemFunction:
    """Return a function that runs ``fn`` in a thread, in an event loop of that call, and waits until it has ended."""

    async def call(value: Any) -> Any:
        there = _ThreadCall(fn, value)
        # A future of the loop, so that a loop on virtual time waits for it.
        future = asyncio.get_running_loop().run_in_executor(executor, copy_context().run, there.run)
        try:
            await asyncio.wait([future])
            return future.result()
        except asyncio.CancelledError:
            there.cancel()
            if not there.begun:
                future.cancel()
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error from None
            raise
        finally:
            del future  # its error refers to this frame

    return check.instead_of(fn, call)


class _ThreadCall:
    """One call, which can be cancelled from another thread: what is awaited in it ends, a blocking call does not."""

    def __init__(self, fn: ItemFunction, value: Any) -> None:
        self._fn = fn
        self._value = value
        self._cancelled = False
        #: Whether a thread has it. If not, and it is cancelled, it does nothing when a thread gets it.
        self.begun = False
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> Any:
        """Run the call in this thread."""
        self.begun = True
        with asyncio.Runner() as runner:
            return runner.run(self._work())

    async def _work(self) -> Any:
        self._task = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        result: Any = self._fn(self._value)
        return await result if inspect.isawaitable(result) else result

    def cancel(self) -> None:
        """Cancel the call, from another thread. Does not wait."""
        self._cancelled = True
        if self._task is not None:
            with suppress(RuntimeError):  # it has just ended
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
