"""An end that is set once, and that every call of paco inside keeps to, however deep it is."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from paco._base import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType
    from typing import Self


class _End(NamedTuple):
    """A moment, on the clock of the loop that ran when it was set: another loop's may tell another time."""

    when: float
    clock: Callable[[], float]
    seconds: float

    def remaining(self) -> float:
        return self.when - self.clock()


_current: Final[ContextVar[_End | None]] = ContextVar("paco.deadline", default=None)


def remaining() -> float:
    """Return the seconds that are left of the deadline here, less than 0 after it; infinity where there is none."""
    end = _current.get()
    return math.inf if end is None else end.remaining()


def within(timeout: float | None) -> tuple[float | None, str]:
    """Return the seconds that a call has, ``None`` for no limit, and the deadline by name if that is the nearer end."""
    if timeout == math.inf:
        timeout = None
    end = _current.get()
    if end is None:
        return timeout, ""
    left = max(end.remaining(), 0)
    if timeout is not None and timeout <= left:
        return timeout, ""
    return left, f"the deadline of {end.seconds:g} s"


class Deadline:
    """What `deadline` returns: a ``with`` block. It can be used again after the block, but not inside of it."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._token: Token[_End | None] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("paco.deadline: is around a block already; make one for each block")
        running = asyncio._get_running_loop()  # the form that answers None where none runs
        clock = time.monotonic if running is None else running.time
        outer = _current.get()
        sooner = self._seconds < math.inf and (outer is None or self._seconds < outer.remaining())
        end = _End(clock() + self._seconds, clock, self._seconds) if sooner else outer
        self._token = _current.set(end)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        with suppress(ValueError):  # a coroutine that is left over is closed in another context, where nothing is set
            _current.reset(cast("Token[_End | None]", token))


def deadline(seconds: float | None) -> Deadline:
    """Set an end for all calls of paco in a ``with`` block, and in whatever they run.

    Each call that has a timeout keeps to whichever end is nearer: every function over items, `gather`, `series`,
    `race`, the executor, `timeout`, `TimeoutLimit` and `hedge` raise ``TimeoutError`` when the time is up, and so does
    `limited` while it waits; `wait` returns, and `retry` makes no attempt that would begin after it. Inside of another
    deadline the nearer one holds: whoever is called can have less time than the caller, not more. Items inherit it, as
    they do context variables.

    It does not cancel the block: what is no call of paco goes on, such as to write down what has been finished. For
    that, put a `TimeoutLimit` inside: ``with paco.deadline(30), paco.TimeoutLimit(None):``.

    Args:
        seconds: From when the block is entered, on the clock of the event loop; 0 or more; ``None`` for none.

    Raises:
        RuntimeError: On entering: another block of this object is running.

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
    return Deadline(check.seconds("deadline", "seconds", seconds))
