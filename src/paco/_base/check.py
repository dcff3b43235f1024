"""Argument checks, made at the call and in one message form: ``paco.map: limit must be ..., got ...``."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from paco._base.types import T

#: Frames are not iterables of rows: their own row iterators are, and which one is meant is the caller's choice.
_ROWS = {
    "pandas.DataFrame": "frame.itertuples()",
    "polars.DataFrame": "frame.iter_rows(named=True)",
    "polars.LazyFrame": "frame.collect().iter_rows(named=True)",
    "pyarrow.Table": "table.to_pylist()",
    "pyarrow.RecordBatch": "batch.to_pylist()",
}
_ITERABLE = ("__iter__", "__aiter__", "__await__", "__getitem__")


def shorten(value: object, most: int = 80) -> str:
    """Return the repr of ``value`` cut to ``most`` characters; a repr that fails is named, not raised."""
    try:
        text = repr(value)
    except Exception as error:  # a hostile __repr__ must not hide the error that is being told
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= most else text[: most - 3] + "..."


def _message(name: str, parameter: str, expected: str, value: object) -> str:
    return f"paco.{name}: {parameter} must be {expected}, got {shorten(value)}"


def discard(*given: object) -> None:
    """Close the coroutine objects among ``given``, so that none is reported as never awaited."""
    for one in given:
        if inspect.iscoroutine(one) and inspect.getcoroutinestate(one) == inspect.CORO_CREATED:
            one.close()


@contextmanager
def discarding(*given: object) -> Generator[None]:
    """Close the coroutine objects among ``given`` when a check inside the block fails."""
    try:
        yield
    except BaseException:
        discard(*given)
        raise


def function(name: str, coro: object, parameter: str = "coro") -> None:
    """Demand a callable; a coroutine object gets the message that shows the mend."""
    if inspect.iscoroutine(coro):
        called = coro.__name__
        coro.close()
        raise TypeError(
            f"paco.{name}: {parameter} must be a coroutine function, got the coroutine object {called}(...); "
            f"pass the function, not the call: {called} instead of {called}(...)"
        )
    if not callable(coro):
        raise TypeError(_message(name, parameter, "a coroutine function", coro))


def plain_function(name: str, fn: object, parameter: str) -> None:
    """Demand a callable that is not async."""
    discard(fn)
    if not callable(fn) or inspect.iscoroutinefunction(innermost(fn)):
        raise TypeError(_message(name, parameter, "a plain function, not an async one", fn))


def innermost(coro: Any) -> Any:
    """Return the function inside of `functools.partial` objects."""
    while isinstance(coro, partial):
        coro = coro.func
    return coro


def called(coro: object) -> str:
    """Return what to call a function in a message; a `functools.partial` is called like its function."""
    return getattr(innermost(coro), "__name__", None) or shorten(coro)


def title(fn: object) -> str:
    """Return a short name: a `functools.partial` is called like its function, another object like its type."""
    fn = innermost(fn)
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


def awaitable(name: str, coro: object, result: Awaitable[T]) -> Awaitable[T]:
    """Demand that what ``coro`` returned can be awaited; a plain function gets the message that shows the mends."""
    if inspect.isawaitable(result):
        return result
    fn = called(coro)
    raise TypeError(
        f"paco.{name}: {fn} must be a coroutine function, but it returned {shorten(result)}, which cannot be awaited; "
        f"write it as `async def`, wrap a fast function as paco.wraps({fn}), or run a blocking one in a thread: "
        f"lambda *args: asyncio.to_thread({fn}, *args)"
    )


def flag(name: str, parameter: str, value: object) -> None:
    """Demand ``True`` or ``False``: another value there is mostly meant for the parameter beside it."""
    if not isinstance(value, bool):
        raise TypeError(_message(name, parameter, "True or False", value))


def one_of(name: str, parameter: str, value: object, choices: tuple[str, ...]) -> None:
    """Demand one of a few words."""
    expected = " or ".join(map(repr, choices))
    if not isinstance(value, str):
        raise TypeError(_message(name, parameter, expected, value))
    if value not in choices:
        raise ValueError(_message(name, parameter, expected, value))


def version(name: str, value: object) -> None:
    """Demand what tells one version of something from another: an ``int``, a ``str``, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | str | None):
        raise TypeError(_message(name, "version", "an int, a str or None", value))


def path(name: str, parameter: str, value: object) -> str:
    """Demand the path of a file, as text or as a ``Path``; return the text."""
    if isinstance(value, os.PathLike):
        value = os.fspath(cast("os.PathLike[str]", value))
    if not isinstance(value, str) or not value:
        raise TypeError(_message(name, parameter, "the path of a file (a str or a Path)", value))
    return value


def iterable(name: str, value: object, parameter: str = "iterable") -> None:
    """Demand an iterable, an async iterable or an awaitable of one; text, numbers and frames are refused."""
    expected = "an iterable, an async iterable or an awaitable of one"
    for kind in type(value).__mro__:
        rows = _ROWS.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}")
        if rows is not None:
            raise TypeError(_message(name, parameter, expected, type(value)) + f"; pass its rows: {rows}")
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(_message(name, parameter, expected, value) + "; to run over one value, pass [value]")
    scalar = getattr(value, "shape", None) == ()  # of numpy: those have an __iter__ that raises
    if scalar or not any(hasattr(type(value), method) for method in _ITERABLE):
        raise TypeError(_message(name, parameter, expected, value))


def plain_iterable(name: str, value: object, parameter: str) -> None:
    """Demand an iterable that can be read at once."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray):
        raise TypeError(_message(name, parameter, "an iterable", value))


def integer(name: str, parameter: str, value: object, least: int) -> int:
    """Demand an ``int`` of ``least`` or more; ``bool`` is not one. Nothing is clamped."""
    expected = f"an int of {least} or more"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(_message(name, parameter, expected, value))
    if value < least:
        raise ValueError(_message(name, parameter, expected, value))
    return value


def count_or_fraction(name: str, parameter: str, value: object) -> float:
    """Demand an ``int`` of 0 or more, or a float between 0 and 1, neither of which is a fraction."""
    expected = "an int of 0 or more, or a float between 0 and 1 (a fraction)"
    number = _number(name, parameter, value, expected)
    if not (0 < number < 1 if isinstance(value, float) else number >= 0):
        raise ValueError(_message(name, parameter, expected, value))
    return number


def positive(name: str, parameter: str, value: object, expected: str = "a number above 0") -> float:
    """Demand a finite number above 0."""
    number = _number(name, parameter, value, expected)
    if not 0 < number <= sys.float_info.max:  # NaN is not either
        raise ValueError(_message(name, parameter, expected, value))
    return number


def weight(name: str, fn: object, value: object) -> float:
    """Demand that what a plain function said of an item is a finite number of 0 or more."""
    parameter, expected = f"{called(fn)}(item)", "a number of 0 or more"
    discard(value)
    number = _number(name, parameter, value, expected)
    if not 0 <= number <= sys.float_info.max:
        raise ValueError(_message(name, parameter, expected, value))
    return number


def _number(name: str, parameter: str, value: object, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(_message(name, parameter, expected, value))
    return value


def limit(name: str, value: object, parameter: str = "limit") -> int:
    """Demand a limit that is a number: an ``int`` of 0 (no limit) or more. What is none may be meant for a limit."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(_message(name, parameter, "an int of 0 or more, or a limit such as paco.Rate(50)", value))
    return integer(name, parameter, value, 0)


def seconds(
    name: str,
    parameter: str,
    value: object,
    *,
    optional: bool = True,
    expected: str = "seconds (a number of 0 or more)",
) -> float | None:
    """Demand seconds: a number of 0 or more, not NaN; or, if ``optional``, ``None``."""
    if value is None and optional:
        return None
    expected += " or None" if optional else ""
    number = _number(name, parameter, value, expected)
    if not number >= 0:  # NaN is not either
        raise ValueError(_message(name, parameter, expected, value))
    return math.inf if number > sys.float_info.max else number


def timeout(name: str, value: object) -> float | None:
    """Demand a timeout: seconds of 0 or more, or ``None`` for no limit."""
    return seconds(name, "timeout", value)


def loop(name: str, value: Any) -> None:
    """Demand ``None`` or the running loop: the ``loop`` parameter of old code has no other effect."""
    if value is None:
        return
    if not isinstance(value, asyncio.AbstractEventLoop):
        raise TypeError(_message(name, "loop", "None or the running event loop", value))
    running = asyncio._get_running_loop()  # the only form that answers None instead of raising
    if running is not None and running is not value:
        raise RuntimeError(
            f"paco.{name}: loop must be None or the running event loop, got another loop; leave the argument out"
        )
