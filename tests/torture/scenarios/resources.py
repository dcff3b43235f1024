"""Resources: memory and tasks are bounded by the limit, the loop stays responsive, and finished items are freed."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import weakref

from tests.torture.kit import FORMS, Area
from tests.torture.tools import Work, caught, identity, nap, same, turns

AREA = Area("resources")
scenario = AREA.scenario


class Thing:
    """An object that counts how many of its kind are alive."""

    alive = most = 0

    def __init__(self):
        kind = type(self)
        kind.alive += 1
        kind.most = max(kind.most, kind.alive)

    def __del__(self):
        type(self).alive -= 1


@scenario("lazy", "stream", cases=["items", "results"])
async def of_ten_thousand_items_only_a_few_are_in_memory(library, case):
    class Counted(Thing):
        pass

    async def work(item):
        await asyncio.sleep(0)
        return Counted() if case == "results" else None

    source = (Counted() if case == "items" else None for _ in range(10_000))
    async with library.stream(work, source, 10) as results:
        async for result in results:
            del result
    assert Counted.most < 200, f"{Counted.most} {case} in memory at once, at a limit of 10"


@scenario(forms=FORMS)
async def ten_items_at_a_limit_of_a_billion_take_a_few_tasks(library, run):
    most = 0

    async def work(item):
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        await turns(3)
        most = max(most, len(asyncio.all_tasks()))
        return item

    same(await run(work, list(range(10)), 10**9), range(10))
    assert most < 50, f"{most} tasks were alive at once"


@scenario(forms=FORMS)
async def there_are_not_many_more_tasks_than_the_limit(library, run):
    most, before = 0, len(asyncio.all_tasks())

    async def work(item):
        nonlocal most
        await asyncio.sleep(0)
        most = max(most, len(asyncio.all_tasks()) - before)
        return item

    await run(work, list(range(1000)), 10)
    assert most <= 13, f"{most} tasks at a limit of 10"


@scenario(forms=FORMS)
def items_that_never_suspend_do_not_block_the_loop(library, lane, run):
    """A turn of the loop takes at most 0.03 s of CPU time of this thread, which a busy machine does not prolong."""
    longest = 0.0

    async def busy(item):
        return sum(range(2000))

    async def watch():
        nonlocal longest
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    async def main():
        watcher = asyncio.ensure_future(watch())
        try:
            await asyncio.sleep(0)
            await run(busy, list(range(5000)), 10)
        finally:
            watcher.cancel()
            await asyncio.wait([watcher])

    lane.run_live(main)
    assert longest < 0.03, f"one turn of the loop took {1000 * longest:.0f} ms of CPU"


@scenario(forms=FORMS)
async def an_error_that_was_handled_is_freed_at_once(library, run):
    class Local:
        pass

    kept = []

    async def work(item):
        local = Local()
        kept.append(weakref.ref(local))
        await asyncio.sleep(0)
        if item == 2:
            raise ValueError(item)
        return item

    gc.collect()
    gc.disable()
    try:
        await caught(run(work, list(range(5)), 3))
        await turns(5)
        alive = sum(reference() is not None for reference in kept)
    finally:
        gc.enable()
    assert not alive, f"the handled error keeps {alive} locals of items alive"


@scenario(forms=FORMS)
async def results_that_were_dropped_are_freed_at_once(library, run):
    class Counted(Thing):
        pass

    async def work(item):
        await asyncio.sleep(0)
        return Counted()

    gc.collect()
    gc.disable()
    try:
        results = await run(work, list(range(50)), 3)
        assert Counted.alive == 50
        del results
        await turns(5)
    finally:
        gc.enable()
    assert not Counted.alive, f"{Counted.alive} results are kept alive"


@scenario("outcomes")
async def exceptions_as_values_that_were_dropped_are_freed_at_once(library):
    class Local(Thing):
        pass

    async def work(item):
        local = Local()
        await asyncio.sleep(0)
        raise ValueError(local)

    gc.collect()
    gc.disable()
    try:
        results = await library.outcomes(work, list(range(20)), 3)
        assert len(results) == 20
        del results
        await turns(5)
    finally:
        gc.enable()
    assert not Local.alive, f"the locals of {Local.alive} items are kept alive"


@scenario("stream")
async def a_result_that_was_delivered_is_not_kept(library):
    class Counted(Thing):
        pass

    async def work(item):
        await nap(1)
        return Counted()

    async with library.stream(work, list(range(5)), 1) as results:
        async for result in results:
            reference = weakref.ref(result)
            del result
            await turns(1)
            assert reference() is None


@scenario("collect")
async def five_hundred_runs_leave_no_task(library):
    for _ in range(500):
        await library.collect(identity, [1, 2, 3], 2)
    assert len(asyncio.all_tasks()) == 1


@scenario("collect")
async def twenty_thousand_items_that_never_suspend_do_not_overflow_the_stack(library):
    async def instant(item):
        return None

    assert len(await library.collect(instant, [None] * 20_000, 1)) == 20_000


@scenario("lazy", "stream")
async def an_endless_source_and_items_that_never_suspend_can_be_timed_out(library):
    """The timer is a callback of the loop, so the items must let the loop run."""

    async def instant(item):
        return item

    async def read():
        async with library.stream(instant, itertools.count(), 10) as results:
            async for _ in results:
                pass

    task = asyncio.ensure_future(read())
    for _ in range(50):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@scenario("collect")
async def an_item_can_wait_for_a_later_concurrent_item(library):
    """A slot is refilled while other items still run, so no batch must complete first."""
    released = asyncio.Event()

    async def work(item):
        if item == 0:
            await released.wait()
        elif item == 50:
            released.set()
        await asyncio.sleep(0)
        return item

    same(await library.collect(work, list(range(60)), 2), range(60))


@scenario("collect")
async def a_run_of_items_that_never_end_can_be_left_by_cancelling_it(library):
    work = Work()
    forever = asyncio.Event()

    async def main():
        return await library.collect(wait, [1, 2, 3], 2)

    async def wait(item):
        await work.run(item)
        await forever.wait()

    task = asyncio.ensure_future(main())
    await turns(9)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
