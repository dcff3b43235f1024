"""Further attempts at a call: `retry` after a failure, `hedge` in parallel with a slow one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, overload

from paco._base import check
from paco._base.deadline import remaining
from paco._base.decorator import Decorator, decorator, keep
from paco._base.errors import add_note
from paco._base.item import tried
from paco._engine.workers import back_off, is_out_of_budget
from paco._functions.timeout import limiting, requested
from paco._stream.plan import Plan
from paco._stream.stream import Stream
from paco.events._wrappers import retrying
from paco.limits import GateClosed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from paco._base.types import P, T

Verdict: TypeAlias = Callable[[Exception], bool | float | None]
On: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Verdict

#: Retries that a budget starts with, so that a short run has some.
_FLOOR: Final = 10
#: The maximum number of unused retries in a budget, however long there are no errors.
_SAVED: Final = 100
#: The maximum number of times that ``wait`` doubles, which exceeds any ``max_wait``.
_DOUBLINGS: Final = 64

_SPENT: Final = "the budget in its limit is spent"
_TOO_LATE: Final = "the deadline comes before the next attempt"
_CANCELLED: Final = "the call was cancelled"


@overload
def retry(
    fn: Callable[P, Awaitable[T]],
    attempts: int = 3,
    on: On = Exception,
    wait: float = 0.1,
    max_wait: float = 10.0,
    timeout: float | None = None,
    budget: float | None = None,
    longest: float = 300.0,
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def retry(
    attempts: int = 3,
    on: On = Exception,
    wait: float = 0.1,
    max_wait: float = 10.0,
    timeout: float | None = None,
    budget: float | None = None,
    longest: float = 300.0,
) -> Decorator: ...
@decorator
def retry(
    fn: Any,
    attempts: int = 3,
    on: On = Exception,
    wait: float = 0.1,
    max_wait: float = 10.0,
    timeout: float | None = None,
    budget: float | None = None,
    longest: float = 300.0,
) -> Any:
    """Return a function that calls ``fn`` again when it fails, with exponential back-off and full jitter.

    After attempt n, it waits for a random time between 0 and ``min(max_wait, wait * 2 ** (n - 1))`` seconds, so that
    calls that failed together do not retry together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). An item of a run releases its slot and
    its permits during the back-off, and acquires new ones before the next attempt. So other items proceed, and every
    attempt counts toward a rate. As many items may back off as the limit lets run. Beyond that, no new item starts
    until one has finished, so memory stays bounded. If a timeout around the call ends the back-off early, the item does
    not wait for a slot; what it still does runs in addition to the limit. Outside a run, the back-off is a plain sleep.

    When no attempts are left, the last exception is raised as itself, with a note of the attempts and the elapsed time.
    It is raised at once if ``on`` rejects it or asks for too long a wait, if the back-off would not end before a
    `deadline`, or if ``budget`` or a `Budget` in the limit of the item is spent. A `GateClosed`, cancellations,
    ``KeyboardInterrupt`` and ``SystemExit`` are never retried, and neither is an error that ``fn`` raises because the
    call is cancelled.

    A call that succeeds costs about 3 µs more than a plain call of ``fn``.

    Also works as a decorator: ``@paco.retry``, ``@paco.retry(attempts=5)``.

    Args:
        fn: The function to call; each attempt gets the same arguments.
        attempts: The maximum number of calls of ``fn``, including the first; 1 or more.
        on: The errors to retry: a type of ``Exception``, a tuple of types, or a function that is called with the error.
            The function returns whether to retry, or the seconds to wait before the retry. These seconds are used
            as they are, without jitter and even beyond ``max_wait``, as a server's ``Retry-After`` requires; if they
            are more than ``longest``, the error is raised at once. In a run, ``paco.current().attempt`` is the number
            of the attempt that failed; elsewhere, ``paco.current()`` is ``None``.
        wait: The maximum of the first wait, in seconds.
        max_wait: The maximum of every wait, in seconds.
        timeout: Seconds for each attempt; ``None`` for no limit. An attempt that takes longer is cancelled, and when it
            has ended, the ``TimeoutError`` is retried like other errors.
        budget: The maximum ratio of retries to calls, over all calls of the returned function, such as 0.1; ``None``
            for no budget. It is a token bucket that starts with 10 retries and holds at most 100, like gRPC's
            ``retryThrottling`` and Finagle's ``RetryBudget``. There is no budget by default because a limit or a rate
            already bounds the load, including retries, and an item that is not retried is lost. Use a budget in a
            service that makes calls without a limit.
        longest: The longest wait, in seconds, that ``on`` may ask for. A server that refuses for a day should not hold
            up a run for a day.

    Examples:
        >>> answers = iter([OSError("no route"), OSError("no route"), "page"])
        >>> @paco.retry(on=OSError, wait=0.001)
        ... async def fetch(url):
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> paco.run(fetch("https://example.org"))
        'page'
    """
    check.function("retry", fn, "fn")
    _refuse_settled(fn)
    policy = _Policy(attempts, on, wait, max_wait, budget, longest)
    check.timeout("retry", timeout)
    what = f"retry: {check.called(fn)}"

    async def wrapper(*args: Any, **kw: Any) -> Any:
        call = _Call(policy)
        while True:
            call.begin()
            try:
                result = fn(*args, **kw)
                if check.is_awaitable(result):
                    with limiting(what, timeout):
                        return await result
            except check.NotAwaitable:
                raise
            except Exception as error:
                pause = call.failed(error)
                if pause is None:
                    raise
            else:
                return await check.awaitable("retry", fn, result)  # not awaitable: raises
            await pause
            tried()

    return keep(wrapper, fn)


def _refuse_settled(fn: Any) -> None:
    if check.is_settled(fn):
        name = check.called(fn)
        settled = f"but paco.settle returns every error of {name}"
        raise TypeError(f"paco.retry: fn must be able to fail, {settled}; write paco.settle(paco.retry({name}))")


class _Policy:
    """The checked arguments of `retry`, which decide when to make another attempt."""

    def __init__(
        self, attempts: int, on: On, wait: float, max_wait: float, budget: float | None, longest: float
    ) -> None:
        self._attempts = check.integer("retry", "attempts", attempts, 1)
        self._verdict = _verdict(on)
        self._wait = check.seconds("retry", "wait", wait, optional=False) or 0
        self._max_wait = check.seconds("retry", "max_wait", max_wait, optional=False) or 0
        if self._max_wait < self._wait:
            raise ValueError(f"paco.retry: max_wait must not be less than wait, got {max_wait} and {wait}")
        self._longest = check.seconds("retry", "longest", longest, optional=False) or 0
        self.budget: _Budget | None = None if budget is None else _Budget(budget)

    def pause(self, error: Exception, attempt: int) -> float | str:
        """Return the seconds to wait after an attempt, or the reason to give up; empty if no attempts are left."""
        is_final = isinstance(error, GateClosed)
        verdict = not is_final and self._judge(error)
        if verdict is False:
            return "a closed gate does not open again" if is_final else "on does not retry this error"
        if attempt >= self._attempts:
            return ""
        if verdict is True:
            import random  # the import takes a millisecond, and is only needed after an error

            most = min(self._max_wait, self._wait * 2 ** min(attempt - 1, _DOUBLINGS))
            verdict = random.uniform(0, most)  # noqa: S311 - spreads load; no secret
        elif verdict > self._longest or verdict == math.inf:
            return f"a wait of {verdict:,.15g} s was asked for, and longest is {self._longest:,.15g} s"
        if verdict >= remaining():
            return _TOO_LATE
        if self.budget is not None and not self.budget.take():
            return self.budget.spent
        return verdict

    def _judge(self, error: Exception) -> bool | float:
        """Return whether to retry an error, or the seconds to wait before the retry."""
        verdict = self._verdict(error)
        if verdict is None or isinstance(verdict, bool):
            return bool(verdict)
        expected = "True, False, None or seconds (a number of 0 or more)"
        return check.seconds("retry", "what on(error) returns", verdict, optional=False, expected=expected) or 0


def _verdict(given: On) -> Verdict:
    on: Any = given
    kinds = cast("tuple[object, ...]", on if isinstance(on, tuple) else (on,))
    if kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return lambda error: isinstance(error, on)
    if callable(given) and not isinstance(given, type):
        return cast("Verdict", on)
    expected = "a type of Exception, a tuple of types, or a function of the error"
    raise TypeError(check.refusal("retry", "on", expected, given))


class _Budget:
    """A token bucket of retries: each call adds a fraction of a retry, and each retry takes one."""

    def __init__(self, share: float) -> None:
        self._share = check.positive("retry", "budget", share, "a number above 0 or None")
        self._left: float = _FLOOR
        #: The reason to give up when no retry is left.
        self.spent: str = f"the budget of {share:g} retries for each call is spent"

    def pay(self) -> None:
        """Add the share of a call that begins."""
        self._left = min(self._left + self._share, _SAVED)

    def take(self) -> bool:
        """Take a retry if one is left, and return whether it was."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Call:
    """One call of the function, with its attempts."""

    __slots__ = ("_attempts", "_now", "_policy", "_requests", "_start", "_task")

    def __init__(self, policy: _Policy) -> None:
        loop = asyncio.get_running_loop()
        self._policy = policy
        self._attempts = self._requests = 0
        self._task = asyncio.current_task(loop)
        self._now = loop.time
        self._start = self._now()
        if policy.budget is not None:
            policy.budget.pay()

    def begin(self) -> None:
        """Begin an attempt."""
        self._requests = 0 if self._task is None else requested(self._task)

    def failed(self, error: Exception) -> Coroutine[Any, Any, None] | None:
        """Return what to await before the next attempt, or ``None`` to give up; then a note of the error says why."""
        self._attempts += 1
        pause = _CANCELLED if self._is_cancelled(error) else self._policy.pause(error, self._attempts)
        if not isinstance(pause, str) and is_out_of_budget():
            pause = _SPENT
        if isinstance(pause, str):
            self._give_up(error, pause)
            return None
        retrying(self._attempts, error, pause)
        return self._rest(pause, error)

    def _is_cancelled(self, error: Exception) -> bool:
        """Return whether a cancellation from outside has ended the attempt, which raised another error in its place.

        Its count alone does not say so: a task group in ``fn`` may leave it too high (gh-116720).
        """
        task = self._task
        return task is not None and task.cancelling() > self._requests and _follows_cancellation(error)

    async def _rest(self, seconds: float, error: Exception) -> None:
        try:
            may_start = await back_off(seconds, error)
            if not may_start or remaining() <= 0:  # the wait for a slot passed the deadline
                self._give_up(error, _TOO_LATE if may_start else _SPENT)
                raise error
        finally:
            del error  # it refers to this frame: avoid a cycle

    def _give_up(self, error: Exception, why: str) -> None:
        tries = f"{self._attempts} attempt" + "s" * (self._attempts > 1)
        elapsed = round(self._now() - self._start, 3)
        add_note(error, f"paco.retry: gave up after {tries} and {elapsed:g} s" + f": {why}" * bool(why))


def _follows_cancellation(error: BaseException | None) -> bool:
    """Return whether an error was raised while a cancellation was handled; a group, whether all its errors were."""
    while error is not None:
        if isinstance(error, asyncio.CancelledError):
            return True
        if isinstance(error, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", error)
            if all(map(_follows_cancellation, group.exceptions)):
                return True
        error = error.__context__
    return False


@overload
def hedge(fn: Callable[P, Awaitable[T]], delay: float, extra: int = 1) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def hedge(delay: float, extra: int = 1) -> Decorator: ...
@decorator
def hedge(fn: Any, delay: float, extra: int = 1) -> Any:
    """Return a function that repeats slow calls in parallel, and returns the result of the first to succeed.

    If an attempt has not ended after ``delay`` seconds, another one starts with the same arguments, up to ``extra``
    times. When one succeeds, the others are cancelled, and have finished when the result is returned. When one fails,
    the call waits for the others that are running. If no others are running, the first error is raised, with notes of
    the other errors. So an error within the first ``delay`` seconds is raised at once; to repeat failed calls, add
    `retry`: ``paco.retry(paco.hedge(...))``.

    Hedging shortens the tail of latencies at the cost of extra calls: with a delay that 5% of calls exceed, 5% more
    calls (Dean and Barroso, *The Tail at Scale*, Communications of the ACM, 2013). Only hedge calls that are safe to
    make twice.

    Each attempt runs in its own task and context. In a run, all attempts at an item share its slot. To have a limit
    count every attempt, put it on the function: ``paco.hedge(paco.limited(fetch, limit), 0.5)``. A hedged call costs
    about 0.15 ms more CPU than a plain one.

    Also works as a decorator: ``@paco.hedge(0.5)``, ``@paco.hedge(delay=0.5, extra=2)``.

    Args:
        fn: The function to call.
        delay: Seconds from the start of one attempt to the start of the next; 0 to start all at once.
        extra: The maximum number of attempts after the first, 1 or more.

    Raises:
        TimeoutError: From a call: a `deadline` has passed. All attempts have been cancelled and have finished.

    Examples:
        >>> seconds = iter([60, 0])
        >>> @paco.hedge(delay=0.01)
        ... async def fetch(url):
        ...     await asyncio.sleep(next(seconds))
        ...     return "page"
        >>> paco.run(fetch("https://example.org"))
        'page'
    """
    check.function("hedge", fn, "fn")
    check.seconds("hedge", "delay", delay, optional=False)
    check.integer("hedge", "extra", extra, 1)
    title = check.title(fn)

    async def wrapper(*args: Any, **kw: Any) -> Any:
        made = 0

        async def due() -> AsyncGenerator[None]:
            nonlocal made
            for _ in range(extra):
                made += 1
                yield
                await asyncio.sleep(delay)
            made += 1
            yield

        async def attempt(_: None) -> tuple[Any]:
            return (await check.awaitable("hedge", fn, fn(*args, **kw)),)  # a result may be an exception, too

        attempt.__name__ = title
        plan = Plan("hedge", attempt, due(), on_error="return", ordered=False, feeds=False)
        return await _first_to_succeed(plan, lambda: made)

    return keep(wrapper, fn)


async def _first_to_succeed(plan: Plan, made: Callable[[], int]) -> Any:
    """Return the first result. If all attempts made so far have failed, raise the first error."""
    outcome: Any = None
    errors: list[Exception] = []
    try:
        async with Stream[Any](plan) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, tuple):
                    return cast("tuple[Any]", outcome)[0]
                errors.append(outcome)
                if len(errors) == made() or isinstance(outcome, check.NotAwaitable):
                    break
        raise _first(errors)
    finally:
        del outcome, errors  # errors refer to this frame: avoid a cycle


def _first(errors: list[Exception]) -> Exception:
    first, *others = errors
    for error in others:
        add_note(first, f"paco.hedge: another attempt also failed: {check.shorten(error)}")
    return first
