"""`paco.Gate` and `Stream.stop`: an early end at which nothing that was taken is lost, and pauses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco import events, testing
from paco.testing import AsyncSource, Deadlock, Probe, Source, now

LIMITS = {
    "count": paco.Limit(2),
    "rate": paco.Rate(2),
    "keys": paco.PerKey(lambda item: 0, lambda: 2),
    "semaphore": asyncio.Semaphore(2),
}


async def second(item):
    await asyncio.sleep(1)
    return item


async def at_once(item):
    return item


def later(seconds, call):
    asyncio.get_running_loop().call_later(seconds, call)


def endless():
    number = 0
    while True:
        yield number
        number += 1


class Queue:
    """An async source of messages that never end, which notes what was taken from it, and that it was closed."""

    def __init__(self, *messages):
        self.queue = asyncio.Queue()
        self.taken, self.closed = [], 0
        for message in messages:
            self.queue.put_nowait(message)

    async def read(self):
        try:
            while True:
                message = await self.queue.get()
                self.taken.append(message)
                yield message
        finally:
            await asyncio.sleep(0)
            self.closed += 1


# ---- the end of the source


async def test_a_closed_gate_ends_a_run_as_if_its_source_had_ended():
    gate, source = paco.Gate(), Source(range(100))
    later(1.5, gate.close)
    assert not gate.closed
    assert await paco.map(second, source, limit=3 & gate) == [0, 1, 2, 3, 4, 5, 6]
    assert now() == 3
    assert gate.closed
    assert source.pulled == 7  # one has waited for its permit


async def test_nothing_more_is_taken_in_the_very_step_in_which_the_gate_is_closed():
    gate, source = paco.Gate(), Source(range(100))

    async def close(item):
        if item == 4:
            gate.close()
        return item

    assert await paco.map(close, source, limit=gate) == [0, 1, 2, 3, 4]
    assert source.pulled == 5


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_a_stream_that_is_awaited_is_stopped_by_an_item(limit):
    source = Source(range(1000))

    async def stop(item):
        if item == 4:
            stream.stop()
        return item

    stream = paco.map(stop, source, limit=limit)
    assert await stream == [0, 1, 2, 3, 4]
    assert source.pulled == 5
    stream.stop()  # does nothing any more


async def test_a_stopped_stream_delivers_everything_that_runs():
    stream = paco.map(second, endless(), limit=3)
    got = []
    async for item in stream:
        got.append(item)
        if item == 3:
            stream.stop()
            stream.stop()
    assert got == [0, 1, 2, 3, 4, 5, 6, 7, 8]  # those that had started


@pytest.mark.parametrize("how", ["as_completed", "journal", "iterate", "max_errors"])
async def test_every_use_of_a_stream_can_be_stopped(how, tmp_path):
    ran = []

    async def note(item):
        await asyncio.sleep(1)
        ran.append(item)
        return item

    stream = paco.map(note, endless(), limit=2)
    if how == "as_completed":
        stream = stream.as_completed()
    elif how == "journal":
        stream = stream.journal(tmp_path / "run.jsonl")
    elif how == "max_errors":
        stream = stream.max_errors(2)
    later(2.5, stream.stop)
    if how == "iterate":
        async for _ in stream:
            pass
    else:
        assert await stream == [0, 1, 2, 3, 4, 5]
    assert sorted(ran) == [0, 1, 2, 3, 4, 5]


async def test_a_stream_that_has_got_options_is_stopped_by_its_first_form_too():
    first = paco.map(second, endless(), limit=1)
    stream = first.buffer(5).as_completed()
    later(3.5, first.stop)
    assert await stream == [0, 1, 2, 3]
    first = paco.map(second, endless(), limit=1)
    first.stop()
    assert await first.buffer(5).batch(2) == []


@pytest.mark.parametrize("kind", [list, Source, AsyncSource, iter])
async def test_a_run_that_has_not_begun_takes_nothing(kind):
    source = kind(range(5))
    stopped = paco.map(second, source)
    stopped.stop()
    assert await stopped == []
    gate = paco.Gate()
    gate.close()
    assert await paco.map(second, kind(range(5)), limit=gate) == []
    async for _ in paco.map(second, kind(range(5)), limit=gate & 2):
        pytest.fail("something was taken")
    assert now() == 0
    if kind in {Source, AsyncSource}:
        assert source.pulled == 0


async def test_a_source_that_stops_its_own_run_loses_nothing():
    def numbers():
        for number in range(100):
            if number == 2:
                stream.stop()
            yield number

    stream = paco.map(at_once, numbers(), limit=10)
    assert await stream == [0, 1, 2]

    class Late:
        def __iter__(self):
            stream.stop()
            return iter([1, 2, 3])

    stream = paco.map(at_once, Late())
    assert await stream == []


async def test_a_generator_is_closed_and_its_error_in_doing_so_reported():
    closed = []

    def numbers():
        try:
            yield from endless()
        finally:
            closed.append(now())

    gate = paco.Gate()
    later(0.5, gate.close)
    assert await paco.map(second, numbers(), limit=2 & gate) == [0, 1, 2]
    assert closed == [2]


# ---- async sources


@pytest.mark.parametrize("limit", [2, None])
async def test_an_async_source_that_waits_is_cancelled_and_closed(limit):
    queue, gate = Queue(1, 2, 3), paco.Gate()
    stream = paco.map(second, queue.read(), limit=limit or (2 & gate))
    later(5, gate.close if limit is None else stream.stop)
    assert await stream == [1, 2, 3]
    assert now() == 5
    assert queue.taken == [1, 2, 3]
    assert queue.closed == 1


async def test_a_message_that_has_come_in_the_same_turn_is_run():
    queue, gate = Queue(), paco.Gate()

    def close():
        queue.queue.put_nowait("late")
        gate.close()

    later(5, close)
    assert await paco.map(second, queue.read(), limit=2 & gate) == ["late"]
    assert queue.closed == 1


async def test_what_a_source_yields_although_it_is_cancelled_is_run():
    async def stubborn():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            yield "last"
        yield "never"

    stream = paco.map(second, stubborn())
    later(1, stream.stop)
    assert await stream == ["last"]
    assert now() == 2


async def test_an_async_source_that_stops_its_own_run_loses_nothing():
    async def numbers():
        yield 1
        stream.stop()
        yield 2
        yield 3

    for limit in (0, 1, 2):  # with a limit, workers execute steps of the source
        stream = paco.map(second, numbers(), limit=limit)
        assert await stream == [1, 2]

    async def waits():
        yield 1
        stream.stop()
        await asyncio.sleep(1000)
        yield 2

    stream = paco.map(second, waits())
    assert await stream == [1]


async def test_items_read_ahead_count_as_taken_and_a_resting_reader_ends():
    source, gate = AsyncSource(range(100)), paco.Gate()
    later(0.5, gate.close)
    got = await paco.map(second, source.generator(), limit=2 & gate).ahead(3)
    assert got == list(range(source.pulled))
    assert 5 <= len(got) <= 7
    assert source.closed


async def test_an_awaitable_of_a_source_is_cancelled():
    async def items():
        await asyncio.sleep(1000)

    stream = paco.map(second, items())
    later(1, stream.stop)
    assert await stream == []
    assert now() == 1
    begun = []

    async def never():
        begun.append(now())
        return [1]

    stream = paco.map(second, never())
    stream.stop()
    assert await stream == []
    assert begun == []


async def test_the_clean_up_of_a_source_that_is_closed_already_is_not_cancelled():
    queue, cleaned = asyncio.Queue(), []

    async def items():
        try:
            while True:
                yield await queue.get()
        finally:
            await asyncio.sleep(10)
            cleaned.append(now())

    def stop():
        queue.put_nowait(1)
        stream.stop()

    stream = paco.map(second, items())
    later(5, stop)
    assert await stream == [1]
    assert cleaned == [15]


async def test_an_error_of_a_source_that_is_cancelled_is_raised_after_the_results():
    async def items():
        yield 1
        try:
            await asyncio.sleep(1000)
        finally:
            raise OSError("cannot close")

    stream, got = paco.map(second, items()), []
    later(5, stream.stop)
    with pytest.raises(OSError, match="cannot close"):
        async for item in stream:
            got.append(item)
    assert got == [1]


# ---- pipelines


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_in_a_pipeline_everything_taken_flows_through_whichever_stage_has_the_gate(which):
    gate, source = paco.Gate(), Source(range(100))
    limits = [3, 2, 1]
    limits[which] = limits[which] & gate
    first, middle, last = (paco.map(second, limit=limit) for limit in limits)
    later(2.5, gate.close)
    assert await (source | first | middle | last) == list(range(source.pulled))
    assert 3 <= source.pulled <= 12


async def test_stopping_the_last_stage_stops_all_of_them():
    queue = Queue(1, 2, [3, [4]])
    stream = queue.read() | paco.map(second, limit=2) | paco.flat_map(second) | paco.filter(second)
    later(10, stream.stop)
    assert await stream == [1, 2, 3, 4]
    assert queue.closed == 1
    assert now() == 10
    unused = [1] | paco.map(second) | paco.map(second)
    unused.stop()
    assert await unused == []


async def test_flat_map_over_an_async_source_is_stopped_too():
    queue = Queue([1, 2], 3)
    stream = paco.flat_map(second, queue.read())
    later(10, stream.stop)
    assert await stream == [1, 2, 3]
    assert queue.closed == 1


async def test_a_stage_that_ends_a_pipeline_may_have_the_gate():
    saved, gate = [], paco.Gate()

    async def save(item):
        saved.append(item)

    later(2.5, gate.close)
    await (endless() | paco.map(second, limit=2) | paco.each(save, limit=1 & gate))
    assert saved == list(range(len(saved)))
    assert 4 <= len(saved) <= 8


# ---- with everything else


async def test_several_runs_share_one_gate():
    gate = paco.Gate()
    runs = [paco.map(second, endless(), limit=limit & gate) for limit in (1, 2, paco.Rate(2))]
    later(2.75, gate.close)
    first, other, rated = await paco.gather(*runs)
    assert (len(first), len(other), len(rated)) == (4, 7, 7)


async def test_a_slow_consumer_gets_every_result():
    gate, got = paco.Gate(), []
    later(2.5, gate.close)
    async with paco.map(at_once, endless(), limit=3 & gate) as numbers:
        async for number in numbers:
            got.append(number)
            await asyncio.sleep(1)
    assert got == list(range(len(got)))
    assert 3 <= len(got) <= 8


async def test_a_journal_goes_on_after_a_soft_stop(tmp_path):
    gate, path, ran = paco.Gate(), tmp_path / "run.jsonl", []

    async def note(item):
        ran.append(item)
        return await second(item)

    later(1.5, gate.close)
    first = await paco.map(note, range(10), limit=2 & gate).journal(path)
    assert first == ran
    assert len(path.read_text().splitlines()) == len(first)
    assert await paco.map(note, range(10), limit=2).journal(path) == list(range(10))
    assert ran == list(range(10))


async def test_items_in_back_off_make_their_further_attempts():
    gate, attempts = paco.Gate(), []

    async def flaky(item):
        attempts.append(item)
        if attempts.count(item) < 3:
            raise OSError
        return item

    later(0.5, gate.close)
    run = paco.map(paco.retry(flaky, on=lambda error: 1), range(100), limit=paco.Rate(2, burst=2) & gate)
    results = await run
    assert results == list(range(len(results)))
    assert 2 <= len(results) <= 5
    assert all(attempts.count(item) == 3 for item in results)


async def test_outcomes_of_a_settled_function_are_complete():
    gate = paco.Gate()

    async def close(item):
        await asyncio.sleep(1)
        gate.close()
        raise OSError(item)

    outcomes = await paco.map(paco.settle(close), range(10), limit=2 & gate)
    assert [outcome.item for outcome in outcomes] == [0, 1, 2]


async def test_items_that_wait_for_their_keys_were_taken_and_run():
    gate = paco.Gate()
    keyed = paco.PerKey(lambda item: item % 2, lambda: 1, lookahead=4)
    source = Source([0, 0, 0, 0, 0, 0, 1])
    later(0.5, gate.close)
    assert await paco.map(second, source, limit=keyed & gate) == [0] * source.pulled
    assert source.pulled == 5


async def test_a_listener_sees_a_run_that_has_ended_well():
    gate, ended = paco.Gate(), []
    later(1.5, gate.close)
    with paco.listening(ended.append, events.RunEnded):
        await paco.map(second, endless(), limit=2 & gate)
    assert [(event.outcome, event.error, event.run.ok) for event in ended] == [("ok", None, 5)]


async def test_an_error_still_cancels_the_others_and_a_timeout_too():
    gate = paco.Gate()

    async def fail(item):
        if item == 1:
            await asyncio.sleep(2)
            raise OSError("one")
        await asyncio.sleep(1000)

    later(1, gate.close)
    with pytest.raises(OSError, match="one"):
        await paco.map(fail, range(10), limit=2 & gate)
    assert now() == 2
    with pytest.raises(TimeoutError):
        stream = paco.map(second, Queue(1).read(), timeout=0.5)
        later(0.25, stream.stop)
        await stream


async def test_futures_of_coroutines_that_did_not_start_are_cancelled():
    gate = paco.Gate()
    later(0.5, gate.close)
    done, pending = await paco.wait(*(second(item) for item in range(4)), limit=1 & gate)
    assert not pending
    assert sum(future.cancelled() for future in done) == 2
    later(0.5, (other := paco.Gate()).close)
    assert await paco.gather(second(1), second(2), second(3), limit=1 & other) == [1, 2]


@pytest.mark.realtime
@pytest.mark.parametrize("limited", [True, False])
async def test_a_run_on_other_processes_is_stopped(limited):
    gate = paco.Gate()
    source = Source(endless())
    stream = paco.map(at_once, source, limit=2 & gate if limited else 2).on(2)
    results = []
    async for result in stream:
        results.append(result)
        if result == 10:
            gate.close()
            stream.stop()
    assert results == list(range(source.pulled))
    assert len(results) > 10


@pytest.mark.realtime
async def test_a_source_that_ends_a_run_on_other_processes_gives_nothing_more():
    def numbers():
        for number in endless():
            if number == 2:
                stream.stop()
            yield number

    stream = paco.map(at_once, numbers(), limit=2).on(1)
    assert await stream == [0, 1, 2]


@pytest.mark.parametrize("kind", ["plain", "gate", "async"])
def test_cancelled_at_every_step_of_a_soft_stop(kind, cancel_at_every_step):
    async def main():
        gate, queue = paco.Gate(), Queue(0, 1, 2)
        source = queue.read() if kind == "async" else endless()
        stream = paco.map(second, source, limit=2 if kind == "plain" else 2 & gate) | paco.map(second, limit=2)
        later(1.5, stream.stop if kind == "plain" else gate.close)
        results = await stream
        assert results == list(range(len(results)))
        assert kind != "async" or queue.closed

    cancel_at_every_step(main)


@given(
    limits=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    at=st.integers(0, 12),
    takes=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    is_async=st.booleans(),
    ordered=st.booleans(),
    by_gate=st.booleans(),
    lookahead=st.integers(0, 3),
)
def test_nothing_taken_is_lost_by_a_soft_stop(limits, at, takes, is_async, ordered, by_gate, lookahead):
    async def main():
        gate = paco.Gate()
        source = AsyncSource(range(200)) if is_async else Source(range(200))
        stream = source.generator()
        for limit, seconds in zip(limits, takes, strict=False):

            async def stage(item, seconds=seconds + 1):
                await asyncio.sleep(seconds * (1 + item % 2) / 4)
                return item

            keyed = paco.PerKey(lambda item: item % 3, lambda: 1, lookahead) & gate if lookahead else gate
            stream = paco.map(stage, stream, limit=limit & keyed if by_gate else limit)
        stream = stream if ordered else stream.as_completed()
        later(at / 4 + 0.1, gate.close if by_gate else stream.stop)
        results = await stream
        assert (results if ordered else sorted(results)) == list(range(source.pulled))
        assert source.pulled < 200
        assert not is_async or source.closed

    testing.run(main)


# ---- pauses


async def test_a_pause_stops_starts_until_resume_and_what_runs_goes_on():
    gate, starts = paco.Gate(), []

    async def note(item):
        starts.append(now())
        await asyncio.sleep(1)

    later(1.5, gate.pause)
    later(10, gate.resume)
    await paco.map(note, range(6), limit=2 & gate)
    assert starts == [0, 0, 1, 1, 10, 10]


@pytest.mark.parametrize("other", ["count", "rate", "keys", "semaphore"])
async def test_no_start_falls_into_a_pause_whatever_else_the_item_waits_for(other):
    gate, starts = paco.Gate(), []

    async def note(item):
        starts.append(now())
        await asyncio.sleep(1)

    later(1.25, gate.pause)
    later(10, gate.resume)
    await paco.map(note, range(8), limit=LIMITS[other] & gate & paco.Rate(4))
    assert len(starts) == 8
    assert not [start for start in starts if 1.25 < start < 10]
    assert starts == sorted(starts)


async def test_who_waits_at_a_paused_gate_holds_nothing_that_others_need():
    gate, rate, count = paco.Gate(), paco.Rate(1), paco.Limit(1)
    paused = asyncio.ensure_future(paco.map(second, range(4), limit=gate & rate & count))
    later(1.5, gate.pause)
    await asyncio.sleep(2)
    start = now()
    assert await paco.map(second, range(3), limit=rate & count) == [0, 1, 2]
    assert now() <= start + 5
    gate.resume()
    assert await paused == [0, 1, 2, 3]


async def test_closing_ends_a_pause_so_that_the_run_can_end():
    gate = paco.Gate()
    gate.pause()
    later(5, gate.close)
    assert await paco.map(second, range(5), limit=2 & gate) == [0]
    assert now() == 6
    gate.pause()
    assert gate.paused(None) == 0
    assert await paco.map(second, range(5), limit=2 & gate) == []


def test_a_virtual_loop_says_that_a_gate_is_paused():
    async def main():
        gate = paco.Gate()
        gate.pause()
        await paco.map(second, range(5), limit=2 & gate)

    with pytest.raises(Deadlock, match=r"map second worker 1'.*in Gate\._wait_for_resume"):
        testing.run(main)


async def test_a_pause_is_not_a_deadlock_of_a_limit_that_is_held():
    gate, alone = paco.Gate(), paco.Limit(1)

    async def nested(item):
        return await paco.map(second, [item], limit=gate)

    gate.pause()
    later(1000, gate.resume)
    assert await paco.map(nested, [1, 2], limit=alone) == [[1], [2]]


async def test_a_wait_at_a_paused_gate_can_be_cancelled():
    gate = paco.Gate()
    gate.pause()
    with pytest.raises(TimeoutError):
        await paco.timeout(paco.limited(second, gate), 5)(1)
    assert repr(gate) == "<paco.Gate paused, 0 in flight>"
    gate.resume()
    assert repr(gate) == "<paco.Gate open, 0 in flight>"
    assert gate.idle()


async def test_a_source_that_pauses_the_gate_between_two_items_holds_the_next_one():
    gate, starts = paco.Gate(), []

    def numbers():
        yield 0
        gate.pause()
        later(5, gate.resume)
        yield 1

    async def note(item):
        starts.append(now())

    await paco.map(note, numbers(), limit=gate)
    assert starts == [0, 5]


# ---- calls of limited functions


async def test_a_call_after_the_end_is_refused_and_one_that_waits_too():
    gate = paco.Gate()
    call = paco.limited(second, gate)
    assert await call(1) == 1
    gate.pause()
    waits = asyncio.ensure_future(call(2))
    await asyncio.sleep(1)
    gate.close()
    for refused in (waits, call(3), paco.limited(second, gate & 2)(4)):
        with pytest.raises(paco.GateClosed, match=r"^paco\.Gate: this call did not start, because its gate is closed"):
            await refused
    with pytest.raises(paco.GateClosed):
        async with gate.slot():
            pass
    assert repr(gate) == "<paco.Gate closed, 0 in flight>"
    assert not gate.idle()


async def test_a_call_inside_an_item_that_was_taken_still_starts():
    gate = paco.Gate()
    call = paco.limited(second, gate)
    both = paco.limited(call, gate)

    async def item(number):
        await asyncio.sleep(1)
        gate.close()
        direct = await call(number)
        return [direct, *await asyncio.gather(call(number), both(number))]

    assert await paco.map(item, range(10), limit=1 & gate) == [[0, 0, 0], [1, 1, 1]]


async def test_a_key_with_a_closed_gate_fails_its_items():
    gates = {0: paco.Gate(), 1: paco.Gate()}
    gates[1].close()
    results = await paco.map(second, range(4), limit=paco.PerKey(lambda item: item % 2, gates), return_exceptions=True)
    assert results[::2] == [0, 2]
    assert [type(result) for result in results[1::2]] == [paco.GateClosed] * 2


async def test_a_limit_of_your_own_can_name_the_gates_in_it():
    gate = paco.Gate()

    class Own(paco.Limiter):
        gates = (gate,)

        async def acquire(self, item=None):
            return await gate.acquire(item)

        def release(self, permit, error=None):
            gate.release(permit, error)

    later(1.5, gate.close)
    assert await paco.map(second, endless(), limit=Own() & 2) == [0, 1, 2, 3, 4]


# ---- threads and loops


@pytest.mark.realtime
def test_another_thread_may_close_pause_and_resume():
    gate, begun = paco.Gate(), threading.Event()

    async def nap(item):
        begun.set()
        await asyncio.sleep(0.001)
        return item

    def use():
        begun.wait()
        gate.pause()
        gate.resume()
        gate.close()

    thread = threading.Thread(target=use)
    thread.start()
    results = asyncio.run(paco.map(nap, endless(), limit=2 & gate))
    thread.join()
    assert results == list(range(len(results)))
    assert len(results) > 0


@pytest.mark.realtime
def test_one_gate_ends_runs_in_several_loops():
    gate, results = paco.Gate(), {}
    ready = threading.Barrier(3)

    def work(number):
        async def main():
            queue = asyncio.Queue()
            queue.put_nowait(number)

            async def read():
                while True:
                    yield await queue.get()

            async def note(item):
                ready.wait(30)
                return item

            return await paco.map(note, read(), limit=1 & gate)

        results[number] = asyncio.run(main())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    gate.close()
    for thread in threads:
        thread.join(30)
    assert results == {0: [0], 1: [1]}


def test_a_loop_that_was_closed_in_between_does_not_matter():
    gate = paco.Gate()
    loop = asyncio.new_event_loop()
    gate.join("a run", lambda: paco._base.deadline.call_in(loop, pytest.fail))
    loop.close()
    gate.close()
    gate.leave("a run")


async def test_permits_taken_by_hand_are_held_apart():
    gate = paco.Gate()
    first, other = await gate.acquire(), gate.try_acquire()

    async def item(_):
        inner = gate.try_acquire()
        gate.release(inner)
        return repr(gate)

    assert await paco.map(item, [1], limit=gate) == ["<paco.Gate open, 3 in flight>"]
    gate.release(first)
    gate.release(other)
    assert gate.idle()


async def test_a_wait_that_is_resumed_twice_or_in_between_ends_once():
    gate = paco.Gate()
    gate.pause()
    waits = asyncio.ensure_future(paco.limited(at_once, gate)(1))
    await asyncio.sleep(0)
    gate.resume()
    gate.resume()
    assert await waits == 1

    class Resumed(dict):
        """Another thread resumes at the moment at which a wait is noted."""

        def __setitem__(self, *waiter):
            super().__setitem__(*waiter)
            gate._paused = False

    gate._waiting = Resumed()
    gate.pause()
    assert await paco.limited(at_once, gate)(2) == 2
    assert not gate._waiting


async def test_a_part_whose_pause_another_thread_ends_keeps_its_permit():
    class Brief(paco.Gate):
        asked = 0

        def paused(self, permit):
            self.asked += 1
            return 0 if self.asked > 1 else float("inf")

    assert await paco.map(second, [1], limit=Brief() & asyncio.Semaphore(1)) == [1]


# ---- signals


@pytest.mark.posix
@pytest.mark.realtime
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_the_gate_and_the_next_one_does_what_it_did(number):
    gate, before = paco.Gate(), signal.getsignal(number)
    with gate.closes_on(signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        assert signal.getsignal(number) != before

        async def item(value):
            if value == 2:
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.001)
                assert signal.getsignal(number) == before
            return value

        assert await paco.map(item, range(1000), limit=1 & gate) == [0, 1, 2]
    assert gate.closed
    assert signal.getsignal(number) == before


@pytest.mark.posix
@pytest.mark.realtime
def test_a_signal_wakes_a_run_whose_source_waits_and_the_block_may_be_around_the_loop():
    gate = paco.Gate()

    async def main():
        queue = Queue(1)
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        results = await paco.map(at_once, queue.read(), limit=2 & gate)
        timer.join()
        return results

    with gate.closes_on(signal.SIGTERM):
        assert asyncio.run(main()) == [1]
    other = paco.Gate()
    with other.closes_on(signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
        assert other.closed


@pytest.mark.posix
@pytest.mark.realtime
def test_a_handler_of_the_loop_hears_the_second_signal_and_not_the_first():
    heard, gate = [], paco.Gate()

    async def item(value):
        if value == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            await turns()
            assert (gate.closed, heard) == (True, [])
            os.kill(os.getpid(), signal.SIGTERM)
            await turns()
            assert heard == ["before"]
        return value

    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, heard.append, "before")
        with gate.closes_on(signal.SIGTERM, signal.SIGINT):
            return await paco.map(item, range(1000), limit=1 & gate)

    assert asyncio.run(main()) == [0, 1, 2, 3]  # number 3 was taken already


@pytest.mark.posix
@pytest.mark.realtime
def test_a_handler_of_the_loop_is_restored_after_the_block_unless_another_one_was_set():
    heard = []

    async def main(inside):
        loop, gate = asyncio.get_running_loop(), paco.Gate()
        loop.add_signal_handler(signal.SIGTERM, heard.append, "before")
        with gate.closes_on(signal.SIGTERM):
            if inside:
                loop.add_signal_handler(signal.SIGTERM, heard.append, "inside")
        os.kill(os.getpid(), signal.SIGTERM)
        await turns()
        assert not gate.closed

    asyncio.run(main(inside=False))
    asyncio.run(main(inside=True))
    assert heard == ["before", "inside"]


async def turns():
    """Let the loop read its signals."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_block_restores_only_what_it_has_set():
    before, gate = signal.getsignal(signal.SIGTERM), paco.Gate()
    try:
        with gate.closes_on(signal.SIGTERM):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not gate.closed


def test_what_closes_on_refuses():
    gate = paco.Gate()
    with pytest.raises(TypeError, match=r"^paco\.Gate\.closes_on: give at least one signal, such as signal\.SIGTERM"):
        gate.closes_on()
    with pytest.raises(TypeError, match=r"^paco\.Gate\.closes_on: signal must be an int of 1 or more, got 'SIGTERM'"):
        gate.closes_on("SIGTERM")
    for number in (4000, getattr(signal, "SIGKILL", 4000)):
        with pytest.raises(ValueError, match=r"^paco\.Gate\.closes_on: signal must be one that a program can handle"):
            gate.closes_on(number)
    errors = []

    def enter():
        try:
            with gate.closes_on(signal.SIGTERM):
                pass
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert json.dumps(errors).startswith('["paco.Gate.closes_on: must be entered in the main thread')


async def test_a_stream_over_an_inbox_can_be_stopped():
    inbox, probe = paco.Inbox(range(3)), Probe(lambda item: item, takes=1)
    stream = paco.map(probe, inbox, limit=1)
    later(1.5, stream.stop)
    assert await stream == [0, 1]
    assert now() == 2
