"""Every example in the documentation of the library that this one re-creates, in the order of that document.

Each test calls as the document does and expects the result that it gives. Where its text cannot be right, the docstring
says what was wrong and the corrected example is run. A name that it lists without an example is called as the
signature, or what is said about it, has it.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import closing

import pytest

import paco
from paco.testing import VirtualLoop, now


async def mul2(num):
    return num * 2


async def sum1(num):
    return num + 1


async def task(num, foo=None):
    """The ``task(1, foo='bar')`` of several examples, which do not show it."""
    await asyncio.sleep(10)
    return num, foo


TASK_RESULTS = [(1, "bar"), (2, "bar"), (3, "bar"), (4, "bar")]


def four_tasks():
    return [task(1, foo="bar"), task(2, foo="bar"), task(3, foo="bar"), task(4, foo="bar")]


async def coroutine(text, num):
    """The ``coroutine`` of the executor's example."""
    await asyncio.sleep(10)
    return text * num


class Count:
    """Counts its calls, for the loops and for what limits calls."""

    def __init__(self):
        self.calls = 0

    async def __call__(self, num=1):
        self.calls += 1
        return num * 2

    async def below_five(self):
        return self.calls < 5

    async def is_five(self):
        return self.calls == 5


async def test_map():
    assert await paco.map(mul2, [1, 2, 3, 4, 5], limit=3) == [2, 4, 6, 8, 10]


def test_run():
    """Without ``loop`` it is a loop of its own: the ``asyncio.get_event_loop()`` of the text makes none any more."""
    assert paco.run(mul2(2)) == 4
    with closing(VirtualLoop()) as loop:
        assert paco.run(mul2(2), loop=loop) == 4
        assert paco.run(mul2(2), loop) == 4


async def test_each():
    """Two corrections: the function says ``mul * 2``, a name that it has not got, and results are only collected with
    ``collect=True``, as the text above the example says itself.
    """
    assert await paco.each(mul2, [1, 2, 3, 4, 5], limit=3) is None
    assert await paco.each(mul2, [1, 2, 3, 4, 5], limit=3, collect=True) == [2, 4, 6, 8, 10]


async def test_some():
    async def test(num):
        return num > 3

    assert await paco.some(test, [1, 2, 3, 4, 5]) is True


async def test_race():
    """Three corrections: the example passes a lone function where an iterable belongs, and the text promises a list and
    the interface of ``itertools.dropwhile``, though one result is what a race has.
    """

    async def slow():
        await asyncio.sleep(20)
        return "tortoise"

    async def fast():
        await asyncio.sleep(10)
        return "hare"

    with pytest.raises(TypeError):
        await paco.race(fast)
    assert await paco.race([slow, fast]) == "hare"
    assert now() == 10
    with pytest.raises(asyncio.TimeoutError):
        await paco.race([slow, fast], timeout=5)
    assert now() == 15


async def test_once():
    """No example, and ``(*args, **kw)`` for a signature."""
    once = paco.once(mul2)
    assert [await once(2), await once(3)] == [4, 4]


async def test_wait():
    done, pending = await paco.wait(
        task(1, foo="bar"),
        task(2, foo="bar"),
        task(3, foo="bar"),
        task(4, foo="bar"),
        limit=2,
        return_exceptions=True,
    )
    assert sorted(future.result() for future in done) == TASK_RESULTS
    assert pending == set()
    assert now() == 20


async def test_wraps():
    """One correction: the example calls it ``paco.wrap``."""

    def mult(num, foo=None):
        return num * 2

    coro = paco.wraps(mult)
    assert await coro(2, foo="bar") == 4


async def test_defer():
    """No example, and ``(*args, **kw)`` for a signature."""
    assert await paco.defer(mul2, delay=10)(2) == 4
    assert now() == 10


async def test_apply():
    """No example, and ``(*args, **kw)`` for a signature."""
    assert await paco.apply(mul2, 2)() == 4


async def test_every():
    """One correction: the example calls ``paco.some`` and has it answer ``True``, while no number is above ten: both
    answer ``False``. With a test that all of them pass it is ``True``.
    """

    async def test(num):
        return num > 10

    assert await paco.every(test, [1, 2, 3, 4, 5]) is False
    assert await paco.some(test, [1, 2, 3, 4, 5]) is False
    assert await paco.every(test, [11, 12, 13]) is True


async def test_until():
    """One correction: the example passes a list where the signature has the test, a coroutine function."""
    count = Count()
    with pytest.raises(TypeError, match=r"^paco\.until: coro_test must be a coroutine function, got \[1, 2"):
        await paco.until(count, [1, 2, 3, 4, 5])
    assert await paco.until(count, count.is_five) == [2, 2, 2, 2, 2]


async def test_times():
    """No example, and ``(*args, **kw)`` for a signature."""
    timed = paco.times(mul2, 2)
    assert [await timed(2), await timed(3), await timed(4)] == [4, 6, 6]


async def test_gather():
    results = await paco.gather(
        task(1, foo="bar"),
        task(2, foo="bar"),
        task(3, foo="bar"),
        task(4, foo="bar"),
        limit=2,
        return_exceptions=True,
    )
    assert results == TASK_RESULTS
    assert now() == 20


async def test_repeat():
    """Two corrections: the example calls ``paco.times``, whose second parameter is the limit already, and the list of
    parameters gives ``limit`` a default of 10, where the signature has 1.
    """

    async def task(num):
        return num * 2

    with pytest.raises(TypeError):
        await paco.times(task, 10, limit=2)
    assert await paco.repeat(task, 10, limit=2) == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]


async def test_reduce():
    """Two corrections: one to five are fifteen, not ten; and an initializer of ``None`` is a value like others, so the
    signature's ``initializer=None`` cannot be its default (as in ``functools.reduce``).
    """

    async def reducer(acc, num):
        return acc + num

    assert await paco.reduce(reducer, [1, 2, 3, 4, 5], initializer=0) == 15
    assert await paco.reduce(reducer, [1, 2, 3, 4, 5]) == 15


async def test_filter():
    """One correction: the example passes a ``coro`` where its function is called ``iseven``."""

    async def iseven(num):
        return num % 2 == 0

    assert await paco.filter(iseven, [1, 2, 3, 4, 5], limit=3) == [2, 4]


async def test_whilst():
    """One correction: the example passes a list where the signature has the test, a coroutine function."""
    count = Count()
    with pytest.raises(TypeError, match=r"^paco\.whilst: coro_test must be a coroutine function, got \[1, 2"):
        await paco.whilst(count, [1, 2, 3, 4, 5])
    assert await paco.whilst(count, count.below_five) == [2, 2, 2, 2, 2]


async def test_series():
    results = await paco.series(
        task(1, foo="bar"),
        task(2, foo="bar"),
        task(3, foo="bar"),
        task(4, foo="bar"),
        return_exceptions=True,
    )
    assert results == TASK_RESULTS
    assert now() == 40


async def test_partial():
    """No example, and ``(*args, **kw)`` for a signature."""
    assert await paco.partial(task, 1)(foo="bar") == (1, "bar")


async def test_timeout():
    """No example, and ``(*args, **kw)`` for a signature."""
    with pytest.raises(asyncio.TimeoutError):
        await paco.timeout(task, timeout=5)(1)
    assert await paco.timeout(task, timeout=15)(1) == (1, None)


async def test_compose():
    """One correction: the ``RuntimeError`` "if cannot execute a coroutine function" is a ``TypeError``, like that of
    every other function, and comes at the call.
    """
    coro = paco.compose(sum1, mul2, sum1)
    assert await coro(1) == 5
    with pytest.raises(TypeError):
        paco.compose(sum1, "mul2")


async def test_throttle():
    """No example, and ``(*args, **kw)`` for a signature."""
    throttled = paco.throttle(mul2, limit=1, timeframe=10)
    assert [await throttled(1), await throttled(2)] == [2, 2]
    await asyncio.sleep(10)
    assert await throttled(3) == 6


async def test_constant():
    coro = paco.constant("foo")
    assert await coro() == "foo"


async def test_dropwhile():
    async def filter(num):
        return num < 4

    assert await paco.dropwhile(filter, [1, 2, 3, 4, 5, 1]) == [4, 5, 1]


async def test_filterfalse():
    """Two corrections: the signature leaves out the ``assert_fn`` that its parameters describe (it stands last), and
    the example shows no result.
    """

    async def coro(num):
        return num % 2 == 0

    assert await paco.filterfalse(coro, [1, 2, 3, 4, 5], limit=3) == [1, 3, 5]
    assert await paco.filterfalse(coro, [1, 2, 3, 4, 5], 3) == [1, 3, 5]


def test_concurrent():
    assert paco.concurrent is paco.ConcurrentExecutor


async def test_concurrent_executor():
    pool = paco.ConcurrentExecutor(3)
    pool.add(coroutine, "foo", 1)
    pool.add(coroutine, "foo", 1)
    pool.add(coroutine, "foo", 1)
    done, pending = await pool.run(return_exceptions=True)
    assert [future.result() for future in done] == ["foo", "foo", "foo"]
    assert pending == set()
    assert now() == 10


async def test_concurrent_executor_events():
    heard = []

    def hear(event):
        return lambda *args: heard.append((event, *args))

    pool = paco.ConcurrentExecutor(3, coros=[functools.partial(mul2, 21)])
    for event in ("start", "task.start", "task.finish", "finish"):
        pool.on(event, hear(event))
    await pool.run()
    (start, started, finished, finish) = heard
    assert (start, finish) == (("start", pool), ("finish", pool))
    assert started[0] == "task.start"
    assert finished == ("task.finish", started[1], 42)


@pytest.mark.parametrize("name", ["add", "submit"])
async def test_concurrent_executor_add_and_its_alias_submit(name):
    pool = paco.ConcurrentExecutor(3)
    future = getattr(pool, name)(coroutine, "foo", num=2)
    with pytest.raises(TypeError):
        getattr(pool, name)(5)
    assert len(pool) == 1
    await pool.run()
    assert await future == "foofoo"


async def test_concurrent_executor_cancel():
    pool = paco.ConcurrentExecutor(1, coros=four_tasks())
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(15)
    pool.cancel()
    done, pending = await running
    assert now() == 15
    assert sorted(future.result() for future in done if not future.cancelled()) == TASK_RESULTS[:1]
    assert pending == set()
    assert not pool.is_running()


async def test_concurrent_executor_extend():
    pool = paco.ConcurrentExecutor(3)
    pool.extend(*four_tasks())
    with pytest.raises(TypeError):
        pool.extend(mul2, 5)
    done, _ = await pool.run()
    assert sorted(future.result() for future in done) == TASK_RESULTS


async def test_concurrent_executor_is_running():
    pool = paco.ConcurrentExecutor(3, coros=four_tasks())
    assert pool.is_running() is False
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(5)
    assert pool.is_running() is True
    await running
    assert pool.is_running() is False


async def test_concurrent_executor_off():
    heard = []
    pool = paco.ConcurrentExecutor(3, coros=[functools.partial(mul2, 21)])
    pool.on("task.start", heard.append)
    pool.on("start", heard.append)
    pool.off("task.start")
    await pool.run()
    assert heard == [pool]


async def test_concurrent_executor_on():
    heard = []

    async def listener(task, result):
        await asyncio.sleep(0)
        heard.append(result)

    pool = paco.ConcurrentExecutor(3, coros=[functools.partial(mul2, num) for num in (1, 2, 3)])
    pool.on("task.finish", listener)
    pool.on("start", heard.append)
    await pool.run()
    assert heard[0] is pool
    assert sorted(heard[1:]) == [2, 4, 6]


async def test_concurrent_executor_reset():
    heard = []
    pool = paco.ConcurrentExecutor(3, coros=four_tasks())
    pool.on("start", heard.append)
    pool.reset()
    assert len(pool) == 0
    pool.add(coroutine, "foo", 1)
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(5)
    with pytest.raises(RuntimeError):
        pool.reset()
    await running
    assert heard == []


@pytest.mark.parametrize("name", ["run", "wait"])
async def test_concurrent_executor_run_and_its_alias_wait(name):
    pool = paco.ConcurrentExecutor(2)
    with pytest.raises(ValueError, match="nothing to run"):
        await getattr(pool, name)()
    pool.extend(*four_tasks())
    running = asyncio.create_task(getattr(pool, name)(return_exceptions=True, return_when="ALL_COMPLETED"))
    await asyncio.sleep(5)
    pool.add(coroutine, "foo", 1)
    with pytest.raises(RuntimeError, match="is running"):
        await getattr(pool, name)()
    done, pending = await running
    assert (len(done), len(pending), now()) == (5, 0, 30)
    pool.add(coroutine, "foo", 1)
    with pytest.raises(TimeoutError):
        await getattr(pool, name)(timeout=5)
    assert now() == 35
