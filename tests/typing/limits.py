"""What type checkers infer of limits, and of functions with one. Never run."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import Hashable
from typing import assert_type

import aiolimiter
import anyio

import paco
from paco.limits import Both


async def half(number: int) -> float:
    return number / 2


async def fetch(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


async def positive(number: int) -> bool:
    return number > 0


def plain(number: int) -> int:
    return number


class Client:
    async def ask(self, url: str) -> bytes:
        return url.encode()

    careful = paco.limited(ask, 2)


class Daytime(paco.Limiter):
    async def acquire(self, item: object = None) -> None:
        await asyncio.sleep(0)


async def values() -> None:
    rate, count = paco.Rate(300, per=60, burst=10), paco.Limit(20)
    assert_type(rate & count, Both)
    assert_type(rate & 20 & asyncio.Semaphore(2), Both)
    assert_type(20 & rate, Both)
    assert_type(asyncio.Semaphore(2) & rate, Both)
    assert_type(rate.n, float)
    assert_type(rate.per, float)
    assert_type(rate.burst, int)
    assert_type(count.limit, int)
    assert_type(count.in_flight, int)
    assert_type(rate.waiting + count.waiting, int)
    rate.n, rate.per, count.limit = 0.5, 1, 3
    rate.pause(1.5)
    paco.Rate(90_000, per=60, cost=len)
    paco.Rate(0.5, cost=lambda item: item.weight)
    keyed = paco.PerKey(len, lambda: rate & count, lookahead=10)
    assert_type(keyed & 20, Both)
    assert_type(paco.PerKey(lambda item: item.host, lambda: 2).keys, tuple[Hashable, ...])
    assert_type(paco.PerKey(str.lower, lambda: asyncio.Semaphore(2)).lookahead, int)
    assert_type(paco.PerKey(str.lower, functools.partial(paco.Limit, 2)).idle(), bool)
    paco.PerKey(str.lower, lambda host: paco.Rate(len(host)))
    paco.PerKey(len, paco.Limit)
    paco.PerKey(str.lower, {"a": rate, "b": 2, None: 3})
    rate.charge(-1.5)
    (rate & 20).pause(2)
    gate, budget = paco.Gate(), paco.Budget(5.00, cost=lambda item: item.price)
    assert_type(20 & gate, Both)
    assert_type(gate.closed, bool)
    with gate.closes_on(signal.SIGTERM, signal.SIGINT):
        gate.pause()
        gate.resume()
        gate.close()
    assert_type(budget.charge(0.5), None)
    assert_type(budget.spent - budget.left, float)
    assert_type(budget.gate, paco.Gate)
    paco.Budget(1000, cost=len)
    paco.Budget(1000, 5)
    adaptive = paco.Adaptive(start=20, min=2, max=50, drop_on=(OSError, ValueError), cooldown=0.5)
    assert_type(adaptive.limit + adaptive.in_flight + adaptive.waiting, int)
    assert_type(adaptive.history[0].short, float)
    assert_type(adaptive & rate, Both)
    paco.Adaptive(drop_on=OSError)
    paco.Adaptive(drop_on=lambda error: error.args == (429,))
    async with rate.slot(), (rate & count).slot("item") as entered:
        assert_type(entered, None)


async def passed(numbers: list[int]) -> None:
    assert_type(await paco.map(half, numbers, limit=paco.Limit(2)), list[float])
    assert_type(await paco.map(half, numbers, limit=paco.Rate(2) & paco.Limit(2)), list[float])
    assert_type(await paco.map(half, numbers, limit=Daytime()), list[float])
    assert_type(await paco.map(half, numbers, limit=asyncio.Semaphore(2)), list[float])
    assert_type(await paco.map(half, numbers, limit=asyncio.BoundedSemaphore(2)), list[float])
    assert_type(await paco.map(half, numbers, limit=asyncio.Lock()), list[float])
    assert_type(await paco.map(half, numbers, limit=anyio.CapacityLimiter(2)), list[float])
    assert_type(await paco.map(half, numbers, limit=aiolimiter.AsyncLimiter(2)), list[float])
    assert_type(await (numbers | paco.map(half, limit=paco.Rate(2))), list[float])
    assert_type(await paco.filter(positive, numbers, limit=paco.Rate(2)), list[int])
    assert_type(await paco.each(half, numbers, limit=paco.Rate(2)), None)
    assert_type(await paco.some(positive, numbers, limit=paco.Rate(2)), bool)
    assert_type(await paco.gather(half(1), half(2), limit=paco.Rate(2)), tuple[float, float])


async def functions() -> None:
    assert_type(await paco.limited(half, paco.Rate(2))(1), float)
    assert_type(await paco.limited(half, 2)(number=1), float)
    assert_type(await paco.limited(fetch, asyncio.Semaphore(2))("url", tries=2), bytes)
    assert_type(await paco.limited(fetch, paco.Rate(2, cost=len) & paco.Limit(2))("url"), bytes)
    # They take a method that a function has made for an attribute that is not bound.
    assert_type(await Client().careful("url"), bytes)  # not ty: unbound # not pyrefly: unbound
    assert_type(await paco.map(paco.limited(half, 2), [1, 2], limit=4), list[float])


async def unlimited(numbers: list[int]) -> None:
    assert_type(await paco.map(half, numbers, limit=None), list[float])
    assert_type(await paco.limited(half, None)(1), float)
    paco.ConcurrentExecutor(None)


async def refused(numbers: list[int]) -> None:
    paco.map(half, numbers, limit="2")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(half, numbers, limit=asyncio.Event())  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.Limit(1) & None  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    paco.Limit(1) & "2"  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    paco.limited(plain, 2)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.limited(half(1), 2)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Rate("2")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Rate(2, cost=half)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Budget("5")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Budget(5, cost=half)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Gate().closed = True  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    paco.Limit(2).pause(5)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    paco.Adaptive(1.5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Adaptive(drop_on=429)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Adaptive().limit = 5  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    paco.PerKey(str.lower, paco.Limit)  # type: ignore[misc] # pyright: ignore[reportArgumentType]
    paco.PerKey(len, lambda: "2")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Limit(2.5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.limited(half, 2)("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.limited(fetch, 2)("url", tris=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
