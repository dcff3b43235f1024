"""Running one async function on virtual time: once, or once for each step at which it can be cancelled."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from paco.testing._leaks import found_in_loop, heard, in_loop, reported
from paco.testing._loop import VirtualLoop

T = TypeVar("T")

_Main: TypeAlias = Callable[[], Awaitable[T]] | Awaitable[T]


def run(main: _Main[T], *, eager: bool | None = None, debug: bool = False) -> T:
    """Run an async function without arguments, or an awaitable, on a fresh `VirtualLoop`; return its result.

    Args:
        main: What to run.
        eager: Use the eager task factory of asyncio (Python 3.12+); ``None``: if ``PACO_TEST_EAGER=1`` is set.
        debug: Use the debug mode of asyncio.

    Raises:
        Deadlock: It would have waited for ever.
        Leak: It left something behind; see `check_leaks`.

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
    """Run ``main`` on a fresh loop under the leak check."""
    if in_loop():
        raise RuntimeError("paco.testing.run: this thread runs an event loop already; await the function instead")
    leaks: list[str] = []
    with reported(leaks), heard(leaks), asyncio.Runner(debug=debug or None, loop_factory=loop_factory) as runner:
        _use_eager_tasks(runner.get_loop(), eager=eager)
        return runner.run(_checked(main, leaks))


async def _checked(main: _Main[T], leaks: list[str]) -> T:
    with found_in_loop(leaks):
        return await (main() if callable(main) else main)


def _use_eager_tasks(loop: asyncio.AbstractEventLoop, *, eager: bool | None) -> None:
    if eager is None:
        eager = os.environ.get("PACO_TEST_EAGER", "") not in {"", "0"}
    if not eager:
        return
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        raise RuntimeError("paco.testing: eager tasks need Python 3.12 or later")
    loop.set_task_factory(factory)


def cancel_at_every_step(
    fn: Callable[[], Awaitable[object]], *, again: int | None = None, eager: bool | None = None, max_steps: int = 10_000
) -> int:
    """Run ``fn`` over and over, cancelling it at loop step 0, 1, 2, … until it ends before it is cancelled.

    A step is one turn of the loop. Each is tried twice: the cancellation comes before its callbacks, and after them.
    Each run has a fresh `VirtualLoop` and a leak check, and fails if the cancellation is swallowed (``fn`` returns, or
    raises something else), if ``fn`` ends cancelled though nobody cancelled it, or if ``Task.cancelling()`` afterwards
    is not the number of cancellations. A note of the error names the step. The leaks are looked for at the very moment
    at which ``fn`` ends.

    Args:
        fn: What to run; it may check its own laws, in a ``finally`` for instance.
        again: Cancel a second time that many steps after the first; 0: twice at once; ``None``: once.
        eager: Use the eager task factory of asyncio (Python 3.12+); ``None``: if ``PACO_TEST_EAGER=1`` is set.
        max_steps: A run of that many steps is taken for endless, and fails.

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
            self._last += self._max_steps  # to close the loop takes steps too
            raise AssertionError(f"the run has not ended within {self._max_steps} steps")
        if not self._after and self._step in self._steps:
            # As the first callback, not right now: in a real loop too it is a callback that cancels, and the timers of
            # this step run before whatever it wakes.
            self._ready.appendleft(asyncio.Handle(self._cancel, (), self))

    def _step_ended(self) -> None:
        if self._after and self._step in self._steps:
            self._cancel()

    def _cancel(self) -> None:
        for _ in range(self._steps.count(self._step)):
            self.cancelled += self.target is not None and self.target.cancel()


def _run_cancelled(fn: Callable[[], Awaitable[object]], loop: _CancellingLoop, *, eager: bool | None) -> None:
    leaks: list[str] = []
    with reported(leaks), heard(leaks), asyncio.Runner(loop_factory=lambda: loop) as runner:
        _use_eager_tasks(runner.get_loop(), eager=eager)
        loop.target = target = loop.create_task(_ends_cancelled(fn, leaks))
        try:
            arrived = loop.run_until_complete(target)
        except asyncio.CancelledError:  # before its first step, so that fn was not even called
            arrived = True
        loop.target = None  # no reference cycle, which would keep loop after loop alive
        if loop.cancelled and not arrived:
            raise AssertionError("the cancellation was swallowed: the run ended without CancelledError")
        if arrived and not loop.cancelled:
            raise AssertionError("the run ended cancelled, but nobody had cancelled it")
        if target.cancelling() != loop.cancelled:
            raise AssertionError(f"cancelling() is {target.cancelling()} after {loop.cancelled} cancellations")


async def _ends_cancelled(fn: Callable[[], Awaitable[object]], leaks: list[str]) -> bool:
    with found_in_loop(leaks):
        try:
            await fn()
        except asyncio.CancelledError:
            return True
        return False
