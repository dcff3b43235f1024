"""What type checkers infer of the functions of functions, the loops and the clock. Never run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, assert_type

import paco


async def half(number: int) -> float:
    return number / 2


async def label(number: float) -> str:
    return str(number)


async def answer() -> int:
    return 42


async def is_done() -> bool:
    return True


async def length(text: str) -> int:
    return len(text)


def plain(number: int) -> str:
    return str(number)


async def bound(text: str, number: int) -> None:
    assert_type(paco.apply(half, 1), Callable[..., Coroutine[Any, Any, float]])
    assert_type(await paco.apply(half, number=1)("ignored"), float)
    assert_type(await paco.partial(half, 1)(), float)
    assert_type(await paco.thunk(answer)(), int)
    assert_type(paco.constant(text, delay=1), Callable[..., Coroutine[Any, Any, str]])
    assert_type(await paco.constant(text)(), str)
    assert_type(await paco.identity(number)("ignored"), int)
    assert_type(paco.curry(half), Callable[..., Any])
    assert_type(paco.curry(2)(half), Callable[..., Any])


async def composed() -> None:
    assert_type(await paco.compose(half)(1), float)
    assert_type(await paco.compose(label, half)(1), str)
    assert_type(await paco.compose(label, half, length)("text"), str)
    assert_type(await paco.compose(label, label, label, half)(1), Any)


async def wrapped(text: str) -> None:
    assert_type(await paco.wraps(plain)(1), str)
    assert_type(await paco.wraps(half)(1), float)
    assert_type(await paco.timeout(half, 10)(1), float)
    assert_type(await paco.timeout(half(1), 10), float)
    assert_type(await paco.defer(half, 1)(1), float)
    assert_type(await paco.once(half)(1), float)
    assert_type(await paco.once(half, return_value=text)(1), float | str)
    assert_type(await paco.times(half, 3)(1), float)
    assert_type(await paco.throttle(half, 2)(1), float | None)
    assert_type(await paco.throttle(half, return_value=text)(1), float | str)
    assert_type(await paco.throttle(half, raise_exception=True)(1), float)
    assert_type(paco.interval(half, 10)(1), asyncio.Task[None])


@paco.once
async def once_bare(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.once(raise_exception=True)
async def once_with_options(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.once(return_value=str(4))
async def once_or_text(number: int) -> float:
    return number / 2


@paco.times(3)
async def times_with_options(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.timeout(timeout=10)
async def timeout_with_options(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.defer
async def defer_bare(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.defer(delay=0.5)
async def defer_with_options(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.throttle
async def throttle_bare(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.throttle(limit=2, raise_exception=True)
async def throttle_with_options(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.interval
async def interval_bare(number: int, *, text: str = "") -> None: ...


@paco.interval(10, times=3)
async def interval_with_options(number: int, *, text: str = "") -> None: ...


class Client:
    @paco.timeout(timeout=10)
    async def fetch(self, url: str) -> bytes:
        return url.encode()

    @paco.throttle(limit=2, raise_exception=True)
    async def ask(self, url: str) -> bytes:
        return url.encode()


async def decorated() -> None:
    assert_type(await once_bare(1, text="text"), float)
    assert_type(await once_with_options(1, text="text"), float)
    assert_type(await once_or_text(1), float | str)
    assert_type(await times_with_options(1, text="text"), float)
    assert_type(await timeout_with_options(1, text="text"), float)
    assert_type(await defer_bare(1, text="text"), float)
    assert_type(await defer_with_options(1, text="text"), float)
    assert_type(await throttle_bare(1, text="text"), float | None)
    assert_type(await throttle_with_options(1, text="text"), float)
    assert_type(interval_bare(1, text="text"), asyncio.Task[None])
    assert_type(interval_with_options(1, text="text"), asyncio.Task[None])
    assert_type(await Client().fetch("url"), bytes)
    assert_type(await Client().ask("url"), bytes)


async def loops() -> None:
    assert_type(await paco.whilst(half, is_done, None, 1), list[float])
    assert_type(await paco.until(half, is_done, lambda done: not done, number=1), list[float])


async def clock() -> None:
    with paco.TimeoutLimit(10) as limit:
        assert_type(limit, paco.TimeoutLimit)
        assert_type(limit.when(), float | None)
        limit.reschedule(1)
        limit.reschedule(None)
    async with paco.TimeoutLimit(None) as limit:
        assert_type(limit.expired, bool)


def run() -> None:
    assert_type(paco.run(half(1)), float)
    assert_type(paco.run(paco.gather(half(1))), tuple[float])  # not ty: it adds the list of the stream
    assert_type(paco.run(half(1), asyncio.new_event_loop()), float)
    assert_type(paco.run(half(1), debug=True, loop_factory=asyncio.SelectorEventLoop), float)
    paco.run(half(1), loop_factory=half)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def refused() -> None:
    paco.run(half)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.apply(half, "1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.thunk(half)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.partial(plain)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.compose(half, label)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.compose()  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    paco.once(plain)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.timeout("10")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.throttle(half, limt=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    paco.TimeoutLimit("10")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await once_bare("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await once_with_options()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await timeout_with_options(1, txt="")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await Client().fetch(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.whilst(half, is_done, None, "1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.until(half, is_done)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def blocking(number: int, *, text: str = "") -> float:
    return number / len(text)


async def threads() -> None:
    assert_type(await paco.threaded(blocking)(1, text="a"), float)
    assert_type(await paco.threaded(blocking, 20)(1), float)
    assert_type(await paco.threaded(threads=20)(blocking)(1, text="a"), float)
    assert_type(await paco.map(paco.threaded(plain), [1], limit=100), list[str])
    assert_type(await ([1] | paco.map(paco.threaded(plain)) | paco.map(length)), list[int])
    await paco.threaded(blocking)("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await paco.threaded(threads=20)(blocking)(text=1)  # type: ignore[call-arg,arg-type]  # pyright: ignore[reportCallIssue]


@paco.threaded
def in_threads(number: int) -> str:
    return str(number)


@paco.threaded(threads=20)
def in_twenty_threads(number: int) -> str:
    return str(number)


async def decorated_by_threaded() -> None:
    assert_type(await in_threads(1), str)
    assert_type(await in_twenty_threads(1), str)
