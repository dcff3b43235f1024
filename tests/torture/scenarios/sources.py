"""Sources: a source may raise, idle or fail when it is closed, and its owner closes it."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

from tests.torture.kit import FORMS, Area
from tests.torture.tools import Work, caught, describe, ending, identity, is_it, nap, same, turns, until

AREA = Area("sources")
scenario = AREA.scenario

#: The number of items before the error: none, some, and more than a buffer holds.
AFTER = [0, 7, 20]


def failing(count, error):
    yield from range(count)
    raise error


async def failing_later(count, error):
    for item in range(count):
        await asyncio.sleep(0)
        yield item
    raise error


@scenario(forms=FORMS)
async def an_error_of_the_source_arrives(library, run):
    for count in AFTER:
        mine, work = OSError("of the source"), Work()
        is_it(await caught(run(work.run, failing(count, mine), 3)), mine)
        work.settled()


@scenario("reads_async", forms=FORMS)
async def an_error_of_an_async_source_arrives(library, run):
    for count in AFTER:
        mine, work = OSError("of the source"), Work()
        is_it(await caught(run(work.run, failing_later(count, mine), 3)), mine)
        work.settled()


class Frozen(Exception):
    """An exception without assignable attributes, like one that is a frozen dataclass."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


@scenario("reads_async", "collect")
async def a_frozen_error_of_an_async_source_arrives(library):
    mine = Frozen("of the source")
    is_it(await caught(library.collect(identity, failing_later(7, mine), 3)), mine)


@scenario("collect")
async def an_error_of_iter_arrives(library):
    mine = OSError("of the source")

    class Broken:
        def __iter__(self):
            raise mine

    is_it(await caught(library.collect(identity, Broken(), 3)), mine)


@scenario("collect")
async def an_error_of_the_source_is_not_held_back_by_slow_items(library):
    mine, work = OSError("of the source"), Work(1000)
    is_it(await caught(library.collect(work.run, failing(2, mine), 3)), mine)
    assert not work.finished
    work.settled()


class Closes:
    """An iterator that records whether it was closed."""

    def __init__(self, count):
        self.left, self.closed = count, False

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left

    def close(self):
        self.closed = True


@scenario("collect")
async def an_iterator_that_is_no_generator_is_left_open(library):
    whole, part = Closes(5), Closes(50)
    await library.collect(identity, whole, 3)
    await caught(library.collect(Work(raises={45: ValueError()}).run, part, 3))
    assert not whole.closed
    assert not part.closed


@scenario("lazy", forms=FORMS)
async def a_generator_is_closed_when_the_run_ends_with_an_error(library, run):
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    generator = source()
    await caught(run(Work(raises={5: ValueError()}).run, generator, 3))
    assert closed, "the generator is still open"


@scenario("lazy", "reads_async", forms=FORMS)
async def an_async_generator_ends_its_cleanup_before_the_error_arrives(library, run):
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
    await caught(run(Work(raises={5: ValueError()}).run, generator, 3))
    assert closed, "the async generator is still open"


@scenario("lazy", "collect")
async def an_error_while_closing_the_source_does_not_hide_the_first(library):
    mine = ValueError("mine")

    def source():
        try:
            yield from itertools.count()
        finally:
            raise OSError("of closing")

    generator = source()
    is_it(await caught(library.collect(Work(raises={5: mine}).run, generator, 3)), mine)
    with suppress(OSError):
        generator.close()


@scenario("lazy", "reads_async", "collect")
async def an_error_while_closing_an_async_source_does_not_hide_the_first(library):
    mine = ValueError("mine")

    async def source():
        try:
            for item in itertools.count():
                await asyncio.sleep(0)
                yield item
        finally:
            await asyncio.sleep(0)
            raise OSError("of closing")

    is_it(await caught(library.collect(Work(raises={5: mine}).run, source(), 3)), mine)


@scenario("lazy", "collect")
async def a_generator_that_refuses_to_close_does_not_hide_the_first_error(library):
    mine = ValueError("mine")

    def source():
        try:
            yield from itertools.count()
        except GeneratorExit:
            yield "more"

    generator = source()
    is_it(await caught(library.collect(Work(raises={5: mine}).run, generator, 3)), mine)
    with suppress(RuntimeError):
        generator.close()


@scenario("lazy", "reads_async", "stream")
async def a_result_is_not_held_back_by_an_idle_source(library):
    first = asyncio.Event()

    async def source():
        yield 1
        await first.wait()  # set by the consumer: a deadlock if the result waits for the next item
        yield 2

    async with library.stream(identity, source(), 3) as items:
        seen = []
        async for item in items:
            seen.append(item)
            first.set()
    same(seen, [1, 2])


@scenario("reads_async", "collect")
async def a_timeout_inside_an_async_generator_belongs_to_it(library):
    async def source():
        async with asyncio.timeout(10_000):
            for item in range(9):
                await asyncio.sleep(0)
                yield item

    same(await library.collect(identity, source(), 3), range(9))


@scenario("reads_async", "collect")
async def a_slow_async_source_does_not_lose_items(library):
    async def source():
        for item in range(9):
            await nap(item % 3)
            yield item

    work = Work(lambda item: 2 - item % 3)
    same(await library.collect(work.run, source(), 3), range(9))
    work.settled()


@scenario("reads_async", "collect")
async def the_error_of_an_item_is_not_held_back_by_an_idle_source(library):
    mine, forever = ValueError("mine"), asyncio.Event()

    async def source():
        yield 1
        yield 2
        await forever.wait()
        yield 3

    is_it(await caught(library.collect(Work(1, raises={2: mine}).run, source(), 3)), mine)


@scenario("lazy", "reads_async", "collect")
async def a_cancelled_run_waits_for_the_cleanup_of_its_async_source(library):
    started, closed = [], []

    async def source():
        started.append(True)
        try:
            for item in itertools.count():
                await nap(1)
                yield item
        finally:
            await nap(20)
            closed.append(True)

    async with ending(asyncio.ensure_future(gathered(library, source()))) as task:
        await until(lambda: started)
        await nap(5)
    assert closed
    assert task.cancelled(), describe(task)


async def gathered(library, source):
    return await library.collect(identity, source, 3)


@scenario("collect")
async def a_base_exception_of_the_source_arrives(library):
    class Own(BaseException):
        pass

    mine = Own("mine")
    is_it(await caught(library.collect(identity, failing(4, mine), 3)), mine)


@scenario("collect")
async def stop_iteration_raised_by_iter_is_never_a_missing_result(library):
    class Odd:
        def __iter__(self):
            raise StopIteration("not the end of anything")

    await caught(library.collect(identity, Odd(), 3))
