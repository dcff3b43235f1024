"""Make coroutine functions out of others: bind arguments, chain, wrap, count the calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, overload

from paco._base import check
from paco._base.decorator import Decorator, DecoratorOr, decorator, keep
from paco._functions.once import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from paco._base.types import AnyCoroutineFunction, P, R, T

    _Evaluator: TypeAlias = Callable[[tuple[tuple[Any, ...], dict[str, Any]], Any], Any]

X = TypeVar("X")

#: The signatures of wrappers that ignore their arguments, or take none.
_ANYTHING: Final = Signature([Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kw", Parameter.VAR_KEYWORD)])
_NOTHING: Final = Signature()


def apply(coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return a coroutine function that calls ``coro`` with these arguments, and ignores its own.

    Examples:
        >>> import paco
        >>> async def add(a, b):
        ...     return a + b
        >>> paco.run(paco.apply(add, 1, b=2)("ignored"))
        3
    """
    check.function("apply", coro)

    async def wrapper(*_: Any, **__: Any) -> T:
        return await check.awaitable("apply", coro, coro(*args, **kw))

    return _signed(keep(wrapper, coro), _ANYTHING)


def partial(coro: Callable[..., Awaitable[T]], *args: Any, **kw: Any) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return a coroutine function that calls ``coro`` with these arguments and its own.

    As `functools.partial`: its own positional arguments come after the captured ones, its own keywords replace captured
    ones for that call only.

    Examples:
        >>> import paco
        >>> async def show(*args, **kw):
        ...     return args, kw
        >>> paco.run(paco.partial(show, 1, a=2)(3, a=4))
        ((1, 3), {'a': 4})
    """
    check.function("partial", coro)
    bound = functools.partial(coro, *args, **kw)

    async def wrapper(*args: Any, **kw: Any) -> T:
        return await check.awaitable("partial", coro, bound(*args, **kw))

    return keep(wrapper, bound)


@overload
def curry(
    arity_or_fn: Callable[..., Any],
    ignore_kwargs: bool = False,
    evaluator: _Evaluator | None = None,
    *args: Any,
    **kw: Any,
) -> Callable[..., Any]: ...
@overload
def curry(
    arity_or_fn: int | None = None,
    ignore_kwargs: bool = False,
    evaluator: _Evaluator | None = None,
    *args: Any,
    **kw: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def curry(
    arity_or_fn: Any = None,
    ignore_kwargs: bool = False,
    evaluator: _Evaluator | None = None,
    *args: Any,
    **kw: Any,
) -> Any:
    """Make a function whose arguments can be given in several calls: ``f(1)(2)(3)`` as well as ``f(1, 2)(3)``.

    While arguments are missing a call returns a function that takes the rest; it can be used again and again, since a
    call changes nothing in it. When ``arity`` arguments have come, ``fn`` is called, and what the call returns is to be
    awaited; a plain function is made a coroutine function first, as by `wraps`. With an arity of 0 nothing is missing,
    and the coroutine function itself is returned.

    A decorator too: ``@paco.curry``, ``@paco.curry(3)``, ``@paco.curry(ignore_kwargs=True)``.

    Args:
        arity_or_fn: The function, whose parameters are counted (not ``*args`` and ``**kw``); or how many arguments to
            wait for, which returns a decorator.
        ignore_kwargs: Whether keyword arguments, and parameters that have a default, do not count.
        evaluator: Called in each call as ``evaluator((args, kw), fn)`` with the arguments that have come so far; when
            it returns ``False`` then ``fn`` is called at once, whatever is missing.
        *args: Positional arguments that have come already.
        **kw: Keyword arguments that have come already.

    Raises:
        TypeError: No function, or one whose parameters Python cannot tell (some of those written in C).

    Examples:
        >>> import paco
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
        parameters = inspect.signature(fn).parameters.values()
    except ValueError:
        raise TypeError(
            f"paco.curry: Python cannot tell the parameters of {check.called(fn)}; give their number, for two: "
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
    """Chain coroutine functions from right to left: ``compose(f, g)(x)`` is ``f(g(x))``, each awaited.

    The last function gets the arguments of the call, each of the others what the one to its right returned. An
    exception ends the chain.

    Raises:
        TypeError: No functions.

    Examples:
        >>> import paco
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
    """Return a coroutine function that returns ``value`` whatever it is called with. Also called `identity`.

    Args:
        value: What each call returns: the same object.
        delay: Seconds to wait before, 0 or more; ``None``: return without suspending.

    Examples:
        >>> import paco
        >>> paco.run(paco.constant("foo")())
        'foo'
    """
    check.seconds("constant", "delay", delay)

    async def constant(*_: Any, **__: Any) -> T:
        if delay is not None:
            await asyncio.sleep(delay)
        return value

    return constant


#: The old name beside it.
identity = constant


def thunk(coro: Callable[[], Awaitable[T]]) -> Callable[[], Coroutine[Any, Any, T]]:
    """Return a coroutine function without arguments that calls ``coro``, each time anew.

    Examples:
        >>> import paco
        >>> async def fetch(page=1):
        ...     return f"page {page}"
        >>> paco.run(paco.thunk(fetch)())
        'page 1'
    """
    check.function("thunk", coro)

    async def wrapper() -> T:
        return await check.awaitable("thunk", coro, coro())

    return _signed(keep(wrapper, coro), _NOTHING)


def _signed(wrapper: T, signature: Signature) -> T:
    """Tell the wrapper's own signature, where it is not that of the function which it wraps."""
    wrapper.__signature__ = signature  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    return wrapper


@overload
def wraps(fn: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def wraps(fn: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]: ...
def wraps(fn: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Make a coroutine function of a plain function; an async one is returned as it is.

    The function is called in the event loop's thread, so it should be fast (`asyncio.to_thread` is for those that
    block). If it returns an awaitable, as ``lambda: fetch(1)`` does, that is awaited.

    Examples:
        >>> import paco
        >>> @paco.wraps
        ... def double(number):
        ...     return number * 2
        >>> paco.run(double(21))
        42
    """
    check.function("wraps", fn, "fn")
    if _is_async(fn):
        return fn

    async def wrapper(*args: Any, **kw: Any) -> Any:
        result = fn(*args, **kw)
        return await result if inspect.isawaitable(result) else result

    return keep(wrapper, fn)


def _is_async(fn: Any) -> bool:
    fn = check.innermost(fn)
    # The method of the type, as a call finds it; for a function that is C code, and not async.
    method: Any = type(fn).__call__
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(method)


@overload
def once(
    coro: Callable[P, Awaitable[T]], raise_exception: bool = False, return_value: None = None
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def once(
    coro: Callable[P, Awaitable[T]], raise_exception: bool = False, return_value: R | None = None
) -> Callable[P, Coroutine[Any, Any, T | R]]: ...
@overload
def once(raise_exception: bool = False, return_value: None = None) -> Decorator: ...
@overload
def once(raise_exception: bool = False, return_value: R | None = None) -> DecoratorOr[R]: ...
@decorator
def once(
    coro: Callable[..., Awaitable[Any]], raise_exception: bool = False, return_value: Any = None
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Let a coroutine function run once; later calls return the result of the first, or raise its exception again.

    Callers that come while the call is running wait for it and share its result. The call is a task of its own, with
    the context variables of the first caller: a caller that is cancelled leaves it running for the others. When the
    last of them is cancelled, the call is cancelled and has finished before that cancellation goes on. A call that ends
    cancelled does not count: the next one runs. With ``raise_exception`` or ``return_value`` no result is shared, the
    call runs in the caller's task, and those beside it count as later ones.

    The result is kept for as long as the returned function is, also from one event loop to the next. On a method the
    instances share one call. A decorator too: ``@paco.once``, ``@paco.once(raise_exception=True)``.

    Args:
        coro: The function to wrap.
        raise_exception: Whether later calls raise ``RuntimeError``.
        return_value: What later calls return; ``None``: the result of the first.

    Raises:
        RuntimeError: A later call, with ``raise_exception``; or one that the function makes to itself.
        ItemCancelled: The call ended cancelled, while nobody had cancelled those who wait for it.

    Examples:
        >>> import paco
        >>> @paco.once
        ... async def connect(host):
        ...     return f"connected to {host}"
        >>> paco.run(connect("here")), paco.run(connect("there"))
        ('connected to here', 'connected to here')
    """
    return counted("once", coro, 1, raise_exception, return_value)


@overload
def times(
    coro: Callable[P, Awaitable[T]], limit: int = 1, raise_exception: bool = False, return_value: None = None
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def times(
    coro: Callable[P, Awaitable[T]], limit: int = 1, raise_exception: bool = False, return_value: R | None = None
) -> Callable[P, Coroutine[Any, Any, T | R]]: ...
@overload
def times(limit: int = 1, raise_exception: bool = False, return_value: None = None) -> Decorator: ...
@overload
def times(limit: int = 1, raise_exception: bool = False, return_value: R | None = None) -> DecoratorOr[R]: ...
@decorator
def times(
    coro: Callable[..., Awaitable[Any]], limit: int = 1, raise_exception: bool = False, return_value: Any = None
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Let a coroutine function run ``limit`` times; later calls share the outcome of the last of these.

    As `once`, which is ``times`` with a limit of 1. The last call is the one that was started last: it is the one that
    later callers wait for, if it is still running, and whose result or exception they get.

    A decorator too: ``@paco.times(3)``, ``@paco.times(limit=3)``.

    Args:
        coro: The function to wrap.
        limit: How many calls run, 1 or more.
        raise_exception: Whether later calls raise ``RuntimeError``.
        return_value: What later calls return; ``None``: the result of the last.

    Examples:
        >>> import paco
        >>> @paco.times(limit=2)
        ... async def double(number):
        ...     return number * 2
        >>> async def main():
        ...     return [await double(number) for number in (1, 2, 3, 4)]
        >>> paco.run(main())
        [2, 4, 4, 4]
    """
    return counted("times", coro, limit, raise_exception, return_value)
