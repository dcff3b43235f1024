"""The engine: the limit, the order, fairness, pulling, context variables, recycled workers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import time
import traceback
import tracemalloc
from operator import length_hint

import pytest

import paco
from paco._engine.sinks import Keep
from paco.testing import AsyncSource, Probe, Source, now
from tests.counted import Counted
from tests.turns import Turns

VAR: contextvars.ContextVar[object] = contextvars.ContextVar("VAR", default="unset")


async def same(item):
    return item


async def divide(item):
    return 1 // item


async def sleepy(item):
    await asyncio.sleep(0)
    return item


def shapes(items):
    """Every shape of input, over the same items."""
    items = list(items)

    async def later():
        await asyncio.sleep(1)
        return items

    async def later_async():
        return AsyncSource(items)

    async def later_generator():
        return Source(items).generator()

    return {
        "list": lambda: items,
        "iterator": lambda: Source(items),
        "generator": lambda: Source(items).generator(),
        "async iterator": lambda: AsyncSource(items),
        "slow async iterator": lambda: AsyncSource(items, delay=0.1),
        "async generator": lambda: AsyncSource(items).generator(),
        "awaitable of a list": later,
        "awaitable of an async iterator": later_async,
        "awaitable of a generator": later_generator,
        "stream": lambda: paco.map(same, items, limit=2),
    }


async def test_none_is_no_limit():
    async def test(item):
        return bool(await probe(item))

    probe = Probe(lambda item: item, takes=1)
    for call in (paco.map, paco.each, paco.flat_map, paco.filter, paco.filterfalse, paco.some, paco.every):
        probe.peak = 0
        await call(test if call in {paco.some, paco.every} else probe, range(1, 21), limit=None)
        assert probe.peak == 20
    probe.peak = 0
    await (range(20) | paco.map(probe, limit=None))
    await paco.gather(*map(probe, range(20)), limit=None)
    await paco.wait(*map(probe, range(20)), limit=None)
    async with paco.ConcurrentExecutor(None) as executor:
        executor.extend(*map(probe, range(20)))
    assert probe.peak == 20
    await paco.repeat(probe, 25, limit=None)
    assert probe.peak == 25


@pytest.mark.slow
@pytest.mark.parametrize("fn", [same, sleepy, Probe(lambda item: item, takes=lambda item: 5 - item % 5)])
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 10, 10**9])
@pytest.mark.parametrize("shape", shapes([]))
async def test_every_shape_of_input_gives_every_result_in_order(shape, limit, fn):
    for items in [], [7], list(range(25)):
        source = shapes(items)[shape]
        assert await paco.map(fn, source(), limit=limit) == items
        assert [item async for item in paco.map(fn, source(), limit=limit)] == items
        assert sorted([item async for item in paco.map(fn, source(), limit=limit).as_completed()]) == items
        assert sorted(await paco.map(fn, source(), limit=limit).as_completed()) == items


async def test_six_naps_of_ten_seconds_at_a_limit_of_two_take_thirty():
    await paco.map(Probe(lambda item: item, takes=10), range(6), limit=2)
    assert now() == 30


@pytest.mark.parametrize("shape", shapes([]))
@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_the_limit_is_never_exceeded_and_always_reached(shape, limit):
    probe = Probe(lambda item: item, takes=10)
    await paco.map(probe, shapes(range(40))[shape](), limit=limit)
    slow_source = shape == "slow async iterator"
    assert probe.peak == min(limit, 40) or (slow_source and probe.peak <= limit)
    assert probe.started == list(range(40))


async def test_no_limit_runs_all_at_once():
    probe = Probe(lambda item: item, takes=10)
    await paco.map(probe, range(500))
    assert probe.peak == 500
    assert now() == 10


async def test_a_free_slot_is_refilled_in_the_same_turn():
    probe = Probe(lambda item: item, takes=lambda item: 1 if item else 10)
    await paco.map(probe, range(11), limit=2)
    assert now() == 10
    assert probe.started_at == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


async def test_a_huge_limit_over_few_items_starts_few_tasks():
    alive = 0

    async def count(item):
        nonlocal alive
        await asyncio.sleep(1)
        alive = max(alive, len(asyncio.all_tasks()))

    await paco.map(count, range(10), limit=10**9)
    assert alive <= 17


@pytest.mark.parametrize("kind", [iter, list, tuple, set, dict.fromkeys, reversed], ids=lambda kind: kind.__name__)
async def test_no_more_workers_are_started_than_a_source_has_items(kind):
    alive = 0

    async def count(item):
        nonlocal alive
        alive = max(alive, len(asyncio.all_tasks()))
        await asyncio.sleep(1)

    await paco.map(count, kind(range(100)))
    assert alive == 1 + 100  # this test, and one for each item


async def test_a_source_with_a_length_that_is_too_small_gets_workers_as_fast_as_others():
    class Shy:
        def __init__(self):
            self.items = iter(range(1000))

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.items)

        def __length_hint__(self):
            return 0

    async def nap(item):
        await asyncio.sleep(1)

    running = asyncio.ensure_future(paco.map(nap, Shy(), limit=64))
    for _ in range(12):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 2 + 64  # this test, the one that waits, and the workers
    await running


@pytest.mark.parametrize(
    ("source", "limit", "running"),
    [
        (list(range(100)), 50, [1, 50, 50]),
        (list(range(30)), 50, [1, 30, 30]),
        (list(range(1000)), 0, [1, 129, 257]),
        ((number for number in range(1000)), 50, [1, 2, 4, 8, 16, 32, 50]),
        ((number for number in range(1000)), 0, [1, 2, 4, 8, 16, 32, 64, 128, 256, 384]),
    ],
    ids=["list", "short list", "long list", "generator", "generator without a limit"],
)
async def test_the_number_of_workers_grows_from_turn_to_turn(source, limit, running):
    """As fast as a list allows, or else doubling, but so that a turn of the loop stays short."""
    probe = Probe(str, takes=1)
    run = asyncio.ensure_future(paco.map(probe, source, limit=limit))
    seen = []
    for _ in range(len(running) + 5):
        seen.append(probe.running)
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    first = seen.index(1)
    assert seen[first : first + len(running)] == running


async def test_items_that_never_suspend_need_one_worker():
    tasks = set()

    async def note(item):
        tasks.add(asyncio.current_task())

    await paco.map(note, range(1000), limit=100)
    assert len(tasks) == 1


async def test_a_sync_source_needs_no_task_of_its_own():
    async def note(item):
        return len(asyncio.all_tasks())

    assert await paco.map(note, range(3)) == [2, 2, 2]  # this test and the worker


async def test_no_worker_is_started_for_items_that_an_async_source_has_not_delivered():
    tasks = set()

    async def note(item):
        tasks.add(asyncio.current_task())
        await asyncio.sleep(0.5)

    await paco.map(note, AsyncSource(range(10), delay=1), limit=100)
    assert len(tasks) == 1


async def test_workers_are_recycled():
    tasks = set()

    async def note(item):
        tasks.add(asyncio.current_task())
        await asyncio.sleep(1)

    await paco.map(note, range(100), limit=5)
    assert len(tasks) == 5


# ---- context variables, and other marks


async def test_an_item_sees_the_context_of_the_caller_and_of_no_other_item():
    VAR.set("caller")
    seen = []

    async def mark(item):
        seen.append(VAR.get())
        VAR.set(item)
        await asyncio.sleep(0)
        assert VAR.get() == item

    await paco.map(mark, range(20), limit=3)
    assert seen == ["caller"] * 20
    assert VAR.get() == "caller"


async def test_setting_and_resetting_a_context_variable_costs_no_task():
    tasks = set()

    async def mark(item):
        tasks.add(asyncio.current_task())
        token = VAR.set(item)
        VAR.reset(token)

    await paco.map(mark, range(100), limit=1)
    assert len(tasks) == 1


async def test_an_item_that_sets_a_context_variable_costs_a_turn_of_the_loop(monkeypatch):
    clock = Clock()

    async def mark(item):
        VAR.set(item)

    assert len(await clock.beside(paco.each(mark, range(100), limit=1))) < 110


one_at_a_time = pytest.mark.parametrize(
    "make_limit",
    [lambda: 1, lambda: paco.Limit(1), lambda: paco.PerKey(lambda _: "key", lambda: 1)],
    ids=["number", "Limit", "PerKey"],
)


@one_at_a_time
async def test_context_values_that_cannot_be_compared_do_not_leak_either(make_limit):
    class Incomparable:
        def __eq__(self, other):
            raise RuntimeError("not comparable")

        __hash__ = None

    VAR.set(Incomparable())
    seen = []

    async def mark(item):
        seen.append(VAR.get())
        VAR.set(Incomparable())
        return item

    assert await paco.map(mark, range(5), limit=make_limit()) == list(range(5))
    assert len({id(value) for value in seen}) == 1


@one_at_a_time
async def test_a_name_given_to_the_task_does_not_reach_the_next_item(make_limit):
    names = []

    async def rename(item):
        task = asyncio.current_task()
        names.append(task.get_name())
        task.set_name("mine")
        await asyncio.sleep(0)

    await paco.map(rename, range(4), limit=make_limit())
    assert len(set(names)) == 4
    assert all(name.startswith("paco.map rename worker ") for name in names)


@one_at_a_time
async def test_an_item_that_cancels_its_own_task_and_returns_does_not_affect_the_next(make_limit):
    async def cancel(item):
        if item == 1:
            asyncio.current_task().cancel()
        else:
            await asyncio.sleep(0)
        return item

    assert await paco.map(cancel, range(4), limit=make_limit()) == [0, 1, 2, 3]


async def test_an_async_generator_source_runs_in_one_task_with_its_own_context():
    tasks = set()

    async def source():
        for number in range(10):
            tasks.add(asyncio.current_task())
            VAR.set(number)
            await asyncio.sleep(1)
            tasks.add(asyncio.current_task())
            assert VAR.get() == number
            yield number

    async def look(item):
        assert VAR.get() == "unset"
        return item

    assert await paco.map(look, source(), limit=3) == list(range(10))
    assert len(tasks) == 1


# ---- pulling


async def test_a_source_is_pulled_only_when_a_worker_can_start_the_item():
    for kind in Source, AsyncSource:
        source = kind(itertools.count())
        probe = Probe(lambda item: item, takes=10)
        running = asyncio.ensure_future(paco.map(probe, source, limit=3))
        await asyncio.sleep(5)
        assert source.pulled == 3
        await asyncio.sleep(10)
        assert source.pulled == 6
        running.cancel()
        await asyncio.wait([running])
        assert source.pulled == 6


@pytest.mark.parametrize("limit", [2, 3, 5])
async def test_an_async_source_keeps_every_slot_busy_over_any_number_of_items(limit):
    probe = Probe(lambda item: item, takes=1)
    await paco.map(probe, AsyncSource(range(60 * limit)).generator(), limit=limit)
    assert now() == 60


async def test_a_source_that_swallows_its_cancellation_is_not_read_further():
    started = []

    async def source():
        for number in itertools.count():
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                started.append("swallowed")
                await asyncio.sleep(0)
            yield number

    running = asyncio.ensure_future(paco.map(same, source(), limit=2))
    await asyncio.sleep(2.5)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert started == ["swallowed"]
    assert now() == 2.5


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_a_source_is_not_asked_again_after_its_end(kind):
    source = kind(range(20))
    await paco.map(Probe(lambda item: item, takes=lambda item: item % 3), source, limit=4)
    assert source.ended
    assert not source.asked_after_end
    assert not source.closed


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_an_error_of_the_source_ends_the_run_with_a_note_and_it_is_not_asked_again(kind):
    source = kind(range(5), error=OSError("gone"))
    probe = Probe(lambda item: item, takes=10)
    with pytest.raises(OSError, match="gone") as caught:
        await paco.map(probe, source, limit=20)
    assert caught.value.__notes__ == ["paco.map: its source, after 5 items"]
    assert sorted(probe.cancelled) == [0, 1, 2, 3, 4]
    assert not source.asked_after_end
    assert now() == 0


async def test_the_traceback_of_a_failing_source_shows_only_the_source_and_the_call():
    def source():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone") as caught:
        await paco.map(same, source())
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "source"
    assert not {"work", "ready"}.intersection(frames)


async def test_the_index_in_a_note_does_not_count_an_initializer():
    async def fail(item):
        raise ValueError(item)

    with pytest.raises(OSError, match="gone") as caught:
        await paco.flat_map(same, Source([1, 2, 3], error=OSError("gone")), initializer=["a", "b"])
    assert caught.value.__notes__ == ["paco.flat_map: its source, after 3 items"]
    with pytest.raises(ValueError, match="3") as failed:
        await paco.flat_map(fail, [3], initializer=["a", "b"])
    assert failed.value.__notes__ == ["paco.flat_map: item 0: 3"]


async def test_results_before_an_error_of_the_source_are_delivered():
    for kind in Source, AsyncSource:
        seen = []
        with pytest.raises(OSError, match="gone"):
            async for item in paco.map(same, kind(range(5), error=OSError("gone")), limit=2):
                seen.append(item)
        assert seen == [0, 1, 2, 3, 4]


async def test_a_source_with_methods_of_a_stream_is_not_mistaken_for_one():
    """Nor is it looked at for them, which took a quarter of the time of a small run."""

    class Feed(Source):
        def feeds(self, fail):
            raise AssertionError

        def abandon(self):
            raise AssertionError

        async def aclose(self):
            raise AssertionError

    assert await paco.map(same, Feed([1, 2])) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        await paco.map(divide, Feed([1, 0]))


async def test_an_iterable_that_cannot_be_iterated_raises_when_the_run_starts():
    class Broken:
        def __iter__(self):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await paco.map(same, Broken())


async def test_on_an_early_end_generators_are_closed_and_other_iterators_are_left_alone():
    async def fail(item):
        if item == 3:
            raise ValueError(item)
        await asyncio.sleep(1)

    for kind in Source, AsyncSource:
        plain, generated = kind(itertools.count()), kind(itertools.count())
        with pytest.raises(ValueError, match="3"):
            await paco.map(fail, plain, limit=5)
        assert not plain.closed
        with pytest.raises(ValueError, match="3"):
            await paco.map(fail, generated.generator(), limit=5)
        assert generated.closed


async def test_a_generator_that_an_iterable_has_made_is_closed_on_an_early_end_too():
    class Rows:
        closed = False

        def __iter__(self):
            self.rows = self.make()  # held here, or it would be closed by being dropped
            return self.rows

        def make(self):
            try:
                yield from range(10)
            finally:
                self.closed = True

    rows = Rows()
    async with paco.map(same, rows, limit=1) as results:
        await anext(results)
    assert rows.closed


async def test_an_idle_source_holds_no_result_back():
    async def source():
        yield 1
        await asyncio.sleep(100)
        yield 2

    stream = paco.map(same, source(), limit=5)
    assert await anext(stream) == 1
    assert now() == 0
    assert await anext(stream) == 2
    assert [item async for item in stream] == []


async def test_an_error_of_a_source_after_its_stream_was_dropped_is_reported():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["message"]))

    def source():
        yield 1
        dropped.clear()
        raise OSError("gone")

    dropped = [paco.map(same, source(), limit=1).buffer(0)]
    assert await anext(dropped[0]) == 1
    await asyncio.sleep(1)
    assert reports == ["paco.map: 1 more failed while stopping: the source: OSError('gone')"]


async def test_an_error_while_closing_the_source_does_not_hide_the_first_one():
    def sync_source():
        try:
            yield from itertools.count()
        finally:
            raise OSError("cleanup")

    async def async_source():
        try:
            for number in itertools.count():
                yield number
        finally:
            raise OSError("cleanup")

    async def fail(item):
        await asyncio.sleep(1)
        raise ValueError(item)

    for source in sync_source, async_source:
        with pytest.raises(ValueError, match="0") as caught:
            await paco.map(fail, source(), limit=1)
        assert caught.value.__notes__ == [
            "paco.map: item 0: 0",
            "paco.map: 1 more failed while stopping: closing its source: OSError('cleanup')",
        ]


# ---- fairness, memory


@pytest.mark.realtime
@pytest.mark.slow
async def test_items_that_never_suspend_do_not_delay_a_timer():
    """By CPU time of this thread, which a busy machine does not stretch."""
    items = asyncio.gather(*(paco.each(same, range(50_000), limit=100) for _ in range(4)))
    worst, last = 0.0, time.thread_time()
    while not items.done():
        await asyncio.sleep(0.001)
        now = time.thread_time()
        worst, last = max(worst, now - last), now
    await items
    assert worst < 0.03


async def test_runs_that_share_a_loop_all_make_progress():
    finished = []

    async def run(name, count):
        await paco.each(same, range(count), limit=10)
        finished.append(name)

    await asyncio.gather(run("long", 50_000), run("short", 100))
    assert finished == ["short", "long"]


def go_by(monkeypatch, look):
    """Have the engine look at another clock, and take the loop for one of real time."""
    monkeypatch.setattr("paco._engine.workers.perf_counter", look)
    monkeypatch.setattr("paco._engine.workers.own_clock", lambda loop: False)


def frozen():
    return 7.0


@pytest.mark.parametrize("limit", [1, 4, 0, "Limit"])
async def test_items_that_never_suspend_yield_even_if_the_clock_is_frozen(monkeypatch, limit):
    monkeypatch.setattr("paco._engine.workers.perf_counter", frozen)
    async with Turns() as turns:
        await paco.each(same, range(20_000), limit=paco.Limit(4) if limit == "Limit" else limit)
    assert turns.count >= 4


@pytest.mark.realtime
@pytest.mark.parametrize("call", ["each", "until", "whilst", "filter"])
def test_a_run_over_endless_instant_items_times_out_under_freezegun(call):
    freezegun = pytest.importorskip("freezegun")
    endless = {
        "each": lambda: paco.each(same, itertools.count(), limit=4),
        "until": lambda: paco.until(paco.constant(1), paco.constant(False)),
        "whilst": lambda: paco.whilst(paco.constant(1), paco.constant(True)),
        "filter": lambda: paco.filter(paco.constant(False), itertools.count(), limit=2),
    }

    async def main():
        await paco.timeout(endless[call](), 0.05)

    with freezegun.freeze_time("2024-01-01", real_asyncio=True), pytest.raises(TimeoutError):
        asyncio.run(main())


class Endless:
    """A sequence without an end, which reports more items than `len` can."""

    def __len__(self):
        return 2**64

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize("source", [range(2**64), range(-(2**70), 2**70), Endless()])
@pytest.mark.parametrize("watched", [False, True])
async def test_a_source_of_more_items_than_a_length_can_say_runs_as_an_endless_one(source, watched):
    probe = Probe(lambda item: item, takes=1)
    with paco.listening(lambda event: None) if watched else contextlib.nullcontext():
        stream = paco.map(probe, source, limit=10)
        assert length_hint(stream, -1) == -1
        async with stream as results:
            assert [await anext(results) for _ in range(100)] == [source[index] for index in range(100)]
    assert probe.peak == 10


async def test_a_wait_for_the_end_that_is_cancelled_again_and_again_keeps_nothing():
    run = asyncio.ensure_future(paco.map(Probe(lambda item: item, takes=9, cleanup=2), range(3)))
    await asyncio.sleep(1)
    for _ in range(1000):
        run.cancel()
        await asyncio.sleep(0)
    kept = sum(isinstance(one, asyncio.Future) for one in gc.get_objects())
    with contextlib.suppress(asyncio.CancelledError):
        await run
    assert kept < 100


async def test_a_resumed_worker_yields_once_and_then_continues_however_long_the_others_took(monkeypatch):
    clock, turns = 0.0, 0

    async def take(item):
        nonlocal clock
        await asyncio.sleep(0)
        clock += 0.002

    async def tick():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    go_by(monkeypatch, lambda: clock)
    ticking = asyncio.create_task(tick())
    await paco.each(take, range(40), limit=4)
    ticking.cancel()
    await asyncio.wait([ticking])
    assert turns <= 25  # 4 items end in one and start in the next, after the first few, in which the workers grow


@pytest.mark.parametrize(("cost", "batch"), [(1e-3, 4), (1e-6, 1)], ids=["slow", "quick"])
async def test_slow_items_that_are_ready_end_before_new_ones_start(monkeypatch, cost, batch):
    clock, log = 0.0, []

    async def take(item):
        nonlocal clock
        log.append("out")
        clock += cost
        await asyncio.sleep(0)
        log.append("in")
        clock += cost

    go_by(monkeypatch, lambda: clock)
    await paco.each(take, range(80), limit=4)
    batches = [len(list(same)) for _, same in itertools.groupby(log)]
    assert set(batches[len(batches) // 2 : -5]) == {batch}


async def test_on_virtual_time_the_order_of_items_does_not_depend_on_the_speed_of_the_machine(monkeypatch):
    clock, log = 0.0, []

    async def take(item):
        nonlocal clock
        log.append("out")
        clock += 1
        await asyncio.sleep(0)
        log.append("in")

    monkeypatch.setattr("paco._engine.workers.perf_counter", lambda: clock)
    await paco.each(take, range(40), limit=4)
    assert {len(list(same)) for _, same in itertools.groupby(log[20:-8])} == {1}


async def test_workers_that_yield_do_not_prevent_the_start_of_others(monkeypatch):
    clock, running, peak = itertools.count(), 0, 0

    async def take(item):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(1 + item % 7):
            await asyncio.sleep(0)
        running -= 1

    go_by(monkeypatch, lambda: float(next(clock)))
    await paco.each(take, range(300), limit=40)
    assert peak >= 35  # one that gives way has a slot, and no item


class Clock:
    """Stands for the engine's clock, and notes its time at each turn of the loop."""

    def __init__(self):
        self.time, self.looks, self.turns = 0.0, 0, []

    def look(self):
        self.looks += 1
        return self.time

    async def take(self, cost):
        self.time += cost

    async def take_and_wait(self, cost):
        self.time += cost
        await asyncio.sleep(0)

    async def beside(self, *runs):
        """Return how long each turn takes beside these runs."""

        async def tick():
            while True:
                self.turns.append(self.time)
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        await asyncio.gather(*runs)
        ticking.cancel()
        await asyncio.wait([ticking])
        return [later - earlier for earlier, later in itertools.pairwise(self.turns)]


@pytest.mark.parametrize("make", [int, paco.Limit])
@pytest.mark.parametrize(("cost", "limit", "per_item"), [(1e-6, 4, 1 / 4), (1e-3, 4, 2 / 4), (1e-3, 1, 1)])
async def test_only_slow_items_among_others_are_delayed_by_a_turn(monkeypatch, cost, limit, per_item, make):
    clock = Clock()
    go_by(monkeypatch, clock.look)
    turns = len(await clock.beside(paco.each(clock.take_and_wait, [cost] * 1000, limit=make(limit))))
    assert 0 <= turns - per_item * 1000 < 10


async def test_slow_items_that_need_a_new_worker_each_are_not_delayed_further(monkeypatch):
    clock, mark = Clock(), contextvars.ContextVar("mark")

    async def take(number):
        mark.set(number)
        await clock.take_and_wait(1e-3)

    go_by(monkeypatch, clock.look)
    turns = len(await clock.beside(paco.each(take, range(1000), limit=4)))
    assert 0 <= turns - 1000 * 2 / 4 < 10


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_fast_items_that_suspend_read_the_clock_only_once_per_batch_at_any_limit(monkeypatch, limit):
    clock = Clock()
    go_by(monkeypatch, clock.look)
    await paco.each(clock.take_and_wait, [1e-6] * 4000, limit=limit)
    assert clock.looks < 4000 / 64 * 2 + 50


async def test_slow_items_started_in_batches_read_the_clock_once_per_batch(monkeypatch):
    clock = Clock()
    go_by(monkeypatch, clock.look)
    await paco.each(clock.take_and_wait, [1e-3] * 4000, limit=20)
    assert clock.looks < 4000 / 10


async def test_items_that_prove_to_be_fast_are_no_longer_started_in_batches(monkeypatch):
    clock = Clock()
    go_by(monkeypatch, clock.look)
    turns = len(await clock.beside(paco.each(clock.take_and_wait, [1e-3] * 400 + [1e-6] * 4000, limit=4)))
    assert turns < 400 * 2 / 4 + 4000 / 4 + 20


async def test_slow_items_that_do_not_suspend_are_not_delayed(monkeypatch):
    clock, ended = Clock(), asyncio.Event()

    async def take(item):
        clock.time += 1e-4
        if item < 2:
            await ended.wait()
        elif item == 999:
            ended.set()

    go_by(monkeypatch, clock.look)
    took = await clock.beside(paco.each(take, range(1000), limit=3))
    assert min(took[8:-8]) > 0.001 - 1e-9  # each turn is made use of


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("cost", [1e-6, 1e-5, 1e-4, 4e-4, 3e-3])
async def test_runs_share_a_millisecond_of_each_turn_and_rarely_read_the_clock(monkeypatch, cost, runs):
    clock, count = Clock(), max(round(0.1 / cost), 100)
    go_by(monkeypatch, clock.look)
    took = await clock.beside(*(paco.each(clock.take, [cost] * count, limit=2) for _ in range(runs)))
    settled = took[8 : len(took) // 2]  # the first turns find out how long an item takes; in the last, runs have ended
    assert min(settled) > 0.001 - 1e-9
    assert max(settled) < 0.001 + runs * (0.00025 + cost) + 1e-9
    apart = 1 if cost > 0.000025 else min(64, 0.000125 / cost)  # items from one look to the next
    assert clock.looks < runs * (count / apart + 3 * len(clock.turns) + 20)


@pytest.mark.parametrize(("cost", "over"), [(4e-4, 4e-4), (2e-5, 2.5e-4)])
async def test_a_run_whose_items_become_slow_yields_after_a_millisecond_again(monkeypatch, cost, over):
    clock = Clock()
    go_by(monkeypatch, clock.look)
    took = await clock.beside(paco.each(clock.take, [1e-6] * 1000 + [cost] * round(0.16 / cost)))
    assert max(took) < 0.001 + 64 * cost  # as many as it took between two looks while they cost nothing
    assert max(took[-50:]) < 0.001 + over


@pytest.mark.parametrize("limit", [1, 5])
async def test_a_consumer_that_has_taken_all_results_gets_the_next_window_in_the_next_turn(limit):
    async def consume():
        assert [item async for item in paco.map(same, range(100), limit=limit)] == list(range(100))

    assert len(await Clock().beside(consume())) < 100 / limit + 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["each", "ordered", "completed"])
async def test_streaming_takes_constant_memory(kind):
    def source(count):
        for _ in range(count):
            yield object()

    async def consume(count):
        if kind == "each":
            await paco.each(same, source(count), limit=10)
        else:
            stream = paco.map(same, source(count), limit=10)
            async for _ in stream if kind == "ordered" else stream.as_completed():
                pass

    await consume(100)
    tracemalloc.start()
    try:
        await consume(20_000)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


async def test_a_delivered_result_is_not_kept_alive():
    class Result(Counted):
        pass

    async def make(item):
        await asyncio.sleep(item)
        return Result()

    for completed in False, True:
        stream = paco.map(make, [1, 2, 1000], limit=3)
        stream = stream.as_completed() if completed else stream
        async with stream as results:
            assert isinstance(await anext(results), Result)
            assert Result.alive == 0
            await anext(results)
            assert Result.alive == 0


async def test_an_item_is_not_kept_alive_while_its_worker_waits_for_the_next():
    class Item(Counted):
        pass

    async def drop(item):
        await asyncio.sleep(1)

    async with paco.map(drop, (Item() for _ in range(5)), limit=2) as results:
        await anext(results)
        await asyncio.sleep(10)
        assert Item.alive == 0


async def objects():
    for _ in range(3):
        yield object()


async def true_of(_):
    await asyncio.sleep(0)
    return True


async def last(_, item):
    return item


async def results_of(stream):
    return [result async for result in stream]


CALLS = {
    "list": lambda: paco.map(same, [object()], limit=2),
    "async source": lambda: paco.map(same, objects(), limit=2),
    "as completed": lambda: results_of(paco.map(same, objects(), limit=2).as_completed()),
    "pipeline": lambda: objects() | paco.map(same, limit=2) | paco.flat_map(same) | paco.map(same),
    "filtered stream": lambda: results_of(objects() | paco.filter(same, limit=2) | paco.map(same)),
    "each": lambda: paco.each(same, objects()),
    "some": lambda: paco.some(true_of, objects(), limit=2),
    "every": lambda: paco.every(true_of, [object()]),
    "reduce": lambda: paco.reduce(last, objects(), initializer=0),
    "gather": lambda: paco.gather(*(same(object()) for _ in range(3))),
    "race": lambda: paco.race([same(object()) for _ in range(3)]),
    "wait": lambda: paco.wait(*(same(object()) for _ in range(3))),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_run_creates_no_reference_cycle(call):
    await call()  # whatever is made once only
    await asyncio.sleep(0)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await call()
        await asyncio.sleep(0)
        gc.collect()
        assert [type(one) for one in gc.garbage if type(one).__module__.startswith("paco")] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_handled_error_is_part_of_no_reference_cycle():
    class Local(Counted):
        pass

    async def fail(item):
        local = Local()
        await asyncio.sleep(1)
        raise ValueError(local)

    async def caught(source, **options):
        try:
            return await paco.map(fail, source, limit=2, **options)
        except ValueError:
            return None

    gc.collect()
    gc.disable()
    try:
        for source in [1, 2, 3], AsyncSource([1, 2, 3]):
            assert await caught(source) is None
            assert Local.alive == 0
        results = await caught([1, 2, 3], return_exceptions=True)
        assert len(results) == 3
        del results
        assert Local.alive == 0
    finally:
        gc.enable()


async def test_an_error_as_a_result_is_part_of_no_cycle_even_if_the_function_is_not_async():
    class Broken(Counted, Exception):
        pass

    def fail(item):
        raise Broken

    gc.collect()
    gc.disable()
    try:
        results = await paco.map(fail, [1, 2], return_exceptions=True)
        assert len(results) == Broken.alive == 2
        del results
        assert Broken.alive == 0
    finally:
        gc.enable()


def test_a_list_of_results_grows_only_when_its_places_are_used():
    keep = Keep()
    assert [keep.room(started) for started in (0, 1, 63, 64, 65)] == [64, 64, 64, 128, 128]
