"""`hedge`: make another attempt at a slow call, in parallel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast, overload

from paco._base import check
from paco._base.decorator import Decorator, decorator, keep
from paco._base.errors import add_note
from paco._stream.plan import Plan
from paco._stream.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from paco._base.types import P, T


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
        plan = Plan("hedge", attempt, due(), on_error="return", ordered=False)
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
                if len(errors) == made():
                    break
        raise _first(errors)
    finally:
        del outcome, errors  # errors refer to this frame: avoid a cycle


def _first(errors: list[Exception]) -> Exception:
    first, *others = errors
    for error in others:
        add_note(first, f"paco.hedge: another attempt also failed: {check.shorten(error)}")
    return first
