"""How a run ends: the first error, notes, cancellation, timeouts, items that cancel, hostile exceptions."""

from __future__ import annotations

import asyncio
import gc
import itertools
import traceback
import weakref
from pathlib import Path

import pytest

import paco
from paco._engine import nursery
from paco._engine.run import Scheduler
from paco.testing import AsyncSource, Probe, Source, now, run
from tests.programs import popen


class Hostile(Exception):
    """An exception whose notes cannot be used and whose repr fails."""

    def __init__(self):
        self.__notes__ = "not a list"

    def __repr__(self):
        raise RuntimeError("no repr")


def failing(*bad, error=ValueError):
    """Return a probe of 1 s for good items, at once for bad ones."""

    def fn(item):
        if item in bad:
            raise error(item)
        return item

    return Probe(fn, takes=lambda item: 1 if item in bad else 10, cleanup=5)


async def test_the_first_error_is_raised_itself_after_all_siblings_have_finished():
    probe = failing(2)
    with pytest.raises(ValueError, match="2") as caught:
        await paco.map(probe, range(10), limit=4)
    assert sorted(probe.cancelled) == [0, 1, 3]
    assert probe.running == 0
    assert now() == 6  # 1 s of the item, 5 s of its siblings' cleanup
    assert caught.value.__notes__ == ["paco.map: item 2: 2"]


async def test_the_traceback_shows_the_users_frames_and_where_the_call_was_made():
    async def inner(item):
        raise ValueError(item)

    async def outer(item):
        await asyncio.sleep(1)
        await inner(item)

    with pytest.raises(ValueError, match="2") as caught:
        await paco.map(outer, [2])
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[0] == "test_the_traceback_shows_the_users_frames_and_where_the_call_was_made"
    assert frames[-2:] == ["outer", "inner"]
    assert "_work" not in frames


async def test_the_context_and_cause_of_an_error_are_the_users():
    async def fail(item):
        try:
            {}[item]
        except KeyError as inner:
            raise ValueError("outer") from inner

    for source in [1], AsyncSource([1]):
        with pytest.raises(ValueError, match="outer") as caught:
            async for _ in paco.map(fail, source):
                pass
        assert isinstance(caught.value.__cause__, KeyError)


async def test_further_errors_are_counted_and_three_of_them_are_shown():
    async def fail(item):
        try:
            await asyncio.sleep(1 if item == 0 else 100)
        finally:
            raise ValueError(item)

    with pytest.raises(ValueError, match="0") as caught:
        await paco.map(fail, range(6))
    first, second = caught.value.__notes__
    assert first == "paco.map: item 0: 0"
    assert second.startswith("paco.map: 5 more failed while stopping: item ")
    assert second.endswith("; and 2 more")
    assert second.count("ValueError(") == 3


async def test_a_long_item_is_shortened_in_the_note():
    async def fail(item):
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad") as caught:
        await paco.map(fail, ["x" * 10_000])
    assert len(caught.value.__notes__[0]) < 120


async def test_a_shared_error_keeps_its_newest_notes_and_those_of_the_user():
    shared = ConnectionError("gone")
    shared.add_note("of the user")
    once = paco.once(failing(0, error=lambda item: shared))

    async def fetch(item):
        raise shared

    async def attempt(item):
        for call in (fetch, paco.retry(fetch, attempts=1), paco.hedge(fetch, 0), lambda _: once(0)):
            await paco.map(call, [item], return_exceptions=True)
            with pytest.raises(ConnectionError):
                await paco.map(call, [item])

    await paco.map(attempt, range(20), limit=1)
    notes = shared.__notes__
    assert notes[0] == "of the user"
    assert len(notes) == 11
    assert notes[-2:] == ["paco.map: item 0: 19", "paco.map: item 0: 19"]


async def test_exceptions_and_items_with_failing_repr_do_not_hide_the_error():
    class Item:
        def __repr__(self):
            raise RuntimeError("no repr")

    async def fail(item):
        raise Hostile

    with pytest.raises(Hostile):
        await paco.map(fail, [Item()] * 3)


async def test_with_return_exceptions_errors_take_the_place_of_results():
    results = await paco.map(failing(1, 3), range(5), limit=2, return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, int, ValueError, int]
    assert not hasattr(results[1], "__notes__")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("catch", [False, True])
def test_keyboard_interrupt_and_system_exit_leave_through_run_after_all_cleanup(error, catch):
    ended = []

    async def item(number):
        try:
            await asyncio.sleep(1 if number == 1 else 100)
            raise error
        finally:
            await asyncio.sleep(5)
            ended.append(number)

    with pytest.raises(error):
        run(paco.map(item, [1, 2, 3], return_exceptions=catch))
    assert sorted(ended) == [1, 2, 3]


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, GeneratorExit])
@pytest.mark.parametrize("catch", [False, True])
async def test_stop_iteration_raised_by_an_item_is_an_error_and_never_a_shorter_result(error, catch):
    async def fail(item):
        if item == 3:
            raise error
        return item

    if catch:
        results = await paco.map(fail, range(6), limit=2, return_exceptions=True)
        assert isinstance(results[3], RuntimeError)
        assert len(results) == 6
    else:
        for stream in paco.map(fail, range(6), limit=2), paco.map(fail, range(6), limit=2).as_completed():
            with pytest.raises(RuntimeError) as caught:
                await stream
            assert isinstance(caught.value.__cause__, error)


async def test_an_item_that_ends_cancelled_by_itself_is_an_error_of_that_item():
    async def cancel(item):
        if item == 1:
            raise asyncio.CancelledError("mine")
        if item == 2:
            asyncio.current_task().cancel()
        await asyncio.sleep(1)
        return item

    for bad in 1, 2:
        with pytest.raises(paco.ItemCancelled) as caught:
            await paco.map(cancel, [0, bad, 3])
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert caught.value.__notes__ == [f"paco.map: item 1: {bad}"]
    results = await paco.map(cancel, [0, 1, 2, 3], return_exceptions=True)
    assert [type(result) for result in results] == [int, paco.ItemCancelled, paco.ItemCancelled, int]
    assert asyncio.current_task().cancelling() == 0


async def test_an_item_that_awaits_a_cancelled_future_is_an_error_of_that_item():
    future = asyncio.get_running_loop().create_future()
    future.cancel()

    async def wait(item):
        await future

    with pytest.raises(paco.ItemCancelled):
        await paco.map(wait, [1])


async def test_a_cancelled_caller_is_resumed_after_everything_has_finished():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    running = asyncio.ensure_future(paco.map(probe, range(10), limit=3))
    await asyncio.sleep(1)
    running.cancel("enough")
    await asyncio.sleep(1)
    running.cancel()  # a second one does not abandon the cleanup
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await running
    assert now() == 6
    assert sorted(probe.cancelled) == [0, 1, 2]
    assert running.cancelled()


async def test_each_running_item_is_cancelled_exactly_once():
    counts = []

    async def count(item):
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(5)
            counts.append(asyncio.current_task().cancelling())

    running = asyncio.ensure_future(paco.map(count, range(3)))
    for _ in range(3):
        await asyncio.sleep(1)
        running.cancel()
    await asyncio.wait([running])
    assert counts == [1, 1, 1]


async def test_an_item_that_suppresses_a_cancellation_is_still_waited_for_and_nothing_new_starts():
    source = Source(itertools.count())

    async def stubborn(item):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            await asyncio.sleep(50)

    running = asyncio.ensure_future(paco.map(stubborn, source, limit=2))
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert now() == 51
    assert source.pulled == 2


async def test_a_cancellation_wins_over_an_error_and_mentions_it_in_a_note():
    running = asyncio.ensure_future(paco.map(failing(0), range(3)))
    await asyncio.sleep(2)  # the item has failed, its siblings clean up
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert caught.value.__notes__ == ["paco.map: cancelled while failing with ValueError(0)"]


async def test_errors_after_the_first_are_mentioned_in_the_note_of_a_cancellation_too():
    async def fail(item):
        try:
            await asyncio.sleep(1 if item == 0 else 100)
        finally:
            if item:
                await asyncio.sleep(5)
            raise ValueError(item)

    running = asyncio.ensure_future(paco.map(fail, [0, 1]))
    await asyncio.sleep(2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert "failing with ValueError(0)" in caught.value.__notes__[0]
    assert "ValueError(1)" in caught.value.__notes__[1]


async def test_errors_in_the_cleanup_of_a_cancelled_run_are_mentioned_in_its_note():
    async def fail(item):
        try:
            await asyncio.sleep(100)
        finally:
            raise ValueError(item)

    running = asyncio.ensure_future(paco.map(fail, [7]))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert caught.value.__notes__ == ["paco.map: 1 more failed while stopping: item 0: ValueError(7)"]


async def test_the_error_of_a_timeout_says_that_it_is_for_the_whole_call_and_what_to_use_for_an_item():
    async def fetch(seconds):
        await asyncio.sleep(seconds)

    whole = "not finished within its timeout of 2.5 s, which is for the whole call; to time out each item, use"
    with pytest.raises(paco.RunTimeout) as caught:
        await paco.map(fetch, [9], timeout=2.5)
    assert str(caught.value) == f"paco.map: {whole} paco.timeout(fetch, 2.5)"
    with pytest.raises(paco.RunTimeout) as caught:
        await paco.gather(fetch(9), timeout=2.5)
    assert str(caught.value) == f"paco.gather: {whole} paco.timeout(coro, 2.5)"
    with pytest.raises(paco.RunTimeout) as caught, paco.deadline(2.5):
        await paco.map(fetch, [9])
    assert str(caught.value) == "paco.map: not finished within the deadline of 2.5 s"


async def test_a_timeout_is_raised_after_everything_has_been_cancelled_and_has_finished():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    with pytest.raises(TimeoutError, match=r"paco\.map: not finished within its timeout of 2 s"):
        await paco.map(probe, range(10), limit=3, timeout=2)
    assert now() == 7
    assert sorted(probe.cancelled) == [0, 1, 2]
    assert asyncio.current_task().cancelling() == 0


async def test_a_timeout_of_zero_fires_at_once_and_starts_nothing():
    probe = Probe(lambda item: item)
    for source in Source([1]), Source([1]).generator(), AsyncSource([1]), paco.map(probe, [1]):
        with pytest.raises(TimeoutError) as caught:
            await paco.map(probe, source, timeout=0)
        assert not hasattr(caught.value, "__notes__")
        with pytest.raises(TimeoutError):
            async for _ in paco.map(probe, [1], timeout=0):
                pass
    assert probe.started == []


async def test_an_awaitable_source_is_closed_when_a_timeout_of_zero_starts_nothing():
    async def rows():
        return [1]

    with pytest.raises(TimeoutError):
        await paco.map(Probe(lambda item: item), rows(), timeout=0)


async def test_an_infinite_timeout_is_no_timeout():
    assert await paco.map(Probe(lambda item: item, takes=10**6), [1], timeout=float("inf")) == [1]


async def test_a_timeout_does_not_count_as_a_cancellation_of_the_caller():
    async with asyncio.timeout(50):
        with pytest.raises(TimeoutError, match=r"paco\.map"):
            await paco.map(Probe(lambda item: item, takes=100), [1], timeout=2)
        await asyncio.sleep(1)


async def test_an_outer_timeout_is_raised_by_the_outer_block():
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(2):
            await paco.map(Probe(lambda item: item, takes=100), [1], timeout=50)
    assert "paco" not in str(caught.value)
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_in_the_step_in_which_the_run_ends_is_not_swallowed():
    running = None

    async def cancel_the_caller(item):
        await asyncio.sleep(1)
        running.cancel()
        return item

    running = asyncio.ensure_future(paco.map(cancel_the_caller, [1]))
    await asyncio.wait([running])
    assert running.cancelled()


async def test_a_worker_cancelled_from_outside_is_an_error_and_never_a_shorter_result():
    async def item(number):
        await asyncio.sleep(10)
        return number

    before = asyncio.all_tasks()
    running = asyncio.ensure_future(paco.map(item, range(4), limit=2))
    await asyncio.sleep(1)
    for task in asyncio.all_tasks() - before - {running}:
        task.cancel()
        break
    with pytest.raises(paco.ItemCancelled):
        await running


@pytest.mark.parametrize("source", [[1, 2, 3], AsyncSource([1, 2, 3], delay=5)], ids=["sync", "async"])
async def test_workers_and_readers_cancelled_before_their_first_step_are_errors_too(source):
    before = asyncio.all_tasks()
    running = asyncio.ensure_future(paco.map(Probe(lambda item: item), source))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before - {running}:
        task.cancel()
    with pytest.raises(paco.ItemCancelled):
        await running


async def test_the_error_for_a_sync_function_says_how_to_make_it_async():
    def double(item):
        return 2 * item

    with pytest.raises(
        TypeError, match=r"double must be a coroutine function.*paco\.wraps.*paco\.threaded\(.*double\)"
    ):
        await paco.map(double, [1])
    with pytest.raises(TypeError, match="double must be a coroutine function"):
        await paco.filter(double, [1])
    with pytest.raises(TypeError, match="double must be a coroutine function"):
        await paco.map(double, [1], 0, None, None, False)


async def test_a_type_error_of_the_users_code_is_unchanged():
    async def two(first, second):
        return first

    async def wrong(item):
        return await 5

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        await paco.map(two, [1])
    with pytest.raises(TypeError, match=r"^object int can't be used in 'await' expression|can't be awaited"):
        await paco.map(wrong, [1])
    with pytest.raises(TypeError, match="has no len"):
        await paco.map(len, [1])


def test_a_run_that_is_collected_with_its_loop_reports_nothing(caplog):
    gc.collect()  # what other tests have left may have something to say
    caplog.clear()
    loop = asyncio.new_event_loop()
    running = loop.create_task(paco.map(Probe(lambda item: item, takes=100), [1, 2, 3], limit=3))
    reading = loop.create_task(paco.map(Probe(lambda item: item), AsyncSource([1], delay=100)))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    del running, reading, loop
    gc.collect()
    assert {record.getMessage().partition("\n")[0] for record in caplog.records} <= {
        "Task was destroyed but it is pending!"
    }


async def test_a_handled_cancellation_is_freed_at_once():
    kept = []

    async def caller():
        try:
            await paco.map(Probe(lambda item: item, takes=100), range(5), limit=2)
        except asyncio.CancelledError as error:
            kept.append(weakref.ref(error))

    running = asyncio.ensure_future(caller())
    await asyncio.sleep(1)
    gc.disable()
    try:
        running.cancel()
        await running
        assert [cancelled() for cancelled in kept] == [None]
    finally:
        gc.enable()


# ---- errors that end the program, however late they come


class Late:
    """Runs whose first item ends at once, and whose others or whose source raise ``error`` in their cleanup."""

    def __init__(self, error):
        self.error = error

    async def item(self, number):
        if number == 0:
            return await asyncio.sleep(0.5, number)  # meanwhile the others begin
        try:
            await asyncio.sleep(60)
        finally:
            raise self.error

    async def fails(self, number):
        if number == 0:
            await asyncio.sleep(1)
            raise ValueError(number)
        await self.item(number)

    def source(self):
        try:
            yield from range(1000)
        finally:
            raise self.error

    async def async_source(self):
        try:
            for number in range(1000):
                yield number
        finally:
            raise self.error

    async def after_an_error(self):
        await paco.map(self.fails, range(2))

    async def in_a_pipeline(self):
        async with range(3) | paco.map(self.item) | paco.map(paco.identity) as results:
            async for _ in results:
                break

    async def after_a_block(self):
        async with paco.map(self.item, range(3)) as results:
            async for _ in results:
                break

    async def after_a_break(self):
        async for _ in paco.map(self.item, range(2)):
            break
        gc.collect()
        await asyncio.sleep(1)

    async def after_a_timeout(self):
        await paco.map(self.item, range(2), timeout=1)

    async def after_a_cancellation(self):
        async with asyncio.timeout(1):
            await paco.map(self.item, range(2), limit=paco.Limit(2))

    async def of_a_loser(self):
        await paco.race([lambda: self.item(0), lambda: self.item(1)])

    async def of_a_source(self):
        async with paco.map(paco.identity, self.source(), limit=1) as results:
            async for _ in results:
                break

    async def of_an_async_source(self):
        async with paco.map(paco.identity, self.async_source(), limit=1) as results:
            async for _ in results:
                break


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("form", [name for name in vars(Late) if name.startswith(("after", "of", "in_"))])
def test_an_exit_is_raised_even_if_it_comes_while_the_run_ends(form, kind):
    error = kind(form)
    with pytest.raises(kind) as caught:
        run(getattr(Late(error), form)())
    assert caught.value is error


def test_the_note_of_a_late_exit_names_the_error_before_it():
    with pytest.raises(KeyboardInterrupt) as caught:
        run(Late(KeyboardInterrupt()).after_an_error())
    assert caught.value.__notes__ == ["paco.map: item 1, while failing with ValueError(0)"]


def test_an_interrupt_in_a_callback_hangs_no_run(monkeypatch):
    def interrupt(*_):
        monkeypatch.setattr(nursery, "_discard_waiter", lambda *_: None)
        raise KeyboardInterrupt

    monkeypatch.setattr(nursery, "_add_waiter", lambda *_: None)
    monkeypatch.setattr(nursery, "_discard_waiter", interrupt)
    loop = asyncio.new_event_loop()
    task = loop.create_task(paco.map(paco.identity, [1]))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_an_interrupt_while_tasks_are_cancelled_cancels_them_all_the_same(monkeypatch):
    stopping = Scheduler._stopping

    def interrupt(self):
        monkeypatch.setattr(Scheduler, "_stopping", stopping)
        raise KeyboardInterrupt

    monkeypatch.setattr(Scheduler, "_stopping", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(paco.map(failing(1), range(3)))


@pytest.mark.slow
@pytest.mark.realtime
def test_an_interrupt_at_any_line_hangs_no_run_and_is_not_lost():
    out, _ = popen(Path(__file__).with_name("interrupts.py")).communicate(timeout=200)
    assert out.split() == ["lists:", "done", "streams:", "done", "races:", "done"]
