"""The workloads: functions that do almost nothing, so that the cost of running them is measured."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any

import aiohttp

from benchmarks import servers

#: The default limit of items in flight.
LIMIT = 100

Fn = Callable[[int], Coroutine[Any, Any, int]]


@dataclass(frozen=True)
class Unit:
    """The unit of the cost of a workload.

    Args:
        name: The name in the heading of a table.
        clock: The clock that counts, in seconds per item: ``cpu`` or ``wall``.
        best: Returns one figure for several rounds.
        show: Formats seconds per item, given the number of items.
    """

    name: str
    clock: str
    best: Callable[[list[float]], float]
    show: Callable[[float, int], str]


CPU = Unit("ns of CPU per item", "cpu", min, lambda spent, _: f"{spent * 1e9:,.0f}")
RATE = Unit("items per second", "wall", median, lambda spent, _: f"{1 / spent:,.0f}")
SECONDS = Unit("seconds", "wall", median, lambda spent, count: f"{spent * count:.3f}")


@dataclass(frozen=True)
class Workload:
    """A function to run over items. ``opened`` takes a limit and returns an async context manager of the function."""

    key: str
    title: str
    opened: Callable[[int], AbstractAsyncContextManager[Fn]]
    unit: Unit = CPU

    @property
    def name(self) -> str:
        """Return the name in the tables."""
        return f"({self.key}) {self.title}"


async def instant(item: int) -> int:
    return item


async def sleep_0(item: int) -> int:
    await asyncio.sleep(0)
    return item


async def _future(item: int) -> int:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.call_soon(future.set_result, item)
    return await future


async def _millisecond(item: int) -> int:
    await asyncio.sleep(0.001)
    return item


async def _fifty_milliseconds(item: int) -> int:
    await asyncio.sleep(0.05)
    return item


async def _slow_first(item: int) -> int:
    await asyncio.sleep(0.01 if item else 0.5)
    return item


@contextlib.asynccontextmanager
async def _echo(limit: int) -> AsyncIterator[Fn]:
    with servers.serving(servers.echo) as port:
        streams = [await asyncio.open_connection(servers.HOST, port) for _ in range(limit)]
        free = deque(streams)

        async def fn(item: int) -> int:
            stream = free.pop()  # raises if more items than the limit are in flight
            reader, writer = stream
            writer.write(item.to_bytes(8, "big"))
            reply = await reader.readexactly(8)
            free.append(stream)
            return int.from_bytes(reply, "big")

        yield fn
        for _, writer in streams:
            writer.close()


@contextlib.asynccontextmanager
async def _http(limit: int) -> AsyncIterator[Fn]:
    connector = aiohttp.TCPConnector(limit=limit)
    with servers.serving(servers.http) as port:
        async with aiohttp.ClientSession(f"http://{servers.HOST}:{port}", connector=connector) as session:

            async def fn(item: int) -> int:
                async with session.get(f"/{item}") as response:
                    return int(await response.text())

            yield fn


def _plain(fn: Fn) -> Callable[[int], AbstractAsyncContextManager[Fn]]:
    return lambda _: contextlib.nullcontext(fn)


INSTANT = Workload("a", "returns at once", _plain(instant))
SLEEP_0 = Workload("b", "await asyncio.sleep(0)", _plain(sleep_0))
FUTURE = Workload("c", "a future resolved by call_soon", _plain(_future))
TIMER = Workload("d", "asyncio.sleep(0.001)", _plain(_millisecond), RATE)
ECHO = Workload("e", "TCP echo on 127.0.0.1", _echo, RATE)
HTTP = Workload("f", "HTTP GET on 127.0.0.1, aiohttp", _http, RATE)
SLOW_CONSUMER = Workload("g", "50 ms of work, 10 ms to consume", _plain(_fifty_milliseconds), SECONDS)
SLOW_HEAD = Workload("h", "0.5 s for the first item, 10 ms for the others", _plain(_slow_first), SECONDS)
PIPELINE = Workload("i", "three stages of asyncio.sleep(0)", _plain(sleep_0))
WORKLOADS = (INSTANT, SLEEP_0, FUTURE, TIMER, ECHO, HTTP, SLOW_CONSUMER, SLOW_HEAD, PIPELINE)
