"""Limits that others made: semaphores, aiolimiter, anyio, and any async context manager."""

from __future__ import annotations

import asyncio
import threading

import aiolimiter
import anyio
import pytest

import paco
from paco.testing import Probe, now

COUNTS = [asyncio.Semaphore, asyncio.BoundedSemaphore, anyio.CapacityLimiter]


def free(limit):
    """Return how many permits a count of somebody else has left."""
    return limit.available_tokens if isinstance(limit, anyio.CapacityLimiter) else limit._value


async def collect(probe, items, limit):
    return await paco.map(probe, items, limit=limit)


async def iterate(probe, items, limit):
    async with paco.map(probe, items, limit=limit) as results:
        return [result async for result in results]


async def each(probe, items, limit):
    return await paco.each(probe, items, limit=limit, collect=True)


async def gather(probe, items, limit):
    return await paco.gather(*(probe(item) for item in items), limit=limit)


async def call(probe, items, limit):
    return await paco.gather(map(paco.limited(probe, limit), items))


async def in_slots(probe, items, limit):
    async def one(item):
        async with both.slot(item):
            return await probe(item)

    both = paco.Limit(100) & limit
    return await paco.gather(map(one, items))


FORMS = [collect, iterate, each, gather, call, in_slots]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", COUNTS)
async def test_a_foreign_count_is_respected_and_gets_all_permits_back(form, count):
    limit, probe = count(2), Probe(lambda item: item, takes=10)
    assert await form(probe, range(6), limit) == [0, 1, 2, 3, 4, 5]
    assert probe.started_at == [0, 0, 10, 10, 20, 20]
    assert (probe.peak, free(limit)) == (2, 2)


@pytest.mark.parametrize("form", FORMS)
async def test_a_foreign_rate_is_respected(form):
    limit, probe = aiolimiter.AsyncLimiter(2, 4), Probe(lambda item: item, takes=0)
    assert await form(probe, range(6), limit) == [0, 1, 2, 3, 4, 5]
    assert probe.started_at == [0, 0, 2, 4, 6, 8]


@pytest.mark.parametrize("count", COUNTS)
async def test_a_foreign_limit_is_shared_with_code_outside_paco(count):
    limit, probe = count(2), Probe(lambda item: item, takes=10)

    async def stranger():
        async with limit:
            await asyncio.sleep(25)

    other = asyncio.ensure_future(stranger())
    await asyncio.sleep(0)
    await paco.map(probe, range(4), limit=limit)
    await other
    assert probe.started_at == [0, 10, 20, 25]


@pytest.mark.parametrize("count", COUNTS)
async def test_errors_of_items_release_the_permits_of_a_foreign_limit(count):
    limit, probe = count(2), Probe(lambda item: 1 // item, takes=1)
    results = await paco.map(probe, [1, 0, 1, 0], limit=limit, return_exceptions=True)
    assert list(map(type, results)) == [int, ZeroDivisionError, int, ZeroDivisionError]
    with pytest.raises(ZeroDivisionError):
        await paco.map(probe, [1, 0, 1], limit=limit)
    assert free(limit) == 2


@pytest.mark.parametrize("again", [None, 0, 1])
@pytest.mark.parametrize("form", [collect, iterate, call, in_slots])
@pytest.mark.parametrize("count", COUNTS)
def test_cancelled_at_every_step_no_permit_is_lost_or_granted_twice(count, form, again, cancel_at_every_step):
    async def main():
        limit, probe = count(2), Probe(lambda item: item, takes=lambda item: item % 2)
        try:
            await form(probe, range(4), limit)
        finally:
            assert probe.peak <= 2
            assert (probe.running, free(limit)) == (0, 2)

    assert cancel_at_every_step(main, again=again) > 10


@pytest.mark.parametrize("again", [None, 0, 1])
def test_a_foreign_rate_works_after_cancellation_at_every_step(again, cancel_at_every_step):
    async def main():
        limit, probe = aiolimiter.AsyncLimiter(1, 2), Probe(lambda item: item, takes=1)
        try:
            await paco.map(probe, range(3), limit=limit)
        finally:
            assert probe.running == 0

    assert cancel_at_every_step(main, again=again) > 5


async def test_foreign_limits_combine_with_those_of_paco():
    limit = paco.Limit(3) & anyio.CapacityLimiter(2) & asyncio.Semaphore(5) & aiolimiter.AsyncLimiter(100, 1)
    limit &= paco.Rate(1)
    probe = Probe(lambda item: item, takes=10)
    await paco.map(probe, range(4), limit=limit)
    assert probe.started_at == [0, 1, 10, 11]


async def test_a_foreign_limit_can_be_written_first():
    limit = asyncio.Semaphore(2) & paco.Limit(3)
    probe = Probe(lambda item: item, takes=1)
    await paco.map(probe, range(4), limit=limit)
    assert probe.peak == 2


class Manager:
    """An async context manager that notes how it is left, and can fail."""

    def __init__(self, *, fails_at=None):
        self.left = []
        self._fails_at = fails_at

    async def __aenter__(self):
        if self._fails_at == "enter":
            raise OSError("enter")

    async def __aexit__(self, kind, error, traceback):
        self.left.append((kind, error, traceback is not None))
        if self._fails_at == "exit":
            raise OSError("exit")
        return True


async def test_a_foreign_limit_gets_the_error_of_the_item_and_cannot_suppress_it():
    manager, failed = Manager(), ValueError("item")

    async def fail_on(item):
        if item == 1:
            raise failed
        return item

    assert await paco.map(fail_on, range(2), limit=manager, return_exceptions=True) == [0, failed]
    assert manager.left[:2] == [(None, None, False), (ValueError, failed, True)]
    with pytest.raises(ValueError, match=r"^item$"):
        await paco.limited(fail_on, manager)(1)


@pytest.mark.parametrize("fails_at", ["enter", "exit"])
async def test_an_error_of_a_foreign_limit_ends_the_run_and_the_call(fails_at):
    probe = Probe(lambda item: item)
    with pytest.raises(OSError, match=fails_at) as caught:
        await paco.map(probe, range(3), limit=Manager(fails_at=fails_at))
    assert caught.value.__notes__[0] == "paco.map: its limit"
    with pytest.raises(OSError, match=fails_at):
        await paco.limited(probe, Manager(fails_at=fails_at))(1)
    assert probe.running == 0


@pytest.mark.parametrize("wrong", [asyncio.Semaphore, threading.Lock(), asyncio.Event(), "2", 2.0])
def test_a_limit_that_is_no_async_context_manager_is_refused(wrong):
    for make in (lambda: paco.map(collect, [], limit=wrong), lambda: paco.limited(collect, wrong)):
        with pytest.raises(TypeError, match=r"^paco\.\w+: limit must be an int of 0 or more.*, got "):
            make()


async def test_foreign_limits_use_the_clock_of_the_loop():
    assert now() == 0
    limit = aiolimiter.AsyncLimiter(1, 3600)
    await paco.map(Probe(lambda item: item), range(3), limit=limit, timeout=10**5)
    assert now() >= 7200
