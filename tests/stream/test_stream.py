"""Streams and pipelines: delivery, backpressure, leaving early, use once, stages."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import re
import threading
import weakref
from operator import length_hint

import pytest

import paco
from paco.testing import AsyncSource, Probe, Source, now


async def same(item):
    return item


async def test_an_ordered_stream_delivers_each_result_as_soon_as_it_is_next():
    seen = []
    async for item in paco.map(Probe(lambda item: item, takes=lambda item: [3, 1, 2][item]), range(3)):
        seen.append((item, now()))
    assert seen == [(0, 3), (1, 3), (2, 3)]


async def test_as_completed_delivers_each_result_as_soon_as_it_is_ready():
    seen = []
    async for item in paco.map(Probe(lambda item: item, takes=lambda item: [3, 1, 2][item]), range(3)).as_completed():
        seen.append((item, now()))
    assert seen == [(1, 1), (2, 2), (0, 3)]


async def test_the_list_of_as_completed_is_in_order_of_completion():
    assert await paco.map(Probe(lambda item: item, takes=lambda item: -item % 3), range(3)).as_completed() == [0, 2, 1]


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("buffer", [None, 0, 1, 7])
@pytest.mark.parametrize("completed", [False, True])
async def test_a_slow_consumer_holds_back_reading_of_the_source(limit, buffer, completed):
    for kind in Source, AsyncSource:
        source = kind(itertools.count())
        stream = paco.map(Probe(lambda item: item, takes=1), source, limit=limit)
        stream = stream if buffer is None else stream.buffer(buffer)
        stream = stream.as_completed() if completed else stream
        window = limit + (limit if buffer is None else buffer)
        taken = 0
        async with stream as results:
            async for _ in results:
                taken += 1
                await asyncio.sleep(100)
                assert source.pulled == taken + window
                if taken == 4:
                    break


@pytest.mark.parametrize("kind", [Source, AsyncSource])
@pytest.mark.parametrize("buffer", [0, 1, 2, 3])
async def test_room_freed_by_the_consumer_is_used_at_once(kind, buffer):
    running, finished = set(), []

    async def work(item):
        running.add(item)
        if item >= 7:
            await asyncio.sleep(100)
        running.discard(item)
        finished.append(item)

    async with paco.map(work, kind(range(10)), limit=4).buffer(buffer) as results:
        for taken in range(1, 8):
            await asyncio.sleep(1)
            await anext(results)
            await asyncio.sleep(0.5)
            room = taken + 4 + buffer - len(finished)
            assert len(running) == min(4, 10 - len(finished), room)


async def test_each_result_that_is_taken_wakes_one_more_worker():
    probe = Probe(lambda item: item, takes=1)
    async with paco.map(probe, range(100), limit=3).buffer(3) as results:
        await anext(results)
        await asyncio.sleep(10)
        assert (len(probe.started), probe.running) == (7, 0)
        for running in 1, 2, 3:
            await anext(results)
            await asyncio.sleep(0.1)
            assert probe.running == running


async def test_a_slow_consumer_and_work_overlap():
    async for _ in paco.map(Probe(lambda item: item, takes=50), range(100), limit=10):
        await asyncio.sleep(10)
    assert now() == 1050


async def test_a_buffer_of_none_without_a_limit_lets_one_result_wait():
    assert [item async for item in paco.map(same, range(5)).buffer(0)] == [0, 1, 2, 3, 4]


async def test_a_returning_consumer_gets_the_next_result_as_soon_as_it_is_ready_at_any_buffer_size():
    seen = []
    async for _ in paco.map(Probe(lambda item: item, takes=1), range(5), limit=1).buffer(100):
        seen.append(now())
        await asyncio.sleep(0.5)
    assert seen == [1, 2, 3, 4, 5]


async def test_a_slow_head_holds_delivery_not_work():
    probe = Probe(lambda item: item, takes=lambda item: 0.01 if item else 0.5)
    seen = [item async for item in paco.map(probe, range(100), limit=4).buffer(100)]
    assert seen == list(range(100))
    assert now() == 0.5


async def test_without_a_limit_finished_results_that_wait_are_bounded_too():
    source = Source(itertools.count())
    async with paco.map(same, source) as results:
        async for item in results:
            await asyncio.sleep(1)
            assert source.pulled < 3000
            if item == 5:
                break


@pytest.mark.parametrize("buffer", [0, 1, 5])
async def test_without_a_limit_a_buffer_bounds_approximately_how_many_results_wait(buffer):
    source = Source(itertools.count())
    async with paco.map(same, source).buffer(buffer) as results:
        for taken in range(1, 10):
            await anext(results)
            await asyncio.sleep(1)
            assert source.pulled <= taken + buffer + 64  # as many as a worker takes between two looks at the buffer


async def test_the_error_for_an_invalid_buffer_names_the_parameter():
    stream = paco.map(same, [])
    with pytest.raises(ValueError, match=r"^paco\.map\.buffer: count must be an int of 0 or more, got -1$"):
        stream.buffer(-1)
    await stream


async def test_a_slow_head_never_delays_an_error():
    async def fail(item):
        await asyncio.sleep(100 if item == 0 else 1)
        raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        async for _ in paco.map(fail, range(3)):
            pass
    assert now() == 1


async def test_results_before_an_error_are_delivered_first_and_the_error_ends_the_stream():
    async def fail(item):
        if item == 5:
            raise ValueError(item)
        return item

    for limit in 1, 3, 10:
        stream = paco.map(fail, range(10), limit=limit)
        seen = []
        with pytest.raises(ValueError, match="5"):
            async for item in stream:
                seen.append(item)
        assert seen == [0, 1, 2, 3, 4]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_break_ends_the_tasks_when_the_stream_is_dropped():
    probe = Probe(lambda item: item, takes=lambda item: 10 * item)
    source = Source(itertools.count())
    async for _ in paco.map(probe, source.generator(), limit=3):
        break
    assert probe.running > 0
    for _ in range(5):
        await asyncio.sleep(0)
    assert probe.running == 0
    assert source.closed


async def test_a_stream_dropped_in_another_thread_ends_its_tasks():
    probe = Probe(lambda item: item, takes=lambda item: 10 * item)
    stream = paco.map(probe, itertools.count(), limit=3)
    await anext(stream)
    held = [stream]
    del stream
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    for _ in range(5):
        await asyncio.sleep(0)
    assert probe.running == 0


def test_dropping_a_stream_after_its_loop_is_gone_does_nothing():
    async def main():
        stream = paco.map(same, range(1000), limit=2)
        await anext(stream)
        return stream

    stream = asyncio.run(main())
    del stream
    gc.collect()


async def test_async_with_ends_the_run_by_the_end_of_the_block():
    probe = Probe(lambda item: item, takes=lambda item: 10 * item, cleanup=5)
    source = AsyncSource(itertools.count())
    async with paco.map(probe, source.generator(), limit=3) as results:
        async for _ in results:
            break
    assert probe.running == 0
    assert source.closed
    assert now() == 5


async def test_an_error_in_the_block_is_raised_unchanged():
    probe = Probe(lambda item: item, takes=10)
    with pytest.raises(KeyError):
        async with paco.map(probe, range(5)):
            raise KeyError
    assert probe.started == []
    with pytest.raises(KeyError):
        async with paco.map(probe, range(5), limit=2) as results:
            async for _ in results:
                raise KeyError
    assert probe.running == 0


async def test_errors_that_no_caller_receives_are_reported_to_the_loop():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))

    async def fail(item):
        if not item:
            return item
        try:
            await asyncio.sleep(item)
        finally:
            raise ValueError(item)

    async with paco.map(fail, [0, 50, 100]) as results:
        assert await anext(results) == 0
        await asyncio.sleep(10)
    assert len(reports) == 1
    assert "2 more failed while stopping" in reports[0]["message"]
    assert "item 1: ValueError(50)" in reports[0]["message"]
    reports.clear()

    async with paco.map(fail, [0, 1, 100]) as results:
        assert await anext(results) == 0
        await asyncio.sleep(50)
    assert str(reports[0]["exception"]) == "1"
    reports.clear()

    stream = paco.map(fail, [0, 1])
    assert await anext(stream) == 0
    await asyncio.sleep(50)
    del stream
    assert str(reports[0]["exception"]) == "1"


async def test_a_consumer_that_is_cancelled_as_its_result_arrives_is_cancelled():
    arrives = asyncio.Event()

    async def wait(item):
        await arrives.wait()
        return item

    async with paco.map(wait, [1], limit=1) as results:
        consumer = asyncio.ensure_future(anext(results))
        await asyncio.sleep(1)
        arrives.set()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer


async def test_a_consumer_that_is_cancelled_leaves_nothing_running():
    probe = Probe(lambda item: item, takes=100, cleanup=5)

    async def consume():
        async for _ in paco.map(probe, range(10), limit=3):
            pass

    running = asyncio.ensure_future(consume())
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert probe.running == 0
    assert now() == 6


DELIVERED = {"as_completed": lambda stream: stream.as_completed(), "batch": lambda stream: stream.batch(3)}


@pytest.mark.parametrize("make", DELIVERED.values(), ids=DELIVERED)
async def test_a_list_in_order_of_completion_or_of_lists_that_is_cancelled_leaves_nothing_running(make):
    probe = Probe(lambda item: item, takes=10)

    async def collected():
        return await make(paco.map(probe, range(5), limit=2))

    task = asyncio.ensure_future(collected())
    await asyncio.sleep(15)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (probe.started, probe.running) == ([0, 1, 2, 3], 0)


@pytest.mark.parametrize("make", DELIVERED.values(), ids=DELIVERED)
async def test_such_a_list_whose_coroutine_is_closed_leaves_nothing_running(make):
    probe = Probe(lambda item: item, takes=10)

    async def collected():
        return await make(paco.map(probe, range(5), limit=2))

    waiting = collected()
    waiting.send(None)
    await asyncio.sleep(5)
    assert probe.running == 2
    waiting.close()
    await asyncio.sleep(1)
    assert (probe.started, probe.running) == ([0, 1], 0)


# ---- a wait for the next result that is cancelled


def through_wait_for(stream):
    return asyncio.wait_for(anext(stream), 0.4)


async def through_timeout(stream):
    async with asyncio.timeout(0.4):
        return await anext(stream)


async def through_a_timeout_limit(stream):
    with paco.TimeoutLimit(0.4):
        return await anext(stream)


def through_paco_timeout(stream):
    return paco.timeout(lambda: anext(stream), 0.4)()


async def through_a_task_that_is_cancelled(stream):
    step = asyncio.ensure_future(anext(stream))
    await asyncio.wait([step], timeout=0.4)
    if step.cancel():
        raise TimeoutError  # before the task has noticed
    return step.result()


async def through_a_loop_in_a_block(stream):
    async with asyncio.timeout(0.4):
        async for result in stream:
            return result
        raise StopAsyncIteration


STEPS = [one for name, one in list(globals().items()) if name.startswith("through_")]
STREAMS = {
    "in order": lambda nap: paco.map(nap, range(5), limit=1),
    "as completed": lambda nap: paco.map(nap, range(5), limit=1).as_completed(),
    "a limit object": lambda nap: paco.map(nap, range(5), limit=paco.Limit(1)),
    "no buffer": lambda nap: paco.map(nap, range(5), limit=1).buffer(0),
    "an async source": lambda nap: paco.map(nap, AsyncSource(range(5)), limit=1),
    "a pipeline": lambda nap: range(5) | paco.map(nap, limit=1) | paco.map(same, limit=1),
    "a filter": lambda nap: paco.filter(paco.compose(paco.constant(True), nap), range(5), limit=1),
    "flattened": lambda nap: paco.flat_map(nap, [[0, [1, 2]], 3, 4], limit=1),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", STREAMS)
async def test_a_timeout_around_a_wait_for_the_next_result_leaves_the_run_as_it_is(kind, step):
    nap = Probe(lambda item: item, takes=1)
    got, timeouts = [], 0
    async with STREAMS[kind](nap) as stream:
        while True:
            try:
                got.append(await step(stream))
            except TimeoutError:
                timeouts += 1
            except (StopAsyncIteration, RuntimeError):  # a coroutine turns the former into the latter
                break
    assert got == [0, 1, 2, 3, 4]
    assert timeouts == 10
    assert (now(), nap.running) == (5, 0)


async def test_a_timeout_around_a_wait_for_the_next_result_loses_no_journaled_result(tmp_path):
    nap = Probe(lambda item: item, takes=1)
    results, got = aiter(paco.map(nap, range(3), limit=1).journal(tmp_path / "run.jsonl")), []
    while len(got) < 3:
        with contextlib.suppress(TimeoutError):
            got.append(await through_wait_for(results))
    await results.aclose()
    assert got == [0, 1, 2]


async def test_an_error_that_comes_between_two_waits_is_raised_by_the_second():
    async def fail(item):
        await asyncio.sleep(1)
        raise ValueError(item)

    results = aiter(paco.map(fail, [1]))
    with pytest.raises(TimeoutError):
        await through_wait_for(results)
    await asyncio.sleep(1)
    with pytest.raises(ValueError, match="1"):
        await anext(results)


async def test_a_cancelled_loop_outside_a_block_says_so_when_it_is_continued():
    stream = paco.map(Probe(lambda item: item, takes=1), range(3), limit=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            async for _ in stream:
                pass
    with pytest.raises(RuntimeError, match="this one was cancelled"):
        await anext(stream)
    with pytest.raises(RuntimeError, match="this one was cancelled"):
        aiter(stream)


def test_a_step_in_a_block_that_is_cancelled_leaves_nothing_running(cancel_at_every_step):
    async def fail(item):
        try:
            await asyncio.sleep(item)
            raise ValueError(item)
        finally:
            await asyncio.sleep(1)

    async def main():
        with contextlib.suppress(ValueError):
            async with paco.map(fail, [1, 2, 3]) as results:
                await anext(results)

    assert cancel_at_every_step(main) > 5


async def test_a_block_that_is_cancelled_before_the_stream_has_started_closes_its_source():
    source = Source(range(3)).generator()

    async def block():
        async with paco.map(same, source):
            await asyncio.sleep(10)

    task = asyncio.ensure_future(block())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.gi_frame is None


async def test_a_consumer_that_was_cancelled_is_part_of_no_reference_cycle():
    class Thing:
        pass

    async def consume(thing):
        async for _ in paco.map(Probe(lambda item: item, takes=10), [1, 2], limit=1):
            pass

    thing = Thing()
    seen = weakref.ref(thing)
    task = asyncio.ensure_future(consume(thing))
    del thing
    await asyncio.sleep(1)
    gc.disable()
    try:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        del task
        await asyncio.sleep(0)
        assert seen() is None
    finally:
        gc.enable()


# ---- one consumer, one use


async def test_another_task_takes_over_from_a_consumer_that_is_being_cancelled():
    async with paco.map(Probe(lambda item: item, takes=1), range(1, 3), limit=1) as results:
        first = asyncio.ensure_future(anext(results))
        await asyncio.sleep(0.5)
        first.cancel()
        assert await anext(results) == 1
        assert first.cancelled()
        assert await anext(results) == 2


async def test_after_a_wait_was_closed_another_one_gets_the_result():
    async with paco.map(Probe(lambda item: item, takes=1), range(1, 3), limit=1) as results:
        wait = results.__anext__()
        wait.send(None)
        wait.close()  # which does not cancel the future that it waits for
        assert [result async for result in results] == [1, 2]


async def test_a_stream_has_one_consumer():
    stream = paco.map(Probe(lambda item: item, takes=10), range(3), limit=1)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="one consumer"):
        await anext(stream)
    assert await first == 0
    await stream.aclose()


async def test_a_stream_is_used_once():
    used = [paco.map(same, [1]) for _ in range(4)]
    await used[0]
    assert [item async for item in used[1]] == [1]
    used[2].as_completed().close()
    used[3].close()
    for stream in used:
        with pytest.raises(RuntimeError, match="a stream can be used once"):
            await stream
        with pytest.raises(RuntimeError, match="a stream can be used once"):
            aiter(stream)
        with pytest.raises(RuntimeError, match="a stream can be used once"):
            stream.buffer(2)
    told = ["awaited", "iterated", "replaced", "closed"]
    for stream, use in zip(used, told, strict=True):
        with pytest.raises(RuntimeError, match=f"this one was {use}; call paco"):
            stream.as_completed()
    with pytest.raises(RuntimeError, match="a stream can be used once"):
        await anext(used[0])
    with pytest.raises(StopAsyncIteration):
        await anext(used[1])


async def test_iteration_of_a_stream_can_continue_where_it_stopped():
    stream = paco.map(same, range(5), limit=2)
    async for item in stream:
        if item == 1:
            break
    assert [item async for item in stream] == [2, 3, 4]


async def test_iteration_of_a_stream_can_continue_after_its_run_has_ended():
    stream = paco.map(same, range(3), limit=3)
    assert await anext(stream) == 0
    await asyncio.sleep(1)
    assert [item async for item in stream] == [1, 2]
    with pytest.raises(RuntimeError, match="a stream can be used once"):
        aiter(stream)


async def test_closing_a_stream_in_one_of_its_items_is_an_error_instead_of_a_deadlock():
    async def close(_):
        await stream.aclose()

    stream = paco.map(close, [1])
    with pytest.raises(RuntimeError, match="closed from inside one of its own items"):
        await anext(stream)


async def test_results_after_the_run_has_failed_are_not_delivered():
    async def suppress(item):
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            return "late"
        raise ValueError(item)

    for stream in paco.map(suppress, [1, 9]).as_completed(), paco.map(suppress, [9, 1]):
        with pytest.raises(ValueError, match="1"):
            await anext(stream)


async def test_aclose_can_be_called_at_any_time_and_again():
    stream = paco.map(same, Source(range(5)).generator())
    await stream.aclose()
    await stream.aclose()
    stream = paco.map(same, range(5))
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        while True:
            await anext(stream)


async def test_an_entered_stream_that_was_not_iterated_closes_its_source():
    async with paco.gather(same(1), same(2)) as results:
        pass
    with pytest.raises(RuntimeError, match="this one was closed"):
        await anext(results)
    async with [1] | paco.map(same) | paco.map(same):
        pass


async def test_an_error_of_iterating_the_source_is_raised_in_the_block():
    class Broken:
        def __iter__(self):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with paco.map(same, Broken()) as results:
            await anext(results)


async def test_a_stream_that_was_closed_can_be_closed_again():
    stream = paco.map(same, [1])
    stream.close()
    stream.close()
    await stream.aclose()


async def test_dropping_an_unused_stream_warns():
    with pytest.warns(RuntimeWarning, match="paco.map.* was never awaited or iterated") as told:
        paco.map(same, [1])
    assert told[0].filename == __file__  # where it was dropped
    assert isinstance(told[0].source, paco.Stream)  # by which tracemalloc tells where it was made

    async def rows():
        return [1]

    with pytest.warns(RuntimeWarning, match="paco.map.* was never awaited or iterated"):
        paco.map(same, rows())


@pytest.mark.parametrize("debug", [False, True])
def test_dropping_an_unused_stream_tells_where_it_was_made_in_debug_mode(debug):
    async def main():
        paco.map(same, [1])

    with pytest.warns(RuntimeWarning) as told:
        asyncio.run(main(), debug=debug)
    _, _, where = str(told[0].message).partition("was never awaited or iterated")
    assert re.fullmatch(rf"; made at {re.escape(__file__)}:\d+ in .*main" if debug else "", where)


@pytest.mark.parametrize(
    ("option", "wrong"), [("buffer", -1), ("max_errors", -1), ("on", "four"), ("journal", 5)], ids=str
)
async def test_a_stream_whose_option_was_refused_does_not_warn(recwarn, option, wrong):
    with pytest.raises((TypeError, ValueError)):
        getattr(paco.map(same, [1]), option)(wrong)
    gc.collect()
    assert not recwarn.list


async def test_the_repr_of_a_stream_shows_its_state():
    stream = paco.map(same, [1], limit=3)
    assert repr(stream) == f"<paco.map stream of {same!r}, limit=3, unused>"[: len(repr(stream))]
    await stream
    assert "awaited" in repr(stream)


async def test_a_task_of_a_stream_is_shown_under_the_name_of_the_function():
    stream = paco.map(same, [1])
    task = asyncio.create_task(stream)
    assert "coro=<paco.map()" in repr(task)
    await task
    with pytest.raises(RuntimeError, match="this one was awaited; call paco"):
        await stream


async def test_a_stream_in_use_can_be_neither_entered_nor_a_source():
    stream = paco.map(same, [1, 2, 3], limit=1)
    async with stream as results:
        assert await anext(results) == 1
        with pytest.raises(RuntimeError, match="this one was iterated; call paco"):
            async with stream:
                pass
        with pytest.raises(RuntimeError, match="this one was iterated; call paco"):
            await paco.map(same, stream)
        assert [item async for item in results] == [2, 3]


async def test_closing_a_stream_that_is_awaited_changes_nothing():
    stream = paco.map(Probe(lambda item: item, takes=1), Source([1, 2, 3]).generator(), limit=1)
    task = asyncio.create_task(stream)
    await asyncio.sleep(0.5)
    await stream.aclose()
    assert await task == [1, 2, 3]
    assert "awaited" in repr(stream)


async def test_closing_a_stream_as_a_coroutine_while_it_is_iterated_changes_nothing():
    stream = paco.map(same, Source([1, 2, 3]).generator(), limit=1)
    async with stream as results:
        assert await anext(results) == 1
        stream.close()
        assert [item async for item in results] == [2, 3]
    with pytest.raises(RuntimeError, match="this one was iterated; call paco"):
        await stream


def test_a_stream_is_accepted_wherever_a_coroutine_is():
    async def main():
        assert await asyncio.create_task(paco.map(same, [1])) == [1]
        assert await asyncio.gather(paco.map(same, [1]), paco.map(same, [2])) == [[1], [2]]
        assert await asyncio.wait_for(paco.map(same, [1]), 5) == [1]

    asyncio.run(main())
    assert asyncio.run(paco.map(same, [1, 2])) == [1, 2]
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(paco.map(same, [1, 2])) == [1, 2]
    loop.close()


async def test_a_task_of_a_stream_cancelled_before_its_first_step_closes_the_source():
    async def rows():
        return [1]

    for stream in paco.map(same, rows()), paco.gather(same(1), same(2)):
        task = asyncio.create_task(stream)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_stream_can_be_driven_by_hand():
    stream = paco.map(same, [1])
    with pytest.raises(KeyError):
        stream.throw(KeyError)
    with pytest.raises(KeyError, match="x"):
        paco.map(same, [1]).throw(KeyError, KeyError("x"))


async def test_a_stream_that_is_closed_as_a_coroutine_leaves_nothing_running():
    probe = Probe(lambda item: item, takes=100)
    stream = paco.map(probe, range(3))
    stream.send(None)
    await asyncio.sleep(1)
    stream.close()
    for _ in range(9):
        await asyncio.sleep(0)
    assert sorted(probe.cancelled) == [0, 1, 2]


# ---- pipelines


async def double(item):
    return 2 * item


async def is_small(item):
    return item < 8


async def add(total, item):
    return total + item


async def test_stages_run_at_the_same_time_each_under_its_own_limit():
    first, second = Probe(lambda item: item + 1, takes=1), Probe(lambda item: 2 * item, takes=10)
    results = await (range(10) | paco.map(first, limit=1) | paco.map(second, limit=10))
    assert results == [2 * (item + 1) for item in range(10)]
    assert now() == 20
    assert first.peak == 1


@pytest.mark.parametrize(
    ("stage", "result"),
    [
        (paco.map(double), [0, 2, 4, 6, 8]),
        (paco.filter(is_small), [0, 1, 2, 3, 4]),
        (paco.filterfalse(is_small), []),
        (paco.flat_map(double), [0, 2, 4, 6, 8]),
        (paco.dropwhile(is_small), []),
        (paco.each(double), None),
        (paco.each(double, collect=True), [0, 2, 4, 6, 8]),
        (paco.reduce(add), 10),
        (paco.reduce(add, initializer=5), 15),
        (paco.some(double), True),
        (paco.every(double), False),
        (paco.map(double) | paco.map(double), [0, 4, 8, 12, 16]),
        (paco.map(double) | paco.filter(is_small) | paco.reduce(add), 12),
    ],
)
async def test_every_stage_accepts_any_source_and_can_be_reused(stage, result):
    async def rows():
        return range(5)

    lefts = [range(5), list(range(5)), Source(range(5)), AsyncSource(range(5)), rows(), paco.map(same, range(5))]
    for left in [*lefts, dict.fromkeys(range(5)), set(range(5))]:
        assert await (left | stage) == result


async def test_a_stage_accepts_an_empty_source():
    assert await ([] | paco.map(double)) == []
    assert await ({} | paco.map(double)) == []


async def test_a_stage_can_be_called_with_its_items():
    assert await paco.map(double)([1, 2]) == [2, 4]


async def test_an_error_of_a_stage_while_the_next_one_fails_is_in_its_note():
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()

    async def fail(item):
        await first
        raise ValueError(item)

    async def fail_next(item):
        if item:
            await second
            raise KeyError(item)
        return item

    loop.call_later(1, first.set_result, None)
    first.add_done_callback(lambda _: None)
    loop.call_later(1, second.set_result, None)
    with pytest.raises((ValueError, KeyError)) as caught:
        await ([0, 1] | paco.map(fail_next) | paco.map(fail))
    assert caught.value.__notes__ == [
        "paco.map: item 0: 0",
        "paco.map: 1 more failed while stopping: the stage before it: KeyError(1)",
    ]


async def test_a_stage_joined_with_anything_else_is_a_type_error():
    with pytest.raises(TypeError, match="unsupported operand"):
        paco.map(double) | 5
    with pytest.raises(TypeError, match=r"paco\.map: the left side of \| must be"):
        5 | paco.map(double)
    assert repr(paco.map(double) | paco.filter(is_small)) == "<paco stage map | filter>"


async def test_a_failure_of_one_stage_ends_all_at_once_however_busy_the_others_are():
    async def fail(item):
        await asyncio.sleep(item)
        if item == 3:
            raise ValueError(item)
        return item

    slow = Probe(lambda item: item, takes=1000)
    with pytest.raises(ValueError, match="3") as caught:
        await (range(5) | paco.map(fail) | paco.map(slow, limit=2) | paco.map(same))
    assert now() == 3
    assert slow.running == 0
    assert caught.value.__notes__ == ["paco.map: item 3: 3"]


async def test_flat_map_fails_with_the_stage_before_it_at_once():
    async def fail(item):
        await asyncio.sleep(item)
        if item == 1:
            raise ValueError(item)
        return item

    slow = Probe(lambda item: item, takes=1000)
    with pytest.raises(ValueError, match="1"):
        await (range(2) | paco.map(fail) | paco.flat_map(slow, limit=1))
    assert now() == 1
    assert slow.running == 0


async def test_flat_map_with_a_timeout_of_zero_closes_its_source():
    async def rows():
        return [1]

    for source in paco.map(same, [1]), rows(), AsyncSource([1]).generator():
        with pytest.raises(TimeoutError):
            await paco.flat_map(same, source, timeout=0)


async def test_errors_in_the_cleanup_of_a_failing_stage_are_in_the_notes():
    async def fail(item):
        try:
            await asyncio.sleep(item)
        finally:
            raise ValueError(item)

    with pytest.raises(ValueError, match="1") as caught:
        await (range(1, 4) | paco.map(fail) | paco.map(same))
    assert "2 more failed while stopping" in caught.value.__notes__[1]


async def test_leaving_a_pipeline_early_ends_every_stage_and_closes_the_source():
    source = AsyncSource(itertools.count())
    probes = [Probe(lambda item: item, takes=3, cleanup=5) for _ in range(3)]
    stream = source.generator() | paco.map(probes[0], limit=2) | paco.map(probes[1], limit=2) | paco.map(probes[2])
    async with stream as results:
        assert await anext(results) == 0
    assert all(probe.running == 0 for probe in probes)
    assert source.closed


async def test_a_pipeline_with_a_timeout_of_zero_starts_no_stage_and_closes_all():
    with pytest.raises(TimeoutError):
        await paco.map(double, paco.map(double, paco.map(double, [1])), timeout=0)


async def test_a_slow_consumer_holds_back_a_whole_pipeline():
    source = Source(itertools.count())
    stream = source | paco.map(same, limit=2) | paco.map(same, limit=2) | paco.map(same, limit=2)
    async with stream as results:
        await anext(results)
        await asyncio.sleep(1000)
        assert source.pulled < 20


async def test_a_cancelled_pipeline_reports_nothing(caplog):
    caplog.set_level(logging.ERROR)
    running = asyncio.ensure_future(range(5) | paco.map(Probe(lambda item: item, takes=9)) | paco.each(same))
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert not caplog.records


@pytest.mark.parametrize(("source", "number"), [([1, 2], 2), (iter("abc"), 3), (Source([1, 2]), 7)])
async def test_a_stream_has_a_length_hint_if_the_number_of_results_is_known(source, number):
    async with paco.map(paco.identity, source) as stream:
        assert length_hint(stream, 7) == number


async def test_a_filtered_stream_has_no_length_hint():
    async with paco.filter(paco.identity, [1, 2]) as stream:
        assert length_hint(stream, 7) == 7
