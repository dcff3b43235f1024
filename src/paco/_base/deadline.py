"""Deadlines: set once, and observed by every paco call inside; and the clocks of event loops."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from asyncio import BaseEventLoop
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco._base import check

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator
    from contextvars import Token
    from typing import Self


#: Returns ``None``, as the weak reference to a loop that is gone does.
nowhere: Final[Any] = weakref.ref(set[Any]())


def own_clock(loop: AbstractEventLoop) -> bool:
    """Return whether a loop has a clock of its own: by its class, as in `paco.testing`, or by a replaced method."""
    return isinstance(loop, BaseEventLoop) and getattr(loop.time, "__func__", None) is not BaseEventLoop.time


def clock() -> Callable[[], float]:
    """Return the clock that times items on the running loop; see `paco.events.Run.start`."""
    loop = asyncio.get_running_loop()
    return loop.time if own_clock(loop) else time.perf_counter


def time_of(loop: AbstractEventLoop) -> Callable[[], float]:
    """Return the clock of a loop: `time.monotonic` itself if ``loop.time`` only calls that."""
    return time.monotonic if getattr(loop.time, "__func__", None) is BaseEventLoop.time else loop.time


def call_in(loop: AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Call in an event loop: at once if that loop runs here, otherwise soon; not at all if it is closed."""
    if asyncio._get_running_loop() is loop:  # returns None, instead of raising, if no loop runs
        call(*args)
    else:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(call, *args)


def call_home(home: AbstractEventLoop | None, call: Callable[..., object], *args: object) -> None:
    """Call, from any thread, in the event loop that uses an object; here and now if that loop does not run."""
    if home is not None and home.is_running():
        call_in(home, call, *args)
    else:
        call(*args)


class Clock:
    """Remembers the event loop on whose clock an object has recorded times; before the first, they are the system's."""

    __slots__ = ("_is_system_clock", "loop")

    def __init__(self) -> None:
        #: Returns the loop last passed to `follow`, or ``None``.
        self.loop: Callable[[], AbstractEventLoop | None] = nowhere
        self._is_system_clock = True

    def follow(self, loop: AbstractEventLoop) -> bool:
        """Use the clock of ``loop`` from now on, and return whether times recorded so far are valid on it.

        They are valid if both loops use the system's monotonic clock, as all loops outside tests do.
        """
        is_system_clock = not own_clock(loop)
        same = is_system_clock and self._is_system_clock
        self.loop = weakref.ref(loop)
        self._is_system_clock = is_system_clock
        return same


class _End(NamedTuple):
    """A point in time. It keeps the clock that it was set on, since another loop's clock may read differently."""

    when: float
    clock: Callable[[], float]
    seconds: float

    def remaining(self) -> float:
        return self.when - self.clock()

    def within(self, timeout: float | None) -> tuple[float, str]:
        """Return how many seconds a call may take, and a description of this deadline if it is the nearer end."""
        left = max(self.remaining(), 0)
        return (left, f"the deadline of {self.seconds:g} s") if timeout is None or left < timeout else (timeout, "")


#: The deadline that is in effect.
current_end: Final[ContextVar[_End | None]] = ContextVar("paco.deadline", default=None)


def remaining() -> float:
    """Return the seconds until the current deadline: negative after it, infinity if there is none."""
    end = current_end.get()
    return math.inf if end is None else end.remaining()


def within(timeout: float | None) -> tuple[float | None, str]:
    """Return how many seconds a call may take, and a description of the deadline.

    The seconds are ``None`` for no limit. The description is empty unless the deadline is nearer than ``timeout``.
    """
    end = current_end.get()
    return (timeout, "") if end is None else end.within(timeout)


def detached() -> Context:
    """Return a copy of the current context without its deadline, for work that does not end with the current caller."""
    context = copy_context()
    context.run(current_end.set, None)
    return context


@contextmanager
def detaching() -> Generator[None]:
    """Return a block without a deadline, for work that others depend on, too. The caller bounds it by `limiting`."""
    token = current_end.set(None)
    try:
        yield
    finally:
        _reset(token)


def _reset(token: Token[_End | None]) -> None:
    with suppress(ValueError):  # an abandoned coroutine is closed in another context, where the token is invalid
        current_end.reset(token)


class deadline:  # noqa: N801 - used as a function, like `listening`
    """Set a deadline for all calls of paco in a ``with`` block, including those inside their items.

    A call ends at its own timeout or at the deadline, whichever is nearer. At the deadline, every function over items,
    `gather`, `series`, `race`, the executor, `timeout`, `TimeoutLimit` and `hedge` raise ``TimeoutError``. So does
    `limited` if it is still waiting. `wait` returns, and `retry` starts no attempt after the deadline. If deadlines are
    nested, the nearest one applies: a callee can have less time than its caller, but not more. Items inherit the
    deadline as they inherit context variables.

    A deadline does not cancel the block itself. Code outside paco calls keeps running, for example to save what has
    finished. Work that outlives its caller has no deadline: the shared call of `once` and `times`, and the task of
    `interval`. To cancel the block too, put a `TimeoutLimit` inside: ``with paco.deadline(30),
    paco.TimeoutLimit(None):``. A `deadline` can be used again after its block, but not inside it.

    Args:
        seconds: Seconds from entering the block, 0 or more, on the event loop's clock; ``None`` for no deadline.

    Raises:
        RuntimeError: On entering, if this object is already in use.

    Examples:
        >>> async def fetch(seconds):
        ...     await asyncio.sleep(seconds)
        >>> async def main():
        ...     try:
        ...         with paco.deadline(0.01):
        ...             await paco.map(fetch, [60, 60], timeout=30)
        ...     except TimeoutError as error:
        ...         print(error)
        >>> paco.run(main())
        paco.map: not finished within the deadline of 0.01 s
    """

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float | None) -> None:
        checked = check.seconds("deadline", "seconds", seconds)
        self._seconds = math.inf if checked is None else checked
        self._token: Token[_End | None] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("paco.deadline: this deadline is already in use; create one for each block")
        running = asyncio._get_running_loop()  # returns None instead of raising when no loop runs
        clock = time.monotonic if running is None else running.time
        outer = current_end.get()
        sooner = self._seconds < math.inf and (outer is None or self._seconds < outer.remaining())
        end = _End(clock() + self._seconds, clock, self._seconds) if sooner else outer
        self._token = current_end.set(end)
        return self

    def __exit__(self, *exc_info: object) -> None:
        token, self._token = self._token, None
        _reset(cast("Token[_End | None]", token))
