"""What became of an item, as a value: `Ok` or `Err`; and the errors of runs that end early, which carry such values."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, TypeAlias, TypeVar, cast

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
    """The result of an item, as `settle` gives it. Equal to another one by its item, its value and its attempts.

    Attributes:
        item: What the function was called with.
        value: What it returned.
        attempts: One, and one for each that `retry` has made anew.
        start: When it was called, in seconds since 1970 (the clock of the system: to compare with logs).
        elapsed: Seconds that it took, back-off included, by the clock of the event loop.

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
    """The error of an item, as `settle` gives it. Equal to another one by its item, its error and its attempts.

    Attributes:
        item: What the function was called with.
        error: What it raised; after several attempts, the last one's.
        attempts: As of `Ok`, like the others.
        start: Seconds since 1970.
        elapsed: Seconds.
    """

    item: Item_co
    error: Exception
    attempts: int = 1
    start: float = field(default=0.0, compare=False)
    elapsed: float = field(default=0.0, compare=False)


#: What `settle` makes of a result or an error.
Outcome: TypeAlias = Ok[Item, T] | Err[Item]


def settled(results: Iterable[Any]) -> tuple[Outcome[Any, Any], ...]:
    """Return the outcomes among results."""
    return tuple(filter(_is_outcome, results))


def _is_outcome(result: object) -> bool:
    return isinstance(result, Ok | Err)


class Unfinished(Exception):
    """A run that ended before its items did: what `RunTimeout` and `TooManyErrors` have in common."""

    def __init__(self, message: str, outcomes: tuple[Outcome[Any, Any], ...] = ()) -> None:
        super().__init__(message)
        self.outcomes: tuple[Outcome[Any, Any], ...] = outcomes


class RunTimeout(Unfinished, TimeoutError):
    """A run that was not finished within its timeout, or within a `deadline`: a ``TimeoutError`` with `outcomes`.

    Attributes:
        outcomes: The `Ok` and `Err` values of what had finished and has not been handed on, in the order of the input:
            all of them where a list was awaited, what waited behind an unfinished item where a stream was iterated.
            Empty when the function was not settled.

    Examples:
        >>> async def fetch(seconds):
        ...     await asyncio.sleep(seconds)
        ...     return "page"
        >>> async def main():
        ...     try:
        ...         return await paco.map(paco.settle(fetch), [0, 60, 0], timeout=0.05)
        ...     except paco.RunTimeout as error:
        ...         return [(one.item, one.value) for one in error.outcomes]
        >>> paco.run(main())
        [(0, 'page'), (0, 'page')]
    """


class TooManyErrors(Unfinished):
    """A run with more errors than its `Stream.max_errors` allows; the last of them is its ``__cause__``.

    Attributes:
        outcomes: As of `RunTimeout`.
    """


def settle(
    fn: Callable[Concatenate[Item, P], Awaitable[T]],
) -> Callable[Concatenate[Item, P], Coroutine[Any, Any, Ok[Item, T] | Err[Item]]]:
    """Make an async function of an item return what became of it, an `Ok` or an `Err`, instead of raising.

    So ``await paco.map(paco.settle(fetch), urls)`` comes to its end whatever happens to single items, and each outcome
    knows its item. Every ``Exception`` is settled, an item that ends cancelled by itself as an `ItemCancelled`. A
    cancellation from outside, ``KeyboardInterrupt`` and ``SystemExit`` are not.

    Put it outermost, around `retry` and `timeout`. A run that is to end when too much fails has `Stream.max_errors`.

    Args:
        fn: Called with the item, the first argument, which has to be positional, and the others.

    Returns:
        A coroutine function with the arguments of ``fn``.

    Raises:
        TypeError: ``fn`` is not a coroutine function; at the call, or when it has returned something else.

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
            if inspect.isawaitable(result):
                value = await result
                return Ok(item, value, call.attempts, start, now() - began)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            trim(error)  # and in no variable: the frames of an error that is kept lead back here
            return _told(Err(item, cast("Exception", as_item_error(error)), call.attempts, start, now() - began))
        finally:
            try:
                inside.reset(token)
            except ValueError:
                pass  # a coroutine that is left over is closed in another context, where nothing is set
        return Ok(item, await check.awaitable("settle", fn, cast("Any", result)))  # it is none: says so

    _settling.add(wrapper.__code__)
    return keep(wrapper, fn)


def _told(outcome: Err[Any]) -> Err[Any]:
    """Tell listeners of an item that has failed though its function returns."""
    failed(outcome.error)
    return outcome


#: The code of the functions that `settle` makes: their attributes are copied by decorators that are not ours.
_settling: Final[set[Any]] = set()


def is_settled(fn: Any) -> bool:
    """Say whether a function has been made by `settle`, so that all that it returns are outcomes."""
    return getattr(fn, "__code__", None) in _settling


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def partition(outcomes: Iterable[Ok[Item, T] | Err[Item]]) -> tuple[list[Ok[Item, T]], list[Err[Item]]]:
    """Part the outcomes that `settle` gives into those that went well and those that did not, each in their order.

    Raises:
        TypeError: Something else is among them.

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
