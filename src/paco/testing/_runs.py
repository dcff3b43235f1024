"""Runs of one async function on virtual time: once, or once per step at which it can be cancelled."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, TypeAlias, TypeVar

from paco.testing._leaks import collecting_from_loop, collecting_reports, raising
from paco.testing._loop import Deadlock, VirtualLoop, frames_of, is_internal

T = TypeVar("T")

_Main: TypeAlias = Callable[[], Awaitable[T]] | Awaitable[T]


def run(main: _Main[T], *, eager: bool | None = None, debug: bool = False) -> T:
    """Run an async function without arguments, or an awaitable, on a new `VirtualLoop`, and return its result.

    Args:
        main: The function or awaitable.
        eager: Whether to use asyncio's eager task factory (Python 3.12+). The default ``None`` uses it if
            ``PACO_TEST_EAGER=1`` is set.
        debug: Whether to use asyncio's debug mode.

    Raises:
        Deadlock: No task could continue.
        Leak: The function left something behind; see `check_leaks`.

    Examples:
        >>> from paco.testing import now
        >>> async def naps():
        ...     limit = asyncio.Semaphore(2)
        ...     async def nap():
        ...         async with limit:
        ...             await asyncio.sleep(10)
        ...     await asyncio.gather(*(nap() for _ in range(6)))
        ...     return now()
        >>> run(naps)
        30.0
    """
    return run_on(VirtualLoop, main, eager=eager, debug=debug)


def run_on(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], main: _Main[T], *, eager: bool | None, debug: bool
) -> T:
    """Run ``main`` on a new loop with a leak check, and return its result."""
    if asyncio._get_running_loop() is not None:
        expected = "must be called outside of an event loop, but this thread runs one"
        raise RuntimeError(f"paco.testing.run: {expected}; await the function instead")
    leaks: list[str] = []
    __tracebackhide__ = True

    async def checked() -> T:
        with collecting_from_loop(leaks):
            return await (main() if callable(main) else main)

    runner = asyncio.Runner(debug=debug or None, loop_factory=loop_factory)
    with raising(leaks), collecting_reports(leaks), _without_variables(), runner:
        _use_eager_tasks(runner.get_loop(), eager=eager)
        coro = checked()
        try:
            return runner.run(coro)
        except Deadlock as error:
            raise error.with_traceback(_stack(coro)) from None  # instead of the frames of the loop


def _stack(coro: Coroutine[Any, Any, Any]) -> TracebackType | None:
    """Return a traceback of the frames in which a coroutine waits, without those of paco at both ends."""
    frames = [frame for frame in frames_of(coro) if frame.f_globals.get("__name__") != __name__]
    while frames and is_internal(frames[-1]):
        del frames[-1]
    found = None
    for frame in reversed(frames):
        found = TracebackType(found, frame, frame.f_lasti, frame.f_lineno)
    return found


@contextmanager
def _without_variables() -> Generator[None]:
    """Release the variables of the frames that a `Deadlock` shows, so that nothing outlives the check for leaks."""
    try:
        yield
    except Deadlock as error:
        for one, _ in traceback.walk_tb(error.__traceback__):
            frame: FrameType | None = one
            while frame is not None:  # on Python 3.13 a frame that has ended keeps those that called it
                with suppress(RuntimeError):  # it is still executing
                    frame.clear()
                frame = frame.f_back
        raise


def _use_eager_tasks(loop: asyncio.AbstractEventLoop, *, eager: bool | None) -> None:
    if eager is None:
        eager = os.environ.get("PACO_TEST_EAGER", "") not in {"", "0"}
    if not eager:
        return
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        version = sys.version.split()[0]
        correct = "do not set eager or PACO_TEST_EAGER"
        raise RuntimeError(f"paco.testing: eager tasks need Python 3.12 or later, got {version}; {correct}")
    loop.set_task_factory(factory)


def cancel_at_every_step(
    fn: Callable[[], Awaitable[object]], *, again: int | None = None, eager: bool | None = None, max_steps: int = 10_000
) -> int:
    """Run ``fn`` repeatedly and cancel it at loop step 0, 1, 2, … until it ends before the cancellation.

    A step is one turn of the event loop. Each step is tried twice: with the cancellation before its callbacks, and
    after them. Each run has a new `VirtualLoop` and a leak check at the moment at which ``fn`` ends. A run fails if the
    cancellation is swallowed (``fn`` returns or raises another error), if ``fn`` ends with ``CancelledError`` without
    being cancelled, or if ``Task.cancelling()`` afterwards differs from the number of cancellations. A note of the
    error names the step.

    Args:
        fn: An async function without arguments. It may make its own checks, for example in a ``finally`` block.
        again: Steps after which to cancel a second time; 0 cancels twice at once. The default ``None`` cancels once.
        eager: As for `run`.
        max_steps: The number of steps after which a run counts as endless and fails.

    Returns:
        The number of points at which ``fn`` was cancelled.

    Examples:
        >>> cancel_at_every_step(lambda: asyncio.sleep(1))
        5
    """

    def cancelled_at(step: int, *, after: bool) -> bool:
        steps = [step] if again is None else [step, step + again]
        loop = _CancellingLoop(steps, after=after, max_steps=max_steps)
        try:
            _run_cancelled(fn, loop, eager=eager)
        except BaseException as error:
            place = f"cancelled {'after' if after else 'before'} the callbacks of step {step}"
            error.add_note(place if loop.cancelled else "in a run that was not cancelled")
            raise
        return loop.cancelled > 0

    before = itertools.takewhile(lambda step: cancelled_at(step, after=False), itertools.count())
    after = itertools.takewhile(lambda step: cancelled_at(step, after=True), itertools.count())
    return len([*before, *after])


class _CancellingLoop(VirtualLoop):
    def __init__(self, steps: list[int], *, after: bool, max_steps: int) -> None:
        super().__init__()
        self.target: asyncio.Task[bool] | None = None
        self.cancelled = 0
        self._steps, self._after = steps, after
        self._max_steps = self._last = max_steps
        self._step = -1

    def _step_begins(self) -> None:
        self._step += 1
        if self._step >= self._last:
            self._last += self._max_steps  # closing the loop takes steps too
            missed = f"the run must end within {self._max_steps} steps, but has not"
            raise AssertionError(f"{missed}; raise max_steps if it is not endless")
        if not self._after and self._step in self._steps:
            # Cancel in the first callback, not here: in a real loop a callback cancels too, and the timers of this step
            # run before the tasks that it wakes.
            self._ready.appendleft(asyncio.Handle(self._cancel, (), self))

    def _step_ended(self) -> None:
        if self._after and self._step in self._steps:
            self._cancel()

    def _cancel(self) -> None:
        for _ in range(self._steps.count(self._step)):
            self.cancelled += self.target is not None and self.target.cancel()


def _run_cancelled(fn: Callable[[], Awaitable[object]], loop: _CancellingLoop, *, eager: bool | None) -> None:
    leaks: list[str] = []
    with raising(leaks), collecting_reports(leaks), asyncio.Runner(loop_factory=lambda: loop) as runner:
        _use_eager_tasks(runner.get_loop(), eager=eager)
        loop.target = target = loop.create_task(_ends_cancelled(fn, leaks))
        try:
            arrived = loop.run_until_complete(target)
        except asyncio.CancelledError:  # cancelled before its first step: fn was not called
            arrived = True
        loop.target = None  # break the reference cycle, which would keep every loop alive
        if loop.cancelled and not arrived:
            raise AssertionError("the cancellation was swallowed: the run ended without CancelledError")
        if arrived and not loop.cancelled:
            raise AssertionError("the run ended with CancelledError, but it was not cancelled")
        if target.cancelling() != loop.cancelled:
            expected = f"must be the number of cancellations, {loop.cancelled}"
            raise AssertionError(f"Task.cancelling() {expected}, got {target.cancelling()}")


async def _ends_cancelled(fn: Callable[[], Awaitable[object]], leaks: list[str]) -> bool:
    with collecting_from_loop(leaks):
        try:
            await fn()
        except asyncio.CancelledError:
            return True
        return False
