"""The function that runs on each item: the user's, bound to arguments or replaced, under the user's name."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, cast

from paco._base import check

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
    fn.__name__ = check.title(coro)
    return fn
