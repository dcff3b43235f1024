"""Decorators that work bare or with options, on any callable whose result is awaitable."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Never, Protocol, TypeAlias, TypeVar

from paco._base import check
from paco._base.keywords import check_keywords
from paco._base.types import P, R, T_co

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

W = TypeVar("W", bound="Callable[..., Any]")

#: What to copy from the class of a callable object. Its annotations are left out: they describe attributes, not a call.
_NAMES = ("__module__", "__name__", "__qualname__", "__doc__")


class DecoratorOr(Protocol[T_co]):
    """The type of a decorator with options. Its functions may return another value in place of the result."""

    def __call__(self, coro: Callable[P, Awaitable[R]], /) -> Callable[P, Coroutine[Any, Any, R | T_co]]:
        """Return a coroutine function that wraps ``coro`` and has its signature."""
        ...


#: The type of a decorator whose functions return no other value.
Decorator: TypeAlias = DecoratorOr[Never]


def _probe() -> None:
    """Stand in for the function to wrap while the options of a decorator are checked."""


def _refuse_swapped(name: str, args: tuple[Any, ...]) -> None:
    """Refuse the function of a call that also wraps it at once, if it comes second."""
    if len(args) > 1 and inspect.iscoroutinefunction(check.innermost(args[1])):
        raise TypeError(
            f"paco.{name}: the function comes first: paco.{name}({check.called(args[1])}, {check.shorten(args[0])})"
        )


def decorator(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``fn(coro, *options)`` also be called as ``fn(*options)``, which returns a decorator.

    A number as the first positional argument is the first option, as in ``paco.interval(0.1, 3)(coro)``. Any other
    value there goes to ``fn`` as ``coro``. Both forms check the options at the call.
    """
    first, *options = inspect.signature(fn).parameters

    @functools.wraps(fn)
    def choose(*args: Any, **kw: Any) -> Any:
        if kw:
            check_keywords(fn.__name__, fn, kw, *options)
        if first in kw or (args and not isinstance(args[0], int | float)):
            return fn(*args, **kw)
        _refuse_swapped(fn.__name__, args)
        fn(_probe, *args, **kw)

        def decorate(coro: Any, /) -> Any:
            return fn(coro, *args, **kw)

        return decorate

    return choose


def keep(wrapper: W, coro: Callable[..., Any], signature: inspect.Signature | None = None) -> W:
    """Give ``wrapper`` the name, docstring, ``__wrapped__`` and signature of ``coro``, or another one; return it."""
    changed: Any = wrapper
    named = check.innermost(coro)
    if inspect.isroutine(named):
        functools.update_wrapper(wrapper, named)
    else:
        # A callable object's attributes are its state, so they are not copied; its class has the name.
        kind: Any = named if hasattr(named, "__name__") else named.__class__
        functools.update_wrapper(wrapper, kind, _NAMES, updated=())
    changed.__wrapped__ = coro
    if signature is not None:
        changed.__signature__ = signature
    return wrapper
