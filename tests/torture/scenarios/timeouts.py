"""Timeouts: a timeout ends a run on time, joins what it cancels, and is not confused with other ends."""

from __future__ import annotations

import asyncio

from tests.torture.kit import FORMS, Area
from tests.torture.tools import Work, caught, clock, describe, is_it, nap, same, took, turns, unit, virtual

AREA = Area("timeouts")
scenario = AREA.scenario


@scenario("within")
async def the_timeout_of_a_run_cancels_and_joins_what_runs(library):
    work = Work(10)
    error = await caught(library.timed(work.run, list(range(9)), 3, 15 * unit()))
    assert isinstance(error, TimeoutError), describe(error)
    work.settled()
    assert sorted(work.cancelled) == [3, 4, 5] if virtual() else work.cancelled
    took(15)


@scenario("within")
async def a_run_within_its_timeout_gives_its_results(library):
    start = clock()
    same(await library.timed(Work(1).run, list(range(9)), 3, 10**6 * unit()), range(9))
    assert clock() < start + 500 or not virtual()


@scenario("within")
async def a_timeout_of_zero_expires_at_once(library):
    work = Work(10)
    error = await caught(library.timed(work.run, list(range(9)), 3, 0))
    assert isinstance(error, TimeoutError), describe(error)
    work.settled()
    assert not work.finished


@scenario("within")
async def a_negative_timeout_is_an_error(library):
    work = Work(10)
    error = await caught(library.timed(work.run, list(range(9)), 3, -1))
    assert isinstance(error, TimeoutError | ValueError), describe(error)
    work.settled()


@scenario("within")
async def the_timeout_waits_for_cleanup_that_takes_time(library):
    cleaned = []

    async def work(item):
        try:
            await nap(1000)
        finally:
            await nap(20)
            cleaned.append(item)

    error = await caught(library.timed(work, [1, 2, 3], 2, 10 * unit()))
    assert isinstance(error, TimeoutError), describe(error)
    same(cleaned, [1, 2])


@scenario("within")
async def a_timeout_error_of_an_item_is_an_error_of_the_item(library):
    mine = TimeoutError("of the item")
    work = Work(1, raises={2: mine})
    is_it(await caught(library.timed(work.run, list(range(9)), 3, 10**6 * unit())), mine)
    work.settled()


@scenario("within")
async def a_timeout_that_meets_an_error_ends_with_one_of_them(library):
    mine = ValueError("of the item")
    work = Work(10, raises={1: mine})
    error = await caught(library.timed(work.run, [0, 1, 2], 3, 10 * unit()))
    if not isinstance(error, TimeoutError):
        is_it(error, mine)
    work.settled()


@scenario("within")
async def a_timeout_that_meets_the_last_result_ends_with_one_of_them(library):
    work = Work(10)
    try:
        results = await library.timed(work.run, [0, 1, 2], 3, 10 * unit())
    except TimeoutError:
        pass
    else:
        same(results, [0, 1, 2])
    work.settled()
    await turns(3)
    assert asyncio.current_task().cancelling() == 0


@scenario(forms=FORMS)
async def a_timeout_around_a_run_joins_it(library, run):
    work = Work(10)
    try:
        async with asyncio.timeout(15 * unit()):
            await run(work.run, list(range(20)), 3)
    except TimeoutError:
        work.settled()
        assert asyncio.current_task().cancelling() == 0
    else:
        raise AssertionError("the timeout was swallowed")


@scenario("collect")
async def timeouts_of_items_affect_only_their_items(library):
    async def work(item):
        try:
            async with asyncio.timeout((10**6 if item % 2 else 1) * unit()):
                await nap(2 if item % 2 else 10**7)
        except TimeoutError:
            return -item
        return item

    results = await library.collect(work, list(range(1, 9)), 2)
    same(results, [item if item % 2 else -item for item in range(1, 9)])


@scenario("collect")
async def nested_timeouts_are_distinguished(library):
    outcome = []

    async def inner(item):
        try:
            async with asyncio.timeout(50 * unit()):
                await nap(1000)
        except TimeoutError:
            outcome.append("inner")
            raise

    try:
        async with asyncio.timeout(10 * unit()):
            await library.collect(inner, [1, 2], 2)
    except TimeoutError:
        outcome.append("outer")
    assert outcome == ["outer"], outcome
    assert not virtual() or clock() == 10
