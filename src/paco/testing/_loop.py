"""An event loop on virtual time."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections import deque
    from concurrent.futures import Executor
    from types import FrameType

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_Events: TypeAlias = list[tuple[selectors.SelectorKey, int]]
_Poll: TypeAlias = Callable[[float | None], _Events]

_ASYNCIO: Final = str(Path(asyncio.__file__).parent)
_DAY: Final = 24 * 3600.0  # asyncio's own longest wait; epoll refuses one of 25 days


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set: the program would wait for ever. The message tells where its tasks are."""


class _Selector(selectors.DefaultSelector):
    """A selector that lets the loop do the waiting: ``select`` is the one place where an event loop spends time."""

    wait: Callable[[_Poll, float | None], _Events]

    def select(self, timeout: float | None = None) -> _Events:
        return self.wait(super().select, timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing is ready.

    The clock starts at 0.0 and is, after each jump, exactly at the timer's own time: nothing drifts, and timers that
    are due at the same instant run in the same step, others never do. Nothing ready and no timer (or only timers at
    infinity) is a `Deadlock`, raised out of ``run_until_complete``; afterwards the loop can be closed as usual.

    Time passes only while nothing is ready: a task that polls (``while now() < 10: await asyncio.sleep(0)``) polls for
    ever. While a job of ``run_in_executor`` or ``asyncio.to_thread`` is in flight, or a socket is watched, the loop
    waits in real time, so that a timer fires no earlier than it really would; what the job took is not counted. This
    makes threads correct rather than fast: test sockets and processes on a real loop. Other threads may use
    ``call_soon_threadsafe``, but the loop cannot know that it should wait for them.

    Examples:
        >>> with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ...     runner.run(asyncio.sleep(86_400))
        ...     runner.get_loop().time()
        86400.0
    """

    # asyncio's own attributes, unchanged since Python 3.4; typeshed does not tell them.
    _clock_resolution: float
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        """Start at 0.0."""
        self._poller = _Selector()
        self._poller.wait = self._wait
        super().__init__(self._poller)
        self._own_files = len(self._poller.get_map())  # the pipe by which threads wake the loop
        self._jobs = 0
        self._set_time(0.0)

    def close(self) -> None:
        """Close, and leave no reference cycle, which would keep this loop and its tasks alive for long."""
        super().close()
        vars(self._poller).pop("wait", None)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def _set_time(self, when: float) -> None:
        # A step runs the timers before time() + resolution. With one ulp that is "up to now"; 0 would run none of them,
        # and the 1 ns of a real clock would run some before their time.
        self._now, self._clock_resolution = when, math.ulp(when)

    def _wait(self, poll: _Poll, timeout: float | None) -> _Events:
        self._step_ended()
        events = poll(0)
        # The ready queue is asked again: _step_ended or another thread may have filled it since the step began. Events
        # come even without sockets and threads: a signal that the loop handles is one.
        if timeout != 0 and not events and not self._ready:
            events = self._idle(poll)
        self._step_begins()
        return events

    def _idle(self, poll: _Poll) -> _Events:
        when = self._scheduled[0].when() if self._scheduled else math.inf
        if self._jobs or len(self._poller.get_map()) > self._own_files:
            events = poll(None if when == math.inf else min(when - self._now, _DAY))
            if events or when == math.inf:
                return events
        if when == math.inf:
            tasks = "\n  ".join(["these tasks wait:", *describe(asyncio.all_tasks(self))])
            raise Deadlock(f"nothing is ready and no timer is set at time {self._now}; {tasks}")
        self._set_time(when)
        return []

    def _step_begins(self) -> None:
        """Run before the callbacks of each step."""

    def _step_ended(self) -> None:
        """Run after the callbacks of each step, and once before the first."""

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], R], *args: *Ts) -> asyncio.Future[R]:
        """Run ``func`` in the executor; until its future is done the loop waits in real time."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_ended)
        return future

    def _job_ended(self, _: object) -> None:
        self._jobs -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Join the threads, in real time: on virtual time the five minutes for it would be over at once."""
        self._jobs += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._jobs -= 1


def now() -> float:
    """Return the time of the running loop in seconds; on virtual time a test starts at 0.0."""
    return asyncio.get_running_loop().time()


def describe(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Name each task and the place where it is suspended."""
    return sorted(f"task {task.get_name()!r}, at {place(task.get_coro())}" for task in tasks)


def place(suspended: Any) -> str:
    """Name the innermost frame in which a coroutine or generator is suspended, asyncio's own frames apart."""
    frames: list[FrameType] = []
    while suspended is not None:
        frames += filter(None, (getattr(suspended, name, None) for name in ("cr_frame", "gi_frame", "ag_frame")))
        inner = (getattr(suspended, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))
        suspended = next(filter(None, inner), None)
    if not frames:
        return "an unknown place"
    others = [frame for frame in frames if not frame.f_code.co_filename.startswith(_ASYNCIO)]
    frame = (others or frames)[-1]
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
