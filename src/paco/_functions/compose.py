"""Make coroutine functions from other functions: bind arguments, chain, wrap, limit the number of calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, overload

from paco._base import check
from paco._base.decorator import DecoratorOr, decorator, keep
from paco._base.keywords import check_keywords
from paco._functions.once import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from paco._base.types import AnyCoroutineFunction, OrNever, P, R, T

    _Evaluator: TypeAlias = Callable[[tuple[tuple[Any, ...], dict[str, Any]], Any], Any] | None

X = TypeVar("X")

#: The signatures of wrappers that ignore their arguments, and of those that take none.
_ANYTHING: Final = Signature([Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kw", Parameter.VAR_KEYWORD)])
_NOTHING: Final = Signature()


def apply(coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return a coroutine function that calls ``coro`` with the given arguments and ignores its own.

    Examples:
        >>> async def add(a, b):
        ...     return a + b
        >>> paco.run(paco.apply(add, 1, b=2)("ignored"))
        3
    """
    check.function("apply", coro)
    check_keywords("apply", coro, kw)

    async def wrapper(*_: Any, **__: Any) -> T:
        return await check.awaitable("apply", coro, coro(*args, **kw))

    return keep(wrapper, coro, _ANYTHING)


def partial(coro: Callable[..., Awaitable[T]], *args: Any, **kw: Any) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return a coroutine function that calls ``coro`` with the given arguments and its own.

    Arguments combine as in `functools.partial`: positional arguments of a call follow the given ones, and keyword
    arguments of a call replace given ones of the same name, for that call only.

    Examples:
        >>> async def show(*args, **kw):
        ...     return args, kw
        >>> paco.run(paco.partial(show, 1, a=2)(3, a=4))
        ((1, 3), {'a': 4})
    """
    check.function("partial", coro)
    check_keywords("partial", coro, kw)
    bound = functools.partial(coro, *args, **kw)

    async def wrapper(*args: Any, **kw: Any) -> T:
        return await check.awaitable("partial", coro, bound(*args, **kw))

    return keep(wrapper, bound)


@overload
def curry(
    arity_or_fn: Callable[..., Any], ignore_kwargs: bool = False, evaluator: _Evaluator = None, *args: Any, **kw: Any
) -> Callable[..., Any]: ...
@overload
def curry(
    arity_or_fn: int | None = None, ignore_kwargs: bool = False, evaluator: _Evaluator = None, *args: Any, **kw: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def curry(
    arity_or_fn: Any = None, ignore_kwargs: bool = False, evaluator: _Evaluator = None, *args: Any, **kw: Any
) -> Any:
    """Return a function that takes its arguments over several calls: ``f(1)(2)(3)`` or ``f(1, 2)(3)``.

    While arguments are missing, a call returns a function that takes the rest. That function is reusable, since a call
    does not change it. When all arguments are there, ``fn`` is called and its awaitable is returned. A plain function
    is first wrapped with `wraps`. If ``fn`` needs no arguments, it is returned as a coroutine function, not curried.

    Also works as a decorator: ``@paco.curry``, ``@paco.curry(3)``, ``@paco.curry(ignore_kwargs=True)``.

    Args:
        arity_or_fn: The function, which needs as many arguments as it has parameters, not counting ``*args`` and
            ``**kw``. Or the number of arguments it needs; then a decorator is returned.
        ignore_kwargs: Do not count keyword arguments, keyword-only parameters and parameters with a default.
        evaluator: Called on each call as ``evaluator((args, kw), fn)`` with all arguments so far. If it returns
            ``False``, ``fn`` is called at once, even if arguments are missing.
        *args: Positional arguments to start with.
        **kw: Keyword arguments to start with.

    Raises:
        TypeError: ``arity_or_fn`` is not a function, or its parameters are unknown, as for some functions in C.

    Examples:
        >>> @paco.curry
        ... async def area(x, y, z=0):
        ...     return x * y + z
        >>> paco.run(area(4)(4)(z=8))
        24
    """
    check.flag("curry", "ignore_kwargs", ignore_kwargs)
    if evaluator is not None:
        check.function("curry", evaluator, "evaluator")
    arity = check.integer("curry", "arity_or_fn", arity_or_fn, 0) if isinstance(arity_or_fn, int) else None

    def currier(fn: Any) -> Any:
        check.function("curry", fn, "arity_or_fn")
        check_keywords("curry", fn, kw, "arity_or_fn", "ignore_kwargs", "evaluator")
        count = _arity(fn, ignore_kwargs=ignore_kwargs) if arity is None else arity

        def complete(args: tuple[Any, ...], kw: dict[str, Any]) -> bool:
            if len(args) + (0 if ignore_kwargs else len(kw)) >= count:
                return True
            return evaluator is not None and evaluator((args, dict(kw)), fn) is False

        curried = _curried(wraps(fn), complete) if count else wraps(fn)
        return curried(*args, **kw) if args or kw else curried

    return currier if arity is not None or arity_or_fn is None else currier(arity_or_fn)


def _arity(fn: Callable[..., Any], *, ignore_kwargs: bool) -> int:
    try:
        parameters = check.signature_of(fn).parameters.values()
    except ValueError:
        raise TypeError(
            f"paco.curry: the number of parameters of {check.called(fn)} is unknown; pass it, for example 2: "
            f"paco.curry(2)({check.called(fn)})"
        ) from None
    named = [one for one in parameters if one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}]
    if not ignore_kwargs:
        return len(named)
    return sum(one.default is one.empty and one.kind is not one.KEYWORD_ONLY for one in named)


def _curried(fn: Callable[..., Any], complete: Callable[..., bool], /, *args: Any, **kw: Any) -> Callable[..., Any]:
    def curried(*more: Any, **more_kw: Any) -> Any:
        all_args, all_kw = (*args, *more), {**kw, **more_kw}
        if complete(all_args, all_kw):
            return fn(*all_args, **all_kw)
        return _curried(fn, complete, *all_args, **all_kw)

    return keep(curried, functools.partial(fn, *args, **kw) if args or kw else fn)


@overload
def compose(coro: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def compose(
    outer: Callable[[R], Awaitable[T]], inner: Callable[P, Awaitable[R]], /
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def compose(
    outer: Callable[[R], Awaitable[T]], middle: Callable[[X], Awaitable[R]], inner: Callable[P, Awaitable[X]], /
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def compose(
    a: AnyCoroutineFunction, b: AnyCoroutineFunction, c: AnyCoroutineFunction, /, *coros: AnyCoroutineFunction
) -> Callable[..., Coroutine[Any, Any, Any]]: ...
def compose(*coros: AnyCoroutineFunction) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a coroutine function that chains others from right to left: ``compose(f, g)(x)`` is ``f(g(x))``.

    The last function gets the arguments of the call. Each other function gets the awaited result of the function to its
    right. An exception ends the chain.

    Raises:
        TypeError: No functions are given.

    Examples:
        >>> async def add_1(number):
        ...     return number + 1
        >>> async def double(number):
        ...     return number * 2
        >>> paco.run(paco.compose(add_1, double, add_1)(1))
        5
    """
    if not coros:
        raise TypeError("paco.compose: coros must be one or more coroutine functions, got none")
    with check.discarding(*coros):
        for coro in coros:
            check.function("compose", coro, "coros")
    *outer, inner = coros
    outer.reverse()

    async def composed(*args: Any, **kw: Any) -> Any:
        result = await check.awaitable("compose", inner, inner(*args, **kw))
        for coro in outer:
            result = await check.awaitable("compose", coro, coro(result))
        return result

    return composed


def constant(value: T, delay: float | None = None) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return a coroutine function that ignores its arguments and returns ``value``. `identity` is the same function.

    Args:
        value: The object that each call returns.
        delay: Seconds to wait first, 0 or more; ``None`` to return without suspending.

    Examples:
        >>> paco.run(paco.constant("foo")())
        'foo'
    """
    check.seconds("constant", "delay", delay)

    async def constant(*_: Any, **__: Any) -> T:
        if delay is not None:
            await asyncio.sleep(delay)
        return value

    return constant


#: An older name for the same function.
identity = constant


def thunk(coro: Callable[[], Awaitable[T]]) -> Callable[[], Coroutine[Any, Any, T]]:
    """Return a coroutine function without parameters that calls ``coro`` without arguments.

    Examples:
        >>> async def fetch(page=1):
        ...     return f"page {page}"
        >>> paco.run(paco.thunk(fetch)())
        'page 1'
    """
    check.function("thunk", coro)

    async def wrapper() -> T:
        return await check.awaitable("thunk", coro, coro())

    return keep(wrapper, coro, _NOTHING)


@overload
def wraps(fn: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def wraps(fn: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]: ...
def wraps(fn: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a coroutine function that calls a plain function. Return an async function unchanged.

    The function runs in the event loop's thread, so it should be fast; use `threaded` for one that blocks. If it
    returns an awaitable, as ``lambda: fetch(1)`` does, the awaitable is awaited.

    Examples:
        >>> @paco.wraps
        ... def double(number):
        ...     return number * 2
        >>> paco.run(double(21))
        42
    """
    check.function("wraps", fn, "fn")
    inner = check.innermost(fn)
    # A call looks up __call__ on the type. For a plain function that is a method in C, which is not async.
    if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__):
        return fn

    async def wrapper(*args: Any, **kw: Any) -> Any:
        result = fn(*args, **kw)
        return await result if inspect.isawaitable(result) else result

    return keep(wrapper, fn)


@overload
def once(
    coro: Callable[P, Awaitable[T]], raise_exception: bool = False, return_value: OrNever | None = None
) -> Callable[P, Coroutine[Any, Any, T | OrNever]]: ...
@overload
def once(raise_exception: bool = False, return_value: OrNever | None = None) -> DecoratorOr[OrNever]: ...
@decorator
def once(coro: Any, raise_exception: bool = False, return_value: Any = None) -> Any:
    """Return a coroutine function that runs ``coro`` once. Later calls get the same result or exception.

    Callers that arrive during the call wait for it and share its outcome. The call runs in its own task, with the
    context variables of the first caller but without its `deadline`, so cancelling one caller does not stop it for the
    others, and a deadline ends only the wait of the caller that has set it. If the last waiting caller is cancelled or
    its deadline passes, the call is cancelled too, and finishes before the caller's ``CancelledError`` or
    ``TimeoutError`` is raised. A call that ends cancelled does not count; the next call runs again. With
    ``raise_exception`` or ``return_value``, nothing is shared: the call runs in the caller's task, and calls that
    arrive meanwhile count as later ones.

    The outcome is kept as long as the returned function, even across event loops. If a method is wrapped, all instances
    share one call. Also works as a decorator: ``@paco.once``, ``@paco.once(raise_exception=True)``.

    Args:
        coro: The function to wrap.
        raise_exception: Raise ``RuntimeError`` from later calls.
        return_value: Return this value from later calls; ``None`` for the outcome of the first call.

    Raises:
        RuntimeError: A later call, with ``raise_exception``; or a call that the function makes to itself.
        ItemCancelled: The call ended cancelled, although none of its callers was cancelled.
        TimeoutError: The caller's `deadline` has passed before the shared call has ended.

    Examples:
        >>> @paco.once
        ... async def connect(host):
        ...     return f"connected to {host}"
        >>> paco.run(connect("here")), paco.run(connect("there"))
        ('connected to here', 'connected to here')
    """
    return counted("once", coro, 1, raise_exception, return_value)


@overload
def times(
    coro: Callable[P, Awaitable[T]], limit: int = 1, raise_exception: bool = False, return_value: OrNever | None = None
) -> Callable[P, Coroutine[Any, Any, T | OrNever]]: ...
@overload
def times(
    limit: int = 1, raise_exception: bool = False, return_value: OrNever | None = None
) -> DecoratorOr[OrNever]: ...
@decorator
def times(coro: Any, limit: int = 1, raise_exception: bool = False, return_value: Any = None) -> Any:
    """Return a coroutine function that runs ``coro`` at most ``limit`` times. Later calls share the last outcome.

    `once` is ``times`` with a limit of 1, and describes how an outcome is shared. The last outcome is that of the call
    that started last; if it is still running, later callers wait for it. The arguments that are not described here are
    those of `once`.

    Also works as a decorator: ``@paco.times(3)``, ``@paco.times(limit=3)``.

    Args:
        limit: The number of calls that run, 1 or more.

    Examples:
        >>> @paco.times(limit=2)
        ... async def double(number):
        ...     return number * 2
        >>> async def main():
        ...     return [await double(number) for number in (1, 2, 3, 4)]
        >>> paco.run(main())
        [2, 4, 4, 4]
    """
    return counted("times", coro, limit, raise_exception, return_value)
