"""Cancelled items: an item that ends cancelled by itself is an error or a result, and never a missing result."""

from __future__ import annotations

import asyncio

from tests.torture.kit import FORMS, Area
from tests.torture.tools import Work, complete_or_error, ending, identity, nap, turns, until

AREA = Area("errors")
scenario = AREA.scenario


@scenario(forms=FORMS)
async def an_item_that_raises_cancelled_error_is_never_a_missing_result(library, run):
    work = Work(1, raises={4: asyncio.CancelledError("mine")})
    await complete_or_error(run(work.run, list(range(9)), 3), range(9))
    work.settled()


@scenario(forms=FORMS)
async def an_item_that_cancels_its_task_is_never_a_missing_result(library, run):
    work = Work()

    async def cancels(item):
        if item == 4:
            asyncio.current_task().cancel()
        return await work.run(item)

    await complete_or_error(run(cancels, list(range(9)), 3), range(9))
    work.settled()


@scenario("collect")
async def an_item_that_cancels_its_task_and_returns_does_not_affect_other_items(library):
    async def cancels(item):
        if item == 4:
            asyncio.current_task().cancel()
        else:
            await asyncio.sleep(0)
        return item

    await complete_or_error(library.collect(cancels, list(range(9)), 1), range(9))


@scenario("collect")
async def an_item_that_awaits_a_cancelled_task_is_never_a_missing_result(library):
    async def work(item):
        task = asyncio.ensure_future(nap(10))
        if item == 3:
            asyncio.get_running_loop().call_soon(task.cancel)
        await task
        return item

    await complete_or_error(library.collect(work, list(range(6)), 2), range(6))


@scenario("collect")
async def a_task_that_is_cancelled_from_outside_is_never_a_missing_result(library):
    tasks, work = {}, Work(10)

    async def reports(item):
        tasks[item] = asyncio.current_task()
        return await work.run(item)

    async def cancels():
        await until(lambda: len(work.started) == 3)
        tasks[2].cancel()

    async with ending(asyncio.ensure_future(cancels())):
        await complete_or_error(library.collect(reports, list(range(6)), 3), range(6))
    work.settled()


@scenario("collect")
async def a_caller_that_was_not_cancelled_is_not_marked_as_cancelled(library):
    work = Work(1, raises={4: asyncio.CancelledError("mine")})
    await complete_or_error(library.collect(work.run, list(range(9)), 3), range(9))
    assert asyncio.current_task().cancelling() == 0
    await turns(3)
    await complete_or_error(library.collect(identity, [1, 2], 2), [1, 2])


@scenario("collect")
async def in_a_task_group_a_cancelled_item_is_not_lost(library):
    """A task group around the run would mistake a bare CancelledError for a cancellation and drop it."""
    work = Work(1, raises={4: asyncio.CancelledError("mine")})
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(main(library, work))
    except BaseException:
        return
    assert not task.cancelled(), "the group ended without an error, but the run has no result"
    assert len(task.result()) == 9


async def main(library, work):
    return await library.collect(work.run, list(range(9)), 3)
