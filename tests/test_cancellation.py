"""Cancelled at every loop step, once and twice: everything has finished, nothing is swallowed, nothing is left."""

from __future__ import annotations

import asyncio

import pytest

import paco
from paco.testing import AsyncSource, Source, cancel_at_every_step


async def work(item):
    """Take some steps, and some more to clean up."""
    try:
        for _ in range(item % 3):
            await asyncio.sleep(0)
        return item
    finally:
        await asyncio.sleep(0)


async def fail(item):
    await work(item)
    if item == 2:
        raise ValueError(item)
    return item


async def add(total, item):
    return total + await work(item)


async def iterate(stream, *, leave_after=None):
    seen = []
    async with stream as results:
        async for item in results:
            seen.append(item)
            await asyncio.sleep(0)
            if len(seen) == leave_after:
                break
    return seen


async def rows():
    await asyncio.sleep(0)
    return range(4)


async def wait_and_go_on(*given):
    _, pending = await paco.wait(*given, limit=2, return_when="FIRST_COMPLETED")
    if pending:
        try:
            await asyncio.wait(pending)
        finally:
            for future in pending:
                future.cancel()
            for _ in range(9):
                await asyncio.sleep(0)


async def execute(fn):
    async with paco.ConcurrentExecutor(limit=2) as executor:
        for number in range(5):
            executor.add(fn, number)


SOURCES = {
    "list": lambda: list(range(4)),
    "generator": lambda: Source(range(4)).generator(),
    "async iterator": lambda: AsyncSource(range(4), delay=0.1),
    "async generator": lambda: AsyncSource(range(4)).generator(),
    "awaitable": rows,
    "stream": lambda: paco.map(work, range(4), limit=2),
}
SOME_SOURCES = {"list", "async generator"}
CALLS = {
    "map": lambda source: paco.map(work, source, limit=2),
    "map without limit": lambda source: paco.map(work, source),
    "map that fails": lambda source: paco.map(fail, source, limit=3),
    "map with a timeout": lambda source: paco.map(work, source, limit=2, timeout=0.3),
    "ordered stream": lambda source: iterate(paco.map(work, source, limit=2)),
    "as completed": lambda source: iterate(paco.map(work, source, limit=3).as_completed()),
    "stream left early": lambda source: iterate(paco.map(work, source, limit=2), leave_after=2),
    "each": lambda source: paco.each(work, source, limit=2),
    "filter": lambda source: paco.filter(work, source, limit=2),
    "filterfalse": lambda source: paco.filterfalse(work, source, limit=2),
    "flat_map": lambda source: paco.flat_map(work, source, limit=2),
    "dropwhile": lambda source: paco.dropwhile(work, source),
    "reduce": lambda source: paco.reduce(add, source, initializer=0),
    "reduce from the right": lambda source: paco.reduce(add, source, right=True),
    "some": lambda source: paco.some(work, source, limit=2),
    "every": lambda source: paco.every(work, source, limit=2),
    "pipeline": lambda source: source | paco.map(work, limit=2) | paco.filter(work) | paco.each(work, limit=1),
}
GROUPS = {
    "gather": lambda: paco.gather(*(work(n) for n in range(5)), limit=2),
    "gather that fails": lambda: paco.gather(work(2), fail(2), work(1), work(2), limit=2),
    "series": lambda: paco.series(*(work(n) for n in range(3))),
    "race": lambda: paco.race([work(2), work(1), work(2)]),
    "wait": lambda: paco.wait(*(work(n) for n in range(5)), limit=2),
    "repeat": lambda: paco.repeat(work, 5, limit=2),
    "executor": lambda: execute(work),
}
EXPECTED = (ValueError, TimeoutError)


async def tolerate(awaitable):
    try:
        return await awaitable
    except EXPECTED:
        return None


EVERY_SOURCE = {"map", "ordered stream", "pipeline"}
CASES = [(call, source) for call in CALLS for source in SOURCES if call in EVERY_SOURCE or source in SOME_SOURCES]


@pytest.mark.parametrize("again", [None, 1])
@pytest.mark.parametrize(("call", "source"), CASES)
def test_functions_over_items_cancelled_at_every_step(call, source, again):
    points = cancel_at_every_step(lambda: tolerate(CALLS[call](SOURCES[source]())), again=again)
    assert points > 4


@pytest.mark.parametrize("again", [None, 0, 1, 3])
@pytest.mark.parametrize("call", GROUPS)
def test_groups_cancelled_at_every_step(call, again):
    assert cancel_at_every_step(lambda: tolerate(GROUPS[call]()), again=again) > 4


def test_what_wait_left_pending_belongs_to_the_caller_who_cancels_it():
    given = range(5)
    assert cancel_at_every_step(lambda: wait_and_go_on(*(work(n) for n in given))) > 4
