"""Consumers: a stream may be left, dropped, read slowly or misused, and everything that it started ends."""

from __future__ import annotations

import asyncio
import gc
import itertools

from tests.torture.kit import Area
from tests.torture.tools import Work, are, at_every_step, caught, describe, identity, is_it, nap, same, turns, virtual

AREA = Area("consumers")
scenario = AREA.scenario

STREAMS = ["ordered", "completed"]


async def leave(stream, work, how, source=None):
    """Read some results and leave the block."""
    async with stream(work.run, list(range(50)) if source is None else source, 3) as items:
        seen = []
        async for item in items:
            seen.append(item)
            if len(seen) == 5:
                how()
                break
    return seen


def fail():
    raise KeyError("of the consumer")


@scenario(forms=STREAMS, raw=True)
async def breaking_out_of_a_stream_joins_it(library, stream):
    work = Work(lambda item: 1 if item < 10 else 1000)
    assert len(await leave(stream, work, bool)) == 5
    work.settled()


@scenario(forms=STREAMS, raw=True)
async def breaking_out_of_a_stream_waits_for_cleanup(library, stream):
    work = Work(lambda item: 1 if item < 10 else 1000, cleanup=5)
    assert len(await leave(stream, work, bool)) == 5
    work.settled()


@scenario(forms=STREAMS, raw=True)
async def an_error_of_the_consumer_joins_the_stream_and_arrives(library, stream):
    work = Work(lambda item: 1 if item < 10 else 1000)
    error = await caught(leave(stream, work, fail))
    are(error, KeyError)
    work.settled()


@scenario(forms=STREAMS, raw=True)
def a_stream_that_is_left_is_cancelled_at_every_step(library, lane, stream):
    def make():
        work = Work()
        return lambda: leave(stream, work, bool, list(range(9))), work.settled

    at_every_step(lane, make, gaps=(1,))


@scenario(forms=STREAMS, raw=True)
async def a_stream_may_be_left_before_its_first_result(library, stream):
    work = Work(10)
    async with stream(work.run, list(range(9)), 3):
        await nap(1)
    work.settled()


@scenario(forms=STREAMS, raw=True)
async def a_stream_may_be_left_after_its_last_result(library, stream):
    work = Work()
    async with stream(work.run, list(range(9)), 3) as items:
        iterator = aiter(items)
        seen = [await anext(iterator) for _ in range(9)]
    same(seen, range(9))
    work.settled()


@scenario(forms=STREAMS, raw=True)
async def a_stream_that_is_asked_again_after_its_end_has_ended(library, stream):
    async with stream(identity, list(range(9)), 3) as items:
        iterator = aiter(items)
        same([item async for item in iterator], range(9))
        for _ in range(2):
            error = await caught(anext(iterator))
            assert isinstance(error, Exception), describe(error)


@scenario("stream")
async def the_error_of_an_item_while_the_consumer_leaves_is_no_leak(library):
    work = Work(lambda item: 1, raises={item: ValueError(item) for item in range(5, 50)})
    try:
        async with library.stream(work.run, list(range(50)), 3) as items:
            async for _ in items:
                break
    except (ValueError, ExceptionGroup):
        pass
    work.settled()


@scenario("stream")
async def an_error_in_cleanup_while_the_consumer_leaves_still_ends_everything(library):
    ended = []

    async def work(item):
        try:
            await nap(1 if item == 0 else 100)
        finally:
            await turns(3)
            ended.append(item)
        return item

    async with library.stream(work, list(range(9)), 3) as items:
        async for _ in items:
            break
    count = len(ended)
    await turns(9)
    assert count == len(ended) >= 3


@scenario("lazy", "stream")
async def a_generator_is_closed_when_the_consumer_leaves(library):
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    generator = source()
    await leave(library.stream, Work(), bool, generator)
    assert closed, "the generator is still open"


@scenario("lazy", "reads_async", "stream")
async def an_async_generator_has_ended_when_the_consumer_has_left(library):
    closed = []

    async def source():
        try:
            for item in itertools.count():
                await asyncio.sleep(0)
                yield item
        finally:
            await turns(5)
            closed.append(True)

    generator = source()
    await leave(library.stream, Work(), bool, generator)
    assert closed, "the async generator is still open"


@scenario("lazy", "stream")
async def an_iterator_that_is_no_generator_continues_where_the_consumer_left(library):
    source = iter(range(1000))
    await leave(library.stream, Work(), bool, source)
    assert next(source) < 100


@scenario(forms=STREAMS, raw=True)
async def a_stopped_consumer_holds_back_the_work(library, stream):
    work = Work(None, cleanup=0)
    async with stream(work.run, list(range(10_000)), 3) as items:
        async for _ in items:
            await turns(2000)
            break
        started = len(work.started)
    assert started < 200, f"{started} items were started although only one result was read, at a limit of 3"


@scenario(forms=STREAMS, raw=True)
async def a_slow_consumer_gets_everything(library, stream):
    seen = []
    async with stream(Work(1).run, list(range(12)), 3) as items:
        async for item in items:
            await nap(3)
            seen.append(item)
    same(seen, range(12))


@scenario("stream")
async def two_concurrent_readers_share_the_results_or_one_is_refused(library):
    seen = []

    async def read(iterator):
        try:
            async for item in iterator:
                seen.append(item)
        except Exception:
            seen.append("refused")

    async with library.stream(Work(1).run, list(range(12)), 3) as items:
        iterator = aiter(items)
        await asyncio.gather(read(iterator), read(iterator))
    if "refused" not in seen:
        same(seen, range(12))


@scenario("plain")
async def without_async_with_a_stream_gives_its_results(library):
    same([item async for item in library.plain(Work().run, list(range(9)), 3)], range(9))


@scenario("plain")
async def without_async_with_the_error_of_an_item_arrives_after_all_has_ended(library):
    mine = ValueError("mine")
    work = Work(lambda item: 1 if item == 2 else 100, raises={2: mine})

    async def read():
        return [item async for item in library.plain(work.run, list(range(9)), 3)]

    is_it(await caught(read()), mine)
    work.settled()


@scenario("plain")
async def without_async_with_a_break_ends_the_work_soon(library):
    work = Work(lambda item: 1 if item < 5 else 1000)
    async for _ in library.plain(work.run, list(range(50)), 3):
        break
    gc.collect()
    await turns(20)
    started = len(work.started)
    work.settled()
    await nap(2000 if virtual() else 5)
    assert len(work.started) == started, "items were started after the consumer had left"


@scenario("plain")
async def a_stream_that_is_dropped_halfway_ends_soon(library):
    work = Work(lambda item: 1 if item < 5 else 1000)
    iterator = aiter(library.plain(work.run, list(range(50)), 3))
    await anext(iterator)
    del iterator
    gc.collect()
    await turns(20)
    work.settled()


@scenario("plain")
def without_async_with_a_stream_is_cancelled_at_every_step(library, lane):
    def make():
        work = Work()

        async def read():
            async for _ in library.plain(work.run, list(range(5)), 2):
                await asyncio.sleep(0)

        return read, work.settled

    at_every_step(lane, make, joined=False)
