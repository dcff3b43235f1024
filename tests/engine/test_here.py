"""`paco.current`: which item runs here."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import weakref

import pytest

import paco
from paco.testing import AsyncSource, Source

LIMITS = [0, 1, 3, paco.Limit(3), paco.Limit(1)]
NAMES = ["none", "one", "three", "object", "one permit"]


async def here(item):
    before = paco.current()
    await asyncio.sleep(item % 3)
    assert paco.current() == before
    return before


def pair(here):
    return here.item, here.index


def test_there_is_none_without_a_loop():
    assert paco.current() is None


async def test_there_is_none_outside_an_item():
    assert paco.current() is None
    asyncio.get_running_loop().call_soon(lambda: seen.append(paco.current()))
    seen = []
    await asyncio.sleep(0)
    assert seen == [None]


@pytest.mark.parametrize("limit", LIMITS, ids=NAMES)
@pytest.mark.parametrize("kind", [list, Source, AsyncSource])
async def test_an_item_knows_itself_its_index_and_its_run(limit, kind):
    expected = [paco.Current(item, index, 1, "map here", None) for index, item in enumerate(range(100, 140))]
    assert await paco.map(here, kind(range(100, 140)), limit=limit) == expected


@pytest.mark.parametrize("limit", [1, paco.Limit(1)])
async def test_items_that_never_suspend_know_themselves(limit):
    async def fast(item):
        return pair(paco.current()) == (item, item)

    assert all(await paco.map(fast, iter(range(5000)), limit=limit))  # enough for an interpreter to specialize the loop


@pytest.mark.parametrize("limit", LIMITS, ids=NAMES)
async def test_a_source_is_no_item(limit):
    seen = []

    def rows():
        for row in range(500):
            seen.append(paco.current())
            yield row

    async def later_rows():
        for row in rows():
            yield row

    async def fast(item):
        return item

    await paco.map(fast, rows(), limit=limit)
    await paco.map(fast, later_rows(), limit=limit)
    assert len(seen) == 1000
    assert set(seen) == {None}


@pytest.mark.parametrize("limit", LIMITS, ids=NAMES)
@pytest.mark.parametrize("listens", [False, True])
async def test_each_attempt_has_its_number(limit, listens):
    seen = {}

    async def stubborn(item):
        seen.setdefault(item, []).append(paco.current().attempt)
        if len(seen[item]) < 1 + item % 3:
            raise OSError
        return paco.current().attempt

    with paco.trace() if listens else paco.deadline(None):
        attempts = await paco.map(paco.retry(stubborn, wait=0), range(30), limit=limit)
    assert attempts == [1, 2, 3] * 10
    assert all(found == list(range(1, len(found) + 1)) for found in seen.values())


async def test_a_retry_in_a_source_is_no_attempt_of_an_item():
    asked = 0

    async def ask():
        nonlocal asked
        asked += 1
        if asked < 3:
            raise OSError

    async def rows():
        yield 0
        await paco.retry(ask, wait=0)()
        yield 1

    assert [one.attempt for one in await paco.map(here, rows(), limit=1)] == [1, 1]


async def test_the_run_is_the_one_that_listeners_see():
    with paco.trace() as trace:
        (one,) = await paco.map(here, [5])
    assert one.run is trace.runs[0]
    assert one.title == one.run.title


async def test_of_nested_runs_it_is_the_innermost():
    async def outer(item):
        before, inner = paco.current(), await paco.map(here, [item + 1])
        assert paco.current() == before
        return before, *inner

    assert await paco.map(outer, [5]) == [
        (paco.Current(5, 0, 1, "map outer", None), paco.Current(6, 0, 1, "map here", None))
    ]


async def test_tasks_and_threads_of_an_item_are_no_item():
    async def item(_):
        in_task = await asyncio.create_task(here(0))
        return in_task, await asyncio.to_thread(paco.current)

    assert await paco.map(item, [1]) == [(None, None)]


async def test_results_that_come_before_the_items_have_no_number():
    found = await paco.flat_map(here, [[7], 8], initializer=["head"])
    assert [one if one == "head" else pair(one) for one in found] == ["head", (7, 0), (8, 1)]


async def test_a_stream_a_stage_and_wrappers_know_the_item():
    wrapped = paco.timeout(paco.settle(paco.limited(here, 3)), 60)
    found = await ([1, 2] | paco.map(wrapped, limit=2))
    assert [(one.value.item, one.value.index) for one in found] == [(1, 0), (2, 1)]
    async with paco.map(here, [3, 4], limit=1) as results:
        assert [pair(one) async for one in results] == [(3, 0), (4, 1)]


async def test_coroutines_of_gather_are_its_items():
    one, two = here(0), here(1)
    assert [pair(found) for found in await paco.gather(one, two)] == [(one, 0), (two, 1)]


class Page:
    """An item that can be referred to weakly."""


async def test_it_keeps_no_item_alive():
    refs = []

    async def item(page):
        assert refs or paco.current().item is page  # asked once: it could keep the first one for the whole run
        refs.append(weakref.ref(page))
        await asyncio.sleep(0)
        return [ref() is None for ref in refs[:-2]]

    gc.disable()
    try:
        gone = await paco.map(item, (Page() for _ in range(9)), limit=1)
    finally:
        gc.enable()
    assert all(map(all, gone))


async def test_it_is_right_after_an_item_that_was_cancelled():
    async def item(value):
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(pair(paco.current()))

    seen = []
    with pytest.raises(TimeoutError):
        await paco.map(item, [3, 4], timeout=1)
    assert sorted(seen) == [(3, 0), (4, 1)]


@pytest.mark.realtime
@pytest.mark.parametrize("limit", [2, paco.Limit(2)], ids=["chunks", "single items"])
def test_elsewhere_an_item_does_not_know_its_index(limit):
    found = paco.run(paco.map(whereabouts, [3, 5, 7], limit=limit).on(1))
    assert found == [(item, None, 1, "map whereabouts", None) for item in (3, 5, 7)]


async def whereabouts(_):
    return dataclasses.astuple(paco.current())
