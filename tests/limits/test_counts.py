"""`paco.Limit`: how many at once; and `&`, which demands several limits together."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import operator
import re
import sys
import threading
from contextvars import copy_context

import pytest

import paco
from paco import testing
from paco.testing import AsyncSource, Probe, VirtualLoop, now


async def nap(seconds=0):
    await asyncio.sleep(seconds)


async def ten_seconds(item=None):
    await nap(10)
    return item


class Line:
    """Tasks that stand in line for a limit, each of which holds its permit for some time."""

    def __init__(self, limit, takes=10):
        self.entered = []
        self.tasks = []
        self.limit, self._limit, self._takes = limit, limit, takes

    async def add(self, count):
        first = len(self.tasks)
        self.tasks += [asyncio.ensure_future(self._one(number)) for number in range(first, first + count)]
        await nap()
        return self.tasks[first:]

    async def _one(self, number):
        async with self._limit.slot():
            self.entered.append((number, now()))
            await nap(self._takes)

    async def end(self):
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.limit.in_flight == self.limit.waiting == 0
        assert self.limit.idle()


# ---- how many at once


async def test_exactly_as_many_items_as_the_limit_run_at_once():
    limit, probe = paco.Limit(2), Probe(lambda item: item, takes=10)
    assert await paco.map(probe, range(6), limit=limit) == [0, 1, 2, 3, 4, 5]
    assert (probe.peak, now()) == (2, 30)
    assert probe.started_at == [0, 0, 10, 10, 20, 20]
    assert (limit.in_flight, limit.waiting) == (0, 0)


async def test_calls_that_share_a_limit_share_its_permits_and_take_turns():
    limit, probe = paco.Limit(3), Probe(lambda item: item, takes=lambda item: 10 if item < 10 else 7)
    await paco.gather(paco.map(probe, range(4), limit=limit), paco.map(probe, range(10, 14), limit=limit))
    assert probe.peak == 3
    first = [item for item in probe.started if item < 10]
    second = [item for item in probe.started if item >= 10]
    assert (first, second) == ([0, 1, 2, 3], [10, 11, 12, 13])
    turns = [item >= 10 for item in probe.started]
    assert max(len(list(run)) for _, run in itertools.groupby(turns)) <= 2


async def test_a_limit_counts_calls_of_a_limited_function_and_items_of_a_run_together():
    limit, probe = paco.Limit(2), Probe(lambda item: item, takes=10)
    call = paco.limited(probe, limit)
    await paco.gather(call(1), paco.map(probe, range(3), limit=limit), call(2), call(3))
    assert (probe.peak, now()) == (2, 30)


async def test_first_come_first_served():
    limit = paco.Limit(1)
    line = Line(limit)
    await line.add(3)
    assert (limit.in_flight, limit.waiting) == (1, 2)
    await nap(5)
    await line.add(1)
    await line.end()
    assert line.entered == [(0, 0), (1, 10), (2, 20), (3, 30)]


async def test_a_newcomer_does_not_overtake_a_caller_that_was_just_granted_a_permit():
    limit = paco.Limit(1)
    permit, line = await limit.acquire(), Line(limit)
    await line.add(1)
    limit.release(permit)  # to the one in line, who has not been resumed yet
    await line.add(1)
    await line.end()
    assert line.entered == [(0, 0), (1, 10)]


async def test_a_newcomer_does_not_take_a_second_free_permit_before_the_first_caller_resumes():
    """Both go on in the same turn then, in their order, which matters when another limit is waited for next."""
    limit = paco.Limit(2)
    permits, line = [await limit.acquire() for _ in range(2)], Line(limit & paco.Rate(1))
    line.limit = limit
    await line.add(1)
    asyncio.get_running_loop().call_soon(lambda: [limit.release(permit) for permit in permits])
    await line.add(1)
    await line.end()
    assert line.entered == [(0, 0), (1, 1)]


async def test_errors_and_cancellation_release_the_permit():
    limit, context = paco.Limit(1), dict(copy_context())

    async def fail():
        async with limit.slot():
            await nap(1)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await fail()
    with pytest.raises(TimeoutError):
        await paco.timeout(paco.limited(ten_seconds, limit), 1)()
    assert limit.in_flight == 0
    assert dict(copy_context()) == context


async def test_repr_and_attributes_show_its_state():
    limit = paco.Limit(3)
    assert repr(limit) == "<paco.Limit 3, 0 in flight>"
    assert (limit.limit, limit.most, limit.free, limit.lookahead) == (3, 3, 3, 0)
    async with limit.slot():
        assert repr(limit) == "<paco.Limit 3, 1 in flight>"
        assert (limit.in_flight, limit.free) == (1, 2)


@pytest.mark.parametrize(
    ("wrong", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)]
)
def test_a_limit_that_is_not_an_int_of_1_or_more_is_an_error_at_once(wrong, error):
    with pytest.raises(error, match=r"^paco\.Limit: limit must be an int of 1 or more, got "):
        paco.Limit(wrong)
    limit = paco.Limit(1)
    with pytest.raises(error, match=r"^paco\.Limit: limit must be an int of 1 or more, got "):
        limit.limit = wrong
    assert limit.limit == 1


async def test_releasing_a_permit_twice_is_an_error_and_adds_no_permit():
    limit = paco.Limit(2)
    permit, other = await limit.acquire(), await limit.acquire()
    limit.release(permit)
    limit.release(other)
    with pytest.raises(RuntimeError, match=r"^paco\.Limit: permit must be held .*; release each permit once$"):
        limit.release(permit)
    assert limit.in_flight == 0


# ---- changed while in use


async def test_a_higher_limit_takes_effect_at_once():
    limit = paco.Limit(1)
    line = Line(limit)
    await line.add(5)
    await nap(4)
    limit.limit = 3
    await line.end()
    assert line.entered == [(0, 0), (1, 4), (2, 4), (3, 10), (4, 14)]


async def test_with_a_lower_limit_nothing_starts_until_enough_have_ended():
    limit = paco.Limit(3)
    line = Line(limit)
    await line.add(3)
    await nap(1)
    await line.add(3)
    limit.limit = 1
    assert (limit.in_flight, limit.free) == (3, 1)
    await line.end()
    assert line.entered == [(0, 0), (1, 0), (2, 0), (3, 10), (4, 20), (5, 30)]


async def test_a_run_follows_its_limit_up_and_down():
    limit, probe = paco.Limit(1), Probe(lambda item: item, takes=10)
    loop = asyncio.get_running_loop()
    loop.call_at(5, setattr, limit, "limit", 4)
    loop.call_at(16, setattr, limit, "limit", 2)
    await paco.map(probe, range(10), limit=limit)
    assert probe.started_at == [0, 5, 5, 5, 10, 15, 15, 15, 25, 25]


# ---- cancelled while waiting


async def test_a_cancelled_waiter_leaves_the_queue():
    limit = paco.Limit(1)
    line = Line(limit)
    tasks = await line.add(4)
    tasks[1].cancel()
    await nap()
    assert limit.waiting == 2
    await nap(5)
    tasks[2].cancel()
    await line.end()
    assert line.entered == [(0, 0), (3, 10)]


@pytest.mark.parametrize("cancelled_first", [False, True])
async def test_a_permit_granted_together_with_a_cancellation_goes_to_the_next_waiter(cancelled_first):
    limit = paco.Limit(1)
    permit, line = await limit.acquire(), Line(limit)
    tasks = await line.add(2)
    if cancelled_first:
        tasks[0].cancel()
        limit.release(permit)
    else:
        limit.release(permit)
        tasks[0].cancel()
    await line.end()
    assert line.entered == [(1, 0)]


@pytest.mark.parametrize("again", [None, 0, 1])
def test_cancelled_at_every_step_no_permit_is_lost_or_granted_twice(again, cancel_at_every_step):
    async def main():
        limit, probe = paco.Limit(2), Probe(lambda item: item, takes=lambda item: item % 3)
        call = paco.limited(probe, limit)
        others = [asyncio.ensure_future(call(number)) for number in range(3)]
        try:
            await call(4)
            await paco.map(probe, range(5), limit=limit)
        finally:
            for other in others:
                other.cancel()
            while not all(other.done() for other in others):  # a second cancellation must not cut this short
                try:
                    await asyncio.wait(others)
                except asyncio.CancelledError:
                    asyncio.current_task().uncancel()
                    asyncio.current_task().cancel()
            assert probe.peak <= 2
            assert (limit.in_flight, limit.waiting, probe.running) == (0, 0, 0)
            assert not limit._permits

    assert cancel_at_every_step(main, again=again) > 20


async def test_many_waiters_cancelled_at_once_leave_the_queue_at_once():
    limit = paco.Limit(1)
    permit, line = await limit.acquire(), Line(limit)
    for task in await line.add(2000):
        task.cancel()
    limit.release(permit)
    await line.end()


# ---- a loop that is gone


def test_waiters_of_a_closed_loop_are_skipped():
    limit, tasks = paco.Limit(1), []
    loop = VirtualLoop()

    async def hold_and_wait():
        permit = await limit.acquire()
        tasks.extend(asyncio.ensure_future(limit.acquire()) for _ in range(2))
        await nap()
        return permit

    permit = loop.run_until_complete(hold_and_wait())
    loop.close()
    limit.release(permit)
    assert (limit.in_flight, limit.waiting) == (0, 0)
    assert testing.run(paco.map(ten_seconds, [1, 2], limit=limit)) == [1, 2]
    for task in tasks:
        task._log_destroy_pending = False
        task.get_coro().close()
    assert (limit.in_flight, limit.waiting) == (0, 0)


def test_waiters_of_a_closed_loop_that_looked_for_a_deadlock_do_so_no_more():
    limit, tasks = paco.Limit(1), []
    loop = VirtualLoop()

    async def adds(number):
        tasks.append(asyncio.ensure_future(paco.map(ten_seconds, [number], limit=limit)))
        await asyncio.sleep(100)

    async def main():
        tasks.append(asyncio.ensure_future(paco.map(adds, [1], limit=limit)))
        await asyncio.sleep(0.5)

    loop.run_until_complete(main())
    assert limit.waiting == 1
    loop.close()
    limit.limit = 3
    assert testing.run(paco.map(ten_seconds, range(9), limit=limit)) == list(range(9))
    for task in (*tasks, *asyncio.all_tasks(loop)):
        task._log_destroy_pending = False


# ---- deadlocks

DEADLOCK = r"^paco\.Limit: deadlock: every item in flight under this limit \({}\) waits for another permit of it; give "


async def test_a_call_inside_an_item_that_needs_the_items_own_limit_raises_a_deadlock_error():
    limit = paco.Limit(1)

    async def outer(number):
        return await paco.map(ten_seconds, [number], limit=limit)

    with pytest.raises(RuntimeError, match=DEADLOCK.format(1)) as caught:
        await paco.map(outer, [1], limit=limit)
    assert "paco.map: its limit" in caught.value.__notes__
    assert (now(), limit.in_flight, limit.waiting) == (0, 0, 0)


async def test_a_limited_function_that_calls_itself_raises_a_deadlock_error():
    limit = paco.Limit(1)

    async def count_down(number):
        return number and await careful(number - 1)

    careful = paco.limited(count_down, limit)
    assert await careful(0) == 0
    with pytest.raises(RuntimeError, match=DEADLOCK.format(1)):
        await careful(1)


async def test_a_deadlock_through_another_limit_is_detected():
    limit, other = paco.Limit(1), paco.Limit(5)

    async def outer(number):
        return await paco.map(middle, range(2), limit=other)

    async def middle(number):
        return await paco.each(ten_seconds, [number], limit=limit)

    with pytest.raises(RuntimeError, match=DEADLOCK.format(1)):
        await paco.map(outer, [1], limit=limit)
    assert (limit.in_flight, other.in_flight) == (0, 0)


async def test_of_two_holders_that_wait_the_last_is_refused_and_the_other_continues():
    limit = paco.Limit(2)

    async def outer(number):
        await nap(number)
        return await paco.map(ten_seconds, [number], limit=limit)

    results = await paco.map(outer, [1, 2], limit=limit, return_exceptions=True)
    assert results[0] == [1]
    assert isinstance(results[1], RuntimeError)
    assert str(results[1]).startswith("paco.Limit: deadlock: every item in flight under this limit (2) waits")
    assert now() == 12


async def test_no_deadlock_is_reported_while_the_item_can_end_however_long_that_takes():
    limit = paco.Limit(1)

    async def inner():
        async with limit.slot():
            return now()

    async def outer(number):
        task = asyncio.create_task(inner())
        await nap(5000)
        return task

    (task,) = await paco.map(outer, [1], limit=limit)
    assert await task == 5000


async def test_no_deadlock_is_reported_while_another_holder_can_end():
    limit = paco.Limit(2)

    async def outer(number):
        if number == 0:
            return await ten_seconds(number)
        return await paco.map(ten_seconds, [number], limit=limit)

    assert await paco.map(outer, range(2), limit=limit) == [0, [1]]
    assert now() == 20


async def test_no_deadlock_is_reported_while_a_permit_is_held_outside_any_item():
    limit = paco.Limit(2)
    permit = await limit.acquire()

    async def outer(number):
        return await paco.map(ten_seconds, [number], limit=limit)

    run = asyncio.ensure_future(paco.map(outer, [1], limit=limit))
    await nap(5)
    limit.release(permit)
    assert await run == [[1]]
    assert now() == 15


async def test_no_deadlock_is_reported_while_a_holder_yields_to_the_loop():
    limit = paco.Limit(2)

    async def busy():
        async with limit.slot():
            for _ in range(100):
                await asyncio.sleep(0)

    task = asyncio.ensure_future(busy())
    async with limit.slot():
        assert await paco.map(paco.wraps(str), [1], limit=limit) == ["1"]
    await task


async def test_no_deadlock_is_reported_while_the_next_item_of_a_run_may_end_it():
    limit = paco.Limit(1)

    async def inner(number):
        if number == 1:
            raise ValueError(number)
        async with limit.slot():
            pass

    async with limit.slot():
        with pytest.raises(ValueError, match="1"):
            await paco.map(inner, range(2), limit=2)


@pytest.mark.parametrize("make_limit", [lambda: 2, lambda: paco.Limit(3)], ids=["number", "object"])
async def test_workers_that_wait_for_room_do_not_hide_a_deadlock(make_limit):
    limit = paco.Limit(1)

    async def inner(number):
        if number == 0:
            async with limit.slot():
                pass
        await nap(1)

    async with limit.slot():
        with pytest.raises(RuntimeError, match=DEADLOCK.format(1)):
            async for _ in paco.map(inner, range(1000), limit=make_limit()):
                pass


async def test_a_run_that_is_ending_does_not_hide_a_deadlock():
    limit = paco.Limit(1)

    async def inner(number):
        if number == 1:
            raise ValueError(number)
        try:
            await nap(100)
        finally:
            await asyncio.ensure_future(clean_up())

    async def clean_up():
        async with limit.slot():
            pass

    async with limit.slot():
        with pytest.raises(ValueError, match="1") as caught:
            await paco.map(inner, range(100), limit=3)
    assert "deadlock" in caught.value.__notes__[1]


async def test_a_waiter_that_is_being_cancelled_does_not_count_for_a_deadlock():
    limit, tasks, gone = paco.Limit(2), [], asyncio.Event()
    patient = paco.limited(ten_seconds, limit)

    def give_up():
        gone.set()  # the other one comes in the next turn, before the cancelled one has left the line
        tasks[0].cancel()

    async def outer(number):
        if number == 0:
            await nap(1)
            tasks.append(asyncio.ensure_future(patient(number)))
            await asyncio.wait(tasks)
            return "gave up"
        await gone.wait()
        return await patient(number)

    asyncio.get_running_loop().call_at(5, give_up)
    assert await paco.map(outer, range(2), limit=limit) == ["gave up", 1]
    assert now() == 15


async def test_a_nested_slot_of_a_limit_of_one_raises_a_deadlock_error():
    limit, outside = paco.Limit(1), dict(copy_context())
    async with limit.slot():
        within = dict(copy_context())
        with pytest.raises(RuntimeError, match=DEADLOCK.format(1)):
            async with limit.slot():
                pass
        assert dict(copy_context()) == within != outside
        assert limit.in_flight == 1
    limit.limit = 2
    async with limit.slot(), limit.slot():
        assert limit.in_flight == 2
    assert dict(copy_context()) == outside


async def left_behind(refresh, left):
    left.append(asyncio.ensure_future(refresh(0)))
    await nap(4)


async def left_in_a_run(refresh, left):
    left.append(asyncio.ensure_future(paco.map(refresh, [0])))
    await nap(4)


async def raced(refresh, left):
    await paco.race([nap(4), refresh(0)])


async def judged(refresh, left):
    async def test(item):
        return await (refresh(0) if item else nap(4)) or True

    await paco.some(test, [1, 0])


async def waited_for_the_first(refresh, left):
    left.append(asyncio.ensure_future(refresh(0)))
    await asyncio.wait([*left, asyncio.ensure_future(nap(4))], return_when=asyncio.FIRST_COMPLETED)


async def waited_for_with_a_timeout(refresh, left):
    left.append(asyncio.ensure_future(refresh(0)))
    await asyncio.wait(left, timeout=4)


async def started_by_an_interval(refresh, left):
    left.append(paco.interval(refresh, 1, times=1)(0))
    await nap(4)


async def two_that_hold_without_a_slot(refresh, left):
    async def hold():
        permit = await limit.acquire()
        await nap(1)
        limit.release(permit)
        await refresh(0)

    limit = refresh.limit
    left.extend(asyncio.ensure_future(hold()) for _ in range(2))
    await nap(4)


LEAVING = [
    left_behind,
    left_in_a_run,
    raced,
    judged,
    waited_for_the_first,
    waited_for_with_a_timeout,
    started_by_an_interval,
]


@pytest.mark.parametrize("leave", [*LEAVING, two_that_hold_without_a_slot])
@pytest.mark.parametrize("kind", ["Limit", "Adaptive", "PerKey", "&"])
async def test_a_call_that_the_item_does_not_wait_for_waits_for_its_turn(leave, kind):
    limit = {
        "Limit": lambda: paco.Limit(1),
        "Adaptive": lambda: paco.Adaptive(1, max=1),
        "PerKey": lambda: paco.PerKey(lambda item: "one", lambda: 1),
        "&": lambda: paco.Limit(1) & paco.Rate(100),
    }[kind]()
    if leave is two_that_hold_without_a_slot and kind != "Limit":
        return
    refresh, left = paco.limited(ten_seconds, limit), []
    refresh.limit = limit
    await paco.map(lambda _: leave(refresh, left), [0], limit=limit)
    await asyncio.gather(*left)


async def itself(refresh):
    return await refresh(0)


async def a_task(refresh):
    return await asyncio.ensure_future(refresh(0))


async def a_task_later(refresh):
    task = asyncio.ensure_future(refresh(0))
    await nap(1)
    return await task


async def gathered(refresh):
    return await asyncio.gather(refresh(0), refresh(1), nap(1))


async def in_a_group(refresh):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(refresh(0))
    return task.result()


async def waited_for(refresh):
    done, _ = await asyncio.wait([asyncio.ensure_future(refresh(0))])
    return done.pop().result()


async def shielded(refresh):
    return await asyncio.shield(refresh(0))


async def in_a_run(refresh):
    return await paco.map(refresh, range(3), limit=2)


async def in_a_stream(refresh):
    return [one async for one in paco.map(refresh, AsyncSource(range(3)), limit=2).as_completed()]


async def in_paco_gather(refresh):
    return await paco.gather(nap(1), paco.gather(refresh(0)))


async def once(refresh):
    return await paco.once(refresh)(0)


WAITING = [itself, a_task, a_task_later, gathered, waited_for, shielded, in_a_run, in_a_stream, in_paco_gather, once]


@pytest.mark.parametrize("wait", [*WAITING, in_a_group])
@pytest.mark.parametrize("eager", [False, True])
def test_items_that_wait_for_a_permit_which_they_hold_are_a_deadlock(wait, eager):
    if eager and sys.version_info < (3, 12):
        return
    left = []

    async def main():
        limit = paco.Limit(2)

        async def refresh(item):
            left.append(task := asyncio.current_task())
            try:
                return await paco.limited(ten_seconds, limit)(item)
            finally:
                left.remove(task)

        async def item(number):
            await nap(1)  # until both are in flight
            return await wait(refresh)

        results = await paco.map(item, range(2), limit=limit, return_exceptions=True)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return results

    results = testing.run(main, eager=eager)
    errors = [one for one in results if isinstance(one, Exception)]
    errors = [one.exceptions[0] if isinstance(one, ExceptionGroup) else one for one in errors]
    assert errors
    assert all(re.match(DEADLOCK.format(2), str(one)) for one in errors)


# ---- &


class Noted(paco.Limiter):
    """A limit that notes what it is asked and told.

    Args:
        name: One letter.
        log: Where it notes: ``+`` for a permit, ``!`` for a start, ``-`` for an end, ``=`` for when that is done.
        rank: When it is asked, in ``&``.
        takes: Seconds until it gives a permit, and until it has taken it back.
        fails: What it fails at.
    """

    __slots__ = ("_fails", "_log", "_name", "_place", "_takes")

    def __init__(self, name, log, *, rank=2, takes=0, fails=""):
        self._name, self._log, self._place, self._takes, self._fails = name, log, rank, takes, fails

    @property
    def _order(self):
        return self._place, ord(self._name)

    async def acquire(self, item=None):
        await nap(self._takes)
        if "acquire" in self._fails:
            raise ValueError(self._name)
        self._log.append(f"+{self._name}")
        return self._name

    def begin(self, permit):
        self._log.append(f"!{permit}")

    def release(self, permit, error=None):
        assert permit == self._name
        self._log.append(f"-{permit} {type(error).__name__}" if error else f"-{permit}")
        if "release" in self._fails:
            raise KeyError(permit)
        return self._later() if self._takes else None

    async def _later(self):
        await nap(self._takes)
        self._log.append(f"={self._name}")
        if "later" in self._fails:
            raise LookupError(self._name)


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
async def test_combined_limits_are_asked_in_a_fixed_order_however_they_are_written(order):
    log = []
    parts = {"a": Noted("a", log, rank=1), "b": Noted("b", log), "c": Noted("c", log, rank=0)}
    first, second, third = (parts[name] for name in order)
    for both in (first & second & third, first & (second & third)):
        async with both.slot():
            log.append("in")
        assert log == ["+c", "+a", "+b", "!c", "!a", "!b", "in", "-c", "-a", "-b"]
        log.clear()


async def test_combined_limits_are_asked_per_key_first_then_counts_then_foreign_ones_then_rates():
    rate, count, semaphore, own = paco.Rate(1), paco.Limit(1), asyncio.Semaphore(1), Noted("o", [], rank=0)
    both = rate & semaphore & count & own
    assert both.parts[:2] == (own, count)
    assert "Semaphore" in repr(both.parts[2])
    assert both.parts[3] is rate
    assert repr(count & rate) == "<paco.Limit 1, 0 in flight> & <paco.Rate 1 per 1.0 s, 0 waiting>"


async def test_combining_a_limit_with_itself_has_no_effect():
    limit, semaphore = paco.Limit(1), asyncio.Semaphore(1)
    both = (limit & semaphore) & (semaphore & limit) & limit
    assert len(both.parts) == 2
    assert both.parts[1] == both.parts[1]
    assert both.parts[1] != both.parts[0]
    async with both.slot():
        assert (limit.in_flight, semaphore.locked()) == (1, True)


async def test_in_a_combination_a_number_is_a_separate_count_and_0_is_no_limit():
    limit = paco.Limit(5)
    for both in (limit & 2, 2 & limit):
        assert (both.most, both.free, len(both.parts)) == (2, 2, 2)
    assert (limit & 0).parts == (0 & limit).parts == (limit,)
    probe = Probe(lambda item: item, takes=10)
    await paco.map(probe, range(4), limit=limit & 2)
    assert (probe.peak, now()) == (2, 20)


@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), (1.5, TypeError), (None, TypeError), ("2", TypeError)])
def test_an_invalid_limit_is_refused_on_each_side_of_a_combination(wrong, error):
    for make in (lambda: paco.Limit(1) & wrong, lambda: wrong & paco.Limit(1)):
        with pytest.raises(error, match=r"^paco\.limits: each side of & must be "):
            make()


async def test_a_combination_reports_what_its_parts_allow_together():
    both = paco.Limit(3) & paco.Rate(1, cost=lambda item: 1)
    assert (both.most, both.free, both.lookahead) == (3, 1, 1)
    other = paco.Rate(1) & asyncio.Semaphore(1)
    assert (other.most, other.free, other.lookahead) == (sys.maxsize, 1, 0)


async def test_limits_combined_in_opposite_orders_never_deadlock():
    one, other, probe = paco.Limit(1), paco.Limit(1), Probe(lambda item: item, takes=1)
    await paco.gather(paco.map(probe, range(10), limit=one & other), paco.map(probe, range(10), limit=other & one))
    assert (probe.peak, now()) == (1, 20)


async def test_permits_are_released_if_a_later_limit_fails():
    log = []
    both = Noted("a", log) & Noted("b", log, takes=1) & Noted("c", log, fails="acquire") & Noted("d", log)
    with pytest.raises(ValueError, match=r"^c$"):
        await both.acquire()
    assert log == ["+a", "+b", "-a ValueError", "-b ValueError", "=b"]


async def test_permits_are_released_if_the_wait_for_a_later_limit_is_cancelled():
    log = []
    both = Noted("a", log, takes=1) & Noted("b", log, takes=5)
    with pytest.raises(TimeoutError):
        await paco.timeout(both.acquire, 2)()
    assert log == ["+a", "-a CancelledError", "=a"]
    assert now() == 3


async def test_a_reservation_released_before_its_start_was_not_used():
    log = []
    both = Noted("a", log) & Noted("b", log)
    both.release(await both.reserve())
    assert log == ["+a", "+b", "-a", "-b"]


@pytest.mark.parametrize(
    ("first", "second", "third", "told"),
    [
        ("release", "", "", "a"),
        ("release", "release", "later", "a"),
        ("", "release", "later", "b"),
        ("later", "later", "release", "c"),
        ("", "later", "", "b"),
        ("later", "later", "later", "a"),
    ],
)
async def test_all_parts_are_released_even_if_one_fails_and_the_first_failure_is_raised(first, second, third, told):
    log, fails = [], dict(zip("abc", (first, second, third), strict=True))
    parts = [Noted(name, log, takes=0 if how == "release" else 1, fails=how) for name, how in fails.items()]
    with pytest.raises(LookupError, match=rf"^'?{told}'?$"):
        async with functools.reduce(operator.and_, parts).slot():
            log.clear()
    assert log == ["-a", "-b", "-c"] + [f"={name}" for name, how in fails.items() if how != "release"]


@pytest.mark.parametrize("again", [None, 0, 1])
def test_cancelled_at_every_step_each_part_gets_its_permit_back(again, cancel_at_every_step):
    async def main():
        log, count, semaphore = [], paco.Limit(2), asyncio.BoundedSemaphore(2)
        limit = Noted("a", log, rank=0, takes=1) & semaphore & count & Noted("b", log, takes=0)
        probe = Probe(lambda item: item, takes=1)
        try:
            await paco.map(probe, range(3), limit=limit)
        finally:
            assert (count.in_flight, count.waiting, semaphore._value) == (0, 0, 2)
            for name in "ab":
                given = sum(entry == f"+{name}" for entry in log)
                back = sum(entry.startswith(f"-{name}") for entry in log)
                begun = sum(entry == f"!{name}" for entry in log)
                assert (given, begun) == (back, len(probe.started))

    assert cancel_at_every_step(main, again=again) > 20


# ---- a limit of one's own


async def test_the_base_class_implements_everything_but_acquire():
    limit = paco.Limiter()
    assert (limit.most, limit.free, limit.lookahead) == (sys.maxsize, 1, 0)
    assert limit.release(None) is None
    assert limit.paused(None) == 0
    for asked in (limit.acquire, limit.reserve):
        with pytest.raises(NotImplementedError):
            await asked()


async def test_a_custom_limit_is_called_at_each_start_and_end():
    log = []

    async def fail_on(item):
        if item == 1:
            raise ValueError
        return item

    results = await paco.map(fail_on, range(2), limit=Noted("a", log), return_exceptions=True)
    assert results[0] == 0
    assert [entry for entry in log if entry != "-a"] == ["+a", "!a", "+a", "!a", "-a ValueError"]
    assert log.count("-a") == 1


async def test_errors_of_release_are_reported_once_per_item_and_hide_no_error_of_an_item():
    async def work(item):
        await nap(1)
        if item == 0:
            raise ValueError("of the item")

    with pytest.raises(KeyError) as caught:
        await paco.map(work, range(3), limit=Noted("a", [], fails="release"))
    meanwhile = "item 0: ValueError('of the item'); its limit: KeyError('a'); its limit: KeyError('a')"
    assert caught.value.__notes__ == ["paco.map: its limit", f"paco.map: 3 more failed while stopping: {meanwhile}"]


async def test_an_error_of_a_limit_ends_the_run():
    for fails in ("acquire", "release", "later"):
        limit = Noted("a", [], fails=fails, takes=fails == "later")
        with pytest.raises((ValueError, LookupError)) as caught:
            await paco.map(ten_seconds, range(3), limit=limit)
        assert caught.value.__notes__[0] == "paco.map: its limit"


# ---- a permit that is there at once


@pytest.mark.parametrize(
    "make",
    [
        lambda: paco.Limit(1),
        lambda: paco.Adaptive(start=1, max=1),
        lambda: paco.Rate(1, per=10),
        lambda: paco.Rate(1, per=10) & paco.Limit(5),
        lambda: paco.Limit(1) & paco.Rate(5, burst=5),
    ],
    ids=["count", "adaptive", "rate", "rate and count", "count and rate"],
)
async def test_try_acquire_returns_a_free_permit_or_none(make):
    limit = make()
    permit = limit.try_acquire()
    assert permit is not None
    assert limit.try_acquire() is None
    limit.release(permit)
    await asyncio.sleep(10)
    assert limit.try_acquire() is not None


async def test_try_acquire_of_a_combination_releases_permits_if_a_part_has_none():
    count, rate = paco.Limit(2), paco.Rate(1, per=10)
    limit = count & rate
    assert limit.try_acquire() is not None
    assert limit.try_acquire() is None
    assert count.in_flight == 1
    paused = paco.Limit(1) & paco.Rate(1, per=10)
    rate.pause(60)
    await asyncio.sleep(20)
    assert (count & rate).try_acquire() is None
    assert paused.try_acquire() is not None


@pytest.mark.parametrize(
    "limit", [paco.Rate(5, cost=lambda _: 1), paco.PerKey(lambda _: 1, lambda: 1)], ids=["cost", "key"]
)
async def test_a_limit_that_looks_at_the_item_is_always_awaited(limit):
    assert limit.try_acquire(1) is None
    assert await paco.map(Probe(lambda item: item), [1, 2], limit=limit) == [1, 2]


async def test_a_limit_that_overrides_acquire_is_always_asked_by_acquire():
    class Counted(paco.Limit):
        asked = 0

        async def acquire(self, item=None):
            self.asked += 1
            return await super().acquire(item)

    class Tried(paco.Limiter):
        tried = 0

        def try_acquire(self, item=None):
            self.tried += 1
            return self

    counted, tried = Counted(2), Tried()
    await paco.map(Probe(lambda item: item), range(3), limit=counted)
    await paco.map(Probe(lambda item: item), range(3), limit=tried)
    assert (counted.asked, counted.try_acquire(), tried.tried) == (3, None, 3)


async def test_an_interrupt_while_a_combination_releases_its_permits_is_raised(monkeypatch):
    def interrupted(self, permit, error=None):
        release(self, permit, error)
        raise KeyboardInterrupt

    release = paco.Limit.release
    one, full = paco.Limit(1), paco.Rate(1, 60)  # which is asked after a count
    full.try_acquire()
    monkeypatch.setattr(paco.Limit, "release", interrupted)
    with pytest.raises(KeyboardInterrupt):
        (one & full).try_acquire()
    assert one.in_flight == 0


async def test_a_permit_can_be_released_only_once_even_if_others_are_held():
    limit = paco.Limit(2)
    first = await limit.acquire()
    await limit.acquire()
    limit.release(first)
    with pytest.raises(RuntimeError, match="permit must be held"):
        limit.release(first)
    assert limit.in_flight == 1


async def test_a_task_left_by_an_item_is_not_mistaken_for_the_next_item_of_its_worker():
    limit, left = paco.Limit(1), []

    async def leaves(item):
        if item == 0:

            async def later():
                await asyncio.sleep(2.5)  # until the same worker has another item
                return await paco.map(Probe(lambda one: one), [7], limit=limit)

            left.append(asyncio.ensure_future(later()))
        await asyncio.sleep(1)
        return item

    assert await paco.map(leaves, range(3), limit=limit) == [0, 1, 2]
    assert await left[0] == [7]


async def test_a_combination_grants_nothing_at_once_while_a_part_is_paused(monkeypatch):
    both = paco.Rate(10) & paco.Limit(1)
    with monkeypatch.context() as paused:
        paused.setattr(paco.Rate, "paused", lambda self, permit: 1.0)
        assert both.try_acquire() is None
    assert both.try_acquire() is not None  # the parts kept nothing


@pytest.mark.realtime
def test_a_thread_that_raises_the_limit_lets_waiting_items_start():
    async def fill():
        both = asyncio.Barrier(2)
        waits = asyncio.ensure_future(paco.map(lambda _: both.wait(), [1, 2], limit=limit))
        await nap()
        thread.start()
        return await asyncio.wait_for(waits, 60)

    limit = paco.Limit(1)
    thread = threading.Timer(0.05, setattr, (limit, "limit", 2))
    assert sorted(asyncio.run(fill())) == [0, 1]
    thread.join()


def test_a_limit_can_be_raised_while_its_loop_does_not_run():
    async def enter(number):
        async with limit.slot():
            entered.append(number)
            await asyncio.sleep(math.inf)

    limit, loop, entered = paco.Limit(1), VirtualLoop(), []
    tasks = [loop.create_task(enter(number)) for number in range(3)]
    loop.run_until_complete(nap(1))
    limit.limit = 2
    loop.run_until_complete(nap(1))
    assert entered == [0, 1]
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
