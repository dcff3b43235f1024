"""Attempts at a call beside each other, when the first is slow: `hedge`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast, overload

from paco._base import check
from paco._base.decorator import Decorator, decorator, keep
from paco._base.errors import add_note
from paco._engine.plan import Plan
from paco._stream.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from paco._base.types import P, T


@overload
def hedge(fn: Callable[P, Awaitable[T]], delay: float, extra: int = 1) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def hedge(delay: float, extra: int = 1) -> Decorator: ...
@decorator
def hedge(fn: Callable[..., Awaitable[Any]], delay: float, extra: int = 1) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Call an async function once more when it is slow, beside the first call: the first to succeed has the result.

    When a call has not ended after ``delay`` seconds a further attempt is made with the same arguments, and so on, up
    to ``extra`` of them. The others are cancelled and have finished when the result is returned. An attempt that fails
    waits for those that still run; when none does, the first error is raised, with notes of the others. So an error
    before the delay is over is raised at once: it is `retry` that repeats what fails, ``paco.retry(paco.hedge(...))``.

    It shortens the tail of latencies at the price of some more calls: with a delay that 5 % of the calls exceed, 5 %
    more (Dean and Barroso, *The Tail at Scale*, Communications of the ACM, 2013). Use it for what may be done twice.

    Each attempt runs in a task and a context of its own. In a run all attempts at an item share its slot; a limit that
    is to count them belongs on the function: ``paco.hedge(paco.limited(fetch, limit), 0.5)``. A call costs about
    0.15 ms of CPU more than that of the function.

    A decorator too: ``@paco.hedge(0.5)``, ``@paco.hedge(delay=0.5, extra=2)``.

    Args:
        fn: The function to call.
        delay: Seconds from the start of one attempt to that of the next; 0: all at once.
        extra: Attempts beside the first, at most; 1 or more.

    Returns:
        A coroutine function with the signature of ``fn``.

    Raises:
        TimeoutError: A `deadline` has come; all attempts have been cancelled and have finished.

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
            return (await check.awaitable("hedge", fn, fn(*args, **kw)),)  # as an error could be a result, too

        attempt.__name__ = title
        plan = Plan("hedge", attempt, due(), catch=True, ordered=False)
        return await _first_to_succeed(plan, lambda: made)

    return keep(wrapper, fn)


async def _first_to_succeed(plan: Plan, made: Callable[[], int]) -> Any:
    """Return the first result; when as many attempts have failed as have been made, raise their first error."""
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
        del outcome, errors  # the frames of an error lead back here


def _first(errors: list[Exception]) -> Exception:
    first, *others = errors
    for error in others:
        add_note(first, f"paco.hedge: another attempt failed, too: {check.shorten(error)}")
    return first
