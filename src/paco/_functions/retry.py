"""Attempts at a call one after the other, until one succeeds: `retry`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, overload

from paco._base import check
from paco._base.deadline import remaining
from paco._base.decorator import Decorator, decorator, keep
from paco._base.errors import add_note
from paco._engine.outcomes import count_attempt
from paco._engine.workers import back_off
from paco._functions.timing import limiting
from paco.events import retried

if TYPE_CHECKING:
    from paco._base.types import P, T

Verdict: TypeAlias = Callable[[Exception], bool | float | None]
On: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Verdict

#: Retries that a budget allows before any call has paid in, so that a small run can have some.
_FLOOR: Final = 10
#: Retries that a budget saves up at most: what a long time without errors leaves for one storm.
_SAVED: Final = 100
#: The base wait is doubled so often at most, which is beyond any ``max_wait``.
_DOUBLINGS: Final = 64

_TOO_LATE: Final = "the deadline comes before the next attempt"


@overload
def retry(
    fn: Callable[P, Awaitable[T]],
    attempts: int = 3,
    on: On = Exception,
    wait: float = 0.1,
    max_wait: float = 10.0,
    timeout: float | None = None,
    budget: float | None = None,
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def retry(
    attempts: int = 3,
    on: On = Exception,
    wait: float = 0.1,
    max_wait: float = 10.0,
    timeout: float | None = None,
    budget: float | None = None,
) -> Decorator: ...
@decorator
def retry(
    fn: Callable[..., Awaitable[Any]],
    attempts: int = 3,
    on: On = Exception,
    wait: float = 0.1,
    max_wait: float = 10.0,
    timeout: float | None = None,
    budget: float | None = None,
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Call an async function again when it fails, after a pause that grows and is drawn by lot.

    Before the next attempt after the n-th it waits between 0 and ``min(max_wait, wait * 2 ** (n - 1))`` seconds:
    exponential back-off with full jitter, so that those who have failed together do not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). Meanwhile an item of a run gives its
    slot and its permits to another one, and takes new ones before the next attempt: others go on, and every attempt
    pays the rate. As many items as the limit may rest while as many run; then nothing new begins before one is through,
    so that memory stays bounded. One whose rest is cut short, by a timeout around the call, does not wait for a slot:
    what it still does, it does beside the others. Elsewhere it is a plain sleep.

    When no attempt is left the last exception is raised itself, with a note that tells the attempts and the time. So it
    is, at once, when ``on`` does not want it retried, when the budget is spent, or when the pause would not end before
    a `deadline`. A cancellation, ``KeyboardInterrupt`` and ``SystemExit`` are never retried.

    A call that succeeds costs about 3 us more than that of ``fn``.

    A decorator too: ``@paco.retry``, ``@paco.retry(attempts=5)``.

    Args:
        fn: The function to call; each attempt gets the same arguments.
        attempts: Calls of ``fn`` at most, the first one included; at least 1.
        on: Which errors to retry: a kind of ``Exception``, a tuple of them, or a function that is called with each
            error and returns whether to retry it, or after how many seconds. That many it is then, without jitter and
            beyond ``max_wait``, as the ``Retry-After`` of a server demands.
        wait: Seconds; the first pause at most.
        max_wait: Seconds; any pause at most.
        timeout: Seconds for each attempt, which is cancelled and has ended when ``TimeoutError`` is raised, to be
            retried like another error; ``None`` for no limit.
        budget: Retries for each call, over all calls of the returned function, such as 0.1; ``None`` for no such limit.
            Ten are free and at most a hundred are saved up: a token bucket, like gRPC's ``retryThrottling`` and
            Finagle's ``RetryBudget``. None is the default because a limit or a rate bounds the load already, retries
            included, while an item that is not retried is lost. What a service calls without a limit needs a budget.

    Returns:
        A coroutine function with the signature of ``fn``.

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
    policy = _Policy(attempts, on, wait, max_wait, budget)
    check.timeout("retry", timeout)
    what = f"retry: {check.called(fn)}"

    async def wrapper(*args: Any, **kw: Any) -> Any:
        call = _Call(policy)
        while True:
            try:
                result = fn(*args, **kw)
                if inspect.isawaitable(result):
                    with limiting(what, timeout):
                        return await result
            except Exception as error:
                pause = call.failed(error)
                if pause is None:
                    raise
            else:
                return await check.awaitable("retry", fn, result)  # it is none: says so
            await pause
            count_attempt()
            retried()

    return keep(wrapper, fn)


class _Policy:
    """When to make another attempt: what all calls of a function have in common. Checks its arguments."""

    __slots__ = ("_max_wait", "_verdict", "_wait", "attempts", "budget")

    def __init__(self, attempts: int, on: On, wait: float, max_wait: float, budget: float | None) -> None:
        self.attempts: int = check.integer("retry", "attempts", attempts, 1)
        self._verdict = _verdict(on)
        self._wait = check.seconds("retry", "wait", wait, optional=False) or 0
        self._max_wait = check.seconds("retry", "max_wait", max_wait, optional=False) or 0
        if self._max_wait < self._wait:
            raise ValueError(f"paco.retry: max_wait must not be less than wait, got {max_wait} and {wait}")
        self.budget: _Budget | None = None if budget is None else _Budget(budget)

    def judge(self, error: Exception) -> bool | float:
        """Say whether to retry an error, or after how many seconds."""
        verdict = self._verdict(error)
        if verdict is None or isinstance(verdict, bool):
            return bool(verdict)
        return _seconds(verdict)

    def pause(self, attempt: int) -> float:
        """Draw the seconds to wait after so many attempts."""
        import random  # takes a millisecond, and is needed after an error only

        most = min(self._max_wait, self._wait * 2 ** min(attempt - 1, _DOUBLINGS))
        return random.uniform(0, most)  # noqa: S311 - spreads load, keeps no secret


def _verdict(given: On) -> Verdict:
    on: Any = given
    kinds = cast("tuple[object, ...]", on if isinstance(on, tuple) else (on,))
    if kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return lambda error: isinstance(error, on)
    if callable(given) and not isinstance(given, type):
        return cast("Verdict", on)
    raise TypeError(
        "paco.retry: on must be a kind of Exception, a tuple of them, or a function that is called with the error, got "
        f"{check.shorten(given)}"
    )


def _seconds(verdict: Any) -> float:
    with check.discarding(verdict):
        expected = "True, False, None or seconds (a number of 0 or more)"
        return check.seconds("retry", "what on(error) returns", verdict, optional=False, expected=expected) or 0


class _Budget:
    """A token bucket of retries: each call puts a share of one in, each retry takes one out."""

    __slots__ = ("_left", "_share", "spent")

    def __init__(self, share: float) -> None:
        self._share = check.positive("retry", "budget", share, "a number above 0 or None")
        self._left: float = _FLOOR
        #: What to say when nothing is left.
        self.spent: str = f"the budget of {share:g} retries for each call is spent"

    def pay(self) -> None:
        """Hear that a call begins."""
        self._left = min(self._left + self._share, _SAVED)

    def take(self) -> bool:
        """Say whether there is a retry left, and take it."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Call:
    """One call, and the attempts that are made at it."""

    __slots__ = ("_attempts", "_now", "_policy", "_start")

    def __init__(self, policy: _Policy) -> None:
        self._policy = policy
        self._attempts = 0
        self._now = asyncio.get_running_loop().time
        self._start = self._now()
        if policy.budget is not None:
            policy.budget.pay()

    def failed(self, error: Exception) -> Coroutine[Any, Any, None] | None:
        """Return what to await before the next attempt; or ``None``, and then a note of the error tells why."""
        self._attempts += 1
        pause = self._pause(error)
        if isinstance(pause, str):
            self._give_up(error, pause)
            return None
        return self._rest(pause, error)

    def _pause(self, error: Exception) -> float | str:
        """Return the seconds to wait, or why there is no other attempt."""
        policy = self._policy
        verdict = policy.judge(error)
        if verdict is False:
            return "not to be retried"
        if self._attempts >= policy.attempts:
            return ""
        seconds = policy.pause(self._attempts) if verdict is True else verdict
        if seconds >= remaining():
            return _TOO_LATE
        if policy.budget is not None and not policy.budget.take():
            return policy.budget.spent
        return seconds

    async def _rest(self, seconds: float, error: Exception) -> None:
        try:
            await back_off(seconds, error)
            if remaining() <= 0:  # it has taken longer to get a slot again
                self._give_up(error, _TOO_LATE)
                raise error
        finally:
            del error  # its frames lead back here

    def _give_up(self, error: Exception, why: str) -> None:
        tries = f"{self._attempts} attempt" + "s" * (self._attempts > 1)
        elapsed = round(self._now() - self._start, 3)
        add_note(error, f"paco.retry: gave up after {tries} and {elapsed:g} s" + f": {why}" * bool(why))
