"""The other libraries, each called as its documentation shows."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, cast

import aiometer
import aiostream
import aiotools
import anyio
import pyper  # type: ignore[import-untyped]
import streamable
from aioitertools.asyncio import gather as aioitertools_gather
from tqdm.asyncio import tqdm_asyncio  # type: ignore[import-untyped]

from benchmarks.peers import limited

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from benchmarks.peers import Opened
    from benchmarks.workloads import Fn

# ---- a list


async def aioitertools(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    return await aioitertools_gather(*[fn(item) for item in items], limit=limit or -1)


async def aiometer_run_all(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    return await aiometer.run_all([functools.partial(fn, item) for item in items], max_at_once=limit or None)


async def anyio_limiter(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    limiter = anyio.CapacityLimiter(limit or float("inf"))
    results = [0] * len(items)

    async def run(index: int, item: int) -> None:
        async with limiter:
            results[index] = await fn(item)

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(run, index, item)
    return results


async def aiotools_gather(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    guarded = limited(fn, limit)
    return cast("list[int]", await aiotools.gather_safe([guarded(item) for item in items]))


async def tqdm_gather(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    guarded = limited(fn, limit)
    return cast("list[int]", await tqdm_asyncio.gather(*[guarded(item) for item in items], disable=True))


async def aiostream_list(fn: Any, items: Sequence[int], limit: int) -> list[int]:
    results: Any = aiostream.stream.map(aiostream.stream.iterate(items), fn, task_limit=limit or None)
    return cast("list[int]", await aiostream.stream.list(results))


# ---- a stream


def _streamable(fn: Fn, items: Iterable[int], limit: int, *, as_completed: bool) -> Opened:
    concurrency = limit or len(cast("Sequence[int]", items))
    return contextlib.nullcontext(streamable.stream(items).map(fn, concurrency=concurrency, as_completed=as_completed))


streamable_ordered = functools.partial(_streamable, as_completed=False)
streamable_as_completed = functools.partial(_streamable, as_completed=True)


def _aiostream(fn: Any, items: Iterable[int], limit: int, *, ordered: bool) -> Opened:
    source = aiostream.stream.iterate(items)
    mapped: Any = aiostream.stream.map(source, fn, ordered=ordered, task_limit=limit or None)
    return cast("Opened", mapped.stream())


aiostream_ordered = functools.partial(_aiostream, ordered=True)
aiostream_as_completed = functools.partial(_aiostream, ordered=False)


def aiometer_amap(fn: Fn, items: Any, limit: int) -> Opened:
    return aiometer.amap(fn, items, max_at_once=limit or None)


def pyper_workers(fn: Fn, items: Iterable[int], limit: int) -> Opened:
    workers = limit or len(cast("Sequence[int]", items))
    source = pyper.task(_produce, branch=True, throttle=workers, bind=pyper.task.bind(items))
    pipeline = source | pyper.task(fn, workers=workers, throttle=workers)
    return cast("Opened", contextlib.aclosing(pipeline()))


async def _produce(items: Iterable[int]) -> AsyncGenerator[int, None]:
    for item in items:
        yield item


def aiotools_as_completed(fn: Fn, items: Iterable[int], limit: int) -> Opened:
    guarded = limited(fn, limit)
    return contextlib.aclosing(_awaited(aiotools.as_completed_safe([guarded(item) for item in items])))


async def _awaited(futures: Any) -> AsyncGenerator[int, None]:
    async with contextlib.aclosing(futures):
        async for future in futures:
            yield await future


def tqdm_as_completed(fn: Fn, items: Iterable[int], limit: int) -> Opened:
    guarded = limited(fn, limit)
    return contextlib.aclosing(_each_awaited([guarded(item) for item in items]))


async def _each_awaited(coros: list[Any]) -> AsyncGenerator[int, None]:
    for future in tqdm_asyncio.as_completed(coros, disable=True):
        yield await future


# ---- a pipeline of three stages


async def streamable_pipeline(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    stages = streamable.stream(items)
    for _ in range(3):
        stages = stages.map(fn, concurrency=limit or len(items))
    return [result async for result in stages]


async def aiostream_pipeline(fn: Any, items: Sequence[int], limit: int) -> list[int]:
    stages: Any = aiostream.stream.iterate(items)
    for _ in range(3):
        stages = stages | aiostream.pipe.map(fn, task_limit=limit or None)
    return cast("list[int]", await aiostream.stream.list(stages))


async def pyper_pipeline(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    workers = limit or len(items)
    stages: Any = pyper.task(_produce, branch=True, throttle=workers, bind=pyper.task.bind(items))
    for _ in range(3):
        stages = stages | pyper.task(fn, workers=workers, throttle=workers)
    return [result async for result in stages()]
