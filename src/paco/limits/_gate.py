"""A gate: closing it ends the sources of all runs that use it, and pausing it stops their starts."""

from __future__ import annotations

import asyncio
import math
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from paco._base import check
from paco._base.deadline import call_in
from paco._base.item import Item, WorkerTask, inside
from paco.limits._base import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager


class GateClosed(RuntimeError):
    """A call did not start, because the gate in its limit is closed."""


class Gate(Limiter):
    """Stop runs early without losing an item: close the gate, and every run that uses it ends as if its source had.

    Closing makes each of these runs take nothing more from its source, finish what it has taken, and deliver all of its
    results. In a pipeline, the stages before it stop too, and what they have taken flows through to the end. An async
    source that is waiting, such as for ``queue.get()``, is cancelled and closed. A run that begins later takes nothing.
    `Stream.stop` does the same for one stream.

    A call of a `limited` function, and a `slot`, raises `GateClosed` then. A call inside an item that runs under the
    gate is part of what finishes, and still starts.

    A pause stops all starts until `resume` or `close`. What runs goes on.

    Any thread may call these methods. A gate limits no number: combine it with a limit, as in ``20 & gate``. It works
    in runs and calls of several event loops.

    Examples:
        >>> gate = paco.Gate()
        >>> async def double(number):
        ...     if number == 2:
        ...         gate.close()
        ...     return 2 * number
        >>> paco.run(paco.map(double, range(1_000_000), limit=1 & gate))
        [0, 2, 4]
    """

    __slots__ = ("_closed", "_inside", "_paused", "_runs", "_waiting")

    _order = (0, 1)

    def __init__(self) -> None:
        self._closed = self._paused = False
        self._runs: dict[object, Callable[[], None]] = {}  # what ends the source of each run
        self._inside: set[Item] = set()  # the items and calls that have passed, and not ended
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __repr__(self) -> str:
        state = "closed" if self._closed else "paused" if self._paused else "open"
        return f"<paco.Gate {state}, {len(self._inside)} in flight>"

    @property
    def closed(self) -> bool:
        """Whether the gate is closed. It never opens again."""
        return self._closed

    @property
    def gates(self) -> tuple[Gate, ...]:
        return (self,)

    def close(self) -> None:
        """End the sources of all runs that use the gate. Does not wait. A pause ends: what has been taken runs."""
        self._closed = True
        for end in list(self._runs.values()):
            end()
        self.resume()

    def pause(self) -> None:
        """Stop all starts until `resume`. A closed gate is not paused, so that the runs can end."""
        self._paused = not self._closed

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False
        for waiter in list(self._waiting):
            call_in(waiter.get_loop(), _wake, waiter)

    def closes_on(self, *signals: int) -> AbstractContextManager[None]:
        """Return a ``with`` block in which the first of these signals closes the gate.

        After it, and after the block, these signals do what they did before the block. So a second Ctrl-C cancels the
        program as usual, and a second SIGTERM ends the process at once, without cleanup. Enter the block in the main
        thread, inside or outside an event loop. It replaces a handler of ``loop.add_signal_handler``, too, if it is
        entered in that loop. Of uvloop, whose handlers cannot be read, remove the handler first.

        Args:
            *signals: Such as ``signal.SIGTERM`` and ``signal.SIGINT``; at least one.

        Raises:
            TypeError: No signal is given, or something else.
            ValueError: It is no signal of this system, or one that cannot be handled.
            RuntimeError: From the ``with`` statement: this is not the main thread, where Python handles signals.

        Examples:
            >>> import os, signal
            >>> gate = paco.Gate()
            >>> async def serve(number):
            ...     if number == 2:
            ...         os.kill(os.getpid(), signal.SIGINT)
            ...     await asyncio.sleep(0.01)
            ...     return number
            >>> async def main():
            ...     with gate.closes_on(signal.SIGTERM, signal.SIGINT):
            ...         return await paco.map(serve, range(1_000_000), limit=1 & gate)
            >>> paco.run(main())  # number 3 was taken already, and waited for its permit
            [0, 1, 2, 3]
        """
        if not signals:
            raise TypeError("paco.Gate.closes_on: give at least one signal, such as signal.SIGTERM, got none")
        for number in signals:
            check.integer("Gate.closes_on", "signal", number, 1)
            if number not in signal.valid_signals() or number in _UNHANDLED:
                expected = "one that a program can handle, such as signal.SIGTERM"
                raise ValueError(check.refusal("Gate.closes_on", "signal", expected, number))
        return self._closing_on(dict.fromkeys(signals))

    @contextmanager
    def _closing_on(self, signals: dict[int, None]) -> Generator[None]:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "paco.Gate.closes_on: must be entered in the main thread, the only one in which Python handles "
                "signals; enter it there, and share the gate"
            )
        handlers = _Handlers(self.close)
        try:
            for number in signals:
                handlers.set(number)
            yield
        finally:
            handlers.restore()

    # ---- runs

    def join(self, run: object, end: Callable[[], None]) -> None:
        """Have a run call ``end`` when the gate is closed, or now if it is. A run calls this when it begins."""
        self._runs[run] = end
        if self._closed:
            end()

    def leave(self, run: object) -> None:
        """Forget a run. It calls this when it has ended."""
        self._runs.pop(run, None)

    # ---- permits: the records of the items and calls

    @property
    def free(self) -> int:
        return super().most

    def idle(self) -> bool:
        return not (self._closed or self._paused or self._inside)

    def try_reserve(self, item: Any = None) -> Item | None:
        return None if self._paused else self._pass()

    async def reserve(self, item: Any = None) -> Item:
        while self._paused:
            await self._wait_for_resume()
        return self._pass()

    def paused(self, permit: Item) -> float:
        return math.inf if self._paused else 0

    def release(self, permit: Item, error: BaseException | None = None) -> None:
        self._inside.discard(permit)

    @property
    def _renews_in_place(self) -> bool:
        return True

    def renews(self, permit: Item, own: Item | None) -> bool:
        return not self._paused

    def renew(self, permit: Item) -> Item | None:
        return None if self._paused else permit

    async def _wait_for_resume(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            if self._paused:  # another thread may have resumed since
                await waiter
        finally:
            self._waiting.pop(waiter, None)

    def _pass(self) -> Item:
        if self._closed and not self._was_taken():
            raise GateClosed(
                "paco.Gate: this call did not start, because its gate is closed; catch paco.GateClosed where calls may "
                "come after the end, or make a new paco.Gate for new work"
            )
        holder = inside.get()
        if holder is None or holder in self._inside:
            holder = Item(parent=holder)
        self._inside.add(holder)
        return holder

    def _was_taken(self) -> bool:
        """Return whether the caller is an item of a run under this gate, or inside an item or call that has passed."""
        task, holder = asyncio.current_task(), inside.get()
        if isinstance(task, WorkerTask) and task.nursery in self._runs:
            return True
        return holder is not None and not self._inside.isdisjoint((holder, *holder.around()))


#: Signals that no program can handle.
_UNHANDLED = {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}


class _Handlers:
    """Handlers of signals that are in place until the first of these signals comes."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._before: dict[int, Any] = {}
        self._of_loop: dict[int, tuple[asyncio.Handle, asyncio.Handle]] = {}
        self._loop: Any = asyncio._get_running_loop()  # returns None, instead of raising, if no loop runs
        # The loop calls its own handlers even after `signal.signal`. It has no public way to read them.
        self._its: dict[int, asyncio.Handle] = getattr(self._loop, "_signal_handlers", {})

    def set(self, number: int) -> None:
        other = self._its.get(number)
        if other is None:
            self._before[number] = signal.signal(number, self._handle)
        else:
            self._loop.add_signal_handler(number, self._first)
            self._of_loop[number] = self._its[number], other

    def restore(self) -> None:
        """Undo `set` where no other handler was set since."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number, (own, other) in self._of_loop.items():
            if self._its.get(number) is own:
                self._its[number] = other

    def _handle(self, _number: int, _frame: object) -> None:
        loop = asyncio._get_running_loop()
        if loop is None:
            self._first()
        else:
            self.restore()
            loop.call_soon_threadsafe(self._call)  # not now: this is between any two bytecodes of the loop

    def _first(self) -> None:
        self.restore()
        self._call()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
