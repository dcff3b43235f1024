"""An event loop on virtual time."""

from __future__ import annotations

import asyncio
import gc
import math
import selectors
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Context, Decimal, getcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, TypeVarTuple

from paco._engine.reader import SourceStep
from paco._functions.threads import ThreadPool

if TYPE_CHECKING:
    from collections import deque
    from concurrent.futures import Executor
    from types import FrameType

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_Events: TypeAlias = list[tuple[selectors.SelectorKey, int]]
_Poll: TypeAlias = Callable[[float | None], _Events]

_ASYNCIO: Final = str(Path(asyncio.__file__).parent)
_PACO: Final = str(Path(__file__).parents[1])
_DAY: Final = 24 * 3600.0  # the longest wait that asyncio itself uses; epoll rejects a wait of 25 days
_TURNS: Final = 250_000  # turns of the loop in which time does not pass, after which a program makes no progress
_SHOWN: Final = 3  # callbacks in the message then
_LOOK: Final = 0.005  # seconds between two looks at other threads
_EXACT: Final = Context(prec=50, traps=[])
_LIBRARY: Final = Path(asyncio.__file__).parents[1]
_DOUBTS: Final = 200  # looks after which a job that no thread begins is a wrong count of an executor
_HANDS_OVER: Final = sys.version_info >= (3, 13)  # whether a queue gives its item to the thread that waits for it
#: Where a thread waits for work: an executor, a queue, a server, another event loop.
_IDLE: Final = tuple(
    str(_LIBRARY / name)
    for name in ("concurrent", "multiprocessing", "queue.py", "socketserver.py", "asyncio/base_events.py")
)
#: What those call in order to wait.
_WAITS: Final = tuple(str(_LIBRARY / name) for name in ("threading.py", "selectors.py"))


class Deadlock(AssertionError):
    """No task can continue, or time cannot pass. The message says where each task waits.

    Either no callback is ready and no timer is set, or callbacks were ready in each of 250,000 turns of the loop.
    """


class _Time(float):
    """A time whose sums and differences are those of the decimal numbers shown, so that three times 0.1 s is 0.3 s."""

    __slots__ = ()

    def __add__(self, other: float) -> float:
        if 0 <= other <= math.ulp(self):  # the resolution, which asyncio adds in each turn
            return float.__add__(self, other)
        return _Time(_EXACT.add(_decimal(self), _decimal(other)))

    __radd__ = __add__

    def __sub__(self, other: float) -> _Time:
        return _Time(_EXACT.subtract(_decimal(self), _decimal(other)))

    def __rsub__(self, other: float) -> _Time:
        return _Time(_EXACT.subtract(_decimal(other), _decimal(self)))

    def __reduce__(self) -> tuple[type[float], tuple[str]]:
        return float, (repr(self),)


def _decimal(number: float) -> Decimal:
    return Decimal(repr(float(number)))


class _Selector(selectors.DefaultSelector):
    """A selector that delegates its wait to the loop: an event loop spends time only in ``select``."""

    wait: Callable[[_Poll, float | None], _Events]

    def select(self, timeout: float | None = None) -> _Events:
        return self.wait(super().select, timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when no callback is ready.

    The clock starts at 0.0. A jump sets it to exactly the time of the timer, and times add up as decimal numbers, so
    nothing drifts: after three sleeps of 0.1 s it is 0.3. Timers with equal times run in the same step, and timers with
    different times never do. If no callback is ready and there is no timer (or only timers at infinity),
    ``run_until_complete`` raises `Deadlock`; the loop can then be closed as usual.

    Time passes only while no callback is ready. So a polling loop (``while now() < 10: await asyncio.sleep(0)``) never
    ends by itself; it ends with `Deadlock` after 250,000 turns.

    The loop waits in real time, so that no timer fires too early, while a job of ``run_in_executor``,
    ``asyncio.to_thread`` or ``paco.threaded`` is in flight, a socket is watched, or a thread that was started since the
    loop was made does something other than wait. The time that the job takes does not advance the clock. This makes
    threads correct but not fast: test sockets and processes on a real loop.

    Examples:
        >>> with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ...     runner.run(asyncio.sleep(86_400))
        ...     runner.get_loop().time()
        86400.0
    """

    # Attributes of asyncio's loop, unchanged since Python 3.4, that typeshed does not declare.
    _clock_resolution: float
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        """Start the clock at 0.0."""
        self._poller = _Selector()
        self._poller.wait = self._wait
        super().__init__(self._poller)
        self._own_files = len(self._poller.get_map())  # the pipe by which threads wake the loop
        self._jobs = 0
        self._turns = 0  # since time has passed
        self._doubts = 0  # looks in which an executor seemed to have given a job to a thread that did not begin it
        self._foreign = weakref.WeakSet(threading.enumerate())  # threads that do not work for this loop
        self._set_time(0.0)
        # `decimal` sets a context variable when it is first used. Inside an item that would look like a trace of the
        # item, and its worker would not be recycled.
        getcontext()

    def close(self) -> None:
        """Close the loop, and break the reference cycle that would keep it and its tasks alive."""
        super().close()
        vars(self._poller).pop("wait", None)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def _set_time(self, when: float) -> None:
        # A step runs the timers before time() + resolution. A resolution of one ulp means "up to now"; 0 would run no
        # timer, and the 1 ns of a real clock would run some too early.
        self._now, self._clock_resolution, self._turns = _Time(when), math.ulp(when), 0

    def _wait(self, poll: _Poll, timeout: float | None) -> _Events:
        self._step_ended()
        events = poll(0)
        # _step_ended or another thread may have added callbacks since the step began, so check again. Events come even
        # without sockets and threads: a signal that the loop handles is one.
        if timeout != 0 and not events and not self._ready:
            events = self._idle(poll)
        self._turns = 0 if events else self._turns + 1
        if self._turns and self._turns % (_TURNS // 2) == 0:
            self._refuse_to_poll()
        self._step_begins()
        return events

    def _idle(self, poll: _Poll) -> _Events:
        when = self._scheduled[0].when() if self._scheduled else math.inf
        left = when - self._now
        if self._is_busy():
            events = poll(None if when == math.inf else min(left, _DAY))
            if events or when == math.inf:
                return events
        while left > 0 and self._threads_work():
            if events := poll(min(left, _LOOK)):
                return events
            left -= _LOOK
        if (events := poll(0)) or self._ready:  # from a thread that has just ended its work
            return events
        if when == math.inf:
            raise Deadlock(f"nothing is ready and no timer is set at time {self._now}; {self._waiting()}")
        self._set_time(when)
        return []

    def _refuse_to_poll(self) -> None:
        """Raise `Deadlock` because of the number of turns without time, unless something in real time is awaited.

        That is looked at twice, since a thread may end just before one look.
        """
        if self._is_busy() or self._threads_work():
            self._turns = 0
        elif self._turns >= _TURNS:
            turns, self._turns = self._turns, 0
            ready = f"time stands still at {self._now}: callbacks were ready in each of {turns:,} turns of the loop"
            handles = "".join(f"\n  ready: {handle!r}" for handle in list(self._ready)[:_SHOWN])
            raise Deadlock(f"{ready}; let what polls sleep for a time; {self._waiting()}{handles}")

    def _waiting(self) -> str:
        return "\n  ".join(["these tasks wait:", *describe(asyncio.all_tasks(self))])

    def _is_busy(self) -> bool:
        """Return whether a job is in flight or a socket is watched."""
        return self._jobs > 0 or len(self._poller.get_map()) > self._own_files

    def _threads_work(self) -> bool:
        """Return whether a thread that was started since the loop was made does something other than wait for work."""
        others = [thread for thread in threading.enumerate() if thread not in self._foreign]
        current = sys._current_frames() if others else {}  # noqa: SLF001 - documented, in spite of its name
        frames = [current.get(thread.ident or 0) for thread in others]
        if not all(map(_awaits_work, frames)):
            self._doubts = 0
            return True
        given = _has_given_jobs(frames)
        self._doubts += given
        return given and self._doubts < _DOUBTS

    def _step_begins(self) -> None:
        """Run before the callbacks of each step; a hook for subclasses."""

    def _step_ended(self) -> None:
        """Run after the callbacks of each step, and once before the first; a hook for subclasses."""

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], R], *args: *Ts) -> asyncio.Future[R]:
        """Run ``func`` in the executor. Until its future is done, the loop waits in real time."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_ended)
        return future

    def _job_ended(self, _: object) -> None:
        self._jobs -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Join the threads in real time. On virtual time, asyncio's timeout of five minutes would pass at once."""
        self._jobs += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._jobs -= 1


def _awaits_work(frame: FrameType | None) -> bool:
    """Return whether a thread waits for work and there is none, given its innermost frame."""
    if frame is not None and frame.f_code is ThreadPool.sleep.__code__:  # of `paco.threaded`
        return not frame.f_locals["self"].in_flight
    waits = frame is not None and frame.f_code.co_name in {"wait", "select"}
    while frame is not None and frame.f_code.co_filename.startswith(_WAITS):
        frame = frame.f_back
    if frame is None or not frame.f_code.co_filename.startswith(_IDLE):
        return False
    if _is_worker(frame):
        return "work_item" not in frame.f_locals and not frame.f_locals["work_queue"].qsize()
    caller = {} if frame.f_back is None else frame.f_back.f_locals
    if getattr(caller.get("self"), "pending_work_items", None):  # a ProcessPoolExecutor waits for its processes
        return False
    # A thread that waits for a queue with an item is about to wake.
    return waits and not (frame.f_code.co_name == "get" and frame.f_locals["self"].qsize())


def _has_given_jobs(frames: Iterable[FrameType | None]) -> bool:
    """Return whether an executor seems to have given a job to a thread that waits for one, given all idle frames.

    Where a queue hands over, the job is neither in the queue nor in a variable until the thread gets the GIL. But
    ``submit`` no longer counts the thread as idle. (It can miscount: what it does is not atomic.)
    """
    executors = [frame.f_locals["executor_reference"]() for frame in frames if frame and _is_worker(frame)]
    idle = Counter(map(id, executors))
    counts = [(one._idle_semaphore._value, idle[id(one)]) for one in executors if one is not None]  # noqa: SLF001
    return _HANDS_OVER and any(counted < threads for counted, threads in counts)


def _is_worker(frame: FrameType) -> bool:
    """Return whether this is the function that the threads of an executor run. A job runs in a frame inside it."""
    return frame.f_code.co_name == "_worker"


def now() -> float:
    """Return the time of the running event loop in seconds. On virtual time a test starts at 0.0."""
    return asyncio.get_running_loop().time()


def describe(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Return one line for each task: its name and where it is suspended."""
    return sorted(f"task {task.get_name()!r}, at {place(task.get_coro())}" for task in tasks)


def place(suspended: Any) -> str:
    """Return the file, line and function where a coroutine or generator is suspended, asyncio's own frames apart.

    If there are no others, return where it was made, as far as that is known.
    """
    frames = frames_of(suspended)
    if not frames:
        return "an unknown place"
    others = [frame for frame in frames if not frame.f_code.co_filename.startswith(_ASYNCIO)]
    if not others and (made := origin(getattr(suspended, "cr_origin", None) or ())):
        return made
    frame = (others or frames)[-1]
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def frames_of(suspended: Any) -> list[FrameType]:
    """Return the frames of a coroutine or generator and of what it awaits, the innermost last."""
    frames: list[FrameType] = []
    while suspended is not None:
        frames += filter(None, (getattr(suspended, name, None) for name in ("cr_frame", "gi_frame", "ag_frame")))
        suspended = _awaited_by(suspended)
    return frames


def _awaited_by(suspended: Any) -> Any:
    """Return what a coroutine or generator awaits; ``None`` if that is unknown."""
    if type(suspended).__name__.startswith("async_generator_a"):  # what `asend` and `athrow` return; it tells nothing
        found: list[Any] = gc.get_referents(suspended)
        return next((one for one in found if hasattr(one, "ag_frame")), None)
    if getattr(suspended, "gi_code", None) is SourceStep.__await__.__code__:
        return suspended.gi_frame.f_locals["step"]  # a step of a source, which a worker has begun
    inner = (getattr(suspended, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))
    return next(filter(None, inner), None)


def is_internal(frame: FrameType) -> bool:
    """Return whether a frame is one of asyncio or paco."""
    return frame.f_code.co_filename.startswith((_ASYNCIO, _PACO))


def origin(stack: Iterable[tuple[str, Any, str]]) -> str:
    """Return the innermost place of a stack, frames of asyncio and paco apart; an empty text if there is none."""
    places = (f"{file}:{line} in {name}" for file, line, name in stack if not file.startswith((_ASYNCIO, _PACO)))
    return next(places, "")
