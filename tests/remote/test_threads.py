"""Items that run in the threads of a ``ThreadPoolExecutor``."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar

import pytest

import paco
import paco.testing
from paco.events import ItemEnded
from tests.patience import PATIENCE, until
from tests.remote.jobs import counted, quick, where

pytestmark = pytest.mark.realtime

VAR = ContextVar("VAR", default="none")


@pytest.fixture
def pool():
    with ThreadPoolExecutor(20) as pool:
        yield pool


@pytest.mark.parametrize("wrap", [paco.wraps, lambda fn: fn], ids=["wrapped", "plain"])
@pytest.mark.parametrize("limit", [0, 20, 100, paco.Limit(20)], ids=str)
async def test_as_many_blocking_items_run_at_once_as_there_are_threads_and_nothing_is_pickled(pool, limit, wrap):
    together, lock, seen = threading.Barrier(20), threading.Lock(), []

    def fetch(number):
        together.wait(PATIENCE)  # passes when 20 have come
        with lock:
            seen.append(number)
        return lock

    assert await paco.map(wrap(fetch), range(40), limit).on(pool) == [lock] * 40
    assert sorted(seen) == list(range(40))


async def test_async_functions_run_in_loops_of_their_own(pool):
    async def loop(number):
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    loops = await paco.map(loop, range(10), limit=5).on(pool)
    assert asyncio.get_running_loop() not in loops
    assert all(loop.is_closed() for loop in loops)
    assert set(await paco.map(where, range(3)).on(pool)) == {os.getpid()}


async def test_items_see_the_context_of_the_caller(pool):
    VAR.set("the caller's")
    assert await paco.map(paco.wraps(lambda _: VAR.get()), range(2)).on(pool) == ["the caller's"] * 2


async def test_slots_are_the_items_at_once(pool):
    running, most = [], []

    async def count(number):
        running.append(number)
        most.append(len(running))
        await asyncio.sleep(0.001)
        running.remove(number)

    await paco.map(count, range(20)).on(pool, slots=3)
    assert max(most) <= 3
    stream = paco.map(count, range(20))
    with pytest.raises(ValueError, match=r"paco\.map\.on: slots must be an int of 1 or more, got 0"):
        stream.on(pool, slots=0)
    stream.close()


async def test_a_cancelled_run_returns_when_its_items_have_ended(tmp_path):
    log = tmp_path / "log"
    with ThreadPoolExecutor(4) as pool:
        task = asyncio.ensure_future(paco.map(counted, [str(log)] * 100, limit=paco.Limit(10)).on(pool))
        await until(lambda: log.exists() and log.read_text().count("+") == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log.read_text().count("-") == log.read_text().count("+") < 10


@pytest.mark.parametrize("fails", [True, False])
async def test_a_blocking_item_is_waited_for_and_what_it_raises_late_is_told(pool, fails):
    begun, go_on = threading.Event(), threading.Event()

    def block(number):
        begun.set()
        go_on.wait(PATIENCE)
        if fails:
            raise OSError("late")

    task = asyncio.ensure_future(paco.map(paco.wraps(block), [1]).on(pool))
    await until(begun.is_set)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert ("late" in str(getattr(caught.value, "__notes__", ""))) is fails


async def test_an_item_that_is_cancelled_before_its_loop_runs_does_not_begin(monkeypatch):
    start, begun, runner = threading.Event(), [], asyncio.Runner

    def wait(*args, **options):
        start.wait(PATIENCE)
        return runner(*args, **options)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(asyncio, "Runner", wait)
        task = asyncio.ensure_future(paco.map(paco.wraps(begun.append), [1, 2], paco.Limit(2)).on(pool))
        await until(lambda: pool._threads and pool._work_queue.qsize() == 1)  # the thread has taken the first
        task.cancel()
        for _ in range(10):  # until the cancellation has reached the items
            await asyncio.sleep(0)
        start.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert begun == []


@pytest.mark.parametrize(
    "item", [quick, paco.wraps(lambda number: time.sleep(0.02) or number)], ids=["async", "blocks"]
)
def test_a_loop_on_virtual_time_waits_for_the_threads_of_a_pool_that_was_there_before(pool, item):
    together = threading.Barrier(20)
    list(pool.map(lambda _: together.wait(PATIENCE), range(20)))  # all threads have started
    assert paco.testing.run(paco.map(item, range(4), timeout=PATIENCE).on(pool)) == [0, 1, 2, 3]


async def test_errors_settled_functions_listeners_and_journals_work_as_without_threads(pool, tmp_path):
    async def invert(number):
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        await paco.map(invert, [0, 1]).on(pool)
    for _ in range(2):
        outcomes = await paco.map(paco.settle(invert), [0, 1]).on(pool).journal(tmp_path / "run.jsonl")
        assert [type(outcome) for outcome in outcomes] == [paco.Err, paco.Ok]
    ends = []
    with paco.listening(ends.append, ItemEnded):
        assert await paco.map(quick, range(3), limit=2).on(pool) == [0, 1, 2]
    assert [event.outcome for event in ends] == ["ok"] * 3


async def test_a_limit_inside_the_function_is_refused_since_each_item_has_a_loop_of_its_own(pool):
    async def fetch(number):
        await asyncio.sleep(0.01)

    with pytest.raises(RuntimeError, match=r"paco\.Limit: must be used in one event loop at a time, but callers in an"):
        await paco.map(paco.limited(fetch, paco.Limit(1)), range(20)).on(pool)


async def test_the_last_engine_counts(pool):
    class Never(Executor):
        def submit(self, fn, /, *args, **kw):
            raise AssertionError("this engine was replaced")

    assert await paco.map(paco.wraps(str), [1], limit=1).on(Never()).on(pool) == ["1"]
