"""A permit that goes from an item that has succeeded to the next one: nobody who waits may be passed over."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import nullcontext, suppress
from itertools import count, pairwise

import pytest

import paco
from paco import events
from paco.testing import AsyncSource, Probe, Source, now
from tests.turns import Turns

VAR = contextvars.ContextVar("VAR", default=None)


def nap(takes=1):
    return Probe(lambda item: item, takes=takes)


def both():
    return paco.Limit(2) & paco.Rate(10**6)


LIMITS = {
    "Limit": lambda: paco.Limit(2),
    "Adaptive": lambda: paco.Adaptive(start=2, max=2),
    "Limit & Rate": both,
    "two Limits": lambda: paco.Limit(2) & paco.Limit(3),
    "Adaptive & Rate": lambda: paco.Adaptive(start=2, max=2) & paco.Rate(10**6),
}


async def ended(task):
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Counted(paco.Limit):
    """A limit that counts how often each of its methods is called."""

    def __init__(self, limit):
        super().__init__(limit)
        self.calls = []

    def renew(self, permit):
        self.calls.append("renew")
        return super().renew(permit)

    def renews(self, permit, own):
        return paco.Limit.renews(self, permit, own)

    def try_acquire(self, item=None):
        self.calls.append("try_acquire")
        return super().try_acquire(item)

    def release(self, permit, error=None):
        self.calls.append("release")
        super().release(permit, error)


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("make_source", [range, lambda count: AsyncSource(range(count))], ids=["sync", "async"])
async def test_items_start_in_order_and_never_more_than_the_limit_allows(make_limit, make_source):
    probe, limit = nap(lambda item: 1 + item % 3), make_limit()
    assert await paco.map(probe, make_source(50), limit=limit) == list(range(50))
    assert probe.started == list(range(50))
    assert probe.peak == 2
    assert await paco.map(probe, range(2), limit=limit) == [0, 1]  # every permit was returned


async def test_a_permit_is_renewed_as_long_as_items_succeed():
    limit = Counted(1)

    async def third_fails(item):
        if item == 2:
            raise OSError

    await paco.each(third_fails, range(5), limit=limit, return_exceptions=True)
    assert limit.calls.count("release") == 2
    assert limit.calls.count("renew") == 3


@pytest.mark.parametrize("journal", [False, True], ids=["plain", "journal"])
@pytest.mark.parametrize("keyed", [False, True], ids=["Limit", "PerKey"])
async def test_permits_are_renewed_while_another_item_is_in_back_off(keyed, journal, tmp_path):
    limit, ended, probe = Counted(2), asyncio.Event(), nap()

    async def work(item):
        if item == 0 and not ended.is_set():
            raise OSError
        if item == 299:
            ended.set()
        return await probe(item)

    fn = paco.retry(work, wait=10**6, max_wait=10**6, on=OSError)
    run = paco.map(fn, range(300), limit=paco.PerKey(lambda _: "key", {"key": limit}) if keyed else limit)
    assert await (run.journal(tmp_path / "run.jsonl") if journal else run) == list(range(300))
    assert limit.calls.count("renew") > 150


async def test_items_with_a_record_use_no_permit_among_items_that_renew_theirs(tmp_path):
    async def recorded(limit, items):
        return await paco.map(nap(), items, limit=limit).journal(tmp_path / "run.jsonl")

    assert await recorded(2, range(0, 60, 6)) == list(range(0, 60, 6))
    limit = Counted(2)
    assert await recorded(limit, range(60)) == list(range(60))
    granted = limit.calls.count("try_acquire") + limit.calls.count("renew")
    assert limit.calls.count("release") < granted
    assert now() == 5 + 25  # 50 items, two at once; those with a record take no time


@pytest.mark.parametrize(
    "make_limit",
    [LIMITS["Limit"], LIMITS["Adaptive"], LIMITS["two Limits"], lambda: paco.PerKey(bool, lambda: 2)],
    ids=["Limit", "Adaptive", "two Limits", "PerKey"],
)
async def test_a_task_that_is_cancelled_while_it_waits_for_the_next_turn_has_lost_no_item(monkeypatch, make_limit):
    monkeypatch.setattr("paco._engine.workers.own_clock", lambda loop: False)
    seconds, tasks, busy, cancelled = count(), {}, set(), []
    monkeypatch.setattr("paco._engine.workers.perf_counter", lambda: float(next(seconds)))  # so that items are slow

    async def work(item):
        tasks[item] = task = asyncio.current_task()
        busy.add(task)
        await asyncio.sleep(0)
        busy.remove(task)
        earlier = tasks.get(item - 1, task)
        if earlier not in busy and earlier is not task and not earlier.done() and earlier._fut_waiter is None:
            cancelled.append(earlier)
            earlier.cancel()
        return item

    assert await paco.map(work, range(40), limit=make_limit()) == list(range(40))
    assert len(cancelled) > 5


async def test_no_turn_of_the_loop_is_lost_between_two_items():
    async with Turns() as turns:
        await paco.each(nap(0), range(100), limit=paco.Limit(1))
    assert turns.count < 110


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
async def test_another_caller_that_waits_comes_before_the_next_item(make_limit):
    limit = make_limit()
    running = asyncio.ensure_future(paco.map(nap(), range(1000), limit=limit))
    await asyncio.sleep(10.5)
    async with limit.slot():
        assert now() < 13
    await ended(running)


async def test_another_caller_that_waits_for_one_of_two_limits_is_not_passed_over():
    """The next item waits for the first limit, and the other caller for the second."""
    first, second = sorted((paco.Limit(1), paco.Limit(1)), key=id)
    running = asyncio.ensure_future(paco.map(nap(), range(1000), limit=first & second))
    await asyncio.sleep(10.5)
    async with second.slot():
        assert now() < 13
    await ended(running)


async def test_two_runs_share_a_limit_in_turn():
    limit, order = paco.Limit(1), []

    async def note(item):
        order.append(item)
        await asyncio.sleep(1)

    await paco.gather(paco.each(note, ["a"] * 5, limit=limit), paco.each(note, ["b"] * 5, limit=limit))
    assert "".join(order) == "aababababb"  # the second of a run waits before the other run begins


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
async def test_results_wait_for_room_in_a_slow_consumer(make_limit):
    source = Source(range(100))
    async with paco.map(nap(), source, limit=make_limit()).buffer(3) as results:
        assert await anext(results) == 0
        await asyncio.sleep(100)
        assert source.pulled <= 1 + 3 + 2 + 1
        assert [result async for result in results] == list(range(1, 100))


# ---- what the source does


async def test_a_source_that_lowers_the_limit_is_heeded():
    limit, probe = paco.Limit(3), nap()

    def items():
        for number in range(12):
            if number == 6:
                limit.limit = 1
            yield number

    assert await paco.map(probe, items(), limit=limit) == list(range(12))
    assert probe.started == list(range(12))
    assert all(after - before >= 1 for before, after in pairwise(probe.started_at[5:]))


@pytest.mark.parametrize("make_limit", [lambda rate: rate, lambda rate: paco.Limit(2) & rate], ids=["Rate", "both"])
async def test_a_source_that_pauses_the_rate_is_heeded(make_limit):
    rate, probe = paco.Rate(10**6), nap()

    def items():
        for number in range(8):
            if number == 4:
                rate.pause(100)
            yield number

    assert await paco.map(probe, items(), limit=make_limit(rate)) == list(range(8))
    assert all(began >= 100 for began in probe.started_at[4:])
    assert now() < 105


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
async def test_an_error_of_the_source_ends_the_run(make_limit):
    source, limit = Source(range(10), error=OSError("broken")), make_limit()
    with pytest.raises(OSError, match="broken") as caught:
        await paco.map(nap(), source.generator(), limit=limit)
    assert caught.value.__notes__ == ["paco.map: its source, after 10 items"]
    assert await paco.map(nap(), [1, 2], limit=limit) == [1, 2]


async def test_a_source_that_stops_its_own_run_gets_at_most_that_item_started():
    limit, probe = paco.Limit(2), nap()

    def items():
        for number in range(100):
            if number == 10:
                stream.__upstream__().abandon()
            yield number

    stream = paco.map(probe, items(), limit=limit)
    assert [result async for result in stream] == list(range(8))
    await asyncio.sleep(10)
    assert max(probe.started) <= 10
    assert limit.in_flight == 0


@pytest.mark.parametrize("turns", range(6))
async def test_a_consumer_gets_a_result_although_the_next_item_has_found_no_permit(turns):
    limit, opened = paco.Limit(4), asyncio.Event()

    def lower(item):
        limit.limit = 4 - (item >= 5)
        return item

    async def wait(item):
        await (opened.wait() if item > 2 else asyncio.sleep(1 + (item > 0)))
        if item == 1:
            for _ in range(turns):
                await asyncio.sleep(0)
            raise OSError(item)
        return item

    async def other():
        await asyncio.sleep(1.5)
        async with limit.slot():
            await opened.wait()

    task = asyncio.ensure_future(other())
    async with paco.map(wait, map(lower, range(8)), limit=limit, return_exceptions=True) as results:
        assert await anext(results) == 0
        assert isinstance(await anext(results), OSError)
        opened.set()
        assert [result async for result in results] == list(range(2, 8))
    await task


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("suspends", [False, True])
async def test_an_item_sees_the_context_variables_that_the_source_set_for_it(make_limit, suspends):
    def items():
        for number in range(20):
            VAR.set(number)
            yield number

    async def look(item):
        seen = VAR.get()
        if suspends:
            await asyncio.sleep(1 + item % 3)
        return seen

    assert await paco.map(look, items(), limit=make_limit()) == list(range(20))


# ---- deadlocks


@pytest.mark.parametrize(
    "make_limit", [*LIMITS.values(), lambda: paco.PerKey(bool, lambda: 2)], ids=[*LIMITS, "PerKey"]
)
@pytest.mark.parametrize("every", [2, 3, 5])
@pytest.mark.parametrize("naps", [1, 2, 3])
async def test_what_the_source_sets_for_some_items_no_other_item_sees(make_limit, every, naps):
    seen = {}

    def numbers():
        for number in range(60):
            if number % every == 0:
                VAR.set(number)
            yield number

    async def work(number):
        seen[number] = VAR.get()
        await asyncio.sleep(number % naps)

    await paco.each(work, numbers(), limit=make_limit())
    assert seen == {number: None if number % every else number for number in range(60)}


async def test_a_permit_is_returned_if_the_other_limit_raises_when_the_item_begins():
    class Broken(paco.Limiter):
        def try_reserve(self, item=None):
            return item

        async def reserve(self, item=None):
            return item

        def begin(self, permit):
            raise OSError("broken")

        def release(self, permit, error=None):
            return None

    shared = paco.Limit(1)
    for items in ([1], [1, 2]):
        with pytest.raises(OSError, match="broken"):
            await paco.each(nap(), items, limit=shared & Broken())
    assert await paco.map(nap(), [1, 2], limit=shared) == [1, 2]


async def test_a_deadlock_is_found_however_many_items_came_before():
    limit, ended_all = paco.Limit(2), asyncio.Event()

    async def outside():
        await ended_all.wait()
        async with limit.slot():
            pass

    task = asyncio.ensure_future(outside())
    await asyncio.sleep(0)

    async def inner(item):
        if item == 3000:
            ended_all.set()
            await task
        await asyncio.sleep(1)

    async def outer(item):
        await paco.each(inner, range(4000), limit=limit)

    with pytest.raises(RuntimeError, match="deadlock"):
        await paco.each(outer, [0], limit=limit)
    assert now() == 3000
    await ended(task)


# ---- what an item leaves


async def test_the_record_of_an_item_says_nothing_of_the_item_before():
    told = []
    with events.listening(told.append, events.ItemEnded):
        await paco.each(paco.retry(Flaky(), wait=0), range(6), limit=paco.Limit(1))
    assert sorted((event.item, event.attempts) for event in told) == [(item, 1 + item % 2) for item in range(6)]


class Flaky:
    """Fails once for each odd item."""

    def __init__(self):
        self.failed = set()

    async def __call__(self, item):
        if item % 2 and item not in self.failed:
            self.failed.add(item)
            raise OSError(item)
        return item


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("method", ["renews", "renew"])
@pytest.mark.parametrize(
    "fails_after", range(9, 17)
)  # a slow item has it asked twice: in its own turn and in the next one
async def test_a_limit_that_fails_when_it_renews_ends_the_run(monkeypatch, fails_after, method, slow):
    calls = count()

    class Broken(paco.Limit):
        def renews(self, permit, own):
            return method == "renew" or works()

        def renew(self, permit):
            return permit if method == "renews" or works() else None

    def works():
        if next(calls) == fails_after:
            raise OSError("the limit is broken")
        return True

    if slow:
        seconds = count()
        monkeypatch.setattr("paco._engine.workers.own_clock", lambda loop: False)
        monkeypatch.setattr("paco._engine.workers.perf_counter", lambda: float(next(seconds)))
    limit = Broken(4)
    with pytest.raises(OSError, match="the limit is broken") as caught:
        await paco.map(nap(), range(30), limit=limit)
    assert caught.value.__notes__[0] == "paco.map: its limit"
    assert limit.in_flight == 0


@pytest.mark.parametrize("waits", [False, True], ids=["releases at once", "has its release awaited"])
async def test_a_limit_that_does_not_renew_after_all_releases_its_permit_and_grants_another(waits):
    class Undecided(paco.Limiter):
        def __init__(self):
            self.held = self.granted = 0

        async def acquire(self, item=None):
            self.held += 1
            self.granted += 1

        def release(self, permit, error=None):
            self.held -= 1
            return asyncio.sleep(1) if waits else None

        def renews(self, permit, own):
            return True

    limit, probe = Undecided(), nap(lambda item: item % 3)
    assert await paco.map(probe, range(20), limit=limit) == list(range(20))
    assert probe.started == list(range(20))
    assert (limit.held, limit.granted) == (0, 20)


@pytest.mark.parametrize("method", ["acquire", "reserve", "try_acquire", "try_reserve", "begin", "release"])
async def test_a_subclass_that_overrides_a_method_has_it_called_for_each_item(method):
    calls = []
    plain = getattr(paco.Limit, method)

    def counted(self, *args):
        calls.append(args)
        return plain(self, *args)

    own = type("Own", (paco.Limit,), {method: counted})
    mixed = type("Mixed", (type("Mixin", (), {method: counted}), paco.Limit), {})
    for kind in (own, mixed):
        calls.clear()
        await paco.each(nap(), range(10), limit=kind(2))
        assert len(calls) >= 10


@pytest.mark.parametrize("count", [1, 2])
async def test_an_item_is_not_read_while_another_waits_and_none_can_start(count):
    source, probe = AsyncSource(range(100)), nap(0.25)
    task = asyncio.ensure_future(paco.map(probe, source, limit=paco.Limit(count) & paco.Rate(1)))
    for _ in range(100):
        await asyncio.sleep(0.1001)
        assert source.pulled - len(probe.started) <= 1
    assert len(probe.started) == 11
    await ended(task)


@pytest.mark.parametrize("kind", [Source, AsyncSource])
@pytest.mark.parametrize("count", [2, 3, 6])
async def test_an_item_whose_end_lowers_the_limit_has_no_other_read_in_vain(kind, count):
    source, probe, limit = kind(range(60)), nap(), paco.Adaptive(count, 1, count)
    task = asyncio.ensure_future(paco.each(probe, source, limit=limit))
    while not task.done():
        await asyncio.sleep(0.5)
        assert source.pulled - len(probe.started) <= 1
    assert limit.history[0].why == "lower"


class Heard(paco.Limit):
    """A limit that keeps how each item has ended."""

    def __init__(self, limit):
        super().__init__(limit)
        self.ended = []

    def renews(self, permit, own):
        return super().renews(permit, own)

    def release(self, permit, error=None):
        self.ended.append(error if error is None else type(error).__name__)
        super().release(permit, error)


def listened():
    return paco.listening(lambda event: None)


async def odd_fails(item):
    await asyncio.sleep(1)
    if item % 2:
        raise OSError(item)
    return item


@pytest.mark.parametrize("block", [nullcontext, listened], ids=["alone", "with a listener"])
@pytest.mark.parametrize("keyed", [False, True], ids=["Limit", "PerKey"])
@pytest.mark.parametrize("journal", [False, True], ids=["plain", "journal"])
async def test_a_limit_gets_the_error_of_an_item_that_settle_returns(block, keyed, journal, tmp_path):
    limit = Heard(1)
    run = paco.map(
        paco.settle(odd_fails), range(5), limit=paco.PerKey(lambda _: "key", {"key": limit}) if keyed else limit
    )
    with block():
        outcomes = await (run.journal(tmp_path / "run.jsonl") if journal else run)
    assert [isinstance(one, paco.Ok) for one in outcomes] == [True, False] * 2 + [True]
    assert list(filter(None, limit.ended)) == ["OSError"] * 2
    assert limit.in_flight == 0


async def test_a_limit_gets_an_error_that_a_wrapper_reports():
    limit = Heard(1)

    async def work(item):
        if item == 1:
            events.failed(KeyError(item))

    await paco.map(work, range(3), limit=limit)
    assert limit.ended == ["KeyError", None]  # 0 passes its permit on


async def test_an_error_that_an_attempt_returns_is_not_that_of_the_next_attempt():
    limit, calls = Heard(1), count()

    async def work(item):
        outcome = await paco.settle(odd_fails)(1 - next(calls) % 2)
        if isinstance(outcome, paco.Err):
            raise TimeoutError
        return item

    log = []
    with paco.listening(lambda event: log.append(event.outcome), events.ItemEnded):
        await paco.map(paco.retry(work, wait=0), [1], limit=limit)
        await paco.map(paco.retry(work, wait=0), [1])
    assert limit.ended == ["TimeoutError", None]
    assert log == ["ok", "ok"]


async def test_adaptive_learns_from_the_errors_of_settled_items():
    limit = paco.Adaptive(start=20, drop_on=OSError)

    async def busy(item):
        await asyncio.sleep(1)
        raise OSError

    await paco.each(paco.settle(busy), range(100), limit=limit)
    assert limit.history[0].why == "drop"
