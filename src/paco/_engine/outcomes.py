"""The outcome of an item as a value, `Ok` or `Err`, and the errors of runs that end early, which carry such values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeAlias, TypeGuard, TypeVar, cast

from paco._base import check
from paco._base.decorator import keep
from paco._base.errors import as_item_error, trim
from paco._base.item import inside, settling
from paco._base.types import P, T, T_co
from paco.events import failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Ok(Generic[Item_co, T_co]):
    """The result of an item, as `settle` returns it. Two are equal if item, value and attempts are equal.

    Attributes:
        item: The item.
        value: The value that the function returned.
        attempts: 1, plus 1 for each further attempt by `retry`.
        start: When the call started, in seconds since 1970, by the system clock, so that you can compare it with logs.
        elapsed: Seconds from start to end, back-off included, by the clock of the event loop.

    Examples:
        >>> match paco.Ok("a.html", 200):
        ...     case paco.Ok(url, status):
        ...         print(url, status)
        a.html 200
    """

    item: Item_co
    value: T_co
    attempts: int = 1
    start: float = field(default=0.0, compare=False)
    elapsed: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Err(Generic[Item_co]):
    """The error of an item, as `settle` returns it. Two are equal if item, error and attempts are equal.

    Attributes:
        item: The item.
        error: The exception that the function raised; after several attempts, that of the last one.
        attempts: 1, plus 1 for each further attempt by `retry`.
        start: When the call started, in seconds since 1970, by the system clock. If that is unknown because the item
            was refused by its limit, or lost on a worker, the time of that; ``elapsed`` is 0 then.
        elapsed: Seconds from start to end, back-off included, by the clock of the event loop.
    """

    item: Item_co
    error: Exception
    attempts: int = 1
    start: float = field(default=0.0, compare=False)
    elapsed: float = field(default=0.0, compare=False)


_new: Any = object.__new__
_set_item, _set_value, _set_attempts, _set_start, _set_elapsed = (vars(Ok)[name].__set__ for name in Ok.__slots__)


def _ok(item: Item, value: T, attempts: int, start: float, elapsed: float) -> Ok[Item, T]:
    """Return an `Ok`. The constructor of a frozen dataclass takes twice to four times as long."""
    made: Ok[Item, T] = _new(Ok)
    _set_item(made, item)
    _set_value(made, value)
    _set_attempts(made, attempts)
    _set_start(made, start)
    _set_elapsed(made, elapsed)
    return made


#: What a settled function returns.
Outcome: TypeAlias = Ok[Item, T] | Err[Item]


def settled(results: Iterable[Any]) -> tuple[Outcome[Any, Any], ...]:
    """Return those results that are `Ok` or `Err` values."""
    return tuple(filter(_is_outcome, results))


def _is_outcome(result: object) -> bool:
    return isinstance(result, Ok | Err)


class Unfinished(Exception):
    """A run ended before all of its items had finished. The base class of `RunTimeout` and `TooManyErrors`."""

    def __init__(self, message: str, outcomes: tuple[Outcome[Any, Any], ...] = ()) -> None:
        super().__init__(message)
        self.outcomes: tuple[Outcome[Any, Any], ...] = outcomes


class RunTimeout(Unfinished, TimeoutError):
    """A run did not finish within its timeout or `deadline`: a ``TimeoutError`` with `outcomes`.

    Attributes:
        outcomes: A tuple of the `Ok` and `Err` values that were finished but not delivered, in the order of delivery.
            If a list was awaited, these are all finished values. If a stream was iterated, these are the values that
            waited for an earlier item. Empty unless the function was wrapped with `settle`.

    Examples:
        >>> from paco.testing import run  # on virtual time
        >>> async def fetch(seconds):
        ...     await asyncio.sleep(seconds)
        ...     return "page"
        >>> async def main():
        ...     try:
        ...         return await paco.map(paco.settle(fetch), [1, 60, 2], timeout=10)
        ...     except paco.RunTimeout as error:
        ...         return [(one.item, one.value) for one in error.outcomes]
        >>> run(main())
        [(1, 'page'), (2, 'page')]
    """


class TooManyErrors(Unfinished):
    """A run had more errors than `Stream.max_errors` allows. The last error is its ``__cause__``.

    Attributes:
        outcomes: A tuple of the values that were finished but not delivered, as for `RunTimeout`.
    """


def settle(
    fn: Callable[Concatenate[Item, P], Awaitable[T]],
) -> Callable[Concatenate[Item, P], Coroutine[Any, Any, Ok[Item, T] | Err[Item]]]:
    """Wrap an async function so that it returns an `Ok` or an `Err` for each item instead of raising.

    With ``await paco.map(paco.settle(fetch), urls)`` no failed item ends the run, and each outcome contains its item.
    Every ``Exception`` becomes an `Err`. An item that cancels itself becomes an `Err` with an `ItemCancelled`. A
    cancellation from outside, ``KeyboardInterrupt`` and ``SystemExit`` are raised.

    Apply it last, around `retry` and `timeout`. To end a run after too many errors, use `Stream.max_errors`.

    Args:
        fn: Called with the item as first positional argument, followed by the other arguments.

    Returns:
        A coroutine function with the arguments of ``fn``.

    Raises:
        TypeError: ``fn`` is not a coroutine function: at the call, or if that is unknown, when ``fn`` has returned
            something that cannot be awaited. This error ends the run, also if ``fn`` wraps such a function.

    Examples:
        >>> async def invert(number):
        ...     return 1 / number
        >>> async def main():
        ...     for outcome in await paco.map(paco.settle(invert), [2, 0]):
        ...         match outcome:
        ...             case paco.Ok(number, value):
        ...                 print(number, value)
        ...             case paco.Err(number, error):
        ...                 print(number, repr(error))
        >>> paco.run(main())
        2 0.5
        0 ZeroDivisionError('division by zero')
    """
    check.function("settle", fn, "fn")
    given: Callable[..., Awaitable[T]] = fn

    async def wrapper(item: Any, /, *args: Any, **kw: Any) -> Ok[Any, T] | Err[Any]:
        call, now = settling(item), asyncio.get_running_loop().time
        start, began = time(), now()
        token = inside.set(call)
        try:
            result = given(item, *args, **kw)
            if check.is_awaitable(result):
                value = await result
                return _ok(item, value, call.attempts, start, now() - began)
        except check.NotAwaitable:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                cast("Any", error).paco_call = call.attempts, start, now() - began  # for `err_of`
                raise
            trim(error)
            error = cast("Exception", as_item_error(error))
            failed(error)  # the function returns, but listeners and the limit must see that the item has failed
            # The Err is in no variable, because the frames of its error refer to this one.
            return Err(item, error, call.attempts, start, now() - began)
        finally:
            try:
                inside.reset(token)
            except ValueError:
                pass  # an abandoned coroutine is closed in another context, where the token is invalid
        return Ok(item, await check.awaitable("settle", fn, cast("Any", result)))  # not awaitable: raises the TypeError

    check.settling.add(wrapper.__code__)
    return keep(wrapper, fn)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def is_outcome(error: BaseException) -> TypeGuard[Exception]:
    """Return whether an error that a settled function raised makes an `Err` of its item, for the run to build.

    Such errors come from around the function: a cancellation that the item caused, a limit, or the way to a worker.
    """
    return isinstance(error, Exception) and not isinstance(error, check.NotAwaitable)


def err_of(item: Item, error: Exception) -> Err[Item]:
    """Return the `Err` of an item whose settled function raised. If that does not know its times, now is the time."""
    attempts, start, elapsed = getattr(error.__cause__, "paco_call", (1, time(), 0.0))
    return Err(item, error, attempts, start, elapsed)


def partition(outcomes: Iterable[Ok[Item, T] | Err[Item]]) -> tuple[list[Ok[Item, T]], list[Err[Item]]]:
    """Split outcomes of `settle` into a list of `Ok` values and a list of `Err` values, each in the given order.

    Raises:
        TypeError: A value is neither an `Ok` nor an `Err`.

    Examples:
        >>> async def invert(number):
        ...     return 1 / number
        >>> async def main():
        ...     return paco.partition(await paco.map(paco.settle(invert), [2, 0, 4]))
        >>> done, failed = paco.run(main())
        >>> [one.value for one in done], [one.item for one in failed]
        ([0.5, 0.25], [0])
    """
    check.plain_iterable("partition", outcomes, "outcomes")
    parts: tuple[list[Ok[Item, T]], list[Err[Item]]] = ([], [])
    for one in outcomes:
        if isinstance(one, Ok):
            parts[0].append(one)
        elif isinstance(cast("object", one), Err):
            parts[1].append(one)
        else:
            raise TypeError(
                f"paco.partition: outcomes must be Ok and Err values, got {check.shorten(one)}; "
                "settle the function: paco.map(paco.settle(fetch), urls)"
            )
    return parts
