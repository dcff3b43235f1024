"""The idiom of the decorators: bare or with options, around any callable whose result is awaitable."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from paco._base import check
from paco._base.types import P, R, T, T_co

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

W = TypeVar("W", bound="Callable[..., Any]")

#: A callable object's class has annotations too, but they are not those of a call.
_NAMES = ("__module__", "__name__", "__qualname__", "__doc__")


class Decorator(Protocol):
    """What a decorator with options returns: it makes a coroutine function with the signature of the one it gets."""

    def __call__(self, coro: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]:
        """Wrap a coroutine function."""
        ...


class DecoratorOr(Protocol[T_co]):
    """As `Decorator`, for functions that sometimes return something else in place of the result."""

    def __call__(self, coro: Callable[P, Awaitable[R]], /) -> Callable[P, Coroutine[Any, Any, R | T_co]]:
        """Wrap a coroutine function."""
        ...


async def _probe() -> None:
    """Stand in for the function that is not known yet, while its options are checked."""


def decorator(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``fn(coro, *options)`` also be called as ``fn(*options)``, which returns a decorator.

    A number in the place of ``coro``, whatever its name, is the first option, as in ``paco.interval(0.1, 3)(coro)``;
    anything else there is for ``fn`` to judge. The options are checked in both forms at the call.
    """
    first = next(iter(inspect.signature(fn).parameters))

    @functools.wraps(fn)
    def choose(*args: Any, **kw: Any) -> Any:
        if first in kw or (args and not isinstance(args[0], int | float)):
            return fn(*args, **kw)
        fn(_probe, *args, **kw)

        def decorate(coro: Any, /) -> Any:
            return fn(coro, *args, **kw)

        return decorate

    return choose


def keep(wrapper: W, coro: Callable[..., Any]) -> W:
    """Give a wrapper the name, the documentation and the signature of what it wraps, and ``__wrapped__``."""
    named = check.innermost(coro)
    if inspect.isroutine(named):
        functools.update_wrapper(wrapper, named)
    else:
        # An object's own attributes are its state, which is not the wrapper's; its class has the name.
        kind: Any = named if hasattr(named, "__name__") else named.__class__
        functools.update_wrapper(wrapper, kind, _NAMES, updated=())
    wrapper.__wrapped__ = coro  # type: ignore[attr-defined] # pyright: ignore[reportFunctionMemberAccess]
    return wrapper
