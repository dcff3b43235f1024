"""The function of an item: the user's, bound or replaced, under the user's name."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, cast

from paco._base import check

ItemFunction = Callable[[Any], Awaitable[Any]]


def bound(coro: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> ItemFunction:
    """Bind what follows the item."""
    if not args and not kw:
        return cast("ItemFunction", coro)
    return named_as(coro, lambda item: coro(item, *args, **kw))


def instead_of(coro: Any, call: ItemFunction) -> ItemFunction:
    """Return a function that stands for the user's, and calls another one."""
    return named_as(coro, lambda item: call(item))  # noqa: PLW0108 - named after the user's, which `call` is not


def given(fn: Any) -> Any:
    """Return the user's function, which `bound` and `instead_of` may have made another of."""
    while getattr(fn, "__globals__", None) is globals():
        fn = fn.__wrapped__
    return fn


def named_as(coro: Any, fn: ItemFunction) -> ItemFunction:
    """Let ``fn`` go under the name of the user's function, for messages."""
    if hasattr(coro, "__qualname__"):
        return functools.update_wrapper(fn, coro)
    vars(fn)["__wrapped__"] = coro  # whoever looks for the user's function finds it, under whatever name
    fn.__name__ = check.title(coro)
    return fn
