"""Listeners: what they hear, of which runs, what keeps items waiting, and that a run is none the worse for them."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import itertools
import sys
import threading
import time
import weakref

import pytest

import paco
from paco import events, testing
from paco.events import ItemEnded, ItemStarted, RunEnded, RunStarted
from paco.testing import AsyncSource, Source, now


async def nap(seconds):
    """Sleep, and return how long."""
    await asyncio.sleep(seconds)
    return seconds


async def same(item):
    return item


async def fail_at_2(item):
    await asyncio.sleep(item)
    if item == 2:
        raise ValueError(item)
    return item


class Log(list):
    """A listener that keeps what it hears."""

    def __call__(self, event):
        self.append(event)

    def of(self, kind):
        return [event for event in self if isinstance(event, kind)]

    def runs(self):
        return [event.run for event in self.of(RunStarted)]


def heard():
    log = Log()
    return log, paco.listening(log)


# ---- what is told


async def test_a_listener_receives_events_of_a_run_and_of_each_item():
    log, listening = heard()
    with listening:
        await paco.map(nap, [3, 1, 1], limit=2)
    run = log[0].run
    assert log == [
        RunStarted(run, 0),
        ItemStarted(run, 0, 0, 3, 0),
        ItemStarted(run, 1, 1, 1, 0),
        ItemEnded(run, 1, 1, 1, 0, 1, 1, "ok", None),
        ItemStarted(run, 2, 1, 1, 1),
        ItemEnded(run, 2, 1, 1, 1, 2, 1, "ok", None),
        ItemEnded(run, 0, 0, 3, 0, 3, 1, "ok", None),
        RunEnded(run, 3, "ok", None),
    ]
    assert [event.elapsed for event in log.of(ItemEnded)] == [1, 1, 3]


async def test_a_run_view_has_the_name_the_limit_and_the_counts():
    seen = []

    def look(event):
        run = event.run
        seen.append((run.started, run.in_flight, run.ok, run.failed, run.cancelled, run.done))

    before = time.time()
    with (
        paco.listening(look, ItemStarted),
        paco.listening(look, ItemEnded),
        paco.listening(log := Log()),
        pytest.raises(ValueError, match="2"),
    ):
        await paco.map(fail_at_2, [1, 2, 3], limit=3)
    assert seen == [
        (1, 1, 0, 0, 0, 0),
        (2, 2, 0, 0, 0, 0),
        (3, 3, 0, 0, 0, 0),
        (3, 2, 1, 0, 0, 1),
        (3, 1, 1, 1, 0, 2),
        (3, 0, 1, 1, 1, 2),
    ]
    run = log[0].run
    assert (run.name, run.function, run.title, run.limit, run.total) == ("map", "fail_at_2", "map fail_at_2", 3, 3)
    assert (run.start, run.parent, run.feeds, run.fed) == (0, None, None, False)
    assert before <= run.date <= time.time()
    assert repr(run) == f"<run {run.id}: map fail_at_2, 2 of 3 done, 1 failed>"


async def test_an_item_takes_the_lowest_free_slot():
    log, listening = heard()
    with listening:
        await paco.map(nap, [5, 1, 2, 1, 5, 1], limit=3)
    assert [(event.position, event.slot, event.start) for event in log.of(ItemStarted)] == [
        (0, 0, 0),
        (1, 1, 0),
        (2, 2, 0),
        (3, 1, 1),
        (4, 2, 2),
        (5, 1, 2),
    ]


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 100])
async def test_items_of_one_slot_never_overlap_and_no_slot_is_above_the_limit(limit):
    log, listening = heard()
    with listening:
        await paco.map(nap, [1 + (7 * number) % 5 for number in range(40)], limit=limit)
    rows = {}
    for event in log.of(ItemEnded):
        rows.setdefault(event.slot, []).append((event.start, event.end))
    assert sorted(rows) == list(range(min(limit or 40, 40)))
    for spans in rows.values():
        spans.sort()
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


async def test_the_outcome_says_how_each_item_and_the_run_ended():
    log, listening = heard()
    with listening, pytest.raises(ValueError, match="2") as caught:
        await paco.map(fail_at_2, [1, 2, 3, 4], limit=3)
    ended = {event.item: (event.outcome, event.error, event.end) for event in log.of(ItemEnded)}
    cancelled = [ended[item][1] for item in (3, 4)]
    assert ended == {
        1: ("ok", None, 1),
        2: ("failed", caught.value, 2),
        3: ("cancelled", cancelled[0], 2),
        4: ("cancelled", cancelled[1], 2),
    }
    assert all(isinstance(error, asyncio.CancelledError) for error in cancelled)
    assert log[-1] == RunEnded(log[0].run, 2, "failed", caught.value)


async def test_an_error_that_becomes_a_result_is_a_failure_of_the_item_and_not_of_the_run():
    log, listening = heard()
    with listening:
        results = await paco.map(fail_at_2, [1, 2, 3], limit=3, return_exceptions=True)
    assert [event.error for event in log.of(ItemEnded)] == [None, results[1], None]
    assert log[-1] == RunEnded(log[0].run, 3, "ok", None)


async def test_an_item_that_ends_cancelled_by_itself_has_failed():
    async def cancelled(_):
        raise asyncio.CancelledError

    log, listening = heard()
    with listening, pytest.raises(paco.ItemCancelled):
        await paco.map(cancelled, [1])
    assert [event.outcome for event in log.of(ItemEnded)] == ["failed"]


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (lambda: paco.some(same, [0, 1, 2], limit=1), "cancelled"),
        (lambda: paco.some(same, [0, 0, 0], limit=1), "ok"),
        (lambda: paco.race([lambda: nap(1), lambda: nap(2)]), "cancelled"),
        (lambda: paco.each(nap, [1], timeout=0), "failed"),
        (lambda: paco.each(nap, [2], timeout=1), "failed"),
        (lambda: paco.each(nap, []), "ok"),
    ],
    ids=["some", "none", "race", "no time at all", "timeout", "no items"],
)
async def test_a_run_that_is_left_early_was_cancelled(call, outcome):
    log, listening = heard()
    with listening:
        await asyncio.gather(call(), return_exceptions=True)
    assert log.of(RunEnded)[-1].outcome == outcome


async def test_a_stream_that_is_left_was_cancelled():
    log, listening = heard()
    with listening:
        async with paco.map(nap, [1, 1, 5], limit=3) as results:
            async for _ in results:
                break
    assert [event.outcome for event in log.of(ItemEnded)] == ["ok", "ok", "cancelled"]
    assert log[-1] == RunEnded(log[0].run, 1, "cancelled", None)


def test_a_run_that_the_end_of_the_loop_cancels_was_cancelled():
    log, listening = heard()

    async def main():
        await paco.wait(nap(0), nap(100), return_when="FIRST_COMPLETED")

    with listening:
        asyncio.run(main())
    assert [event.outcome for event in log.of(RunEnded)] == ["cancelled"]


async def test_a_run_that_fails_after_it_was_abandoned_counts_as_left_early():
    log, listening = heard()

    async def stubborn(item):
        try:
            await nap(item)
        except asyncio.CancelledError:
            raise ValueError(item) from None

    with listening:
        stream = paco.map(stubborn, [1, 9], limit=2)
        async for _ in stream:
            break
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await stream.aclose()
    assert log[-1][1:] == (1, "cancelled", None)
    assert [event.outcome for event in log.of(ItemEnded)] == ["ok", "failed"]


async def test_of_two_errors_the_event_has_the_first():
    async def early(item):
        await nap(1)
        raise ValueError(item)

    async def late(item):
        for _ in range(item):
            await nap(0.5)
        if item:
            raise KeyError(item)

    log, listening = heard()
    with listening, pytest.raises(ValueError, match="None"):
        await ([0, 2] | paco.map(late) | paco.map(early))
    assert now() == 1
    assert [type(event.error) for event in log.of(RunEnded)] == [KeyError, ValueError]


async def test_a_source_that_cannot_be_iterated_gives_no_events():
    class Bad:
        def __iter__(self):
            raise ValueError("no")

    log, listening = heard()
    with listening, pytest.raises(ValueError, match="no"):
        await paco.map(nap, Bad())
    assert not log


async def test_groups_are_runs_whose_items_are_the_calls():
    log, listening = heard()
    with listening:
        await paco.gather(nap(1), nap(2), limit=2)
        await paco.series(nap(1))
        executor = paco.ConcurrentExecutor(limit=2)
        executor.add(nap, 1)
        await executor.run()
    assert [run.title for run in log.runs()] == ["gather", "series", "ConcurrentExecutor"]
    assert [run.total for run in log.runs()] == [2, 1, 1]


async def test_a_call_whose_error_goes_to_its_future_has_failed():
    log, listening = heard()
    with listening:
        done, _ = await paco.wait(fail_at_2(2), return_exceptions=True)
    assert [event.error for event in log.of(ItemEnded)] == [one.result() for one in done]
    assert [event.outcome for event in log.of(ItemEnded)] == ["failed"]


# ---- to whom


async def test_a_listener_receives_only_the_requested_kind():
    log = Log()
    with paco.listening(log, RunEnded), paco.listening(log, ItemStarted):
        await paco.map(same, [1, 2])
    assert [type(event) for event in log] == [ItemStarted, ItemStarted, RunEnded]


async def test_a_listener_receives_the_requested_kinds():
    log = Log()
    with paco.listening(log, RunEnded, ItemStarted):
        await paco.map(same, [1, 2])
    assert [type(event) for event in log] == [ItemStarted, ItemStarted, RunEnded]


async def test_all_listeners_receive_events_the_innermost_last():
    told = []
    with (
        paco.listening(lambda _: told.append("outer"), RunEnded),
        paco.listening(lambda _: told.append("inner"), RunEnded),
    ):
        await paco.map(same, [1])
    assert told == ["outer", "inner"]


async def test_a_listener_receives_nothing_after_its_block():
    log, listening = heard()
    with listening:
        task = asyncio.create_task(paco.map(nap, [1, 1], limit=1))
        await nap(1.5)
    heard_inside = len(log)
    assert await task == [1, 1]
    await paco.map(same, [1])
    assert len(log) == heard_inside == 4


async def test_a_listening_block_can_be_entered_again():
    log, listening = heard()
    for _ in range(2):
        with listening, listening:
            await paco.map(same, [1])
    assert len(log.of(RunEnded)) == 4


async def test_a_listening_block_may_be_left_in_another_context():
    log, listening = heard()

    async def left():
        with listening:
            yield 1

    generator = left()
    await asyncio.create_task(anext(generator), context=(context := contextvars.copy_context()))
    with paco.listening(Log()):
        await asyncio.create_task(anext(generator, None))  # another context than that in which it was entered
    await asyncio.create_task(paco.map(same, [1]), context=context)
    assert not log


@pytest.mark.parametrize("limit", [4, paco.Limit(4)])
async def test_without_a_listener_the_function_of_a_run_is_not_wrapped(limit):
    async def caller(item):
        return sys._getframe(1).f_code.co_qualname

    (plain,) = await paco.map(caller, [1], limit)
    with paco.listening(Log()):
        assert await paco.map(caller, [1], limit) != [plain]
    assert await paco.map(caller, [1], limit) == [plain]
    assert plain.partition(".")[0] in {"Scheduler", "Admission"}


# ---- a run is none the worse for it


async def test_a_listener_does_not_change_the_lookahead_of_a_limit():
    class Ahead(paco.Limiter):
        lookahead = 3

        def __init__(self):
            self.lock = asyncio.Lock()

        async def acquire(self, item=None):
            await self.lock.acquire()

        def release(self, permit, error=None):
            self.lock.release()

    async def pulled():
        source, seen = Source(range(9)), []

        async def work(_):
            seen.append(source.pulled)
            await nap(1)

        await paco.each(work, source, limit=Ahead())
        return seen

    expected = await pulled()
    with paco.listening(Log()):
        assert await pulled() == expected


@pytest.mark.parametrize("kind", [ItemStarted, ItemEnded, RunStarted, RunEnded])
async def test_a_listener_of_one_kind_that_raises_is_reported_once(kind):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report["message"]))

    def broken(event):
        raise ValueError(event)

    with paco.listening(broken, kind):
        assert await paco.map(nap, [1, 2, 3], limit=2) == [1, 2, 3]
    assert reports == ["paco.listening: broken raised, and will not be called again"]


async def test_a_listener_that_raises_is_reported_once_and_does_not_affect_the_run():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))

    def broken(event):
        raise ValueError(event)

    def cancelling(_):
        raise asyncio.CancelledError

    log, listening = heard()
    with paco.listening(broken), paco.listening(cancelling), listening:
        assert await paco.map(nap, [1, 2, 3], limit=2) == [1, 2, 3]
        assert await paco.map(nap, [1]) == [1]
    messages = [report["message"] for report in reports]
    assert messages == [
        "paco.listening: broken raised, and will not be called again",
        "paco.listening: cancelling raised, and will not be called again",
    ]
    assert isinstance(reports[0]["exception"], ValueError)
    assert len(log) == 8 + 4


def test_a_ctrl_c_inside_a_listener_ends_the_run():
    def interrupted(_):
        raise KeyboardInterrupt

    with paco.listening(interrupted, ItemEnded), pytest.raises(KeyboardInterrupt):
        paco.run(paco.map(same, [1]))


def plain(item):
    return item


class Callable:
    async def __call__(self, item):
        raise TypeError(item)


def stops(_):
    raise StopIteration


@pytest.mark.parametrize(
    "fn",
    [plain, functools.partial(plain), Callable(), fail_at_2, stops, functools.partial(nap, seconds=2)],
    ids=["plain", "partial", "object", "async", "stops", "wrong arguments"],
)
@pytest.mark.parametrize("catch", [True, False])
async def test_a_listener_does_not_change_errors(fn, catch):
    async def outcome():
        try:
            return repr(await paco.map(fn, [2], return_exceptions=catch))
        except Exception as error:
            return repr(error), error.__notes__, len(traced(error)), repr(error.__cause__)

    def traced(error):
        frames, trace = [], error.__traceback__
        while trace is not None:
            frames.append(trace)
            trace = trace.tb_next
        return frames

    expected = await outcome()
    log, listening = heard()
    with listening:
        assert await outcome() == expected
    assert [event.outcome for event in log.of(ItemEnded)] == ["failed"]


async def test_workers_are_recycled_with_a_listener_too():
    tasks = set()

    async def work(_):
        await asyncio.sleep(0)
        tasks.add(asyncio.current_task())

    with paco.listening(Log()):
        await paco.each(work, range(100), limit=3)
    assert len(tasks) == 3


async def test_a_watched_run_creates_no_reference_cycle():
    class Result(Exception):
        pass

    async def fresh(_):
        return Result()

    async def bad(_):
        raise Result

    gc.disable()
    try:
        with paco.listening(lambda _: None):
            results = await paco.map(fresh, range(3))
            kept = [weakref.ref(result) for result in results]
            del results
            assert [one() for one in kept] == [None] * 3
            source = Source([1])
            kept = [weakref.ref(source)]
            with pytest.raises(Result):
                await paco.map(bad, source)
            del source
            assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("again", [None, 1])
def test_cancelled_at_every_step_each_started_item_and_the_run_have_an_end_event(again, cancel_at_every_step):
    logs = []

    async def stages():
        log, listening = heard()
        logs.append(log)
        with listening:
            await (AsyncSource(range(4)) | paco.map(step, limit=2) | paco.map(step, limit=3))

    async def step(item):
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
        return item

    assert cancel_at_every_step(stages, **({} if again is None else {"again": again})) > 20
    for log in logs:
        for run in log.runs():
            mine = [event for event in log if event.run is run]
            assert len([event for event in mine if isinstance(event, RunEnded)]) == 1
            assert isinstance(mine[-1], RunEnded)
            assert run.in_flight == 0
            counts = [sum(isinstance(event, kind) for event in mine) for kind in (ItemStarted, ItemEnded)]
            assert counts == [run.started] * 2


def test_a_run_whose_loop_is_gone_sends_no_events():
    log, listening = heard()
    loop = asyncio.new_event_loop()

    async def started():
        task = asyncio.create_task(paco.each(nap, [9]))
        await asyncio.sleep(0.01)
        return task

    with listening:
        task = loop.run_until_complete(started())
        loop.close()
        told = len(log)
        task._log_destroy_pending = False  # asyncio would report that it was left
        del task
        for left in asyncio.all_tasks(loop):
            left._log_destroy_pending = False
        del left, loop
        gc.collect()
    assert len(log) == told


# ---- several runs


async def test_a_nested_run_names_its_parent_run():
    async def outer(item):
        await asyncio.create_task(paco.each(same, [item]))
        return await paco.map(same, [item])

    log, listening = heard()
    with listening:
        await paco.map(outer, [1])
        await paco.map(same, [1])
    first, inner, also_inner, after = log.runs()
    assert [run.parent for run in log.runs()] == [None, first, first, None]
    assert inner.name == "each"
    assert also_inner.feeds is None
    assert after.id > first.id


async def test_each_stage_of_a_pipeline_is_a_run_that_names_the_next_stage():
    async def inner(_):
        return await ([1, 2] | paco.map(same) | paco.filter(same) | paco.reduce(add))

    async def add(total, item):
        return total + item

    log, listening = heard()
    with listening:
        await paco.map(inner, [1])
    outer, last, middle, first = log.runs()
    assert [run.name for run in log.runs()] == ["map", "reduce", "filter", "map"]
    assert [run.parent for run in log.runs()] == [None, outer, outer, outer]
    assert [run.feeds for run in log.runs()] == [None, None, last, middle]
    assert [run.fed for run in (last, middle, first)] == [True, True, False]


async def test_a_run_inside_a_source_is_a_sibling_and_one_that_is_iterated_feeds_the_reader():
    async def nested(item):
        return await paco.map(same, [item])

    async def rows():
        await paco.each(same, [1])
        async with paco.map(nested, [1, 2], limit=1) as inner:
            async for row in inner:
                yield row

    async def item(_):
        return await paco.filter(same, rows())

    log, listening = heard()
    with listening:
        await paco.map(item, [1])
    outer, reader, awaited, iterated, *nested_runs = log.runs()
    assert [run.parent for run in (reader, awaited, iterated)] == [outer, outer, outer]
    assert [run.parent for run in nested_runs] == [iterated, iterated]
    assert [run.feeds for run in log.runs()] == [None, None, None, reader, None, None]
    assert [run.fed for run in log.runs()] == [False, True, False, False, False, False]


@pytest.mark.parametrize("make", [lambda stream: stream, paco.Stream.as_completed], ids=["in order", "as completed"])
async def test_a_run_inside_an_awaitable_source_is_a_sibling(make):
    async def rows():
        return await make(paco.map(same, [1, 2]))

    log, listening = heard()
    with listening:
        await paco.each(same, rows())
    assert [(run.parent, run.feeds, run.fed) for run in log.runs()] == [(None, None, False)] * 2


async def test_the_total_is_the_length_of_the_source_through_stages_that_keep_the_number_of_items():
    def totals(*stages):
        return paco.listening(lambda event: seen.append(event.run.total), RunStarted), stages

    class Hostile(Source):
        def __length_hint__(self):
            raise ValueError

    seen = []
    listening, _ = totals()
    with listening:
        await ([1, 2] | paco.map(same) | paco.map(same))
        assert seen == [2, 2]
        await ([1, 2] | paco.filter(same) | paco.map(same))
        assert seen[2:] == [None, 2]
        await (Source([1]) | paco.map(same))
        await (Hostile([1]) | paco.map(same))
        await (AsyncSource([1]) | paco.map(same) | paco.map(same))
        assert seen[4:] == [None] * 4
        await ([] | paco.map(same) | paco.map(same))
        assert seen[8:] == [0, 0]
        del seen[8:]
        await paco.map(same, paco.flat_map(same, [[1]], initializer=[1, 2]))
        await paco.map(same, iter([1, 2, 3]))
        assert seen[8:] == [None, None, 3]


# ---- what keeps items waiting


def waited(log):
    return {why: seconds for why, seconds in log[0].run.waited.items() if seconds}


async def test_waiting_on_reports_the_limit():
    log, listening = heard()
    with listening:
        await paco.map(nap, [2] * 6, limit=2)
    assert waited(log) == {"limit": 6}


async def test_waiting_on_reports_an_async_source():
    log, listening = heard()
    with listening:
        await paco.map(nap, AsyncSource([2, 2, 2], delay=5), limit=2)
    assert waited(log) == {"input": 5 + 5 + 5 + 5}


@pytest.mark.parametrize("limit", [lambda: 0, lambda: paco.Limit(4)], ids=["number", "Limit"])
async def test_waiting_on_reports_an_async_source_also_after_a_result_has_filled_the_buffer(limit):
    log, listening = heard()
    with listening:
        async for _ in paco.map(nap, AsyncSource([1, 1, 1], delay=5), limit=limit()).buffer(1):
            pass
    assert waited(log) == {"input": 5 + 5 + 5 + 5}


async def test_waiting_on_reports_the_consumer():
    log, listening = heard()
    with listening:
        async for _ in paco.map(nap, [0.5] * 6, limit=1).buffer(0):
            await nap(2)
    assert waited(log) == {"limit": 3, "output": 7.5}


async def test_waiting_on_reports_a_slow_earlier_item_of_an_ordered_stream():
    log, listening = heard()
    with listening:
        assert [one async for one in paco.map(nap, [8, 1, 1, 1, 1, 1], limit=2)] == [8, 1, 1, 1, 1, 1]
    assert waited(log) == {"limit": 4, "order": 5}
    log, listening = heard()
    with listening:
        assert [one async for one in paco.map(nap, [8, 1, 1, 1], limit=2).as_completed()] == [1, 1, 1, 8]
    assert waited(log) == {"limit": 3, "tail": 5}


async def test_waiting_on_reports_the_consumer_of_an_unordered_stream():
    log, listening = heard()
    with listening:
        async for _ in paco.map(nap, [1, 0.5, 2, 1], limit=2).buffer(0).as_completed():
            await nap(3)
    assert waited(log) == {"limit": 1, "output": 5.5}


async def test_waiting_on_reports_the_loop_and_the_tail_at_the_end():
    log, listening = heard()

    async def busy(_):
        asyncio.get_running_loop()._set_time(now() + 3)

    with listening:
        await paco.map(busy, [1, 1], limit=5)
        log.clear()
        await paco.map(nap, [1, 2, 4], limit=2)
    assert waited(log) == {"limit": 2, "tail": 3}
    assert log[0].run.start == 6


async def test_waiting_on_reports_the_rate_if_an_async_source_is_faster():
    log, listening = heard()
    with listening:
        await paco.map(nap, AsyncSource([1] * 5), limit=paco.Rate(1, per=10))
    assert waited(log) == {"rate": 40, "tail": 1}


async def test_waiting_on_reports_the_rate_if_an_item_waits_for_it_that_was_taken_when_one_ended():
    async def at_once(item):
        return item

    log, listening = heard()
    with listening:
        async for _ in paco.map(at_once, range(5), limit=paco.Limit(1) & paco.Rate(1, per=10)):
            pass
    assert waited(log) == {"rate": 40}


async def test_waiting_on_reports_an_async_source_that_is_slower_than_the_rate():
    log, listening = heard()
    with listening:
        await paco.map(nap, AsyncSource([1] * 3, delay=5), limit=paco.Rate(1, per=6))
    assert waited(log) == {"input": 5 + 5 + 5 + 5, "rate": 1 + 1}


async def test_waiting_on_reports_the_tail_after_an_async_source_has_ended():
    for limit in (5, paco.Rate(1) & paco.Limit(5), paco.Limit(5)):
        log, listening = heard()
        with listening:
            await paco.map(nap, AsyncSource([10, 10]), limit=limit)
        assert waited(log)["tail"] == 10
        assert "input" not in waited(log)


@pytest.mark.parametrize(
    "limit",
    [lambda: 2, lambda: paco.Limit(2), lambda: paco.Limit(2) & paco.Rate(1000, burst=9)],
    ids=["number", "Limit", "and"],
)
async def test_waiting_on_reports_the_tail_once_the_first_slot_stays_free(limit):
    log, listening = heard()
    with listening:
        await paco.map(nap, [1, 2], limit=limit())
    assert waited(log) == {"limit": 1, "tail": 1}


async def test_the_limit_of_a_run_view_is_the_current_one():
    async def lower(_):
        limit.limit = 3

    limit = paco.Limit(9)
    log, listening = heard()
    with listening:
        await paco.map(nap, [1], limit=limit)
        assert log[0].run.limit == 9
        await paco.map(lower, [1], limit=limit)
    assert log.runs()[1].limit == 3


# ---- what wrappers mention


async def test_a_wrapper_can_report_attempts_and_failures_that_become_values():
    error = ValueError("settled")

    async def work(item):
        for _ in range(item):
            events.retried()
            await asyncio.sleep(0)
        if item == 1:
            events.failed(error)
        if item == 2:
            raise KeyError(item)
        return item

    log, listening = heard()
    with listening:
        await paco.map(work, [0, 1, 2, 3, 0], limit=2, return_exceptions=True)
    ended = {(event.position, event.attempts, event.outcome) for event in log.of(ItemEnded)}
    assert ended == {(0, 1, "ok"), (1, 2, "failed"), (2, 3, "failed"), (3, 4, "ok"), (4, 1, "ok")}
    assert [event.error for event in log.of(ItemEnded) if event.item == 1] == [error]
    assert (log[0].run.retried, log[0].run.failed) == (3, 2)


async def test_reports_without_a_listener_or_from_another_task_are_ignored():
    async def elsewhere():
        events.retried()

    async def work(_):
        await asyncio.create_task(elsewhere())
        await asyncio.sleep(0)

    events.retried()
    events.failed(ValueError())
    log, listening = heard()
    with listening:
        await paco.map(work, [1, 2])
        assert [event.attempts for event in log.of(ItemEnded)] == [1, 1]


@pytest.mark.realtime
async def test_reports_from_a_thread_are_ignored():
    log, listening = heard()
    with listening:
        await paco.map(lambda _: asyncio.to_thread(events.retried), [1])
    assert [event.attempts for event in log.of(ItemEnded)] == [1]


# ---- retries


class Stubborn:
    """A function that fails so many times for each item."""

    def __init__(self, failures):
        self.failures = dict(failures)

    async def __call__(self, item):
        if self.failures.get(item):
            self.failures[item] -= 1
            raise OSError(item)
        return item


@pytest.mark.parametrize("limit", [0, 2, paco.Limit(2)], ids=["no limit", "number", "object"])
@pytest.mark.parametrize("settled", [False, True])
async def test_each_retry_is_an_event_before_its_pause(limit, settled):
    heard = []
    fn = paco.retry(Stubborn({"a": 2, "b": 1}), attempts=5, on=lambda _: 3)
    with paco.listening(lambda event: heard.append((now(), *event)), events.ItemRetried), paco.trace() as trace:
        await paco.map(paco.settle(fn) if settled else fn, ["a", "b", "c"], limit=limit)
    (run,) = trace.runs
    assert [(when, one is run, item, attempt, pause) for when, one, item, attempt, _, pause in heard] == [
        (0, True, "a", 1, 3),
        (0, True, "b", 1, 3),
        (3, True, "a", 2, 3),
    ]
    assert [repr(error) for *_, error, _ in heard] == ["OSError('a')", "OSError('b')", "OSError('a')"]
    assert run.retried == 2


async def test_an_attempt_that_is_the_last_is_no_retry():
    log = Log()
    with paco.listening(log, events.ItemRetried), pytest.raises(OSError, match="a"):
        await paco.map(paco.retry(Stubborn({"a": 9}), attempts=3, wait=0), ["a"])
    assert [event.attempt for event in log] == [1, 2]


async def test_a_retry_outside_a_run_is_an_event():
    log, installed = Log(), Log()
    uninstall = events.install(installed, events.ItemRetried)
    with paco.listening(log):
        assert await paco.retry(Stubborn({"a": 1}), on=lambda _: 1)("a") == "a"
    uninstall()
    (event,) = log
    assert installed == log
    assert (event.run, event.item, event.attempt, event.pause) == (None, None, 1, 1)


async def test_a_retry_names_the_innermost_run_and_item():
    async def inner(item):
        return await paco.map(paco.retry(Stubborn({1: 1}), wait=0), [item])

    async def outer(item):
        await asyncio.create_task(paco.retry(Stubborn({"task": 1}), wait=0)("task"))
        return await inner(item)

    log = Log()
    with paco.listening(log, events.ItemRetried):
        await paco.each(outer, [1])
    assert [(event.run.name, event.item) for event in log] == [("each", None), ("map", 1)]


async def test_a_retry_inside_a_source_belongs_to_no_item():
    async def rows():
        yield await paco.retry(Stubborn({1: 1}), wait=0)(1)

    log = Log()
    with paco.listening(log, events.ItemRetried):
        await paco.map(same, rows())
    assert [(event.run, event.item) for event in log] == [(None, None)]


async def test_a_listener_that_is_added_inside_an_item_hears_its_retries():
    log, around = Log(), Log()

    async def item(value):
        with paco.listening(log, events.ItemRetried):
            return await paco.retry(Stubborn({value: 1}), wait=0)(value)

    with paco.listening(around, events.ItemRetried):
        await paco.map(item, ["a"])
    assert [event.item for event in log] == ["a"]
    assert log == around


async def test_a_listener_that_raises_at_a_retry_is_told_to_the_loop_and_called_no_more():
    heard, reports = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report["message"]))

    def refuse(event):
        heard.append(event)
        raise ValueError("no")

    with paco.listening(refuse, events.ItemRetried):
        assert await paco.map(paco.retry(Stubborn({"a": 2}), wait=0), ["a"]) == ["a"]
    assert len(heard) == 1
    assert ["raised, and will not be called again" in report for report in reports] == [True]


async def test_what_a_task_of_an_item_tells_is_not_told_of_the_item():
    async def tell():
        events.failed(OSError())
        events.skipped()
        events.retried()

    async def item(value):
        await asyncio.create_task(tell())

    log = Log()
    with paco.listening(log, ItemEnded):
        await paco.map(item, ["a"])
    assert [(event.outcome, event.skipped, event.attempts) for event in log] == [("ok", False, 1)]


async def test_wrappers_that_retry_can_send_the_event():
    async def item(value):
        error = OSError(value)
        events.retried(error, attempt=4, pause=7)
        events.retried()

    log, ends = Log(), Log()
    with paco.listening(log, events.ItemRetried), paco.listening(ends, ItemEnded):
        await paco.map(item, ["a"])
    assert [(event.item, event.attempt, repr(event.error), event.pause) for event in log] == [
        ("a", 4, "OSError('a')", 7),
        ("a", 1, "None", 0),
    ]
    assert [event.attempts for event in ends] == [3]


async def stubborn(item):
    """Fail in the first two attempts."""
    calls.append(item)
    if calls.count(item) < 3:
        raise OSError(item)
    if item == "task":
        return await asyncio.create_task(paco.retry(Stubborn({0: 1}), wait=0)(0))
    return item


calls = []


@pytest.mark.parametrize("path", ["chunks", "single items"])
@pytest.mark.realtime
def test_retries_elsewhere_are_events_when_their_chunk_is_back(path):
    log = Log()
    with paco.listening(log):
        limit = 2 if path == "chunks" else paco.Limit(2)
        paco.run(paco.map(paco.retry(stubborn, wait=0.001), ["a", "task"], limit=limit).on(1))
    retries = log.of(events.ItemRetried)
    (run,) = log.runs()
    assert {id(event.run) for event in retries} == {id(run)}
    assert sorted((str(event.item), event.attempt, repr(event.error)) for event in retries) == [
        ("None", 1, "OSError(0)"),
        ("a", 1, "OSError('a')"),
        ("a", 2, "OSError('a')"),
        ("task", 1, "OSError('task')"),
        ("task", 2, "OSError('task')"),
    ]
    assert "in process" in retries[0].error.__notes__[0]
    assert all(log.index(event) < log.index(log.of(RunEnded)[0]) for event in retries)


# ---- the whole process


@pytest.fixture
def install():
    """Install listeners that are removed after the test."""
    removals = []

    def install(*args):
        removals.append(events.install(*args))
        return removals[-1]

    yield install
    for remove in removals:
        remove()


async def test_an_installed_listener_hears_runs_of_every_context(install):
    outside, log = contextvars.copy_context(), Log()
    install(log)
    await asyncio.create_task(paco.each(same, [1, 2]), context=outside)
    await asyncio.create_task(paco.each(same, [3]), context=contextvars.Context())
    assert [event.item for event in log.of(ItemEnded)] == [1, 2, 3]
    assert len(log.runs()) == len(log.of(RunEnded)) == 2


@pytest.mark.realtime
def test_an_installed_listener_hears_runs_of_every_thread(install):
    log = Log()
    install(log, RunEnded)
    thread = threading.Thread(target=paco.run, args=[paco.map(same, [1])])
    thread.start()
    thread.join()
    assert [type(event) for event in log] == [RunEnded]


async def test_an_installed_listener_hears_the_kinds_that_it_is_for_beside_those_of_blocks(install):
    log, runs, items = Log(), Log(), Log()
    install(runs, RunStarted, RunEnded)
    install(items, ItemEnded)
    with paco.listening(log, ItemStarted):
        await paco.each(same, [1, 2])
    assert [type(event) for event in runs] == [RunStarted, RunEnded]
    assert [type(event) for event in items] == [ItemEnded, ItemEnded]
    assert [type(event) for event in log] == [ItemStarted, ItemStarted]


@pytest.mark.parametrize("path", ["chunks", "single items"])
@pytest.mark.realtime
def test_an_installed_listener_hears_items_that_run_elsewhere(install, path):
    log = Log()
    install(log, ItemEnded)
    paco.run(paco.map(same, [1, 2], limit=2 if path == "chunks" else paco.Limit(2)).on(1))
    assert sorted(event.item for event in log) == [1, 2]
    assert all(event.worker for event in log)


async def test_an_uninstalled_listener_hears_nothing_more_not_even_of_a_run_that_goes_on(install):
    log, other = Log(), Log()
    uninstall = install(log)
    install(other, ItemEnded)

    async def remove(_):
        uninstall()
        uninstall()

    await paco.each(remove, [1, 2], limit=1)
    assert [type(event) for event in log] == [RunStarted, ItemStarted]
    assert len(other) == 2


async def test_a_listener_that_was_installed_twice_is_removed_once_by_each(install):
    log = Log()
    first, second = install(log, RunEnded), install(log, RunEnded)
    for remove, heard_so_far in ((None, 2), (first, 3), (first, 4), (second, 4)):
        if remove is not None:
            remove()
        await paco.each(same, [1])
        assert len(log) == heard_so_far


async def test_an_installed_listener_that_raises_is_reported_once_and_does_not_affect_the_run(install):
    def broken(event):
        raise ZeroDivisionError

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    install(broken)
    assert await paco.map(same, [1, 2]) == [1, 2]
    assert await paco.map(same, [1, 2]) == [1, 2]
    assert len(told) == 1
    assert "broken raised, and will not be called again" in told[0]


def test_what_is_installed_must_be_a_function_and_kinds_of_events():
    for wrong in (None, 5, "print"):
        with pytest.raises(
            TypeError, match=r"^paco\.events\.install: listener must be a callable that takes an event, got "
        ):
            events.install(wrong)
    with pytest.raises(TypeError, match=r"^paco\.events\.install: listener must not be async, got the coroutine"):
        events.install(nap)
    for kinds in ([str], [ItemEnded, 5], [[]]):
        with pytest.raises(TypeError, match=r"^paco\.events\.install: kind must be one of RunStarted, "):
            events.install(print, *kinds)


# ---- the clock


def test_items_are_timed_by_the_clock_of_their_loop():
    async def clock():
        return events.clock()

    assert asyncio.run(clock()) is time.perf_counter
    assert testing.run(clock) is not time.perf_counter


# ---- bad input


@pytest.mark.parametrize("listener", [None, 5, "print"])
def test_a_listener_must_be_a_function(listener):
    with pytest.raises(TypeError, match=r"^paco\.listening: listener must be a callable that takes an event"):
        paco.listening(listener)


def test_a_coroutine_object_is_refused_as_a_listener_and_closed():
    with pytest.raises(TypeError, match="must be a callable that takes an event, got <coroutine object nap"):
        paco.listening(nap(1))


@pytest.mark.parametrize(
    ("listener", "name"),
    [(nap, "nap"), (functools.partial(nap), "nap"), (Callable(), "<.*Callable object")],
    ids=["function", "partial", "object"],
)
def test_an_async_function_is_refused_as_a_listener(listener, name):
    with pytest.raises(TypeError, match=rf"must not be async, got the coroutine function {name}.* a queue$"):
        paco.listening(listener)


@pytest.mark.parametrize("kind", [str, 5, "ItemEnded", [], None])
def test_a_kind_must_be_an_event_type(kind):
    expected = r"kind must be one of RunStarted, ItemStarted, ItemRetried, ItemEnded, RunEnded, got .*; for all events,"
    with pytest.raises(TypeError, match=rf"^paco\.listening: {expected} pass no kind$"):
        paco.listening(print, kind)
    with pytest.raises(TypeError, match=rf"^paco\.events\.install: {expected}"):
        events.install(print, ItemEnded, kind)


@pytest.mark.parametrize("settled", [True, False], ids=["settle", "return_exceptions"])
@pytest.mark.parametrize("journal", [True, False], ids=["journal", "plain"])
@pytest.mark.parametrize(
    "limit",
    [
        lambda: paco.Rate(10, cost=lambda item: 1 / item),
        lambda: paco.PerKey(lambda item: 1 / item, lambda: 2) & 1,
        lambda: paco.PerKey(lambda item: item, {1: 2, 0: paco.Budget(0.1, cost=lambda item: 1 / item)}),
    ],
    ids=["cost", "key", "a limit of a key"],
)
async def test_an_item_that_its_limit_refuses_is_a_failed_item(limit, journal, settled, tmp_path):
    log, listening = heard()
    fn = paco.settle(nap) if settled else nap
    with listening:
        run = paco.map(fn, [1, 0, 1], limit=limit(), return_exceptions=not settled)
        results = await (run.journal(tmp_path / "run.jsonl") if journal else run)
    error = results[1].error if settled else results[1]
    [ended] = [event for event in log.of(ItemEnded) if event.item == 0]
    assert isinstance(error, ZeroDivisionError)
    assert (ended.outcome, ended.error, ended.start) == ("failed", error, ended.end)
    assert [event.item for event in log.of(events.ItemStarted)].count(0) == 1
    view = log.runs()[0]
    assert (view.started, view.ok, view.failed) == (3, 2, 1)


# ---- items that cancel themselves


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "plain"])
@pytest.mark.parametrize("limit", [2, paco.Limit(2)], ids=["a number", "a limit"])
async def test_an_item_that_cancels_itself_ends_with_the_error_that_the_run_returns(limit, journal, tmp_path):
    async def cancels(item):
        await asyncio.sleep(1)
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    def run(fn, name, **options):
        stream = paco.map(fn, [1], limit=limit, **options)
        return stream.journal(tmp_path / name) if journal else stream

    log, listening = heard()
    with listening:
        [error] = await run(cancels, "returned", return_exceptions=True)
        [outcome] = await run(paco.settle(cancels), "settled")
        with pytest.raises(paco.ItemCancelled) as caught:
            await run(cancels, "raised")
    assert [event.outcome for event in log.of(ItemEnded)] == ["failed"] * 3
    for event, expected in zip(log.of(ItemEnded), [error, outcome.error, caught.value], strict=True):
        assert isinstance(expected, paco.ItemCancelled)
        assert event.error is expected
