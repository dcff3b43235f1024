"""Functions that test or combine items: filter filterfalse dropwhile some every reduce."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

from paco._base import check
from paco._base.check import named_as
from paco._base.types import MISSING, Loop, R, Source, T, T_contra
from paco._engine.sinks import SKIP, Drop
from paco._stream.coroutine import Answer
from paco._stream.plan import Plan, Stage, build_or_stage
from paco._stream.stream import Stream

if TYPE_CHECKING:
    from paco.limits import AnyLimit

Truth: TypeAlias = Coroutine[Any, Any, bool]
Test: TypeAlias = Callable[[T], Awaitable[Any]]
AssertFn: TypeAlias = Callable[[Any], object] | None
Fold: TypeAlias = Callable[[T, T], Awaitable[T]]


class Step(Protocol[R, T_contra]):
    """The function that `reduce` calls. With a plain ``Callable``, mypy cannot infer R from the initializer ``{}``."""

    def __call__(self, total: R, item: T_contra, /) -> Awaitable[R]:
        """Return the next value, from the value so far and an item."""
        ...


def _select(
    name: str, coro: Any, iterable: Any, assert_fn: Any, limit: AnyLimit | None, loop: Loop, *, keep: bool
) -> Any:
    """Return the items for which the verdict of the test is ``keep``."""
    if assert_fn is not None:
        with check.discarding(coro, iterable):
            check.function(name, assert_fn, "assert_fn")

    async def select(item: Any) -> Any:
        verdict = await coro(item)
        if assert_fn is not None:
            verdict = assert_fn(verdict)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        return item if bool(verdict) is keep else SKIP

    return build_or_stage(name, coro, iterable, Stream, limit, loop, fn=named_as(coro, select), gaps=True)


@overload
def filter(
    coro: Test[T], iterable: Source[T], assert_fn: AssertFn = None, limit: AnyLimit | None = 0, loop: Loop = None
) -> Stream[T]: ...
@overload
def filter(
    coro: Test[T], *, assert_fn: AssertFn = None, limit: AnyLimit | None = 0, loop: Loop = None
) -> Stage[T, Stream[T]]: ...
def filter(
    coro: Any, iterable: Any = MISSING, assert_fn: Any = None, limit: AnyLimit | None = 0, loop: Loop = None
) -> Any:
    """Return the items that pass an async test, including falsy ones, in the order of the input.

    The arguments that are not described here are those of `map`.

    Args:
        coro: The test, called with each item; its result is awaited.
        assert_fn: Called with what the test returned; an item passes if the result is true. May be sync or async. By
            default, an item passes if the test returned a true value.

    Examples:
        >>> async def is_even(number):
        ...     return number % 2 == 0
        >>> paco.run(paco.filter(is_even, [1, 2, 3, 4, 5], limit=3))
        [2, 4]
    """
    return _select("filter", coro, iterable, assert_fn, limit, loop, keep=True)


@overload
def filterfalse(
    coro: Test[T], iterable: Source[T], limit: AnyLimit | None = 0, loop: Loop = None, assert_fn: AssertFn = None
) -> Stream[T]: ...
@overload
def filterfalse(
    coro: Test[T], *, limit: AnyLimit | None = 0, loop: Loop = None, assert_fn: AssertFn = None
) -> Stage[T, Stream[T]]: ...
def filterfalse(
    coro: Any, iterable: Any = MISSING, limit: AnyLimit | None = 0, loop: Loop = None, assert_fn: Any = None
) -> Any:
    """Return the items that fail an async test: exactly those that `filter` drops.

    The arguments are those of `filter`, but ``limit`` comes before ``assert_fn``.

    Examples:
        >>> async def is_even(number):
        ...     return number % 2 == 0
        >>> paco.run(paco.filterfalse(is_even, [1, 2, 3, 4, 5], limit=3))
        [1, 3, 5]
    """
    return _select("filterfalse", coro, iterable, assert_fn, limit, loop, keep=False)


@overload
def dropwhile(coro: Test[T], iterable: Source[T], loop: Loop = None) -> Stream[T]: ...
@overload
def dropwhile(coro: Test[T], *, loop: Loop = None) -> Stage[T, Stream[T]]: ...
def dropwhile(coro: Any, iterable: Any = MISSING, loop: Loop = None) -> Any:
    """Return all items from the first one that fails an async test; drop those before it.

    The test ``coro`` runs on one item at a time, and is not called again once it has been false. The other arguments
    are those of `map`.

    Examples:
        >>> async def below_four(number):
        ...     return number < 4
        >>> paco.run(paco.dropwhile(below_four, [1, 2, 3, 4, 5, 1]))
        [4, 5, 1]
    """

    def build(plan: Plan) -> Stream[Any]:
        dropping = True

        async def select(item: Any) -> Any:
            nonlocal dropping
            dropping = dropping and bool(await coro(item))
            return SKIP if dropping else item

        return Stream(replace(plan, fn=named_as(coro, select)))

    return build_or_stage("dropwhile", coro, iterable, build, 1, loop, gaps=True)


def _finding(coro: Any, *, verdict: bool) -> Callable[[Plan], Answer[bool]]:
    """Return a ``build`` for a call that returns ``verdict`` if any test does, and the opposite otherwise."""

    async def find(plan: Plan) -> bool:
        found = False

        async def judge(item: Any) -> None:
            nonlocal found
            if bool(await coro(item)) is verdict:
                found = True
                run.stop()

        run = replace(plan, fn=named_as(coro, judge)).run(Drop())
        run.start()
        await run.join()
        return found is verdict

    return lambda plan: Answer(plan.name, find(plan), plan.source)


@overload
def some(
    coro: Test[T], iterable: Source[T], limit: AnyLimit | None = 0, timeout: float | None = None, loop: Loop = None
) -> Truth: ...
@overload
def some(
    coro: Test[T], *, limit: AnyLimit | None = 0, timeout: float | None = None, loop: Loop = None
) -> Stage[T, Truth]: ...
def some(
    coro: Any, iterable: Any = MISSING, limit: AnyLimit | None = 0, timeout: float | None = None, loop: Loop = None
) -> Any:
    """Return whether an async test is true for at least one item.

    The first true result decides. Tests that are still running are cancelled, and have finished when the call returns.
    The arguments are those of `map`; without ``iterable``, a `Stage` that ends a pipeline is returned.

    Examples:
        >>> async def above_three(number):
        ...     return number > 3
        >>> paco.run(paco.some(above_three, [1, 2, 3, 4, 5]))
        True
    """
    return build_or_stage("some", coro, iterable, _finding(coro, verdict=True), limit, loop, timeout)


@overload
def every(coro: Test[T], iterable: Source[T], limit: AnyLimit | None = 1, loop: Loop = None) -> Truth: ...
@overload
def every(coro: Test[T], *, limit: AnyLimit | None = 1, loop: Loop = None) -> Stage[T, Truth]: ...
def every(coro: Any, iterable: Any = MISSING, limit: AnyLimit | None = 1, loop: Loop = None) -> Any:
    """Return whether an async test is true for all items.

    The first false result decides. Tests that are still running are cancelled, and have finished when the call returns.
    The arguments are those of `map`; without ``iterable``, a `Stage` that ends a pipeline is returned.

    Examples:
        >>> async def above_ten(number):
        ...     return number > 10
        >>> paco.run(paco.every(above_ten, [1, 2, 3, 4, 5]))
        False
    """
    return build_or_stage("every", coro, iterable, _finding(coro, verdict=False), limit, loop)


async def _folded(plan: Plan, coro: Any, result: Any, *, right: bool) -> Any:
    async def step(item: Any) -> None:
        nonlocal result
        result = item if result is MISSING else await coro(result, item)

    async def same(item: Any) -> Any:
        return item

    source = reversed(await replace(plan, fn=same).collect()) if right else plan.source
    await replace(plan, fn=named_as(coro, step), source=source).drain()
    if result is MISSING:
        raise TypeError("paco.reduce: iterable must not be empty, got no items; pass an initializer")
    return result


@overload
def reduce(
    coro: Step[R, T], iterable: Source[T], right: bool = False, *, initializer: R, loop: Loop = None
) -> Coroutine[Any, Any, R]: ...
@overload
def reduce(
    coro: Step[R, T], iterable: Source[T], right: bool, initializer: R, loop: Loop = None
) -> Coroutine[Any, Any, R]: ...
@overload
def reduce(coro: Fold[T], iterable: Source[T], right: bool = False, *, loop: Loop = None) -> Coroutine[Any, Any, T]: ...
@overload
def reduce(
    coro: Step[R, T], *, right: bool = False, initializer: R, loop: Loop = None
) -> Stage[T, Coroutine[Any, Any, R]]: ...
@overload
def reduce(coro: Fold[T], *, right: bool = False, loop: Loop = None) -> Stage[T, Coroutine[Any, Any, T]]: ...
def reduce(
    coro: Any, iterable: Any = MISSING, right: bool = False, initializer: Any = MISSING, loop: Loop = None
) -> Any:
    """Return the value that an async function of two arguments folds the items into, one step after another.

    ``loop`` is that of `map`.

    Args:
        coro: Called with the value so far and an item; its awaited result is the next value.
        iterable: The items, as for `map`. If omitted, a `Stage` that ends a pipeline is returned.
        right: Fold from the last item to the first. All items are read before the first step.
        initializer: The value to start with; by default, the first item.

    Raises:
        TypeError: There are no items and no ``initializer``.

    Examples:
        >>> async def add(total, number):
        ...     return total + number
        >>> paco.run(paco.reduce(add, [1, 2, 3, 4, 5], initializer=0))
        15
    """
    if right is not False:
        with check.discarding(coro, iterable):
            check.flag("reduce", "right", right, "initializer")

    def build(plan: Plan) -> Coroutine[Any, Any, Any]:
        return Answer("reduce", _folded(plan, coro, initializer, right=right), plan.source)

    return build_or_stage("reduce", coro, iterable, build, 1, loop)
