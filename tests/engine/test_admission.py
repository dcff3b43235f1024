"""Runs under limit objects: what is asked when, what is pulled, who waits where."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import traceback
import weakref

import pytest

import paco
from paco._engine.sinks import Drop
from paco._stream.plan import Plan
from paco.testing import AsyncSource, Probe, Source, now

VAR: contextvars.ContextVar[object] = contextvars.ContextVar("VAR", default="unset")


async def same(item):
    return item


def nap():
    return Probe(lambda item: item, takes=1)


class Log(paco.Limiter):
    """A limit that notes what it is asked and told, and lets ``count`` go at once."""

    def __init__(self, count=10**9, *, lookahead=0, refuses=None):
        self.said = []
        self.out = 0
        self._lookahead = lookahead
        self._semaphore = asyncio.Semaphore(count)
        self._refuses = refuses

    @property
    def lookahead(self):
        return self._lookahead

    async def acquire(self, item=None):
        await self._semaphore.acquire()
        if self._refuses is not None:
            self._semaphore.release()
            raise self._refuses
        self.said.append(("may", item))
        self.out += 1
        return len(self.said)

    def release(self, permit, error=None):
        self.out -= 1
        self._semaphore.release()
        self.said.append(("ended", type(error).__name__ if error else permit))


class Slow(Log):
    """One that is told of the end by something that is to be awaited."""

    def __init__(self, count=10**9, *, fails=None):
        super().__init__(count)
        self._fails = fails

    async def release(self, permit, error=None):
        await asyncio.sleep(1)
        super().release(permit, error)
        if self._fails is not None:
            raise self._fails


async def test_one_item_is_taken_ahead_of_the_limit():
    source = Source(range(5))
    limit = paco.Limit(2)
    running = asyncio.ensure_future(paco.map(nap(), source, limit=limit))
    await asyncio.sleep(0.5)
    assert (source.pulled, limit.in_flight, limit.waiting) == (3, 2, 1)
    assert await running == [0, 1, 2, 3, 4]
    assert (now(), limit.in_flight, limit.waiting) == (3, 0, 0)


async def test_an_async_source_is_read_one_item_ahead_while_no_permit_is_free():
    source = AsyncSource(range(5))
    running = asyncio.ensure_future(paco.map(nap(), source, limit=paco.Limit(2)))
    await asyncio.sleep(0.5)
    assert source.pulled == 3
    assert await running == [0, 1, 2, 3, 4]
    assert now() == 3


async def test_an_idle_source_holds_no_permit():
    limit = paco.Limit(1)
    idle = asyncio.ensure_future(paco.map(same, AsyncSource([1], delay=100), limit=limit))
    await asyncio.sleep(1)
    assert await paco.map(nap(), range(3), limit=limit) == [0, 1, 2]
    assert now() == 4
    assert await idle == [1]


async def test_the_limit_is_told_how_each_item_ended():
    limit = Log()

    async def fails(item):
        if item == 1:
            raise OSError
        return item

    results = await paco.map(fails, range(3), limit=limit, return_exceptions=True)
    assert results[::2] == [0, 2]
    assert [word for said, word in limit.said if said == "ended"][1] == "OSError"
    assert limit.out == 0


async def test_an_awaitable_returned_by_release_is_awaited():
    limit = Slow(1)
    assert await paco.map(same, range(3), limit=limit) == [0, 1, 2]
    assert (now(), limit.out) == (3, 0)


@pytest.mark.parametrize("limit", [Log(refuses=OSError("closed")), Slow(fails=OSError("closed"))], ids=["asks", "told"])
async def test_a_limit_that_fails_ends_the_run(limit):
    source = Source(range(100)).generator()
    with pytest.raises(OSError, match="closed") as caught:
        await paco.map(same, source, limit=limit)
    assert caught.value.__notes__[0] == "paco.map: its limit"
    assert source.gi_frame is None


@pytest.mark.parametrize("completed", [False, True])
async def test_as_many_results_wait_for_a_slow_consumer_as_items_were_in_flight_at_once(completed):
    probe, waiting = nap(), []
    stream = paco.map(probe, range(60), limit=paco.Limit(3))
    async with stream.as_completed() if completed else stream as results:
        async for number in results:
            await asyncio.sleep(10)
            waiting.append(len(probe.started) - number - 1)
    assert set(waiting[:-4]) == {3, 4, 5, 6}  # the other three were in flight when the third began to wait


async def test_an_error_of_a_limit_shows_its_frames_and_none_of_the_engine():
    class Broken(paco.Limit):
        def renew(self, permit):
            raise OSError("closed")

    with pytest.raises(OSError, match="closed") as caught:
        await paco.map(same, range(9), limit=Broken(1))
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["throw", "renew"]  # others would keep the results alive


async def test_an_item_that_raises_generator_exit_has_its_release_awaited():
    semaphore = asyncio.Semaphore(1)

    async def leave(item):
        raise GeneratorExit

    with pytest.raises(BaseException):  # noqa: B017, PT011 - the kind is not the point
        await paco.map(leave, [1], limit=semaphore)
    assert not semaphore.locked()


@pytest.mark.parametrize(
    "source", [[], Source([], error=OSError("broken")), Source([]).generator()], ids=["empty", "broken", "generator"]
)
async def test_no_permit_is_acquired_for_an_item_that_does_not_come(source):
    limit = Log()
    with contextlib.suppress(OSError):
        assert await paco.map(same, source, limit=limit) == []
    assert limit.said == []


async def test_the_end_of_a_source_does_not_wait_for_a_permit():
    limit = paco.Limit(1)
    permit = await limit.acquire()
    first = asyncio.ensure_future(paco.map(nap(), [1], limit=limit))
    await asyncio.sleep(0.1)
    done = asyncio.Event()

    async def waits(item):
        await done.wait()

    second = asyncio.ensure_future(paco.map(waits, [1], limit=limit))
    await asyncio.sleep(0.1)
    limit.release(permit)
    assert await first == [1]  # though the second one has the only permit, until the first has ended
    done.set()
    await second
    assert await paco.map(same, [1], limit=paco.Rate(1, per=60)) == [1]
    assert now() == 1.2


async def test_a_limit_with_a_lookahead_lets_that_many_items_wait():
    limit = Log(1, lookahead=3)
    source = Source("abcdefgh")
    running = asyncio.ensure_future(paco.map(nap(), source, limit=limit))
    await asyncio.sleep(0.5)
    assert source.pulled == 4  # one that runs, three that wait
    assert await running == list("abcdefgh")
    assert [item for said, item in limit.said if said == "may"] == list("abcdefgh")
    assert now() == 8


async def test_an_error_of_a_limit_that_looks_at_the_item_is_an_error_of_the_item():
    class Fussy(Log):
        async def acquire(self, item=None):
            if item == 1:
                raise ValueError("one is refused")
            return await super().acquire(item)

    limit = Fussy(lookahead=1)
    results = await paco.map(same, range(3), limit=limit, return_exceptions=True)
    assert [results[0], str(results[1]), results[2]] == [0, "one is refused", 2]
    assert limit.out == 0


async def test_a_limit_can_be_raised_and_lowered_while_it_is_in_use():
    limit, probe = paco.Limit(1), nap()
    running = asyncio.ensure_future(paco.map(probe, range(100), limit=limit))
    await asyncio.sleep(2.5)
    assert probe.running == 1
    limit.limit = 10
    await asyncio.sleep(1.25)
    assert probe.running == 10
    limit.limit = 2
    await asyncio.sleep(2)
    assert probe.running == 2
    running.cancel()
    await asyncio.wait([running])
    assert limit.in_flight == limit.waiting == 0


async def test_two_calls_share_a_limit():
    limit, probe = paco.Limit(3), nap()
    both = await paco.gather(paco.map(probe, range(6), limit=limit), paco.map(probe, range(6), limit=limit))
    assert both == [list(range(6))] * 2
    assert (probe.peak, now()) == (3, 4)


async def test_a_call_inside_an_item_that_would_deadlock_raises():
    limit = paco.Limit(2)

    async def nested(item):
        await asyncio.sleep(0.1)
        return await paco.map(same, [item], limit=limit)

    with pytest.raises(RuntimeError, match=r"deadlock: every item in flight .*\(2\) .* give the inner call a limit"):
        await paco.map(nested, range(4), limit=limit)
    assert limit.in_flight == 0


async def test_a_call_inside_an_item_waits_while_another_holder_can_release_the_limit():
    limit = paco.Limit(2)

    async def nested(item):
        if item:
            await asyncio.sleep(1)
            return [item]
        return await paco.map(same, [item], limit=limit)

    assert await paco.map(nested, range(3), limit=limit) == [[0], [1], [2]]


async def test_an_item_sees_the_context_of_the_caller_and_not_that_of_other_items():
    seen = []

    async def marks(item):
        seen.append(VAR.get())
        VAR.set(item)
        return item

    VAR.set("caller")
    assert await paco.map(marks, range(5), limit=paco.Limit(2)) == list(range(5))
    assert seen == ["caller"] * 5


class Hostile:
    def __eq__(self, other):
        raise ValueError

    __hash__ = None


async def test_a_context_value_that_cannot_be_compared_counts_as_changed():
    async def marks(item):
        VAR.set(Hostile())
        return VAR.get() is not None

    VAR.set(Hostile())
    assert await paco.map(marks, range(3), limit=paco.Limit(1)) == [True] * 3


async def test_a_context_value_of_the_source_that_cannot_be_compared_is_for_its_item():
    given = {}

    def source():
        for number in range(5):
            VAR.set(given.setdefault(number, Hostile()))
            yield number

    async def sees(item):
        await asyncio.sleep(1)
        return VAR.get() is given[item]

    VAR.set(Hostile())
    assert await paco.map(sees, source(), limit=paco.Limit(2)) == [True] * 5


async def test_at_most_as_many_results_wait_for_a_slow_consumer_as_were_in_flight():
    source = Source(range(100))
    async with paco.map(nap(), source, limit=paco.Limit(3)) as results:
        assert await anext(results) == 0
        await asyncio.sleep(100)
        assert source.pulled <= 1 + 3 + 3
        assert [item async for item in results] == list(range(1, 100))


@pytest.mark.parametrize(("buffer", "waiting"), [(0, 1), (1, 1), (2, 2), (20, 20)])
async def test_a_buffer_sets_how_many_results_may_wait(buffer, waiting):
    source = Source(range(100))
    async with paco.map(nap(), source, limit=paco.Limit(1)).buffer(buffer) as results:
        assert await anext(results) == 0
        await asyncio.sleep(100)
        assert source.pulled == 1 + waiting + 1  # one has been taken, and one waits for its permit


async def test_no_item_is_kept_alive_while_workers_wait():
    class Item:
        pass

    alive = weakref.WeakSet()

    async def items():
        for _ in range(3):
            one = Item()
            alive.add(one)
            yield one
            del one
        yield None
        await asyncio.sleep(100)

    async def forget(item):
        return None

    running = asyncio.ensure_future(paco.map(forget, items(), limit=paco.Limit(2)))
    await asyncio.sleep(1)
    gc.collect()
    assert not alive
    await running


async def test_under_a_count_there_are_few_more_workers_than_permits():
    most = 0

    async def count(item):
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(1)

    await paco.each(count, range(100), limit=paco.Limit(10))
    assert most <= 1 + 10 + 2
    assert now() == 10


async def test_each_function_over_items_takes_a_limit():
    limit, probe = paco.Limit(2), nap()

    async def positive(item):
        return await probe(item) > 0

    assert await paco.each(probe, range(4), limit=limit, collect=True) == [0, 1, 2, 3]
    assert await paco.filter(positive, range(4), limit=limit) == [1, 2, 3]
    assert await paco.filterfalse(positive, range(4), limit=limit) == [0]
    assert await paco.flat_map(probe, [[0, 1], [2, 3]], limit=limit) == [0, 1, 2, 3]
    assert await paco.repeat(probe, 4, limit=limit) == [1, 2, 3, 4]
    assert await paco.some(positive, range(4), limit=limit)
    assert not await paco.every(positive, range(4), limit=limit)
    assert await (range(4) | paco.map(probe, limit=limit) | paco.map(probe, limit=paco.Limit(1))) == [0, 1, 2, 3]
    assert await paco.gather(*map(probe, range(4)), limit=limit) == [0, 1, 2, 3]
    done, pending = await paco.wait(*map(probe, range(4)), limit=limit)
    assert (len(done), len(pending)) == (4, 0)
    executor = paco.ConcurrentExecutor(limit=limit)
    executor.extend(*map(probe, range(4)))
    await executor.run()
    assert probe.peak == 3  # of the two stages
    assert limit.in_flight == 0


@pytest.mark.parametrize("limit", ["2", 2.0, ..., True], ids=repr)
def test_an_invalid_limit_is_refused(limit):
    with pytest.raises(TypeError, match=r"^paco\.map: limit must be an int of 0 or more"):
        paco.map(same, [], limit=limit)


def test_a_run_that_is_collected_with_its_loop_reports_nothing(caplog):
    gc.collect()  # what other tests have left may have something to say
    caplog.clear()
    loop = asyncio.new_event_loop()
    limits = [asyncio.Semaphore(2), paco.Limit(1)]
    running = [loop.create_task(paco.map(Probe(lambda item: item, takes=100), [1, 2, 3], limit=one)) for one in limits]
    reading = loop.create_task(paco.map(nap(), AsyncSource([1], delay=100), limit=paco.Limit(1)))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    del running, reading, limits, loop
    gc.collect()
    assert {record.getMessage().partition("\n")[0] for record in caplog.records} <= {
        "Task was destroyed but it is pending!"
    }


async def test_a_worker_that_is_being_cancelled_is_not_woken():
    limit = paco.Limit(1)
    run = Plan("map", same, [1], limit).run(Drop())
    run.start()
    cancelled, waits = (asyncio.get_running_loop().create_future() for _ in range(2))
    cancelled.cancel()
    admission = run.admission
    admission._off_duty = [waits, cancelled]
    assert admission._call_one()
    assert waits.done()
    assert not admission._call_one()
    await run.join()
