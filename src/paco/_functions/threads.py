"""Blocking functions in threads: a pool for each function in each event loop, which grows to the calls at once.

The way back into the loop is the dear part of a call: to wake a loop from another thread takes a system call, at which
the thread also gives up the GIL. So finished calls gather, and one callback resumes all that are there when it runs.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections import deque
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, overload

from paco._base import check
from paco._base.decorator import decorator, keep

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from typing import Protocol

    from paco._base.types import P, T

    class _Threaded(Protocol):
        """The type of `threaded` as a decorator with options."""

        def __call__(self, fn: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T]]:
            """Return a coroutine function that calls ``fn`` in a thread and has its signature."""
            ...


#: Returns a block around each wait for a thread whose call was cancelled. A worker with ``kill_after`` replaces it.
late: Callable[[], AbstractContextManager[object]] = nullcontext
#: The most threads of a function if ``threads`` sets no number.
_MOST: Final = 1000
#: The seconds after which a thread without a call ends.
_IDLE: Final = 5.0


@overload
def threaded(fn: Callable[P, T], threads: int | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def threaded(threads: int | None = None) -> _Threaded: ...
@decorator
def threaded(fn: Any, threads: int | None = None) -> Any:
    """Return a coroutine function that calls a blocking function in a thread of its own pool.

    As many calls run at once as are awaited at once: ``paco.map(paco.threaded(fn), items, limit=100)`` runs 100.
    (`asyncio.to_thread` shares one pool with the whole program, of four threads more than there are processors.) A call
    beyond ``threads`` waits until a thread is free. Threads start when they are needed, are used again, end after 5 s
    without a call, and at the latest with the event loop. Each event loop has its own.

    A call sees the context variables of its caller, and changes of them stay in the call. A thread cannot be cancelled.
    A cancelled call that has not begun never begins; one that has begun waits until its thread has returned, then
    raises ``CancelledError``, or the error that the function has raised. So nothing runs any more when control returns;
    a ``timeout`` around the call ends when the function does: give the function a timeout of its own. The first
    Ctrl-C waits for the calls that run; the third ends the program without them.

    Also works as a decorator: ``@paco.threaded``, ``@paco.threaded(threads=20)``. Costs 12 to 15 µs of CPU
    a call if many are in flight, and about 70 µs if one follows the other.

    Args:
        fn: The function, which must be safe to run in several threads at once.
        threads: The maximum number of threads, 1 or more; ``None`` for as many as calls at once, 1,000 at most.

    Raises:
        TypeError: ``fn`` is async; call it without this function.
        RuntimeError: From a call: the system refuses to start another thread.

    Examples:
        >>> import time
        >>> @paco.threaded
        ... def fetch(number):
        ...     time.sleep(0.01)
        ...     return number * 2
        >>> paco.run(paco.map(fetch, range(3), limit=100))
        [0, 2, 4]
    """
    most = _MOST if threads is None else check.integer("threaded", "threads", threads, 1)
    if not callable(fn):
        text = check.refusal("threaded", "fn", "a plain function, not an async one", fn)
        raise TypeError(f"{text}; pass the function, not its result")
    check.plain_function("threaded", fn, "fn")
    pools = _Pools(fn, most)

    async def wrapper(*args: Any, **kw: Any) -> Any:
        loop = asyncio.get_running_loop()
        pool = pools.last
        if pool is None or pool.loop() is not loop:
            pool = pools.of(loop)
        call = _BlockingCall(loop, args, kw)
        pool.start(call)
        try:
            await call.future
        except asyncio.CancelledError:
            if not pool.withdraw(call):
                await call.ended()
                call.result()
            raise
        else:
            return call.result()
        finally:
            del call, args, kw  # a kept error refers to this frame

    return keep(wrapper, fn)


class _BlockingCall:
    """A call on its way from the loop to a thread and back."""

    __slots__ = ("error", "future", "over", "value", "work")

    def __init__(self, loop: asyncio.AbstractEventLoop, args: tuple[Any, ...], kw: dict[str, Any]) -> None:
        #: What to call. The thread that begins the call removes it, or the caller that withdraws it: `pop` is atomic.
        self.work: list[Any] = [(contextvars.copy_context(), args, kw)]
        self.future: asyncio.Future[None] = loop.create_future()
        #: Whether the loop knows that the thread has returned.
        self.over = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self, fn: Callable[..., Any]) -> bool:
        """Call ``fn`` in this thread; return false if the call was withdrawn."""
        try:
            context, args, kw = self.work.pop()
        except IndexError:
            return False
        try:
            value = context.run(fn, *args, **kw)
            if check.is_awaitable(value):
                value = _refuse(fn, value)
            self.value = value
        except BaseException as error:
            self.error = error
        return True

    def result(self) -> Any:
        """Return the value, or raise the error, whose frames refer to this call."""
        error, self.error = self.error, None
        if error is None:
            return self.value
        try:
            raise error
        finally:
            del error

    async def ended(self) -> None:
        """Wait until the thread has returned, even if the caller is cancelled again."""
        with late():
            while not self.over:
                self.future = self.future.get_loop().create_future()
                with suppress(asyncio.CancelledError):
                    await self.future


def _refuse(fn: Any, value: Any) -> Any:
    called = check.called(fn)
    text = check.refusal("threaded", "fn", "a plain function, not an async one", value)
    raise TypeError(f"{text} from {called}; await {called} in the event loop, without paco.threaded")


class ThreadPool:
    """The threads of a function in one event loop.

    A call lies in a queue until a thread takes it. A thread that takes a call and leaves others calls up the next
    thread, a sleeping one or a new one, before it begins; no more than one is on its way at any time. So calls that
    block soon have a thread each, and calls that do not are run by the few threads that are awake.

    There are at least as many threads as calls in flight, up to ``most``. One without a call ends only if
    there are more.
    """

    def __init__(self, fn: Callable[..., Any], most: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        #: The number of calls that were started and have not come back.
        self.in_flight = 0
        self._fn = fn
        self._most = most
        self._calls = deque[_BlockingCall]()
        self._done = deque[_BlockingCall]()
        self._threads = set[threading.Thread]()
        self._sleeping = list[Any]()  # the lock of each sleeping thread; released to wake it
        self._lock = threading.Lock()
        self._coming = False  # whether a thread is on its way to the calls
        self._woken = False  # whether the loop is about to call `_deliver`
        self._idle = _IDLE
        self._refusal: RuntimeError | None = None

    def start(self, call: _BlockingCall) -> None:
        """Have a thread run a call."""
        self.in_flight += 1
        self._calls.append(call)
        self._call_up()
        if self._refusal is not None and self.withdraw(call):
            refusal, self._refusal = self._refusal, None
            raise refusal

    def withdraw(self, call: _BlockingCall) -> bool:
        """Have a call not begin; return false if it has begun."""
        try:
            call.work.pop()
        except IndexError:
            return False
        self.in_flight -= 1
        return True

    def close(self) -> None:
        """End the threads when they have no call. Does not wait."""
        self._idle = 0.0
        while self._wake():
            pass

    def join(self) -> None:
        """Wait until the closed threads have ended, unless one has a call."""
        if not self.in_flight:
            with self._lock:
                threads = tuple(self._threads)
            for thread in threads:
                thread.join()

    def _deliver(self) -> None:
        """Resume the callers of all calls that have returned; runs in the loop."""
        self._woken = False
        done = self._done
        try:
            while done:
                call = done[0]  # removed when it is resumed: a KeyboardInterrupt between must not lose it
                if not call.over:
                    call.over = True
                    self.in_flight -= 1
                if not call.future.done():
                    call.future.set_result(None)
                done.popleft()
        except BaseException:
            asyncio.get_running_loop().call_soon(self._deliver)
            raise

    # ---- in all threads

    def _call_up(self) -> None:
        """Have one more thread look for calls, unless one is on its way, which calls up the next."""
        if self._coming:
            return
        self._coming, comes = True, False  # set before: it may have come when this goes on
        try:
            comes = self._wake() or self._add_thread()
        finally:
            if not comes:
                self._coming = False

    def _wake(self) -> bool:
        try:
            self._sleeping.pop().release()
        except IndexError:
            return False
        return True

    def _add_thread(self) -> bool:
        with self._lock:
            if len(self._threads) >= min(self.in_flight, self._most):
                return False
            name = f"paco-threaded-{check.title(self._fn)}"
            # In an empty context: without the GIL, it would inherit that of a run. A daemon, so that a program ends
            # that is ended by force.
            thread = threading.Thread(target=contextvars.Context().run, args=(self.serve,), name=name, daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError as error:
                self._threads.discard(thread)
                count = len(self._threads)
                remedy = f"pass threads={count}" if count else "end other threads"
                self._refusal = RuntimeError(f"paco.threaded: cannot start thread {count + 1} ({error}); {remedy}")
                return False
        return True

    # ---- in the threads of the pool

    def serve(self) -> None:
        """Run calls until none comes for some time."""
        lock = threading.Lock()
        lock.acquire()
        self._coming = False
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                if self.sleep(lock):
                    continue
                return
            if self._calls:
                self._call_up()
            if call.run(self._fn):
                self._done.append(call)
                if not self._woken:
                    self._woken = True
                    with suppress(RuntimeError):  # the loop is closed
                        call.future.get_loop().call_soon_threadsafe(self._deliver)
            del call

    def sleep(self, lock: Any) -> bool:
        """Wait to be called up; return false if this thread must end."""
        self._sleeping.append(lock)
        if self._calls or not lock.acquire(timeout=self._idle):
            try:
                self._sleeping.remove(lock)
            except ValueError:  # it is being called up
                lock.acquire()
            else:
                return not self._leave()
        self._coming = False
        return True

    def _leave(self) -> bool:
        """Count this thread as ended if it is one too many."""
        with self._lock:
            if self._calls or (self._idle and len(self._threads) <= self.in_flight):
                return False
            self._threads.discard(threading.current_thread())
            return True


class _Pools:
    """The pools of a function, one for each event loop that calls it. Another process gets new ones."""

    def __init__(self, fn: Callable[..., Any], most: int) -> None:
        self._fn = fn
        self._most = most
        self._pools = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPool]()
        #: The pool that was used last.
        self.last: ThreadPool | None = None

    def of(self, loop: asyncio.AbstractEventLoop) -> ThreadPool:
        """Return the pool of a loop."""
        with _lock:
            pool = self._pools.get(loop)
            if pool is None:
                pool = self._pools[loop] = ThreadPool(self._fn, self._most, loop)
                _close_with(loop, pool)
            self.last = pool
            return pool

    def __reduce__(self) -> tuple[Any, ...]:
        return _Pools, (self._fn, self._most)

    def __del__(self) -> None:
        for pool in self._pools.values():
            pool.close()


# ---- the end of an event loop

_lock: Final = threading.Lock()
#: For each event loop, its pools, and the generator that closes them.
_ends: Final = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, weakref.WeakSet[ThreadPool]]]()


def _close_with(loop: asyncio.AbstractEventLoop, pool: ThreadPool) -> None:
    """Have a pool closed when the loop ends, which must be running in this thread."""
    if loop not in _ends:
        for other in tuple(_ends):
            if other.is_closed():  # without having closed its generators; the generator would keep it alive
                del _ends[other]
        pools = weakref.WeakSet[ThreadPool]()
        guard = until_shutdown(pools)
        with suppress(StopIteration):
            guard.asend(None).send(None)  # to its `yield`: now the loop knows it
        _ends[loop] = guard, pools
    _ends[loop][1].add(pool)


async def until_shutdown(pools: weakref.WeakSet[ThreadPool]) -> AsyncGenerator[None]:
    """Close pools when the loop closes its async generators, which is the last that a loop does."""
    try:
        yield
    finally:
        for pool in tuple(pools):
            pool.close()
        for pool in tuple(pools):
            pool.join()
