"""Groups of coroutines: gather series race wait, and the executor."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

import paco
from paco.testing import AsyncSource, Probe, now


async def double(item=1):
    await asyncio.sleep(0)
    return 2 * item


async def fail(delay, error=ValueError):
    await asyncio.sleep(delay)
    raise error(delay)


# ---- gather, series


async def test_gather_accepts_objects_functions_and_futures_and_keeps_their_order():
    task = asyncio.ensure_future(double(3))
    for preserve_order in False, True:
        assert await paco.gather(double(2), double, task, limit=2, preserve_order=preserve_order) == [4, 2, 6]
    assert await paco.gather([double(2), double]) == [4, 2]
    assert await paco.gather(double(n) for n in range(3)) == [0, 2, 4]
    assert await paco.gather() == []
    assert await paco.gather([]) == []
    assert [result async for result in paco.gather(double(2), double)] == [4, 2]


async def test_gather_keeps_the_limit():
    probe = Probe(lambda item: item, takes=10)
    await paco.gather(*(probe(n) for n in range(10)), limit=3)
    assert probe.peak == 3
    assert now() == 40


async def test_a_coroutine_that_was_never_started_is_closed():
    with pytest.raises(ValueError, match="0"):
        await paco.gather(fail(0), double(1), double(2), limit=1)
    with pytest.raises(TimeoutError):
        await paco.gather(fail(100), double(1), limit=1, timeout=5)
    with pytest.raises(TimeoutError):
        await paco.gather(double(1), timeout=0)


async def test_gather_returns_exceptions_as_results_on_request():
    results = await paco.gather(double(1), fail(1), fail(2, KeyError), return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, KeyError]


async def test_the_first_error_of_gather_cancels_the_others():
    probe = Probe(lambda item: item, takes=100, cleanup=3)
    with pytest.raises(ValueError, match="1"):
        await paco.gather(probe(1), fail(1), probe(2))
    assert sorted(probe.cancelled) == [1, 2]
    assert now() == 4


async def test_a_function_in_a_group_that_is_not_async_is_named():
    def plain():
        return 5

    with pytest.raises(TypeError, match="plain must be a coroutine function"):
        await paco.gather(plain)


async def test_series_runs_one_after_the_other_and_stops_at_an_error():
    probe = Probe(lambda item: item, takes=10)
    assert await paco.series(probe(1), probe(2), probe(3)) == [1, 2, 3]
    assert probe.peak == 1
    with pytest.raises(ValueError, match="1"):
        await paco.series(probe(4), fail(1), probe(5))
    assert probe.started == [1, 2, 3, 4]
    results = await paco.series(fail(1), probe(6), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, int]
    with pytest.raises(ValueError, match=r"paco\.series: give at least one"):
        paco.series()
    with pytest.raises(TimeoutError):
        await paco.series(probe(1), probe(2), timeout=15)


# ---- race


async def test_the_first_to_complete_wins_and_the_losers_have_finished():
    probe = Probe(lambda item: item, takes=lambda item: item, cleanup=3)
    assert await paco.race([probe(5), probe(1), probe(9)]) == 1
    assert sorted(probe.cancelled) == [5, 9]
    assert now() == 4


async def test_an_exception_can_win_a_race_and_errors_of_losers_are_its_notes():
    async def loser():
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("cleanup")

    with pytest.raises(ValueError, match="1") as caught:
        await paco.race([fail(1), loser, fail(2)])
    assert "1 more failed while stopping: item 1: KeyError('cleanup')" in caught.value.__notes__[1]


async def test_race_calls_functions_with_its_arguments():
    async def runner(*args, **kw):
        return args, kw

    assert await paco.race([runner], None, None, 1, 2, key=3) == ((1, 2), {"key": 3})


async def test_a_race_can_time_out_and_needs_runners():
    with pytest.raises(TimeoutError, match="race"):
        await paco.race([fail(9), fail(8)], timeout=1)
    with pytest.raises(ValueError, match=r"paco\.race: give at least one"):
        paco.race([])


async def test_the_runners_of_a_race_may_come_from_an_async_iterable():
    probe = Probe(lambda item: item, takes=lambda item: item)
    assert await paco.race(AsyncSource([lambda: probe(3), lambda: probe(2)])) == 2
    with pytest.raises(ValueError, match=r"paco\.race: give at least one"):
        await paco.race(AsyncSource([]))


# ---- wait


async def test_wait_returns_done_and_pending_like_asyncio():
    done, pending = await paco.wait(double(1), double, asyncio.ensure_future(double(3)), limit=2)
    assert sorted(future.result() for future in done) == [2, 2, 6]
    assert pending == set()
    done, _ = await paco.wait([double(1), double(2)])
    assert sorted(future.result() for future in done) == [2, 4]


async def test_wait_returns_the_futures_it_was_given():
    task = asyncio.ensure_future(double(3))
    done, _ = await paco.wait(task, task)
    assert done == {task}


async def test_after_a_timeout_of_wait_pending_items_continue_under_the_limit():
    probe = Probe(lambda item: item, takes=10)
    done, pending = await paco.wait(*(probe(n) for n in range(4)), limit=2, timeout=15)
    assert now() == 15
    assert sorted(future.result() for future in done) == [0, 1]
    assert len(pending) == 2
    done, pending = await asyncio.wait(pending)
    assert now() == 20
    assert sorted(future.result() for future in done) == [2, 3]
    assert probe.peak == 2


async def test_an_error_of_a_pending_future_does_not_affect_the_others():
    probe = Probe(lambda item: item, takes=lambda item: item)
    _, pending = await paco.wait(fail(2), probe(3), timeout=1)
    await asyncio.sleep(5)
    assert probe.finished == [3]
    assert sorted(type(future.exception()).__name__ for future in pending) == ["NoneType", "ValueError"]


async def test_futures_that_are_cancelled_before_their_turn_are_not_run():
    probe = Probe(lambda item: item, takes=10)
    given = asyncio.get_running_loop().create_future()
    _, pending = await paco.wait(probe(0), probe(1), given, limit=1, timeout=1)
    for future in pending:
        future.cancel()
    await asyncio.sleep(1)
    assert probe.started == [0]
    assert probe.running == 0
    done, _ = await paco.wait(given, return_when="ALL_COMPLETED")
    assert done == {given}


async def test_cancelling_a_pending_future_cancels_its_coroutine_and_no_other():
    probe = Probe(lambda item: item, takes=10)
    _, pending = await paco.wait(probe(0), probe(1), probe(2), limit=2, timeout=1)
    later = [future for future in pending if not future.done()]
    assert len(later) == 3
    first = later[0]
    first.cancel()
    await asyncio.wait(pending)
    assert len(probe.finished) == 2
    assert now() in {10, 11}


async def test_return_when_works_as_in_asyncio():
    probe = Probe(lambda item: item, takes=lambda item: item)
    done, pending = await paco.wait(probe(1), probe(5), fail(3), return_when="FIRST_COMPLETED")
    assert (now(), len(done), len(pending)) == (1, 1, 2)
    done, pending = await paco.wait(*pending, return_when="FIRST_EXCEPTION")
    assert (now(), len(done), len(pending)) == (3, 1, 1)
    done, pending = await paco.wait(*pending, return_when="ALL_COMPLETED")
    assert (now(), len(done), len(pending)) == (5, 1, 0)
    with pytest.raises(ValueError, match=r"paco\.wait: return_when must be one of"):
        paco.wait(probe(1), return_when="SOME")


async def test_futures_that_complete_in_the_same_step_are_done():
    done, pending = await paco.wait(double(1), double(2), fail(1), return_when="FIRST_COMPLETED")
    assert (len(done), len(pending)) == (2, 1)
    done, pending = await paco.wait(*pending, fail(1), return_when="FIRST_EXCEPTION")
    assert {type(future.exception()) for future in done} == {ValueError}


async def test_coroutine_objects_are_closed_when_the_iterable_that_makes_them_fails():
    def broken():
        yield double(1)
        raise ZeroDivisionError

    for call in paco.gather, paco.series, paco.race, paco.wait, lambda many: paco.ConcurrentExecutor(coros=many):
        with pytest.raises(ZeroDivisionError):
            call(broken())


async def test_by_default_wait_cancels_the_rest_and_raises_the_first_error():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    with pytest.raises(ValueError, match="1"):
        await paco.wait(probe(1), fail(1), probe(2))
    assert sorted(probe.cancelled) == [1, 2]
    assert now() == 6


async def test_with_return_when_an_exception_stays_in_its_future_or_becomes_its_result():
    done, _ = await paco.wait(fail(1), return_when="ALL_COMPLETED")
    assert [type(future.exception()) for future in done] == [ValueError]
    done, _ = await paco.wait(fail(1), return_exceptions=True)
    assert [type(future.result()) for future in done] == [ValueError]


async def test_a_cancelled_wait_leaves_nothing_running():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    waiting = asyncio.ensure_future(paco.wait(probe(1), probe(2), double(3), limit=1))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert probe.cancelled == [1]
    with pytest.raises(ValueError, match=r"paco\.wait: give at least one"):
        paco.wait()


async def test_a_cancelled_wait_reports_the_errors_of_futures_that_no_caller_receives(caplog):
    async def fail_in_cleanup():
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("cleanup")

    given = asyncio.get_running_loop().create_future()
    given.set_exception(OSError("given"))
    calls = [double(1), lambda: fail(1), fail_in_cleanup(), given, asyncio.sleep(100)]
    waiting = asyncio.ensure_future(paco.wait(calls, return_when="ALL_COMPLETED"))
    await asyncio.sleep(2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    told = "item 1: ValueError(1); item 2: KeyError('cleanup'); item 3: OSError('given')"
    assert caught.value.__notes__ == [f"paco.wait: 3 more failed while stopping: {told}"]
    del calls, waiting, caught, given
    gc.collect()
    assert "exception was never retrieved" not in caplog.text


async def test_a_cancelled_wait_that_raises_the_first_error_reports_each_error_once():
    async def fail_in_cleanup():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            raise KeyError("cleanup")

    waiting = asyncio.ensure_future(paco.wait(fail(1), fail_in_cleanup()))
    await asyncio.sleep(1.5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert caught.value.__notes__ == [
        "paco.wait: cancelled while failing with ValueError(1)",
        "paco.wait: 1 more failed while stopping: item 1: KeyError('cleanup')",
    ]


async def test_an_item_of_wait_that_ends_cancelled_by_itself_cancels_its_future():
    async def cancel():
        raise asyncio.CancelledError

    with pytest.raises(paco.ItemCancelled):
        await paco.wait(cancel())
    done, _ = await paco.wait(double(1), cancel(), return_when="ALL_COMPLETED")
    assert sorted(future.cancelled() for future in done) == [False, True]


async def test_a_future_that_failed_before_its_turn_is_an_error_too():
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("before"))
    with pytest.raises(ValueError, match="before"):
        await paco.wait(future)


async def test_a_cancelled_future_counts_as_done_for_wait():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.cancel)
    done, pending = await paco.wait(future, return_when="ALL_COMPLETED")
    assert (done, pending) == ({future}, set())


async def test_a_future_that_is_cancelled_is_done_when_its_coroutine_has_ended():
    probe = Probe(lambda item: item, takes=10, cleanup=5)
    _, pending = await paco.wait(probe(0), timeout=1)
    (future,) = pending
    assert future.cancel()
    assert not future.done()
    await asyncio.sleep(1)
    assert future.cancel()  # which does not cut its cleanup short
    done, pending = await paco.wait(future, asyncio.sleep(100), return_when="FIRST_COMPLETED")
    assert done == {future}
    assert future.cancelled()
    assert probe.running == 0
    assert probe.cancelled == [0]
    assert now() == 6
    (other,) = pending
    other.cancel()
    await asyncio.wait(pending)


async def test_a_cancelled_coroutine_that_still_raises_or_returns_has_that_outcome():
    async def cleans_up(end):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            return end()

    probe = Probe(lambda item: item, takes=10)
    _, pending = await paco.wait(cleans_up(lambda: 1 / 0), cleans_up(lambda: 5), timeout=1)
    later = asyncio.ensure_future(paco.wait(*pending, return_when="ALL_COMPLETED"))
    for future in pending:
        future.cancel()
    done, _ = await later
    assert {repr(future.exception() or future.result()) for future in done} == {
        "5",
        "ZeroDivisionError('division by zero')",
    }
    assert await paco.map(probe, [1]) == [1]


async def test_a_cancelled_waiter_of_a_pending_future_waits_for_its_cleanup():
    probe = Probe(lambda item: item, takes=10, cleanup=5)
    _, pending = await paco.wait(probe(0), timeout=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await pending.pop()
    assert probe.cancelled == [0]
    assert now() == 7


async def test_wait_accepts_unhashable_awaitables_and_drops_duplicates():
    class Call:
        __hash__ = None
        count = 0

        async def __call__(self):
            self.count += 1

    call, other = Call(), double(1)
    done, pending = await paco.wait(call, other, call)
    assert (len(done), len(pending), call.count) == (2, 0, 1)


def left_to_wait(probe):
    return paco.wait(*(probe(n) for n in range(9)), limit=4, return_when="FIRST_COMPLETED")


async def left_to_an_executor(probe):
    executor = paco.ConcurrentExecutor(limit=4, coros=[probe(n) for n in range(9)])
    return await executor.run(return_when="FIRST_COMPLETED")


async def left_growing(probe):
    return await paco.wait(double(1), *(probe(n) for n in range(1, 50)), return_when="FIRST_COMPLETED")


@pytest.fixture
def _only_new_garbage():
    """Leave to others what other tests have left, which is much, and may have something to say."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_only_new_garbage")
@pytest.mark.parametrize("leave", [left_to_wait, left_to_an_executor, left_growing])
@pytest.mark.parametrize("steps", range(4))
def test_futures_still_pending_when_asyncio_ends_are_cancelled_once_and_silently(leave, steps, caplog):
    kept = []
    probe = Probe(lambda item: item, takes=lambda item: 0.001 if item == 0 else 100, cleanup=0.001)

    async def main():
        _, pending = await leave(probe)
        kept.extend(pending)
        for _ in range(steps):
            await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert caplog.text == ""
    assert all(future.cancelled() for future in kept)
    assert len(kept) in {8, 49}
    assert probe.running == 0
    assert sorted(probe.cancelled + probe.finished) == sorted(probe.started)


def test_a_long_cleanup_is_not_cancelled_again_when_asyncio_ends():
    ended = []

    async def work(steps):
        try:
            await asyncio.sleep(100)
        finally:
            for _ in range(steps):
                await asyncio.sleep(0)
            ended.append(steps)

    async def main():
        await paco.wait(work(9), work(0), work(5), double(1), return_when="FIRST_COMPLETED")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended == [0, 5, 9]


@pytest.mark.parametrize("call", [paco.wait, lambda coro: paco.ConcurrentExecutor(coros=[coro]).run()])
async def test_a_call_closed_by_hand_cancels_what_it_has_started(call):
    probe = Probe(lambda item: item, takes=100)
    coro = call(probe(1))
    coro.send(None)
    await asyncio.sleep(1)
    coro.close()
    await asyncio.sleep(1)
    assert probe.cancelled == [1]


async def test_an_item_that_cancels_itself_and_fails_in_its_cleanup_can_be_the_first_error():
    failing = asyncio.Event()

    async def cancel_and_fail():
        await asyncio.sleep(1)
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(10)
        finally:
            failing.set()
            raise ValueError("first")

    async def cancelled():
        await failing.wait()
        raise asyncio.CancelledError

    with pytest.raises(ValueError, match="first"):
        await paco.wait(cancel_and_fail, cancelled)


@pytest.mark.parametrize("by_an_executor", [False, True])
async def test_an_item_that_cancels_its_own_task_fails_alone_and_the_others_run(by_an_executor):
    async def cancel():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async def succeed():
        await asyncio.sleep(1)
        return "result"

    if by_an_executor:
        executor = paco.ConcurrentExecutor(1, coros=[cancel, succeed])
        done, pending = await executor.run(return_exceptions=True)
        assert [type(error) for error in executor.errors] == [paco.ItemCancelled]
    else:
        done, pending = await paco.wait(cancel, succeed, limit=1, return_exceptions=True)
    assert not pending
    assert {type(future.result()) for future in done} == {str, paco.ItemCancelled}


# ---- the executor


async def test_an_executor_runs_added_coroutines_under_its_limit():
    probe = Probe(lambda item: item, takes=10)
    executor = paco.ConcurrentExecutor(limit=3)
    futures = [executor.add(probe, n) for n in range(5)]
    futures.append(executor.submit(probe(5)))
    executor.extend(probe(6), probe(7))
    assert len(executor) == len(executor.pool) == 8
    done, pending = await executor.run()
    assert {future.result() for future in futures} < {future.result() for future in done} == set(range(8))
    assert pending == set()
    assert probe.peak == 3
    assert len(executor) == 0


def test_an_executor_can_be_filled_before_any_loop_runs():
    executor = paco.concurrent(10, coros=[double])
    future = executor.add(double, 2)
    done, pending = paco.run(executor.run())
    assert sorted(future.result() for future in done) == [2, 4]
    assert future.result() == 4
    assert pending == set()

    async def main():
        later = [executor.add(double, 5)]
        await executor.wait()
        return await later[0]

    assert paco.run(main()) == 10


def test_a_future_made_before_any_loop_runs_can_be_awaited_in_it():
    executor = paco.concurrent()
    future = executor.add(double, 21)

    async def main():
        running = asyncio.ensure_future(executor.run())
        assert await future == 42
        await running

    paco.run(main())
    cancelled = executor.add(double, 1)
    cancelled.cancel()

    async def again():
        done, _ = await executor.run()
        assert done == {cancelled}

    paco.run(again())


def test_an_unretrieved_exception_is_logged_whenever_its_future_was_made(caplog):
    executor = paco.concurrent(coros=[lambda: fail(0)])
    paco.run(executor.run())
    executor.reset()
    gc.collect()
    assert "exception was never retrieved" in caplog.text


async def test_sync_and_async_listeners_receive_all_events():
    heard = []
    executor = paco.ConcurrentExecutor(limit=1)

    async def on_error(task, error):
        heard.append(("task.error", type(error)))

    executor.on("start", lambda who: heard.append(("start", who is executor)))
    executor.on("finish", lambda who: heard.append(("finish", who is executor)))
    executor.on("task.start", lambda task: heard.append("task.start"))
    executor.on("task.finish", lambda task, result: heard.append(("task.finish", result)))
    executor.on("task.error", on_error)
    executor.add(double, 2)
    executor.add(fail, 1)
    done, _ = await executor.run()
    assert heard == [
        ("start", True),
        "task.start",
        ("task.finish", 4),
        "task.start",
        ("task.error", ValueError),
        ("finish", True),
    ]
    assert [type(error) for error in executor.errors] == [ValueError]
    assert len(done) == 2
    executor.off("start")
    executor.off("start")
    executor.add(double)
    heard.clear()
    await executor.run()
    assert ("start", True) not in heard
    executor.reset()
    executor.add(double)
    heard.clear()
    await executor.run()
    assert heard == []
    for call in (lambda: executor.on("nothing", print)), (lambda: executor.off("nothing")):
        with pytest.raises(ValueError, match="event must be one of start, finish"):
            call()
    with pytest.raises(TypeError, match="fn must be a function"):
        executor.on("start", None)


async def test_a_listener_that_raises_ends_the_run_with_its_error():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor = paco.ConcurrentExecutor()
    executor.add(probe, 1)
    executor.add(double)
    executor.on("task.finish", lambda task, result: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await executor.run()
    assert probe.cancelled == [1]
    assert not executor.is_running()
    executor.reset()
    executor.add(double)
    executor.on("start", lambda who: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await executor.run()


async def test_exceptions_stay_in_the_futures_or_are_results():
    executor = paco.ConcurrentExecutor()
    future = executor.add(fail, 1)
    await executor.run()
    with pytest.raises(ValueError, match="1"):
        future.result()
    future = executor.add(fail, 1)
    await executor.run(return_exceptions=True)
    assert isinstance(future.result(), ValueError)


async def test_a_timeout_of_the_executor_raises_after_everything_has_finished():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor = paco.ConcurrentExecutor(limit=1)
    running, waiting = executor.add(probe, 1), executor.add(probe(2))
    with pytest.raises(TimeoutError, match="ConcurrentExecutor"):
        await executor.run(timeout=10)
    assert now() == 15
    assert running.cancelled()
    assert waiting.cancelled()
    assert not executor.is_running()


async def test_an_executor_that_is_empty_or_running_refuses_to_run():
    executor = paco.ConcurrentExecutor()
    with pytest.raises(ValueError, match="nothing to run"):
        executor.run()
    assert await executor.run(ignore_empty=True) == (set(), set())
    assert await paco.ConcurrentExecutor(ignore_empty=True).run() == (set(), set())
    executor.add(double)
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(0)
    assert executor.is_running()
    with pytest.raises(RuntimeError, match="is running"):
        executor.run()
    with pytest.raises(RuntimeError, match="is running"):
        executor.reset()
    await running
    assert not executor.is_running()


async def test_an_executor_can_return_at_the_first_completion_and_continue():
    probe = Probe(lambda item: item, takes=lambda item: item)
    executor = paco.ConcurrentExecutor()
    for seconds in 1, 5:
        executor.add(probe, seconds)
    done, pending = await executor.run(return_when="FIRST_COMPLETED")
    assert (len(done), len(pending)) == (1, 1)
    assert executor.is_running()
    await asyncio.wait(pending)
    await asyncio.sleep(0.1)
    assert not executor.is_running()


async def test_cancel_ends_running_and_waiting_coroutines():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor = paco.ConcurrentExecutor(limit=1)
    first, second = executor.add(probe, 1), executor.add(probe(2))
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    third = executor.add(probe(3))
    executor.cancel()
    done, pending = await running
    assert done == {first, second, third}
    assert pending == set()
    assert first.cancelled()
    assert second.cancelled()
    assert third.cancelled()
    executor.cancel()


async def test_a_cancelled_future_is_not_run_and_has_no_events():
    heard = []
    executor = paco.ConcurrentExecutor(limit=1)
    executor.on("task.start", heard.append)
    executor.on("task.finish", lambda *args: heard.append(args))
    probe = Probe(lambda item: item, takes=100)
    running, waiting = executor.add(probe, 1), executor.add(probe(2))
    run = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    waiting.cancel()
    running.cancel()
    done, _ = await run
    assert done == {running, waiting}
    assert probe.started == [1]
    assert len(heard) == 1
    assert repr(heard[0]).startswith("<paco job <")


async def test_leaving_the_block_runs_added_coroutines_and_an_error_in_the_block_cancels_them():
    probe = Probe(lambda item: item, takes=10)
    async with paco.ConcurrentExecutor() as executor:
        future = executor.add(probe, 1)
    assert future.result() == 1
    with pytest.raises(KeyError):
        async with paco.ConcurrentExecutor() as executor:
            unstarted = executor.add(probe(2))
            raise KeyError
    assert unstarted.cancelled()
    with pytest.raises(KeyError):
        async with paco.ConcurrentExecutor() as executor:
            started = executor.add(probe(3))
            running = asyncio.ensure_future(executor.run())
            await asyncio.sleep(1)
            raise KeyError
    assert started.cancelled()
    await running


async def test_an_invalid_coroutine_is_refused_when_it_is_added():
    executor = paco.ConcurrentExecutor()
    with pytest.raises(TypeError, match="coro must be a coroutine object or function"):
        executor.add(5)
    with pytest.raises(TypeError, match="takes no arguments"):
        executor.add(double(1), 2)
    with pytest.raises(TypeError, match="must be coroutine objects"):
        executor.extend(double(1), 5)
    assert len(executor) == 0
    executor.extend()
    assert len(executor) == 0


# ---- the executor: cancelling


@pytest.mark.parametrize("event", ["start", "task.start"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_listener_that_cancels_before_a_coroutine_has_started_keeps_it_from_starting(event, kind):
    probe = Probe(lambda item: item, takes=100)
    executor = paco.ConcurrentExecutor(limit=2)
    futures = {executor.add(probe, 1), executor.add(probe(2)), executor.add(probe(3))}

    async def cancel(_):
        executor.cancel()

    async def insist(_):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            await asyncio.sleep(1)

    executor.on(event, cancel if kind == "async" else lambda _: executor.cancel())
    executor.on(event, insist)
    assert await executor.run() == (futures, set())
    assert all(future.cancelled() for future in futures)
    assert probe.started == []


async def test_a_coroutine_that_cancels_everything_is_cancelled_once_at_its_next_await():
    heard = []
    probe = Probe(lambda item: item, takes=100)

    async def cancels():
        executor.cancel()
        heard.append("goes on")
        try:
            await asyncio.sleep(100)
        finally:
            executor.cancel()
            await asyncio.sleep(3)
            heard.append("cleaned up")

    executor = paco.ConcurrentExecutor(coros=[cancels, probe(1)])
    executor.on("task.finish", lambda *args: heard.append("task.finish"))
    done, pending = await executor.run()
    assert [future.cancelled() for future in done] == [True, True]
    assert pending == set()
    assert heard == ["goes on", "cleaned up"]
    assert now() == 3


@pytest.mark.parametrize("what", ["executor", "future", "task"])
async def test_a_coroutine_that_awaits_nothing_after_it_has_cancelled_itself_has_its_result(what):
    heard = []
    executor = paco.ConcurrentExecutor(limit=1)

    async def cancels(end):
        {"executor": executor, "future": futures[0], "task": asyncio.current_task()}[what].cancel()
        return end()

    async def listener(task, outcome):
        await asyncio.sleep(1)
        heard.append(outcome)

    executor.on("task.finish", listener)
    executor.on("task.error", listener)
    futures = [executor.add(cancels, lambda: 5)]
    await executor.run()
    assert futures[0].result() == 5
    futures = [executor.add(cancels, lambda: 1 / 0), executor.add(double, 1)]
    await executor.run()
    assert isinstance(futures[0].exception(), ZeroDivisionError)
    assert heard == [5, *executor.errors, *([] if what == "executor" else [2])]
    assert len(executor.errors) == 1


async def test_a_future_that_is_cancelled_before_its_run_is_cancelled_has_its_coroutine_closed():
    probe = Probe(lambda item: item, takes=100)
    executor = paco.ConcurrentExecutor(limit=1, coros=[probe(1)])
    future = executor.add(probe(2))
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    future.cancel()
    executor.cancel()
    await running
    assert probe.started == [1]


async def test_cancel_in_a_finish_listener_ends_what_is_pending():
    probe = Probe(lambda item: item, takes=lambda item: item, cleanup=5)
    executor = paco.ConcurrentExecutor(coros=[probe(1), probe(100)])
    executor.on("finish", lambda _: executor.cancel())
    done, pending = await executor.run(return_when="FIRST_COMPLETED")
    assert sorted(future.cancelled() for future in done) == [False, True]
    assert pending == set()
    assert probe.cancelled == [100]
    assert now() == 6


@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
async def test_a_run_that_is_cancelled_returns_when_everything_has_ended_and_does_not_time_out(return_when):
    short, long = (Probe(lambda item: item, takes=100, cleanup=seconds) for seconds in (5, 10))
    executor = paco.ConcurrentExecutor(coros=[short(1), long(2)])
    asyncio.get_running_loop().call_later(9, executor.cancel)
    done, pending = await executor.run(timeout=10, return_when=return_when)
    assert (short.cancelled, long.cancelled) == ([1], [2])
    assert (len(done), pending) == (2, set())
    assert now() == 19


@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
async def test_a_run_that_times_out_raises_when_everything_has_ended_whatever_it_waits_for(return_when):
    short, long = (Probe(lambda item: item, takes=100, cleanup=seconds) for seconds in (5, 10))
    executor = paco.ConcurrentExecutor(coros=[short(1), long(2)])
    executor.on("finish", lambda _: 1 / 0)
    with pytest.raises(TimeoutError):
        await executor.run(timeout=3, return_when=return_when)
    assert (short.cancelled, long.cancelled) == ([1], [2])
    assert now() == 13


async def test_a_cancellation_wins_over_the_error_that_is_ending_a_run():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor = paco.ConcurrentExecutor(coros=[probe(1), double(2)])
    executor.on("task.finish", lambda task, result: 1 / 0)
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert "while failing with ZeroDivisionError" in caught.value.__notes__[0]
    assert probe.cancelled == [1]
    assert now() == 5


@pytest.mark.parametrize("catch", [False, True])
async def test_an_error_that_is_kept_is_part_of_no_cycle(catch):
    async def of_executor():
        executor = paco.ConcurrentExecutor()
        executor.on("task.error", lambda task, error: None)
        future = weakref.ref(executor.add(fail, 1))
        await executor.run(return_exceptions=catch)
        return future

    async def of_wait():
        done, _ = await paco.wait(fail(1), return_exceptions=catch, return_when="ALL_COMPLETED")
        (future,) = done
        future.exception()
        return weakref.ref(future)

    gc.collect()
    gc.disable()
    try:
        for kind in of_executor, of_wait:
            future = await kind()
            assert future() is None, kind
    finally:
        gc.enable()


async def test_the_timeout_ends_when_a_run_has_returned():
    probe = Probe(lambda item: item, takes=lambda item: item)
    executor = paco.ConcurrentExecutor(coros=[probe(1), probe(9)])
    _, pending = await executor.run(timeout=2, return_when="FIRST_COMPLETED")
    assert await pending.pop() == 9


async def test_a_cancelled_future_counts_as_completed_when_its_coroutine_has_ended():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor = paco.ConcurrentExecutor(limit=2)
    futures = [executor.add(probe, n) for n in range(4)]
    running = asyncio.ensure_future(executor.run(return_when="FIRST_COMPLETED"))
    await asyncio.sleep(1)
    futures[0].cancel()
    done, pending = await running
    assert now() == 6
    assert probe.cancelled == [0]
    assert (done, pending) == ({futures[0]}, {*futures[1:]})
    futures[3].cancel()
    assert futures[3].cancelled()  # at once: it has not started
    async with executor:
        executor.cancel()
    assert sorted(probe.cancelled) == [0, 1, 2]


async def test_an_error_in_the_cleanup_of_a_cancelled_coroutine_is_reported():
    async def cleans_up():
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("cleanup")

    heard = []
    executor = paco.ConcurrentExecutor()
    executor.on("task.error", lambda task, error: heard.append(error))
    future = executor.add(cleans_up)
    asyncio.get_running_loop().call_later(1, future.cancel)
    await executor.run()
    assert heard == executor.errors == [future.exception()]
    assert str(heard[0]) == "'cleanup'"


# ---- the executor: who waits for what


async def test_of_two_runs_created_before_either_starts_the_second_is_refused_at_its_start():
    executor = paco.ConcurrentExecutor(coros=[double(1)])
    runs = [executor.run() for _ in range(3)]
    first, second = map(asyncio.ensure_future, runs[:2])
    with pytest.raises(RuntimeError, match=r"paco\.ConcurrentExecutor: the executor is running"):
        await second
    done, _ = await first
    assert [future.result() for future in done] == [2]
    with pytest.raises(RuntimeError, match=r"another run has taken the coroutines since this call; call run\(\) again"):
        await runs[2]


async def test_a_run_that_is_cancelled_before_it_starts_has_nothing_to_do():
    executor = paco.ConcurrentExecutor(coros=[double(1)])
    run = executor.run()
    executor.cancel()
    assert await run == (set(), set())


async def test_an_error_of_a_start_listener_closes_the_waiting_coroutines():
    executor = paco.ConcurrentExecutor(coros=[double(1)])
    executor.on("start", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await executor.run()
    assert (len(executor), executor.is_running()) == (0, False)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_if_a_finish_listener_fails_run_raises_after_all_pending_coroutines_have_ended(cancelled):
    async def listener(_):
        if not cancelled:
            raise ZeroDivisionError
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    probe = Probe(lambda item: item, takes=lambda item: item, cleanup=5)
    executor = paco.ConcurrentExecutor(coros=[probe(1), probe(100)])
    executor.on("finish", listener)
    run = asyncio.ensure_future(executor.run(return_when="FIRST_COMPLETED"))
    with pytest.raises(asyncio.CancelledError if cancelled else ZeroDivisionError):
        await run
    assert probe.cancelled == [100]
    assert not executor.is_running()
    assert now() == 6


async def test_a_future_that_is_done_when_added_has_its_event_too():
    loop = asyncio.get_running_loop()
    failed, answered, cancelled = (loop.create_future() for _ in range(3))
    failed.set_exception(error := ValueError("before"))
    answered.set_result(5)
    cancelled.cancel()
    heard = []
    executor = paco.ConcurrentExecutor(coros=[failed, answered, cancelled])
    executor.on("task.error", lambda task, error: heard.append(error))
    executor.on("task.finish", lambda task, result: heard.append(result))
    done, _ = await executor.run()
    assert done == {failed, answered, cancelled}
    assert executor.errors == [error]
    assert heard == [error, 5]


async def test_a_coroutine_that_is_added_while_others_are_pending_joins_them_and_leaving_the_block_waits():
    probe = Probe(lambda item: item, takes=lambda item: item)
    async with paco.ConcurrentExecutor() as executor:
        executor.extend(probe(1), probe(10))
        _, pending = await executor.run(return_when="FIRST_COMPLETED")
        future = executor.add(probe, 5)
    assert (future.result(), pending.pop().result()) == (5, 10)
    assert now() == 10


async def slowly(_):
    await asyncio.sleep(3)


@pytest.mark.parametrize(("seconds", "ended"), [(1, 10), (5, 12), (9, 20)], ids=["start", "joins", "finish"])
async def test_leaving_the_block_waits_for_the_run_of_another_task_with_its_listeners(seconds, ended):
    probe = Probe(lambda item: item, takes=4)
    async with paco.ConcurrentExecutor(coros=[probe(1)]) as executor:
        executor.on("start", slowly)
        executor.on("finish", slowly)
        running = asyncio.ensure_future(executor.run())
        await asyncio.sleep(seconds)
        executor.add(probe, 2)
    assert running.done()
    assert probe.finished == [1, 2]
    assert now() == ended


async def test_leaving_the_block_runs_added_coroutines_if_the_run_of_another_task_failed_to_start():
    async def fails(_):
        await asyncio.sleep(3)
        executor.off("start")
        raise ZeroDivisionError

    async with paco.ConcurrentExecutor(coros=[double(1)]) as executor:
        executor.on("start", fails)
        running = asyncio.ensure_future(executor.run())
        await asyncio.sleep(1)
        future = executor.add(double, 2)
    assert future.result() == 4
    assert isinstance(running.exception(), ZeroDivisionError)


async def test_a_cancellation_while_leaving_the_block_cancels_everything_once_and_waits_for_it():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor = paco.ConcurrentExecutor(limit=1)

    async def block():
        async with executor:
            executor.add(probe, 1)
            other.append(asyncio.ensure_future(executor.run()))
            await asyncio.sleep(1)
            futures.append(executor.add(probe(2)))

    other, futures = [], []
    leaving = asyncio.ensure_future(block())
    for _ in range(2):
        await asyncio.sleep(2)
        leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert (probe.started, probe.cancelled) == ([1], [1])
    assert futures[0].cancelled()
    assert now() == 7
    await other[0]


async def test_an_error_while_leaving_the_block_closes_coroutines_added_meanwhile():
    executor = paco.ConcurrentExecutor()
    futures = []

    async def adds():
        futures.append(executor.add(double(1)))
        try:
            await asyncio.sleep(100)
        finally:
            futures.append(executor.add(double(2)))

    executor.on("task.finish", lambda task, result: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        async with executor:
            executor.extend(adds, double(3))
    assert [future.cancelled() for future in futures] == [True, True]
    assert not executor.is_running()


# ---- the same awaitable twice


@pytest.mark.parametrize("function", [paco.gather, paco.series])
async def test_an_awaitable_that_is_passed_twice_runs_once_and_its_result_is_in_each_place(function):
    calls = []

    async def double(number):
        calls.append(number)
        await asyncio.sleep(1)
        return 2 * number

    one, stream = double(1), paco.map(double, [5])
    future = asyncio.get_running_loop().create_future()
    future.set_result("set")
    found = await function(one, double(2), one, stream, future, stream, future, one)
    assert found == [2, 4, 2, [10], "set", [10], "set", 2]
    assert sorted(calls) == [1, 2, 5]


async def test_an_error_of_an_awaitable_that_is_passed_twice_is_in_each_place():
    async def fails():
        await asyncio.sleep(1)
        raise ValueError

    async def ends_cancelled():
        await asyncio.sleep(1)
        raise asyncio.CancelledError

    one, other = fails(), ends_cancelled()
    first, *others = await paco.gather(one, one, other, other, return_exceptions=True)
    assert others[0] is first
    assert [type(error) for error in others] == [ValueError, paco.ItemCancelled, paco.ItemCancelled]
    one = fails()
    with pytest.raises(ValueError, match=r"paco\.series: item 0"):
        await paco.series(one, one)
    with pytest.raises(TypeError):
        paco.gather(one := fails(), one, timeout="soon")


async def test_a_coroutine_object_that_takes_part_twice_in_a_race_or_an_executor_runs_once():
    async def double(number):
        await asyncio.sleep(1)
        return 2 * number

    one = double(1)
    assert await paco.race([one, one]) == 2
    one = double(2)
    executor = paco.ConcurrentExecutor(coros=[one, one])
    assert len(executor) == 1
    future = executor.add(one)
    assert executor.add(one) is future
    assert executor.add(double, 3) is not executor.add(double, 3)
    await executor.run()
    assert future.result() == 4
    one = double(5)
    executor.add(one).cancel()
    executor.cancel()
    assert not executor._added


async def test_errors_that_were_read_from_the_executor_are_not_reported():
    async def fails(number):
        raise KeyError(number)

    executor = paco.ConcurrentExecutor(limit=2)
    for number in range(3):
        executor.add(fails, number)
    await executor.run()
    assert [error.args for error in executor.errors] == [(0,), (1,), (2,)]
    del executor
    gc.collect()  # an error that is reported fails the test
