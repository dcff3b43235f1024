"""Groups of coroutines: gather series race wait, and the executor."""

from __future__ import annotations

import asyncio
import gc

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


async def test_gather_takes_objects_functions_and_futures_in_any_order_and_keeps_it():
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


async def test_gather_gives_exceptions_as_results_when_asked():
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


async def test_a_race_is_decided_by_an_exception_as_well_and_errors_of_losers_are_its_notes():
    async def loser():
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("cleanup")

    with pytest.raises(ValueError, match="1") as caught:
        await paco.race([fail(1), loser, fail(2)])
    assert "1 more failed meanwhile: item 1: KeyError('cleanup')" in caught.value.__notes__[1]


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


async def test_wait_hands_back_the_futures_it_was_given():
    task = asyncio.ensure_future(double(3))
    done, _ = await paco.wait(task, task)
    assert done == {task}


async def test_on_timeout_wait_returns_and_what_is_pending_goes_on_under_the_limit():
    probe = Probe(lambda item: item, takes=10)
    done, pending = await paco.wait(*(probe(n) for n in range(4)), limit=2, timeout=15)
    assert now() == 15
    assert sorted(future.result() for future in done) == [0, 1]
    assert len(pending) == 2
    done, pending = await asyncio.wait(pending)
    assert now() == 20
    assert sorted(future.result() for future in done) == [2, 3]
    assert probe.peak == 2


async def test_an_error_of_a_pending_future_is_its_own_and_leaves_the_others_alone():
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


async def test_return_when_is_that_of_asyncio():
    probe = Probe(lambda item: item, takes=lambda item: item)
    done, pending = await paco.wait(probe(1), probe(5), fail(3), return_when="FIRST_COMPLETED")
    assert (now(), len(done), len(pending)) == (1, 1, 2)
    done, pending = await paco.wait(*pending, return_when="FIRST_EXCEPTION")
    assert (now(), len(done), len(pending)) == (3, 1, 1)
    done, pending = await paco.wait(*pending, return_when="ALL_COMPLETED")
    assert (now(), len(done), len(pending)) == (5, 1, 0)
    with pytest.raises(ValueError, match=r"paco\.wait: return_when must be one of"):
        paco.wait(probe(1), return_when="SOME")


async def test_wait_raises_when_nothing_else_was_said_after_the_rest_was_cancelled():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    with pytest.raises(ValueError, match="1"):
        await paco.wait(probe(1), fail(1), probe(2))
    assert sorted(probe.cancelled) == [1, 2]
    assert now() == 6


async def test_with_return_when_an_exception_stays_in_its_future_and_with_return_exceptions_it_is_the_result():
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


async def test_an_item_of_wait_that_ends_cancelled_by_itself_cancels_its_future():
    async def cancel():
        raise asyncio.CancelledError

    with pytest.raises(paco.ItemCancelled):
        await paco.wait(cancel())
    done, _ = await paco.wait(double(1), cancel(), return_when="ALL_COMPLETED")
    assert sorted(future.cancelled() for future in done) == [False, True]


async def test_a_future_that_has_failed_before_its_turn_is_an_error_all_the_same():
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("before"))
    with pytest.raises(ValueError, match="before"):
        await paco.wait(future)


async def test_a_cancelled_future_that_is_waited_for_is_done():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.cancel)
    done, pending = await paco.wait(future, return_when="ALL_COMPLETED")
    assert (done, pending) == ({future}, set())


# ---- the executor


async def test_an_executor_runs_what_was_added_under_its_limit():
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


def test_an_exception_that_nobody_retrieves_is_logged_whenever_its_future_was_made(caplog):
    executor = paco.concurrent(coros=[lambda: fail(0)])
    paco.run(executor.run())
    executor.reset()
    gc.collect()
    assert "exception was never retrieved" in caplog.text


async def test_listeners_sync_and_async_hear_of_everything():
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


async def test_an_executor_can_return_when_the_first_is_done_and_goes_on():
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


async def test_cancel_ends_what_runs_and_what_waits():
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor = paco.ConcurrentExecutor(limit=1)
    first, second = executor.add(probe, 1), executor.add(probe(2))
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    third = executor.add(probe(3))
    executor.cancel()
    done, pending = await running
    assert done == {first, second}
    assert pending == set()
    assert first.cancelled()
    assert second.cancelled()
    assert third.cancelled()
    executor.cancel()


async def test_a_future_that_is_cancelled_is_not_run_and_is_not_told():
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


async def test_leaving_the_block_runs_what_was_added_and_an_error_in_it_cancels_it():
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


async def test_what_cannot_be_run_is_refused_when_it_is_added():
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
