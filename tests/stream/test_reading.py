"""How far an async source is read: no item before it can start, or so many ahead; and stages that take directly."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools

import pytest

import paco
from paco.testing import AsyncSource, Probe, Source, now
from tests.counted import Counted
from tests.turns import Turns

LIMITS = {"number": lambda: 2, "Limit": lambda: paco.Limit(2)}


def nap(takes=1):
    return Probe(lambda item: item, takes=takes)


async def ended(task):
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("ahead", [0, 1, 7, 100])
async def test_so_many_items_are_read_ahead(make_limit, ahead):
    source, probe, limit = AsyncSource(range(1000)), nap(10), make_limit()
    task = asyncio.ensure_future(paco.map(probe, source, limit=limit).ahead(ahead))
    held = 2 + (limit != 2)  # under a limit object one item waits for its permit
    await asyncio.sleep(5)
    assert len(probe.started) == 2
    assert held + ahead // 2 <= source.pulled <= held + ahead
    await asyncio.sleep(100)
    assert len(probe.started) == 22
    assert held + 20 + ahead // 2 <= source.pulled <= held + 20 + ahead
    await ended(task)


@pytest.mark.parametrize(
    "make_limit", [lambda: 0, lambda: paco.PerKey(lambda item: item, lambda: 1)], ids=["no", "keys"]
)
async def test_a_slow_source_is_not_read_further_than_the_consumer_has_room(make_limit):
    source = AsyncSource(range(1000), delay=1)
    async with paco.map(nap(0), source, limit=make_limit()).buffer(1) as results:
        assert await anext(results) == 0
        await asyncio.sleep(200)
        assert source.pulled <= 3


async def test_a_run_whose_items_all_wait_for_their_keys_does_not_spin():
    limit = paco.PerKey(lambda item: "one", lambda: 1, lookahead=3)
    assert await paco.map(nap(), AsyncSource(range(10)), limit=limit) == list(range(10))
    assert now() == 10


async def test_items_of_one_page_run_while_the_next_page_is_read():
    async def pages():
        for first in range(0, 50, 10):
            await asyncio.sleep(1)
            for number in range(first, first + 10):
                yield number

    assert await paco.map(nap(), pages(), limit=10) == list(range(50))
    assert now() == 10
    assert await paco.map(nap(), pages(), limit=10).ahead(10) == list(range(50))
    assert now() == 10 + 6


async def endless():
    for number in itertools.count():
        yield number


async def paged(pages, size, wait):
    for page in range(pages):
        await asyncio.sleep(wait)
        for number in range(page * size, (page + 1) * size):
            yield number


@pytest.mark.parametrize("limit", [1, 2, 5, 64, 100])
async def test_items_that_are_there_at_once_start_together_and_none_is_read_before_it_can_start(limit):
    starts, read = [], 0

    async def work(item):
        starts.append(now())
        await asyncio.sleep(10)

    async def numbers():
        nonlocal read
        async with contextlib.aclosing(endless()) as source:
            async for number in source:
                read += 1
                yield number

    task = asyncio.ensure_future(paco.each(work, numbers(), limit=limit))
    for rounds in range(1, 4):
        await asyncio.sleep(5)
        assert starts == sorted(10.0 * (number // limit) for number in range(rounds * limit))
        assert read == rounds * limit
        await asyncio.sleep(5)
    await ended(task)


@pytest.mark.parametrize("size", [1, 2, 4])
async def test_the_items_of_a_page_start_together(size):
    starts = {}

    async def work(item):
        starts[item] = now()
        await asyncio.sleep(1)

    await paco.each(work, paged(5, size, wait=10), limit=5)
    assert starts == {item: 10 * (1 + item // size) for item in range(5 * size)}


@pytest.mark.parametrize("takes", [0, 1])
@pytest.mark.parametrize("count", [1, 3, 5])
async def test_slots_that_a_slow_consumer_frees_are_used_at_once_and_no_item_is_read_for_others(count, takes):
    starts, read = [], 0

    async def work(item):
        starts.append(now())
        await asyncio.sleep(takes)

    async def numbers():
        nonlocal read
        for number in itertools.count():
            read += 1
            yield number

    async with paco.map(work, numbers(), limit=5).buffer(0) as stream:
        for rounds in range(1, 9):
            for _ in range(count):
                await anext(stream)
            await asyncio.sleep(100)
            assert len(starts) == read == count * rounds + 5
            assert len(set(starts[-count:])) == 1


async def test_a_function_that_suspends_for_some_items_alone_leaves_no_slot_unused():
    starts = {}

    async def work(item):
        starts[item] = now()
        if item % 10 == 0:
            await asyncio.sleep(10)

    await paco.each(work, paged(3, 50, wait=0), limit=5)
    assert starts[149] == 30  # fifteen items of 10 s, five at once: the last five hold all slots until then
    assert [starts[item] for item in range(0, 150, 10)] == [10 * (place // 5) for place in range(15)]


async def test_a_source_that_ends_its_run_is_read_no_further():
    gate, read = paco.Gate(), []

    async def numbers():
        for number in itertools.count():
            read.append(number)
            if number == 7:
                gate.close()
            yield number

    probe = nap(0)
    await paco.each(probe, numbers(), limit=20 & gate)
    assert (read[-1], probe.started[-1]) == (7, 7)


async def test_a_stream_that_is_stopped_before_it_begins_does_not_open_its_source():
    opened = []

    async def listed():
        opened.append(True)
        return [1, 2]

    stream = paco.map(nap(), listed(), limit=2)
    stream.stop()
    assert await stream == opened == []


async def test_a_slow_source_gets_no_more_workers_than_items_are_in_flight():
    most = 0

    async def work(item):
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(10)

    await paco.each(work, AsyncSource(range(100), delay=1), limit=1000)
    assert most <= 11 + 2  # ten in flight, and one that takes an item; the reader, and this test


async def test_workers_double_while_a_source_has_items_at_once():
    started, all_started = itertools.count(1), asyncio.Event()

    async def work(item):
        if next(started) == 2000:
            all_started.set()
        await asyncio.sleep(1)

    async with Turns() as turns:
        task = asyncio.ensure_future(paco.each(work, endless(), limit=2000))
        await all_started.wait()
        assert turns.count < 100
    await ended(task)


async def test_a_source_continues_while_an_item_that_returns_from_back_off_uses_its_slot():
    failing, passed = {0}, []

    async def work(item):
        if item in failing:
            failing.remove(item)
            raise OSError
        await asyncio.sleep(10)

    async def source():
        yield 0
        await asyncio.sleep(5)
        passed.append(now())
        yield 1

    await paco.each(paco.retry(work, on=lambda _: 3), source(), limit=1)
    assert passed == [5]
    assert now() == 23


async def test_a_source_that_stops_its_stream_while_it_is_read_in_one_go_is_read_no_further():
    read = []

    async def numbers():
        for number in itertools.count():
            read.append(number)
            if number == 7:
                stream.stop()
            yield number

    stream = paco.map(nap(0), numbers(), limit=5).buffer(0)
    async with stream:
        found = await take(stream, 5)
        await asyncio.sleep(1)
        found += [number async for number in stream]
    assert found == read == list(range(8))


async def take(stream, count):
    return [await anext(stream) for _ in range(count)]


async def test_an_item_that_a_source_is_about_to_return_as_another_stops_the_stream_is_run():
    async def numbers():
        for number in itertools.count():
            if number == 11:
                await asyncio.sleep(0)
            yield number

    async def work(item):
        if item == 10:
            stream.stop()
        return item

    stream = paco.map(work, numbers(), limit=5).buffer(0)
    async with stream:
        found = await take(stream, 5)
        await asyncio.sleep(1)
        found += await take(stream, 5)
        await asyncio.sleep(1)  # 10 and what follows it are read in one go
        found += [number async for number in stream]
    assert found == list(range(12))


async def noted(wait, told):
    try:
        await wait
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        told.append(now())
        raise


@pytest.mark.parametrize("waits", ["for a task", "for a turn"])
async def test_a_step_that_has_to_wait_as_the_run_fails_is_cancelled(waits):
    other, told = asyncio.ensure_future(asyncio.sleep(100)), []

    async def numbers():
        for number in itertools.count():
            if number == 11:
                await noted(other if waits == "for a task" else asyncio.sleep(0), told)
            yield number

    async def work(item):
        if item == 10:
            raise OSError

    with pytest.raises(OSError, match="item 10"):
        async with paco.map(work, numbers(), limit=5).buffer(0) as stream:
            await take(stream, 5)
            await asyncio.sleep(1)
            await take(stream, 5)
            await asyncio.sleep(1)  # 10 and what follows it are read in one go
            await take(stream, 5)
    assert told == [1]
    assert other.cancelled() == (waits == "for a task")
    await ended(other)


async def test_an_error_of_a_source_that_is_read_in_one_go_comes_after_the_items_before_it():
    async def numbers():
        for number in range(10):
            yield number
        raise OSError("no more")

    probe = nap(0)
    with pytest.raises(OSError, match="no more"):
        await paco.each(probe, numbers(), limit=50)
    assert probe.started == list(range(10))


async def test_an_error_of_a_plain_anext_is_part_of_no_reference_cycle():
    class Broken(Counted, Exception):
        pass

    class Items:
        def __init__(self):
            self.numbers = iter(range(4))

        def __aiter__(self):
            return self

        def __anext__(self):
            for number in self.numbers:
                return asyncio.sleep(0, number)
            raise Broken

    async def caught():
        with contextlib.suppress(Broken):
            await paco.map(nap(0), Items(), limit=1)

    gc.collect()
    gc.disable()
    try:
        await caught()
        await asyncio.sleep(0)
        assert Broken.alive == 0
    finally:
        gc.enable()


async def test_a_slow_consumer_holds_back_reading_ahead():
    source = AsyncSource(range(1000))
    async with paco.map(nap(0), source, limit=2).buffer(3).ahead(10) as results:
        assert await anext(results) == 0
        await asyncio.sleep(100)
        assert source.pulled <= 1 + 2 + 3 + 10
        assert [result async for result in results] == list(range(1, 1000))


async def test_coroutines_that_were_read_ahead_are_closed_when_the_run_ends():
    made = []

    async def coroutines():
        for number in range(100):
            made.append(asyncio.sleep(number))
            yield made[-1]

    async def fails(coro):
        coro.close()
        await asyncio.sleep(1)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - which one does not matter
        await paco.map(fails, coroutines(), limit=1).ahead(10)
    assert len(made) >= 10
    assert all(one.cr_frame is None for one in made)


async def test_each_item_of_a_source_that_is_always_ready_costs_one_turn_of_the_loop():
    async with Turns() as turns:
        await paco.each(nap(0), AsyncSource(range(100)), limit=1)
    assert turns.count < 110


# ---- steps of the source that workers execute


VAR = contextvars.ContextVar("VAR", default=0)
WAYS = {"never waits": lambda number: False, "waits": lambda number: True, "waits at times": lambda number: number % 3}


@pytest.mark.parametrize("waits", WAYS.values(), ids=WAYS)
async def test_a_source_sees_one_task_and_its_own_context_and_the_items_see_neither(waits):
    tasks = []

    async def numbers():
        try:
            for number in range(30):
                assert VAR.get() == number
                VAR.set(number + 1)
                if waits(number):
                    await asyncio.sleep(1)
                tasks.append(asyncio.current_task())
                yield number
        finally:
            tasks.append(asyncio.current_task())

    async def look(item):
        here = asyncio.current_task()
        await asyncio.sleep(1)
        assert asyncio.current_task() is here
        tasks.append(None if here in tasks else tasks[0])
        return VAR.get()

    assert await paco.map(look, numbers(), limit=3) == [0] * 30
    assert len(set(tasks)) == 1
    assert tasks[0].get_name() == "paco.map look reader"
    assert VAR.get() == 0


@pytest.mark.parametrize("waits", WAYS.values(), ids=WAYS)
async def test_a_timeout_around_several_steps_of_a_source_holds(waits):
    async def numbers():
        async with asyncio.timeout(50):
            for number in range(10):
                if waits(number):
                    await asyncio.sleep(1)
                yield number
        yield 10
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                yield 11
                await asyncio.sleep(100)
        yield 12

    assert await paco.map(nap(), numbers(), limit=2) == list(range(13))


class Each:
    """An async iterator whose steps are what a function returns."""

    def __init__(self, step):
        self.step = step

    def __aiter__(self):
        return self

    def __anext__(self):
        return self.step()


async def test_steps_may_be_futures_and_other_awaitables_and_begin_in_the_task_that_reads():
    tasks, waiting = set(), []

    class Now:
        def __await__(self):
            return iter(())

    def step():
        tasks.add(asyncio.current_task())
        if len(waiting) % 2:
            waiting.append(None)
            return Now()
        waiting.append(asyncio.get_running_loop().create_future())
        if len(waiting) > 10:
            waiting[-1].set_exception(StopAsyncIteration())
        else:
            asyncio.get_running_loop().call_later(1, waiting[-1].set_result, len(waiting))
        return waiting[-1]

    assert await paco.map(nap(), Each(step), limit=1) == [1, None, 3, None, 5, None, 7, None, 9, None]
    assert len(tasks) == 1
    assert {task.get_name() for task in tasks} == {"paco.map Probe reader"}


async def test_a_source_and_another_task_may_wait_for_the_same_future():
    future = asyncio.get_running_loop().create_future()

    async def numbers():
        for number in range(3):
            yield number
        yield await future

    async def wait(item):
        await asyncio.sleep(0)
        return await future if item == 2 else item

    asyncio.get_running_loop().call_later(5, future.set_result, "set")
    assert await paco.map(wait, numbers(), limit=1) == [0, 1, "set", "set"]
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(5, future.set_result, "set")
    assert await paco.map(wait, numbers(), limit=2) == [0, 1, "set", "set"]


@pytest.mark.parametrize("error", [OSError("broken"), asyncio.CancelledError(), StopIteration(1)], ids=repr)
@pytest.mark.parametrize("waits", WAYS.values(), ids=WAYS)
async def test_an_error_of_a_step_ends_the_run_after_the_items_before_it(waits, error):
    probe, closed = nap(), []

    def step():
        async def one():
            closed.append(len(closed))
            if waits(len(closed)):
                await asyncio.sleep(1)
            if len(closed) > 9:
                raise error
            return len(closed)

        return one()

    kind = {asyncio.CancelledError: paco.ItemCancelled, StopIteration: RuntimeError}.get(type(error), type(error))
    with pytest.raises(kind):
        await paco.map(probe, Each(step), limit=2)
    assert probe.started == list(range(1, 10))
    assert len(closed) == 10


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("wait", ["a future", "a turn", "a shield"])
async def test_a_step_that_waits_is_cancelled_where_it_waits(wait, turns):
    seen, loop = [], asyncio.get_running_loop()

    async def numbers():
        yield 0
        yield 1
        try:
            if wait == "a turn":
                for _ in range(100):
                    await asyncio.sleep(0)
            future = loop.create_future()
            await (asyncio.shield(future) if wait == "a shield" else future)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(1)
            seen.append(asyncio.current_task().cancelling())
            raise

    task = asyncio.ensure_future(paco.map(nap(0), numbers(), limit=1))
    for _ in range(6 + turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled", 1]
    assert now() == 1


def test_cancelling_a_run_at_each_step_of_its_source_closes_the_source(cancel_at_every_step):
    opened, closed = [], []

    async def numbers():
        opened.append(1)
        try:
            for number in range(6):
                if number % 2:
                    await asyncio.sleep(1)
                yield number
        finally:
            closed.append(1)
            await asyncio.sleep(1)

    async def main():
        await paco.map(nap(), numbers(), limit=2)

    assert cancel_at_every_step(main) > 10
    assert len(opened) == len(closed)


# ---- stages


async def test_a_stage_takes_the_results_of_the_one_before_directly():
    """The reader waits only for the first of the results that come at once."""
    woken = 0

    class Counted(paco.Stream):
        async def __anext__(self):
            nonlocal woken
            woken += 1
            return await super().__anext__()

    first = paco.map(nap(), range(100), limit=10)
    first.__class__ = Counted
    second = paco.map(nap(), first, limit=10)
    assert await second == list(range(100))
    assert now() == 11
    assert woken < 100


@pytest.mark.parametrize("completed", [False, True])
async def test_a_stage_gets_every_result_once_and_in_order(completed):
    first = paco.map(nap(lambda item: 1 + item % 3), range(200), limit=7)
    first = first.as_completed() if completed else first
    even = paco.filter(paco.wraps(lambda item: item % 2 == 0), first, limit=3)
    probe = nap(lambda item: item % 5)
    results = await paco.map(probe, even, limit=5)
    assert sorted(results) == list(range(0, 200, 2))
    assert results == probe.started
    if not completed:
        assert results == sorted(results)


async def test_an_error_of_a_stage_comes_after_the_results_before_it():
    async def fails_at_30(item):
        await asyncio.sleep(1)
        if item == 30:
            raise OSError(item)
        return item

    probe = nap(0)
    with pytest.raises(OSError, match="30"):
        await (paco.map(fails_at_30, range(100), limit=10) | paco.map(probe, limit=3))
    assert probe.started == list(range(len(probe.started)))
    assert len(probe.started) >= 20


# ---- a step that a worker executes in the name of the reader


@pytest.mark.parametrize("is_task", [False, True])
async def test_other_tasks_can_await_the_same_future_as_the_source(is_task):
    loop, waits = asyncio.get_running_loop(), []

    async def numbers():
        yield 1
        yield 2
        shared = loop.create_task(asyncio.sleep(2)) if is_task else loop.create_future()
        waits.extend(asyncio.ensure_future(wait_for_it(shared)) for _ in range(2))  # they run before the reader does
        if not is_task:
            loop.call_later(2, shared.set_result, None)
        await shared
        yield 3

    async def wait_for_it(shared):
        await shared
        return now()

    assert await paco.map(nap(), numbers(), limit=1) == [1, 2, 3]
    assert await asyncio.gather(*waits) == [4, 4]


async def test_a_step_gets_the_message_of_its_cancellation():
    messages = []

    async def numbers():
        for number in range(3):
            if number == 2:
                asyncio.current_task().cancel("why")
                try:
                    await asyncio.sleep(5)
                except asyncio.CancelledError as error:
                    messages.extend(error.args)
                    asyncio.current_task().uncancel()
            yield number

    assert await paco.map(nap(), numbers(), limit=1) == [0, 1, 2]
    assert messages == ["why"]


@pytest.mark.parametrize("good", [0, 1, 4])
async def test_a_stop_iteration_out_of_place_is_an_error_of_the_source(good):
    class Numbers:
        def __init__(self):
            self._numbers = iter(range(good))

        def __aiter__(self):
            return self

        def __anext__(self):
            return asyncio.sleep(0, next(self._numbers))  # raises StopIteration at the end

    probe = nap()
    with pytest.raises(RuntimeError, match="an async iterator raised StopIteration") as caught:
        await paco.map(probe, Numbers(), limit=1)
    assert isinstance(caught.value.__cause__, StopIteration)
    assert probe.started == list(range(good))


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
async def test_a_source_that_holds_the_loop_is_not_read_far_in_one_turn(monkeypatch, make_limit):
    ticks, read_in = itertools.count(), []
    monkeypatch.setattr("paco._engine.reader.perf_counter", lambda: next(ticks))

    async def numbers():
        for number in range(50):
            read_in.append(turns.count)
            yield number

    async with Turns() as turns:
        run = asyncio.ensure_future(paco.map(nap(), numbers(), limit=make_limit()).ahead(40))
        for _ in range(300):
            await asyncio.sleep(0)
    assert len(read_in) > 40
    assert max(read_in.count(turn) for turn in set(read_in)) <= 3
    await ended(run)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_an_end_in_the_middle_of_a_step_leaves_no_reference_cycle(is_cancelled):
    async def numbers():
        yield 1
        yield 2
        if is_cancelled:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        raise OSError

    async def ends():
        with contextlib.suppress(OSError, paco.ItemCancelled):
            await paco.map(nap(), numbers(), limit=1)

    await ends()  # what is cached then is not a leak
    gc.collect()
    gc.disable()
    try:
        await ends()
        await asyncio.sleep(1)
        assert gc.collect() == 0
    finally:
        gc.enable()


# ---- no further than there is room


async def test_a_stage_takes_no_result_before_it_can_start_the_item():
    """Its reader waits for one result, and a worker takes that one: the next, which is ready too, stays where it is."""
    first, second = ([asyncio.Event() for _ in range(20)] for _ in range(2))

    async def fetch(number):
        await first[number].wait()
        return number

    async def save(number):
        await second[number].wait()
        return number

    source = Source(range(20))
    pages = paco.map(fetch, source, limit=4).buffer(0)
    async with paco.map(save, pages, limit=2).buffer(0) as results:
        first[0].set()
        second[0].set()
        assert await anext(results) == 0
        first[1].set()
        await asyncio.sleep(1)
        assert source.pulled == 6
        for event in (first[2], first[3], second[1]):
            event.set()
        await asyncio.sleep(1)
        assert source.pulled == 7  # item 2 has started, and item 3 cannot before the consumer takes another result
        for event in (*first, *second):
            event.set()
        assert [result async for result in results] == list(range(1, 20))


async def test_no_item_is_taken_from_an_inbox_before_it_can_start():
    inbox, events = paco.Inbox([0]), [asyncio.Event() for _ in range(4)]

    async def wait(number):
        await events[number].wait()
        return number

    async with paco.map(wait, inbox, limit=2).buffer(0) as results:
        events[0].set()
        assert await anext(results) == 0
        inbox.add(1)
        await asyncio.sleep(1)
        events[1].set()  # its worker takes item 2, for which the reader waits
        inbox.add(2, 3)
        await asyncio.sleep(1)
        assert repr(inbox) == "<paco.Inbox with 1 items, open>"
        events[2].set()
        events[3].set()
        assert [result async for result in results] == [1, 2, 3]
