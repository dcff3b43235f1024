"""`limited`: put a limit on a function instead of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paco._base import check
from paco._base.decorator import keep
from paco._functions.timing import limiting
from paco.limits import AnyLimit, Limit, Limiter, checked
from paco.limits._base import Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from paco._base.types import P, T


def limited(fn: Callable[P, Awaitable[T]], limit: AnyLimit) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a function whose calls wait for a limit, wherever they are made.

    Each call acquires the limit in the caller's task before it calls ``fn``. To drop calls instead of making them wait,
    use `throttle`. A `deadline` ends the wait.

    Args:
        fn: The function. Limits that depend on the item (`PerKey`, a `Rate` with ``cost``) get its first argument.
        limit: As for `map`: an ``int``, a limit of paco, or an async context manager; 0 for no limit.

    Raises:
        TimeoutError: From a call: a `deadline` has passed before the call got its permit.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> careful = paco.limited(double, paco.Limit(2))
        >>> async def main():
        ...     return await paco.gather(careful(1), careful(2), careful(3))
        >>> paco.run(main())
        [2, 4, 6]
    """
    check.function("limited", fn, "fn")
    found = checked("limited", limit)
    what = f"limited: the wait of {check.called(fn)} for its limit"
    limiter = found if isinstance(found, Limiter) else Limit(found) if found else None

    async def wrapper(*args: Any, **kw: Any) -> Any:
        if limiter is None:
            return await check.awaitable("limited", fn, fn(*args, **kw))
        async with _Slot(limiter, args[0] if args else None, what):
            return await check.awaitable("limited", fn, fn(*args, **kw))

    return keep(wrapper, fn)


class _Slot(Slot):
    """A slot that a call waits for until the deadline at most."""

    __slots__ = ("_what",)

    def __init__(self, limit: Limiter, item: Any, what: str) -> None:
        super().__init__(limit, item)
        self._what = what

    async def __aenter__(self) -> None:
        with limiting(self._what, None):
            await super().__aenter__()
