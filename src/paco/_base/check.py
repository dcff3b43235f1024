"""Check arguments at the call. Every message has one form: ``paco.map: limit must be ..., got ...``.

Each function takes the name of the operation, the name of the parameter and its value, and raises ``TypeError`` for a
wrong type and ``ValueError`` for a wrong value. Below that: the function that runs on each item, under the name of the
user's function.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import os
import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

from paco._base.types import WithoutItems

if TYPE_CHECKING:
    from collections.abc import Generator

    from paco._base.types import T

#: Iterating a data frame does not yield its rows. For each type, the error message shows an expression that does.
_ROWS = {
    "pandas.DataFrame": "frame.itertuples()",
    "polars.DataFrame": "frame.iter_rows(named=True)",
    "polars.LazyFrame": "frame.collect().iter_rows(named=True)",
    "pyarrow.Table": "table.to_pylist()",
    "pyarrow.RecordBatch": "batch.to_pylist()",
}
_FRAMES = {name.partition(".")[2] for name in _ROWS}
#: Python 3.14 evaluates annotations when they are read, and they may have names that only type checkers import.
_annotations: Final[Any] = sys.modules.get("annotationlib")  # which `inspect` imports there
_UNEVALUATED: Final = {} if _annotations is None else {"annotation_format": _annotations.Format.FORWARDREF}
_SECONDS = "seconds (a number of 0 or more)"
#: What a source of items is.
SOURCE: Final = "an iterable, an async iterable or an awaitable of one"
_ITERABLE = ("__iter__", "__aiter__", "__await__", "__getitem__")


def shorten(value: object, most: int = 80) -> str:
    """Return the repr of ``value``, cut to ``most`` characters. If the repr raises, the text names the error."""
    try:
        text = repr(value)
    except Exception as error:  # a broken __repr__ must not hide the error being reported
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= most else text[: most - 3] + "..."


def message(error: BaseException) -> str:
    """Return ``str(error)``; if that raises, return a text that names the type."""
    try:
        return str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # even a panic of a library written in Rust
        return f"<{type(error).__name__} whose str() failed>"


def refusal(name: str, parameter: str, expected: str, value: object) -> str:
    """Return the message that refuses an argument, and `discard` the argument or, if it is a list, what is in it."""
    text = f"paco.{name}: {parameter} must be {expected}, got {shorten(value)}"
    discard(value, *(cast("list[object]", value) if isinstance(value, list | tuple | set) else ()))
    return text


class Deferred:
    """Results that do not exist yet: the base of what functions of paco return to be awaited."""

    __slots__ = ()

    _remedy = "await this, or pass it to paco.run(...)"

    @abstractmethod
    def discard(self) -> None:
        """Suppress the warning that this was never awaited, since an error that says more follows."""

    if not TYPE_CHECKING:  # type checkers must still refuse a plain `for`

        def __getitem__(self, index: object) -> object:
            # Python calls this for `for`, `list()` and unpacking. An `__iter__` would make this pass for an iterable.
            self.discard()
            raise TypeError(f"{self.__name__}: the results do not exist yet; before you iterate, {self._remedy}")


def discard(*given: object) -> None:
    """Close unstarted coroutine objects among ``given``, so that Python does not warn that they were never awaited."""
    for one in given:
        if isinstance(one, Deferred):
            one.discard()
        elif inspect.iscoroutine(one) and inspect.getcoroutinestate(one) == inspect.CORO_CREATED:
            one.close()


@contextmanager
def discarding(*given: object) -> Generator[None]:
    """Call `discard` with the objects if the block raises."""
    try:
        yield
    except BaseException:
        discard(*given)
        raise


def function(name: str, coro: object, parameter: str = "coro", *, following: object = None) -> None:
    """Check that ``coro`` is callable. For a coroutine object, the message shows how to correct the call.

    It does so too if the argument that follows is the function.
    """
    if inspect.iscoroutine(coro):
        fn = coro.__name__
        coro.close()
        raise TypeError(
            f"paco.{name}: {parameter} must be a coroutine function, got the coroutine object {fn}(...); "
            f"pass the function, not the call: {fn} instead of {fn}(...)"
        )
    if not callable(coro):
        text = refusal(name, parameter, "a coroutine function", coro)
        if callable(following):
            text += f"; the function comes first: paco.{name}({called(following)}, {shorten(coro)})"
        raise TypeError(text)


def plain_function(name: str, fn: object, parameter: str) -> None:
    """Check that ``fn`` is a callable and not async."""
    if not callable(fn) or inspect.iscoroutinefunction(innermost(fn)):
        raise TypeError(refusal(name, parameter, "a plain function, not an async one", fn))


def innermost(coro: Any) -> Any:
    """Return the function inside nested `functools.partial` objects."""
    while isinstance(coro, partial):
        coro = coro.func
    return coro


def signature_of(fn: Any) -> inspect.Signature:
    """Return the signature of ``fn``; raise ``TypeError`` or ``ValueError`` if it has none."""
    return inspect.signature(fn, **_UNEVALUATED)


def called(coro: object) -> str:
    """Return the name of a function for messages. A `functools.partial` has the name of its function."""
    return getattr(innermost(coro), "__name__", None) or shorten(coro)


def title(fn: object) -> str:
    """Return a short name: a `functools.partial` is called like its function, another object like its type."""
    fn = innermost(fn)
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


class NotAwaitable(TypeError):
    """A function that must be async is not: an error of the program, which neither `settle` nor `retry` catches."""


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Return what `inspect.isawaitable` does, which takes longer for a coroutine object or a function.

    What has no items is not awaitable, although Python takes it for that.
    """
    kind = type(value)
    return kind is CoroutineType or (
        kind is not FunctionType and inspect.isawaitable(value) and not isinstance(value, WithoutItems)
    )


def awaitable(name: str, coro: object, result: Awaitable[T]) -> Awaitable[T]:
    """Return ``result`` if it can be awaited. Otherwise raise an error that says how to make ``coro`` async."""
    if is_awaitable(result):
        return result
    fn = called(coro)
    raise NotAwaitable(
        f"paco.{name}: {fn} must be a coroutine function, but it returned {shorten(result)}, which cannot be awaited; "
        f"{made_async(coro, fn)}"
    )


def made_async(coro: object, name: str) -> str:
    """Return how to make a function async that is not."""
    fn = innermost(coro)
    if inspect.isgeneratorfunction(fn):
        return f"{name} is a generator: write `async def`, and `await` for `yield from`"
    if inspect.isasyncgenfunction(fn):
        return f"{name} is an async generator: `return` a result instead of `yield`"
    return (
        f"write it as `async def`, wrap a fast function as paco.wraps({name}), or a blocking one, to run in threads, "
        f"as paco.threaded({name})"
    )


def flag(name: str, parameter: str, value: object, meant: str = "", *, optional: bool = False) -> None:
    """Check that ``value`` is ``True`` or ``False``, or ``None`` if ``optional``.

    Another value is usually ``meant`` for the parameter of that name.
    """
    if isinstance(value, bool) or (optional and value is None):
        return
    remedy = f"; to pass {shorten(value)} as {meant}, write {meant}={shorten(value)}" if meant else ""
    raise TypeError(refusal(name, parameter, "True, False or None" if optional else "True or False", value) + remedy)


def one_of(name: str, parameter: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that ``value`` is one of ``choices``."""
    expected = " or ".join(map(repr, choices))
    if not isinstance(value, str):
        raise TypeError(refusal(name, parameter, expected, value))
    if value not in choices:
        raise ValueError(refusal(name, parameter, expected, value))


def version(name: str, value: object) -> None:
    """Check that ``value`` can name a version: an ``int``, a ``str`` or ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | str | None):
        raise TypeError(refusal(name, "version", "an int, a str or None", value))


def path(name: str, parameter: str, value: object) -> str:
    """Check that ``value`` is a file path, a ``str`` or a ``Path``, and return it as ``str``."""
    if isinstance(value, os.PathLike):
        value = os.fspath(cast("os.PathLike[str]", value))
    if not isinstance(value, str) or not value:
        raise TypeError(refusal(name, parameter, "the path of a file (a str or a Path)", value))
    return value


def iterable(name: str, value: object, parameter: str = "iterable") -> None:
    """Check for an iterable, an async iterable or an awaitable of one; refuse text, numbers and data frames."""
    for kind in type(value).__mro__:
        named = kind.__name__ in _FRAMES
        rows = _ROWS.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}") if named else None
        if rows is not None:
            raise TypeError(refusal(name, parameter, SOURCE, type(value)) + f"; pass its rows: {rows}")
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(refusal(name, parameter, SOURCE, value) + "; to run over one value, pass [value]")
    # A numpy scalar has an __iter__, but it raises, as that of a stage does.
    no_source = getattr(value, "shape", None) == () or isinstance(value, WithoutItems)
    if no_source or not any(map(hasattr, repeat(type(value)), _ITERABLE)):
        call = f"; to iterate what it returns, call it: {called(value)}(...)" if inspect.isroutine(value) else ""
        raise TypeError(refusal(name, parameter, SOURCE, value) + call)


def plain_iterable(name: str, value: object, parameter: str) -> None:
    """Check that ``value`` is a sync iterable and not text."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray):
        raise TypeError(refusal(name, parameter, "an iterable", value))


def integer(name: str, parameter: str, value: object, least: int) -> int:
    """Check that ``value`` is an ``int`` of at least ``least``, and return it. Refuse ``bool``; never clamp."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(refusal(name, parameter, f"an int of {least} or more", value))
    if value < least:
        raise ValueError(refusal(name, parameter, f"an int of {least} or more", value))
    return value


def count_or_fraction(name: str, parameter: str, value: object) -> float:
    """Check for a count, an ``int`` of 0 or more, or a fraction, a float between 0 and 1 exclusive; return it."""
    expected = "an int of 0 or more, or a float between 0 and 1 (a fraction)"
    least, most = (0, 1) if isinstance(value, float) else (-1, math.inf)
    return _number(name, parameter, value, expected, lambda number: least < number < most)


def positive(name: str, parameter: str, value: object, expected: str = "a number above 0") -> float:
    """Check that ``value`` is a finite number above 0, and return it."""
    return _number(name, parameter, value, expected, lambda number: 0 < number <= sys.float_info.max)


def finite(name: str, parameter: str, value: object, *, least: float = -math.inf) -> float:
    """Check that ``value`` is a finite number of at least ``least``, and return it."""
    expected = "a finite number" if least == -math.inf else f"a finite number of {least:g} or more"
    return _number(name, parameter, value, expected, lambda number: least <= number and abs(number) < math.inf)


def weight(name: str, fn: object, value: object) -> float:
    """Check that ``fn`` returned a finite number of 0 or more for an item, and return that number."""
    parameter, expected = f"{called(fn)}(item)", "a number of 0 or more"
    return _number(name, parameter, value, expected, lambda number: 0 <= number <= sys.float_info.max)


def _number(name: str, parameter: str, value: object, expected: str, accepts: Callable[[float], bool]) -> float:
    """Return ``value`` if it is a number that ``accepts`` accepts. Each comparison of such a test is false for NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(refusal(name, parameter, expected, value))
    if not accepts(value):
        raise ValueError(refusal(name, parameter, expected, value))
    return value


def limit(name: str, value: object, parameter: str = "limit") -> int:
    """Check a numeric limit, an ``int`` of 0 (no limit) or more, and return it. The message names limit objects too.

    ``None`` is no limit, but not as the result of a function, which may have forgotten its ``return``.
    """
    optional = parameter == "limit"
    if value is None and optional:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        expected = f"an int of 0 or more{', None' * optional}, or a limit such as paco.Rate(50)"
        raise TypeError(refusal(name, parameter, expected, value))
    return integer(name, parameter, value, 0)


def seconds(
    name: str, parameter: str, value: object, *, optional: bool = True, expected: str = _SECONDS
) -> float | None:
    """Check that ``value`` is a number of 0 or more, not NaN, or ``None`` if ``optional``, and return it.

    An ``int`` that is too large for a float becomes infinity.
    """
    if value is None and optional:
        return None
    expected += " or None" if optional else ""
    number = _number(name, parameter, value, expected, lambda number: number >= 0)
    return math.inf if number > sys.float_info.max else number


def timeout(name: str, value: object, parameter: str = "timeout") -> float | None:
    """Check a timeout, seconds of 0 or more or ``None`` for no limit, and return it; return infinity as ``None``."""
    found = seconds(name, parameter, value)
    return None if found == math.inf else found


def loop(name: str, value: Any, remedy: str = "") -> None:
    """Check that ``value`` is ``None`` or the running loop. Functions accept it for compatibility only.

    The ``remedy`` is for an argument that is taken for the loop, since it stands in its place.
    """
    expected = "None or the running event loop"
    if value is None:
        return
    if not isinstance(value, asyncio.AbstractEventLoop):
        raise TypeError(refusal(name, "loop", expected, value) + remedy)
    running = asyncio._get_running_loop()  # returns None instead of raising when no loop runs
    if running is not None and running is not value:
        raise RuntimeError(f"paco.{name}: loop must be {expected}, got another loop; omit the argument")


ItemFunction = Callable[[Any], Awaitable[Any]]


def bound(coro: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> ItemFunction:
    """Return a function of one item that calls ``coro`` with the item, ``args`` and ``kw``."""
    if not args and not kw:
        return cast("ItemFunction", coro)
    return named_as(coro, lambda item: coro(item, *args, **kw))


def instead_of(coro: Any, call: ItemFunction) -> ItemFunction:
    """Return a function that has the name of the user's function ``coro`` and calls ``call``."""
    return named_as(coro, lambda item: call(item))  # noqa: PLW0108 - a new function, so that `call` keeps its own name


def given(fn: Any) -> Any:
    """Return the user's function inside one that `bound` or `instead_of` returned."""
    while getattr(fn, "__globals__", None) is globals():
        fn = fn.__wrapped__
    return fn


def named_as(coro: Any, fn: ItemFunction) -> ItemFunction:
    """Give ``fn`` the name of the user's function ``coro``, for messages, and return it."""
    if hasattr(coro, "__qualname__"):
        return functools.update_wrapper(fn, coro)
    vars(fn)["__wrapped__"] = coro  # as update_wrapper does: `given` reads it
    fn.__name__ = title(coro)
    return fn


#: The code objects of the functions that `settle` returns. An attribute would not do: other decorators copy attributes.
settling: Final[set[Any]] = set()


def is_settled(fn: Any) -> bool:
    """Return whether `settle` made the user's function, so that it returns only outcomes."""
    return getattr(innermost(given(fn)), "__code__", None) in settling
