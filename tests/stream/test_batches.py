"""Batches: results in lists of one size, or what there is of one when its time has come or the run ends."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco import testing
from paco._engine.sinks import Batches
from paco.testing import AsyncSource, Probe, Source, now


def nap(takes=1):
    return Probe(lambda item: item, takes=takes)


async def each_second(*items, gap=1):
    for item in items:
        await asyncio.sleep(gap)
        yield item


async def timed(stream):
    return [(now(), batch) async for batch in stream]


# ---- by size


async def test_results_are_stored_in_any_order_before_there_is_a_run():
    sink = Batches(2, None, 10, 10, ordered=True)
    for index in (1, 0):
        sink.store[index] = index
    assert [result for _, result in sink.store.ready] == [0, 1]


async def test_the_time_of_a_list_begins_while_a_later_result_waits_for_an_earlier_one():
    stream = paco.map(lambda item: asyncio.sleep((2, 9, 1)[item], item), range(3), limit=3).batch(3, within=4)
    assert await timed(stream) == [(6, [0]), (9, [1, 2])]


@pytest.mark.parametrize("source", [list, Source, AsyncSource])
async def test_batches_have_the_size_and_only_the_last_is_shorter(source):
    expected = [[0, 1, 2], [3, 4, 5], [6]]
    assert await paco.batch(3, source(range(7))) == expected
    assert await (source(range(7)) | paco.batch(3)) == expected
    assert await paco.map(nap(), source(range(7)), limit=2).batch(3) == expected
    assert [batch async for batch in paco.map(nap(), source(range(7)), limit=2).batch(3)] == expected
    assert await (source(range(7)) | paco.map(nap(), limit=4) | paco.batch(3)) == expected


async def test_no_items_are_no_batches():
    assert await paco.batch(3, []) == []
    assert await paco.map(nap(), AsyncSource([])).batch(3, within=1) == []


@given(
    items=st.lists(st.integers(), max_size=60),
    size=st.integers(1, 20),
    limit=st.integers(0, 7),
    within=st.none() | st.floats(0, 5),
    gaps=st.lists(st.floats(0, 3), min_size=1),
    pause=st.floats(0, 3),
    completed=st.booleans(),
    drops=st.booleans(),
    late=st.sets(st.integers(0, 59)),
)
def test_nothing_is_lost_or_repeated_and_the_order_stays(
    items, size, limit, within, gaps, pause, completed, drops, late
):
    """Without a time, every batch but the last one is full. Some items fail once, and are repeated much later."""

    async def main():
        numbered, fail = list(enumerate(items)), set(late)
        naps = Probe(lambda item: item, takes=lambda item: gaps[item[0] % len(gaps)])

        async def attempt(item):
            if item[0] in fail:
                fail.remove(item[0])
                raise OSError
            return await naps(item)

        probe = paco.retry(attempt, on=lambda _: 20)

        async def is_even(item):
            return (await probe(item))[0] % 2 == 0

        source = AsyncSource(numbered, delay=gaps[0])
        stream = paco.filter(is_even, source, limit=limit) if drops else paco.map(probe, source, limit=limit)
        stream = stream.as_completed() if completed else stream
        batches = []
        async for batch in stream.batch(size, within=within):
            batches.append(batch)
            await asyncio.sleep(pause)
        assert all(0 < len(batch) <= size for batch in batches)
        if within is None:
            assert all(len(batch) == size for batch in batches[:-1])
        found = [item for batch in batches for item in batch]
        assert (sorted(found) if completed else found) == (numbered[::2] if drops else numbered)

    testing.run(main)


@pytest.mark.parametrize(
    "limit", [lambda: 3, lambda: paco.Limit(3), lambda: paco.Rate(1000) & paco.Limit(3)], ids=["number", "Limit", "and"]
)
@pytest.mark.parametrize("completed", [False, True])
async def test_the_run_is_one_batch_and_what_is_in_flight_ahead_of_the_consumer(limit, completed):
    probe = nap()
    stream = paco.map(probe, range(1000), limit=limit())
    async with (stream.as_completed() if completed else stream).batch(10) as batches:
        for taken in range(10, 60, 10):
            assert len(await anext(batches)) == 10
            await asyncio.sleep(100)
            assert taken + 10 <= len(probe.started) <= taken + 10 + 2 * 3


async def test_a_plain_source_is_read_for_one_batch_ahead():
    source = Source(range(1000))
    async with paco.batch(10, source) as batches:
        for taken in range(10, 60, 10):
            assert await anext(batches) == list(range(taken - 10, taken))
            await asyncio.sleep(1)
            assert source.pulled <= taken + 10 + 1


async def test_a_buffer_is_kept_beside_the_batch():
    probe = nap()
    async with paco.map(probe, range(1000), limit=3).buffer(50).batch(10) as batches:
        assert await anext(batches) == list(range(10))
        await asyncio.sleep(100)
        assert len(probe.started) == 10 + 10 + 3 + 50


async def test_a_list_has_its_own_time_after_one_that_was_full_before_its_time():
    async def source():
        yield 0
        await asyncio.sleep(1)
        yield 1
        await asyncio.sleep(1)
        yield 2
        await asyncio.sleep(100)

    assert await timed(paco.batch(2, source(), within=5)) == [(1, [0, 1]), (7, [2])]


@pytest.mark.parametrize("ones", [[1], [1, 1, 1]])
async def test_in_a_run_that_is_ending_what_came_before_is_delivered_at_once_and_what_comes_later_is_not(ones):
    async def work(item):
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            await asyncio.sleep(10)
            return "late"
        if item == 2:
            raise OSError
        return item

    batches = []
    with pytest.raises(OSError, match="item"):
        async for batch in paco.map(work, [0, 0, *ones, 2, 3]).as_completed().batch(2):
            batches.append((now(), batch))
            await asyncio.sleep(3)
    assert batches == [(0, [0, 0]), *([(3, [1, 1]), (6, [1])] if len(ones) == 3 else [(3, [1])])]
    assert now() == 12


async def test_a_slow_item_holds_back_only_its_batch():
    probe = nap(lambda item: 100 if item == 5 else 1)
    async with paco.map(probe, range(1000), limit=2).batch(5) as batches:
        assert await anext(batches) == [0, 1, 2, 3, 4]
        assert await anext(batches) == [5, 6, 7, 8, 9]
        assert 100 < now() < 105


@pytest.mark.parametrize(
    "limit", [lambda: 3, lambda: paco.Limit(3), lambda: paco.Rate(1000) & paco.Limit(3)], ids=["number", "Limit", "and"]
)
@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("late", [0, 2, 40])
async def test_all_slots_are_used_when_a_late_item_has_let_others_pass(limit, retried, late):
    seen = set()

    async def late_once(item):
        if item == late and item not in seen:
            if not retried:
                await asyncio.sleep(100)
            seen.add(item)
            if retried:
                raise OSError
        await asyncio.sleep(1)
        return item

    fn = paco.retry(late_once, on=lambda _: 100)
    async with paco.map(fn, range(300), limit=limit()).batch(100) as batches:
        assert [item async for batch in batches for item in batch] == list(range(300))
    assert now() < 100 + 300 / 3 + 5


async def test_a_late_item_may_let_an_item_pass_that_is_left_out():
    seen = set()

    async def is_late(item):
        if item == 0 and not seen:
            seen.add(item)
            raise OSError
        return item == 0

    stream = paco.filter(paco.retry(is_late, on=lambda _: 20), AsyncSource([0, 1, 2]), limit=1)
    assert [batch async for batch in stream.batch(2)] == [[0]]


async def test_an_unlimited_run_starts_all_items():
    assert await paco.map(nap(), range(3000)).batch(1000) == [
        list(range(first, first + 1000)) for first in (0, 1000, 2000)
    ]
    assert now() == 1


# ---- by time


async def test_a_batch_is_delivered_so_long_after_its_first_item():
    batches = paco.batch(10, each_second(*range(7)), within=2.5)
    assert await timed(batches) == [(3.5, [0, 1, 2]), (6.5, [3, 4, 5]), (7, [6])]


async def test_a_full_batch_does_not_wait_and_the_time_of_the_next_one_begins_with_its_first_item():
    stream = paco.map(nap(), each_second(0, 1, 2, 3, 4)).batch(2, within=1.5)
    assert await timed(stream) == [(3, [0, 1]), (5, [2, 3]), (6, [4])]


async def test_the_time_begins_when_the_turn_of_the_first_item_has_come():
    probe = nap(lambda item: [10, 1, 1, 20][item])
    assert await timed(paco.map(probe, range(4)).batch(10, within=3)) == [(13, [0, 1, 2]), (20, [3])]
    start = now()
    found = await timed(paco.map(probe, range(4)).as_completed().batch(10, within=3))
    assert found == [(start + 4, [1, 2]), (start + 13, [0]), (start + 20, [3])]


async def test_the_first_result_of_a_list_is_in_time_also_if_a_later_item_has_ended_before_it():
    async def work(item):
        if item >= 100:  # by then, workers look for a reason to stop only after many items
            await asyncio.sleep({100: 2, 101: 9, 102: 1, 103: 1}.get(item, 100))
        return item

    async with paco.map(work, range(200), limit=3).batch(4, within=0.5) as batches:
        for first in range(0, 100, 4):
            assert await anext(batches) == list(range(first, first + 4))
        assert await anext(batches) == [100]
        assert now() == 2.5


async def test_a_batch_grows_until_a_busy_consumer_takes_it():
    async with paco.map(nap(0), each_second(*range(20))).batch(100, within=1.5) as batches:
        assert await anext(batches) == [0, 1]
        await asyncio.sleep(5)
        assert now() == 7.5
        assert await anext(batches) == [2, 3, 4, 5, 6]
        assert now() == 7.5


async def test_no_time_is_no_wait():
    assert await timed(paco.map(nap(), range(4), limit=2).batch(10, within=0)) == [(1, [0, 1]), (2, [2, 3])]


async def test_results_before_the_items_are_in_the_first_batch():
    assert await paco.flat_map(nap(), [[1], 2], initializer=[-1, 0]).batch(3, within=5) == [[-1, 0, 1], [2]]


async def test_a_timer_does_not_outlive_its_batch():
    found = paco.map(nap(), range(3)).batch(10, within=1000)
    assert await timed(found) == [(1, [0, 1, 2])]
    async with paco.map(nap(), each_second(0, 1, gap=10)).batch(10, within=1000) as batches:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(batches), 15)
    await asyncio.sleep(0)
    assert not [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]


async def test_a_consumer_that_leaves_leaves_nothing_behind():
    kept = []

    class Result:
        pass

    async def result(item):
        kept.append(weakref.ref(made := Result()))
        return made

    async with paco.map(result, each_second(0, 1, 2)).batch(2, within=1000) as batches:
        await anext(batches)
    del batches
    gc.collect()
    assert [one() for one in kept] == [None] * len(kept)


# ---- with other stages


async def test_stages_run_before_and_after_batches():
    stage = paco.map(nap(), limit=4) | paco.batch(3) | paco.map(Probe(sum, takes=1), limit=2) | paco.batch(2)
    assert await (range(10) | stage) == [[3, 12], [21, 9]]
    assert await (range(10) | (paco.batch(3) | paco.map(Probe(sum, takes=1)))) == [3, 12, 21, 9]
    saved = []

    async def save(rows):
        saved.append(rows)

    await (AsyncSource(range(5)) | paco.batch(2) | paco.each(save, limit=1))
    assert saved == [[0, 1], [2, 3], [4]]


async def test_batches_of_batches():
    expected = [[[0, 1], [2, 3]], [[4]]]
    assert await paco.map(nap(), range(5)).batch(2).batch(2) == expected
    assert await (range(5) | paco.batch(2) | paco.batch(2)) == expected
    assert await (range(5) | (paco.batch(2) | paco.batch(2))) == expected


async def test_a_batch_that_is_due_starts_at_once_in_the_next_stage():
    probe = nap()
    await (each_second(*range(4), gap=2) | paco.batch(10, within=1) | paco.map(probe, limit=1))
    assert (probe.started, probe.started_at) == ([[0], [1], [2], [3]], [3, 5, 7, 8])


async def test_outcomes_come_in_batches():
    async def invert(number):
        return 1 / number

    batches = await paco.map(paco.settle(invert), [1, 0, 2]).batch(2)
    assert [[type(one).__name__ for one in batch] for batch in batches] == [["Ok", "Err"], ["Ok"]]
    with pytest.raises(paco.TooManyErrors) as caught:
        await paco.map(paco.settle(invert), [1, 2, 4, 0, 0, 5], limit=1).batch(2).max_errors(1)
    assert [one.item for one in caught.value.outcomes] == [1, 2, 4, 0, 0]


async def test_a_timeout_has_the_outcomes_of_batches():
    with pytest.raises(paco.RunTimeout) as caught:
        await paco.map(paco.settle(nap(lambda item: item)), [1, 2, 60, 3, 60], timeout=10).batch(2)
    assert [one.item for one in caught.value.outcomes] == [1, 2, 3]


@pytest.mark.parametrize("make", [lambda: 2, lambda: paco.Limit(2)], ids=["number", "Limit"])
async def test_with_a_journal_batches_are_delivered_again(tmp_path, make):
    probe = nap()
    for _ in range(2):
        stream = paco.map(probe, range(5), limit=make()).journal(tmp_path / "run.jsonl").batch(2, within=100)
        assert await stream == [[0, 1], [2, 3], [4]]
        stream = paco.map(probe, range(5), limit=make()).batch(2).journal(tmp_path / "run.jsonl")
        assert [batch async for batch in stream] == [[0, 1], [2, 3], [4]]
    assert len(probe.started) == 5


@pytest.mark.realtime
async def test_batches_of_results_from_threads_and_processes():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        assert await paco.map(paco.wraps(abs), range(5), limit=2).on(pool).batch(2) == [[0, 1], [2, 3], [4]]
    batches = [batch async for batch in paco.map(paco.wraps(abs), range(2001), limit=2).on(2).batch(1000)]
    assert [len(batch) for batch in batches] == [1000, 1000, 1]


async def test_a_listener_hears_the_runs_on_both_sides():
    runs = []
    with paco.listening(lambda event: runs.append(event.run), paco.events.RunStarted):
        await (range(10) | paco.map(nap(), limit=2) | paco.batch(5, within=100) | paco.each(nap()))
    first, last = sorted(runs, key=lambda run: run.name, reverse=True)
    assert (first.name, first.ok, last.name, last.ok) == ("map", 10, "each", 2)
    assert first.feeds is last


async def test_a_batched_stream_knows_its_length_if_no_time_is_set():
    def hint(stream):
        found = stream.__length_hint__()
        stream.close()
        return found

    assert hint(paco.map(nap(), range(7)).batch(3)) == 3
    assert hint(paco.map(nap(), range(6)).batch(3)) == 2
    assert hint(paco.map(nap(), range(7)).batch(3, within=1)) is NotImplemented


# ---- errors


@pytest.mark.parametrize("completed", [False, True])
async def test_an_error_is_raised_after_the_batch_before_it(completed):
    async def fails(item):
        await asyncio.sleep(1)
        if item == 5:
            raise ValueError(item)
        return item

    stream = paco.map(fails, range(10), limit=1)
    found = []
    with pytest.raises(ValueError, match="5"):
        async for batch in (stream.as_completed() if completed else stream).batch(3, within=1000):
            found.append(batch)
    assert found == [[0, 1, 2], [3, 4]]


async def test_an_error_of_the_source_is_raised_after_the_batch_before_it():
    async def source():
        yield 1
        yield 2
        raise KeyError("source")

    found = []
    with pytest.raises(KeyError, match="source"):
        async for batch in source() | paco.batch(10):
            found.append(batch)
    assert found == [[1, 2]]


async def test_the_end_of_a_run_does_not_keep_a_waiting_batch_from_its_consumer():
    """The batch is delivered while the other items are being cancelled."""

    async def fails(item):
        if item == 2:
            await asyncio.sleep(1)
            raise ValueError(item)
        if item == 3:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(50)
        return item

    found = []
    with pytest.raises(ValueError, match="2"):
        async for batch in paco.map(fails, range(4)).batch(10, within=30):
            found.append((now(), batch))
    assert found == [(51, [0, 1])]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda make: make(0), ValueError, r"batch: size must be an int of 1 or more, got 0"),
        (lambda make: make(True), TypeError, r"batch: size must be an int of 1 or more, got True"),
        (lambda make: make(2.0), TypeError, r"batch: size must be an int of 1 or more, got 2.0"),
        (lambda make: make(2, within=-1), ValueError, r"batch: within must be seconds .* or None, got -1"),
        (lambda make: make(2, within="1"), TypeError, r"batch: within must be seconds .* or None, got '1'"),
    ],
    ids=["0", "True", "2.0", "-1", "text"],
)
async def test_a_wrong_size_or_time_is_refused(call, error, message):
    with pytest.raises(error, match="paco." + message):
        call(paco.batch)
    stream = paco.map(nap(), [1])
    with pytest.raises(error, match="paco.map." + message):
        call(stream.batch)
    assert await stream == [1]


async def test_what_is_not_iterable_is_refused():
    with pytest.raises(TypeError, match=r"paco.batch: iterable must be an iterable"):
        paco.batch(2, 2.0)
    with pytest.raises(TypeError, match=r"paco.batch: the left side of \| must be"):
        5 | paco.batch(2)
    with pytest.raises(TypeError, match="unsupported operand"):
        paco.batch(2) | 5


# ---- cancellation


async def test_a_wait_for_a_batch_that_is_cancelled_loses_nothing():
    async with paco.map(nap(), each_second(*range(20)), limit=2).batch(3, within=2.2) as batches:
        found = []
        while True:
            try:
                found += await asyncio.wait_for(anext(batches), 0.7)
            except TimeoutError:
                pass
            except StopAsyncIteration:
                break
    assert found == list(range(20))


@pytest.mark.parametrize("step", range(0, 30, 3))
async def test_every_wait_can_be_cancelled_and_repeated(step):
    """Whatever step the cancellation hits, the next wait gets what comes next."""

    async def wait_until_cancelled(batches):
        wait = asyncio.ensure_future(anext(batches, None))
        for _ in range(step):
            await asyncio.sleep(0.25)
        wait.cancel()
        try:
            return await wait
        except asyncio.CancelledError:
            return await anext(batches, None)

    found = []
    async with paco.map(nap(0), each_second(*range(5)), limit=2).batch(2, within=1.6) as batches:
        while (batch := await wait_until_cancelled(batches)) is not None:
            found += batch
    assert found == list(range(5))


async def test_a_batch_that_nobody_takes_leaves_a_timer_that_does_nothing():
    batches = paco.map(nap(0), each_second(0, 1)).batch(10, within=100)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(batches), 1.5)
    await asyncio.sleep(1)
    await batches.aclose()
    del batches
    gc.collect()
    await asyncio.sleep(1000)


def test_it_can_be_cancelled_at_every_step(cancel_at_every_step):
    async def listed():
        await paco.map(nap(), range(5), limit=2).batch(2, within=1.5)

    async def iterated():
        batches = range(5) | paco.map(nap(), limit=2) | paco.batch(2, within=0.5)
        async with batches | paco.map(nap(), limit=2) as results:
            async for _ in results:
                await asyncio.sleep(0.2)

    for main in (listed, iterated):
        cancel_at_every_step(main)


# ---- drain


async def test_drain_runs_everything_and_returns_how_many_items_there_were():
    probe = nap()
    assert await paco.map(probe, range(7), limit=3).drain() == 7
    assert len(probe.finished) == 7
    assert await paco.filter(nap(), AsyncSource(range(7))).drain() == 7
    assert await paco.map(nap(), []).drain() == 0
    assert await paco.flat_map(nap(), [[1], [2, 3]], initializer=[5]).drain() == 3
    assert await paco.map(nap(), range(7), limit=3).batch(2).drain() == 7
    assert await (range(7) | paco.batch(2) | paco.map(nap())).drain() == 4


async def test_drain_keeps_no_results():
    made = []

    class Result:
        pass

    async def result(item):
        made.append(weakref.ref(kept := Result()))
        await asyncio.sleep(1)
        assert sum(one() is not None for one in made) <= 4
        return kept

    assert await paco.map(result, range(100), limit=3).drain() == 100


async def test_drain_with_a_journal_resumes(tmp_path):
    probe = nap()
    for count in (5, 8):
        stream = paco.map(probe, range(count), limit=2).batch(2).journal(tmp_path / "run.jsonl")
        assert await stream.drain() == count
    assert probe.started == list(range(8))


@pytest.mark.parametrize("journal", [False, True])
async def test_drain_raises_the_first_error(journal, tmp_path):
    async def fails(item):
        await asyncio.sleep(1)
        if item == 5:
            raise ValueError(item)

    stream = paco.map(fails, range(10), limit=2)
    stream = stream.journal(tmp_path / "run.jsonl") if journal else stream
    with pytest.raises(ValueError, match="5"):
        await stream.drain()


async def test_a_drained_stream_is_used():
    stream = paco.map(nap(), [1])
    drain = stream.drain()
    with pytest.raises(RuntimeError, match=r"paco\.map: a stream can be used once, and this one was drained"):
        await stream
    assert await drain == 1


def test_drain_is_a_coroutine_that_closes_what_it_was_given():
    source = Source([1])
    with testing.check_leaks():
        drain = paco.map(nap(), (one for one in source)).drain()
        assert repr(drain) == "<paco.map.drain coroutine, not started>"
        drain.close()
    assert paco.run(paco.map(nap(None), [1, 2]).drain()) == 2


def test_drain_can_be_cancelled_at_every_step(cancel_at_every_step, tmp_path):
    cancel_at_every_step(lambda: paco.map(nap(), range(5), limit=2).drain())


@pytest.mark.realtime
def test_drain_with_a_journal_can_be_closed_and_cancelled(tmp_path):
    async def main():
        for name in ("a", "b"):
            drain = paco.map(nap(100), range(5), limit=2).journal(tmp_path / name).drain()
            if name == "a":
                task = asyncio.ensure_future(drain)
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                drain.send(None)
                drain.close()
                await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=10)

    asyncio.run(main())


async def test_what_is_filtered_out_is_in_no_batch():
    async def is_even(item):
        return item % 2 == 0

    assert await paco.filter(is_even, range(10), limit=2).batch(2) == [[0, 2], [4, 6], [8]]
