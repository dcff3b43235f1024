"""Cancellation: a run cancelled at any time cancels and joins everything, and passes the cancellation on."""

from __future__ import annotations

import asyncio

from tests.torture.kit import FORMS, Area
from tests.torture.tools import (
    Work,
    at_every_step,
    caught,
    clock,
    describe,
    ending,
    is_it,
    nap,
    same,
    turns,
    unit,
    until,
    virtual,
)

AREA = Area("cancelling")
scenario = AREA.scenario

GAPS = {"once": (None,), "twice": (0, 2)}
SOURCES = {
    "list": lambda: list(range(5)),
    "generator": lambda: (item for item in range(5)),
}


async def later():
    for item in range(5):
        await asyncio.sleep(0)
        yield item


def the_run(run, source=SOURCES["list"], *, fails=(), cleanup=0):
    """Return a function that makes a run of five items and the check of its outcome."""

    def make():
        work = Work(raises={item: ValueError(item) for item in fails}, cleanup=cleanup)
        return lambda: run(work.run, source(), 2), work.settled

    return make


@scenario(forms=FORMS, cases=GAPS)
def a_run_is_cancelled_at_every_step(library, lane, run, gaps):
    assert at_every_step(lane, the_run(run), gaps=gaps) > 4


@scenario("collect", cases=GAPS)
def a_run_over_a_generator_is_cancelled_at_every_step(library, lane, gaps):
    assert at_every_step(lane, the_run(library.collect, SOURCES["generator"]), gaps=gaps) > 4


@scenario("reads_async", forms=FORMS)
def a_run_over_an_async_generator_is_cancelled_at_every_step(library, lane, run):
    assert at_every_step(lane, the_run(run, later), gaps=(None, 1)) > 4


@scenario(forms=FORMS)
def a_run_with_an_error_is_cancelled_at_every_step(library, lane, run):
    assert at_every_step(lane, the_run(run, fails=[2]), gaps=(None, 1)) > 4


@scenario("reads_async", "collect")
def a_run_whose_async_source_fails_is_cancelled_at_every_step(library, lane):
    async def source():
        async for item in later():
            yield item
        raise OSError

    assert at_every_step(lane, the_run(library.collect, source)) > 4


@scenario(forms=FORMS)
def cleanup_completes_wherever_the_run_is_cancelled(library, lane, run):
    at_every_step(lane, the_run(run, cleanup=2))


@scenario(forms=FORMS)
def the_number_of_cancellations_is_right_afterwards(library, lane, run):
    at_every_step(lane, the_run(run), gaps=(None, 1), counted=True)
    at_every_step(lane, the_run(run, fails=[2]), counted=True)


@scenario(forms=FORMS)
def long_cleanup_is_not_interrupted_by_a_second_cancellation(library, lane, run):
    at_every_step(lane, the_run(run, cleanup=12), gaps=(1, 9))


@scenario("outcomes")
def a_run_with_exceptions_as_values_is_cancelled_at_every_step(library, lane):
    at_every_step(lane, the_run(library.outcomes, fails=[1, 3]), gaps=(1,))


@scenario("collect")
def a_nested_run_is_cancelled_at_every_step(library, lane):
    def make():
        work = Work()

        async def outer(item):
            return await library.collect(work.run, list(range(3)), 2)

        return lambda: library.collect(outer, list(range(3)), 2), work.settled

    at_every_step(lane, make, gaps=(1,))


@scenario("collect")
def two_concurrent_runs_are_cancelled_at_every_step(library, lane):
    """Two runs in a task group of the standard library, which is cancelled."""

    def make():
        work = Work()

        async def both():
            async with asyncio.TaskGroup() as group:
                group.create_task(one())
                group.create_task(one())

        async def one():
            return await library.collect(work.run, list(range(4)), 2)

        return both, work.settled

    at_every_step(lane, make, gaps=(1,))


@scenario("collect")
def items_that_ignore_a_cancellation_do_not_swallow_it_for_the_caller(library, lane):
    def make():
        async def ignores(item):
            try:
                await turns(2)
            except asyncio.CancelledError:
                await turns(1)
            return item

        return lambda: library.collect(ignores, list(range(5)), 2), lambda: None

    at_every_step(lane, make)


@scenario("collect")
def items_that_raise_when_cancelled_do_not_swallow_the_cancellation(library, lane):
    def make():
        async def answers(item):
            try:
                await turns(2)
            except asyncio.CancelledError:
                raise KeyError(item) from None
            return item

        return lambda: library.collect(answers, list(range(5)), 2), lambda: None

    at_every_step(lane, make)


@scenario("within")
def a_cancellation_is_never_turned_into_a_timeout(library, lane):
    def make():
        work = Work()
        return lambda: library.timed(work.run, list(range(5)), 2, 10_000), work.settled

    at_every_step(lane, make, gaps=(1,), counted=True)


@scenario(forms=FORMS)
async def a_cancelled_run_waits_for_cleanup_that_takes_time(library, run):
    started, cleaned = [], []

    async def work(item):
        started.append(item)
        try:
            await nap(1000)
        finally:
            await nap(20)
            cleaned.append(item)

    async def main():
        return await run(work, list(range(9)), 3)

    async with ending(asyncio.ensure_future(main())) as task:
        await until(lambda: len(started) == 3)
    same(cleaned, [0, 1, 2])
    assert task.cancelled(), describe(task)


@scenario(forms=FORMS)
async def each_item_is_cancelled_once(library, run):
    started, counts = [], [0] * 9

    async def work(item):
        started.append(item)
        for _ in range(3):
            try:
                await nap(100)
            except asyncio.CancelledError:
                counts[item] += 1
                await turns(9)
                break

    async def main():
        return await run(work, list(range(9)), 3)

    task = asyncio.ensure_future(main())
    await until(lambda: len(started) == 3)
    task.cancel()
    await turns(3)
    task.cancel()
    await asyncio.wait([task])
    assert counts == [1, 1, 1, 0, 0, 0, 0, 0, 0], counts


@scenario("collect")
async def a_run_that_is_cancelled_before_it_begins_starts_nothing(library):
    work = Work()
    task = asyncio.ensure_future(main(library, work))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    work.settled()


async def main(library, work):
    return await library.collect(work.run, list(range(9)), 3)


@scenario("collect")
async def a_group_whose_other_task_fails_cancels_and_joins_the_run(library):
    mine, work = ValueError("mine"), Work(100)

    async def fails():
        await until(lambda: len(work.started) == 3)
        raise mine

    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(main(library, work))
            tasks.create_task(fails())

    is_it(await caught(group()), mine)
    work.settled()
    same(work.cancelled, [0, 1, 2])


@scenario("collect")
async def a_run_that_fails_ends_the_group_around_it(library):
    mine = ValueError("mine")
    work, other = Work(5, raises={1: mine}), Work(1000)

    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(main(library, work))
            tasks.create_task(main(library, other))

    is_it(await caught(group()), mine)
    work.settled()
    other.settled()
    assert not other.finished


@scenario("collect")
async def after_a_timeout_around_a_run_the_next_run_succeeds(library):
    for _ in range(3):
        try:
            async with asyncio.timeout(5 * unit()):
                await library.collect(Work(1000).run, [1, 2, 3], 2)
        except TimeoutError:
            pass
        else:
            raise AssertionError("the timeout was swallowed")
        same(await library.collect(Work(1).run, [1, 2, 3], 2), [1, 2, 3])
    assert asyncio.current_task().cancelling() == 0


@scenario("stream")
async def a_stream_that_is_cancelled_in_the_body_of_its_loop_is_joined(library):
    work = Work(lambda item: 1 if item < 2 else 1000)

    async def consume():
        async with library.stream(work.run, list(range(9)), 3) as items:
            async for _ in items:
                await nap(10**6)

    start = clock()
    async with ending(asyncio.ensure_future(consume())) as task:
        await nap(5)
    work.settled()
    assert task.cancelled()
    assert clock() < start + 5000 or not virtual()
