"""The peers in the forms that the torture suite calls, each as its documentation shows.

A form that a library does not have is left out, and counts neither for nor against it. A library whose documentation
requires a list gets a list of the items. `benchmarks.peers` has the same libraries for speed.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiometer
import aiostream
import anyio
import pyper
import streamable
from aioitertools.asyncio import gather as aioitertools_gather

from tests.torture.kit import Library

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# ---- the standard library


def limited(fn: Any, limit: Any) -> Any:
    semaphore = asyncio.Semaphore(limit)

    async def run(item: Any) -> Any:
        async with semaphore:
            return await fn(item)

    return run


async def gather(fn: Any, source: Any, limit: Any, *, return_exceptions: bool = False) -> list[Any]:
    run = limited(fn, limit)
    return await asyncio.gather(*[run(item) for item in source], return_exceptions=return_exceptions)


async def task_group(fn: Any, source: Any, limit: Any) -> list[Any]:
    run = limited(fn, limit)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(item)) for item in source]
    return [task.result() for task in tasks]


# ---- aiometer, anyio


async def aiometer_list(fn: Any, source: Any, limit: Any) -> list[Any]:
    return await aiometer.run_all([functools.partial(fn, item) for item in source], max_at_once=limit)


def aiometer_stream(fn: Any, source: Any, limit: Any) -> Any:
    return aiometer.amap(fn, list(source), max_at_once=limit)


async def anyio_list(fn: Any, source: Any, limit: Any) -> list[Any]:
    items = list(source)
    limiter = anyio.CapacityLimiter(limit)
    results: list[Any] = [None] * len(items)

    async def run(index: int, item: Any) -> None:
        async with limiter:
            results[index] = await fn(item)

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(run, index, item)
    return results


async def anyio_within(fn: Any, source: Any, limit: Any, seconds: float) -> list[Any]:
    with anyio.fail_after(seconds):
        return await anyio_list(fn, source, limit)


async def aiometer_within(fn: Any, source: Any, limit: Any, seconds: float) -> list[Any]:
    with anyio.fail_after(seconds):
        return await aiometer_list(fn, source, limit)


# ---- aiostream


def aiostream_map(fn: Any, source: Any, limit: Any, *, ordered: bool = True) -> Any:
    return aiostream.stream.map(aiostream.stream.iterate(source), fn, ordered=ordered, task_limit=limit)


async def aiostream_list(fn: Any, source: Any, limit: Any) -> list[Any]:
    results: list[Any] = await aiostream.stream.list(aiostream_map(fn, source, limit))
    return results


def aiostream_ordered(fn: Any, source: Any, limit: Any) -> Any:
    return aiostream_map(fn, source, limit).stream()


def aiostream_completed(fn: Any, source: Any, limit: Any) -> Any:
    return aiostream_map(fn, source, limit, ordered=False).stream()


# ---- aioitertools


async def aioitertools_list(fn: Any, source: Any, limit: Any, *, return_exceptions: bool = False) -> list[Any]:
    return await aioitertools_gather(*[fn(item) for item in source], limit=limit, return_exceptions=return_exceptions)


# ---- streamable, pyper: their streams are iterated without a context manager


def streamable_plain(fn: Any, source: Any, limit: Any, *, as_completed: bool = False) -> Any:
    return streamable.stream(source).map(fn, concurrency=limit, as_completed=as_completed)


async def streamable_list(fn: Any, source: Any, limit: Any) -> list[Any]:
    return [result async for result in streamable_plain(fn, source, limit)]


@asynccontextmanager
async def streamable_ordered(fn: Any, source: Any, limit: Any) -> AsyncIterator[Any]:
    yield streamable_plain(fn, source, limit)


@asynccontextmanager
async def streamable_completed(fn: Any, source: Any, limit: Any) -> AsyncIterator[Any]:
    yield streamable_plain(fn, source, limit, as_completed=True)


def pyper_plain(fn: Any, source: Any, limit: Any) -> Any:
    def produce() -> Any:
        yield from source

    async def produce_async() -> Any:
        async for item in source:
            yield item

    start = produce_async if hasattr(source, "__aiter__") else produce
    return (pyper.task(start, branch=True) | pyper.task(fn, workers=limit))()


async def pyper_list(fn: Any, source: Any, limit: Any) -> list[Any]:
    return [result async for result in pyper_plain(fn, source, limit)]


@asynccontextmanager
async def pyper_completed(fn: Any, source: Any, limit: Any) -> AsyncIterator[Any]:
    yield pyper_plain(fn, source, limit)


RIVALS = [
    Library(
        "aiostream",
        collect=aiostream_list,
        ordered=aiostream_ordered,
        completed=aiostream_completed,
        reads_async=True,
        lazy=True,
        packages=("aiostream",),
    ),
    Library(
        "aiometer",
        collect=aiometer_list,
        completed=aiometer_stream,
        within=aiometer_within,
        packages=("aiometer", "anyio"),
    ),
    Library(
        "streamable",
        collect=streamable_list,
        ordered=streamable_ordered,
        completed=streamable_completed,
        plain=streamable_plain,
        reads_async=True,
        lazy=True,
        packages=("streamable",),
    ),
    Library(
        "pyper",
        collect=pyper_list,
        completed=pyper_completed,
        plain=pyper_plain,
        reads_async=True,
        lazy=True,
        packages=("python-pyper",),
    ),
    Library("anyio + CapacityLimiter", collect=anyio_list, within=anyio_within, packages=("anyio",)),
    Library("TaskGroup + Semaphore", collect=task_group),
    Library("gather + Semaphore", collect=gather, outcomes=functools.partial(gather, return_exceptions=True)),
    Library(
        "aioitertools",
        collect=aioitertools_list,
        outcomes=functools.partial(aioitertools_list, return_exceptions=True),
        packages=("aioitertools",),
    ),
]
