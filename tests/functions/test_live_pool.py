"""The executor as a live pool: coroutines that join a run, the block, room, limits that change, pauses."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

import paco
from paco import events
from paco.testing import Probe, cancel_at_every_step, now


async def double(number=1):
    await asyncio.sleep(0)
    return 2 * number


async def fail(seconds=0):
    await asyncio.sleep(seconds)
    raise ValueError(seconds)


@pytest.fixture(params=[2, paco.Limit], ids=["a number", "a limit object"])
def two(request):
    """A limit of 2."""
    return request.param if isinstance(request.param, int) else request.param(2)


# ---- adding during a run


async def test_a_coroutine_that_is_added_during_a_run_takes_a_free_slot_and_is_in_its_result(two):
    probe = Probe(lambda item: item, takes=10)
    executor = paco.ConcurrentExecutor(two, coros=[probe(1)])
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(3)
    joined = [executor.add(probe, 2), executor.submit(probe(3))]
    executor.extend(probe(4))
    done, pending = await running
    assert (now(), probe.peak) == (23, 2)
    assert {future.result() for future in done} == {1, 2, 3, 4}
    assert done > {*joined}
    assert pending == set()


async def test_coroutines_add_coroutines_to_the_run_that_they_are_in(two):
    seen = []

    async def visit(number):
        await asyncio.sleep(1)
        seen.append(number)
        for child in (2 * number, 2 * number + 1):
            if child < 16:
                executor.add(visit, child)

    executor = paco.ConcurrentExecutor(two)
    executor.add(visit, 1)
    done, _ = await executor.run()
    assert sorted(seen) == list(range(1, 16))
    assert len(done) == 15
    assert now() == 8


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("count", [1, 2, 5])
async def test_none_is_lost_that_is_added_between_the_end_of_the_last_one_and_the_end_of_the_run(two, turns, count):
    executor = paco.ConcurrentExecutor(two)
    futures = [executor.add(double, 1)]
    running = asyncio.ensure_future(executor.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    futures += [executor.add(double, number) for number in range(count)]
    await running
    if executor.pool:
        await executor.run()
    assert [future.result() for future in futures] == [2, *(2 * number for number in range(count))]


async def test_a_coroutine_that_is_added_by_the_done_callback_of_the_last_one_joins(two):
    executor, later = paco.ConcurrentExecutor(two), []
    executor.add(double, 1).add_done_callback(lambda _: later.append(executor.add(double, 2)))
    done, _ = await executor.run()
    assert len(done) == 2
    assert later[0].result() == 4


async def test_a_listener_may_add_a_coroutine(two):
    executor, added = paco.ConcurrentExecutor(two, coros=[double(1)]), []

    def more(task, result):
        if len(added) < 3:
            added.append(executor.add(double, len(added)))

    executor.on("task.finish", more)
    done, _ = await executor.run()
    assert len(done) == 4
    assert [future.result() for future in added] == [0, 2, 4]


async def test_what_is_added_in_a_finish_listener_or_when_a_run_is_ending_is_for_the_next_run():
    executor = paco.ConcurrentExecutor(coros=[double(1)])

    def more(_):
        executor.off("finish")
        executor.add(double, 2)

    executor.on("finish", more)
    await executor.run()
    assert len(executor) == 1
    await executor.run()
    probe = Probe(lambda item: item, takes=100, cleanup=5)
    executor.add(probe, 1)
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    executor.cancel()
    future = executor.add(double, 3)
    await running
    assert not future.done()
    await executor.run()
    assert future.result() == 6


@pytest.mark.parametrize(("when", "ended"), [("FIRST_COMPLETED", 3), ("FIRST_EXCEPTION", 4), ("ALL_COMPLETED", 9)])
async def test_return_when_counts_those_that_join(when, ended):
    probe = Probe(lambda item: item, takes=lambda item: item)
    executor = paco.ConcurrentExecutor(coros=[probe(9)])
    running = asyncio.ensure_future(executor.run(return_when=when))
    await asyncio.sleep(1)
    executor.add(probe, 2)
    executor.add(fail, 3).add_done_callback(asyncio.Future.exception)
    done, pending = await running
    assert now() == ended
    assert len(done | pending) == 3
    await asyncio.sleep(9)
    assert not executor.is_running()


async def test_a_coroutine_object_that_waits_in_a_run_has_one_future():
    executor = paco.ConcurrentExecutor(1, coros=[asyncio.sleep(5)])
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    waiting = double(2)
    future = executor.add(waiting)
    assert executor.add(waiting) is future
    await running
    assert future.result() == 4
    assert not executor._added


async def test_the_timeout_of_a_run_ends_those_that_have_joined_too():
    probe = Probe(lambda item: item, takes=100)
    executor = paco.ConcurrentExecutor(1, coros=[probe(1)])
    running = asyncio.ensure_future(executor.run(timeout=5))
    await asyncio.sleep(1)
    future = executor.add(probe, 2)
    with pytest.raises(TimeoutError):
        await running
    assert now() == 5
    assert future.cancelled()


async def test_listeners_of_runs_see_one_more_item():
    seen = []
    with events.listening(seen.append):
        executor = paco.ConcurrentExecutor(1, coros=[asyncio.sleep(5)])
        running = asyncio.ensure_future(executor.run())
        await asyncio.sleep(1)
        executor.add(double)
        executor.limit = 3
        assert seen[0].run.limit == 3
        executor.limit = 0
        await running
    assert (seen[0].run.total, seen[0].run.ok, seen[0].run.limit) == (2, 2, 0)


def test_another_thread_is_refused():
    refused = []

    def add():
        try:
            executor.add(double(1))
        except RuntimeError as error:
            refused.append(str(error))

    async def main():
        executor.add(asyncio.sleep, 0.01)
        running = asyncio.ensure_future(executor.run())
        await asyncio.sleep(0)
        await asyncio.to_thread(add)
        await running
        async with executor:
            await asyncio.to_thread(add)
        future = asyncio.get_running_loop().create_future()
        async with executor:
            executor.add(asyncio.wait_for, future, 5)
            loop = asyncio.get_running_loop()
            threading.Thread(target=loop.call_soon_threadsafe, args=(executor.add, set_result, future)).start()

    async def set_result(future):
        future.set_result(None)

    executor = paco.ConcurrentExecutor()
    asyncio.run(main())
    assert len(refused) == 2
    assert all("call_soon_threadsafe" in message for message in refused)
    paco.run(executor.run(ignore_empty=True))


# ---- the block


async def test_in_a_block_everything_starts_at_once_and_leaving_it_waits(two):
    probe = Probe(lambda item: item, takes=10)
    async with paco.ConcurrentExecutor(two, coros=[probe(1)]) as pool:
        await asyncio.sleep(1)
        assert (probe.started, pool.is_running()) == ([1], True)
        futures = [pool.add(probe, 2), pool.add(probe, 3)]
        assert await futures[0] == 2
        await asyncio.sleep(50)
        pool.add(probe, 4)
    assert now() == 71
    assert futures[1].result() == 3
    assert probe.finished == [1, 2, 3, 4]
    assert not pool.is_running()


async def test_a_block_is_one_run_with_its_events_and_errors():
    heard, runs = [], []
    pool = paco.ConcurrentExecutor()
    for event in "start", "finish", "task.start", "task.finish", "task.error":
        pool.on(event, lambda *args, event=event: heard.append(event))
    with events.listening(runs.append, events.RunStarted):
        async with pool:
            for _ in range(2):
                pool.add(fail).add_done_callback(asyncio.Future.exception)
                await asyncio.sleep(5)
            assert len(pool.errors) == 2
    assert heard == ["start", "task.start", "task.error", "task.start", "task.error", "finish"]
    assert len(runs) == 1
    assert [type(error) for error in pool.errors] == [ValueError, ValueError]
    heard.clear()
    async with pool:
        pass
    assert heard == []


async def test_a_long_block_keeps_no_futures():
    class Result:
        pass

    async def make():
        return Result()

    async with paco.ConcurrentExecutor() as pool:
        kept = [weakref.ref(await pool.add(make)) for _ in range(1000)]
        gc.collect()
        assert sum(result() is not None for result in kept) < 250


async def test_an_error_of_a_block_cancels_what_runs_and_what_waits():
    probe = Probe(lambda item: item, takes=10, cleanup=3)
    with pytest.raises(KeyError):
        async with paco.ConcurrentExecutor(1) as pool:
            futures = [pool.add(probe, 1), pool.add(probe(2))]
            await asyncio.sleep(1)
            raise KeyError
    assert now() == 4
    assert all(future.cancelled() for future in futures)
    assert probe.cancelled == [1]


async def test_an_error_of_a_block_cancels_a_run_that_began_before_it():
    probe = Probe(lambda item: item, takes=10, cleanup=3)
    pool = paco.ConcurrentExecutor(coros=[probe(1)])
    running = asyncio.ensure_future(pool.run())
    await asyncio.sleep(1)
    with pytest.raises(KeyError):
        async with pool:
            raise KeyError
    assert probe.cancelled == [1]
    await running


@pytest.mark.parametrize("event", ["start", "task.start", "task.finish"])
async def test_an_error_of_a_listener_fails_the_block(event):
    probe = Probe(lambda item: item, takes=10)
    pool = paco.ConcurrentExecutor(1)
    pool.on(event, lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        async with pool:
            futures = [pool.add(probe, 1), pool.add(probe, 2)]
            await asyncio.sleep(20)
            assert all(future.done() for future in futures)
            for call in pool.add, pool.submit:
                with pytest.raises(RuntimeError, match="the run of this block has failed") as caught:
                    call(double(1))
                assert isinstance(caught.value.__cause__, ZeroDivisionError)
            with pytest.raises(RuntimeError, match="the run of this block has failed"):
                await pool.put(double(1))
    pool.off(event)
    async with pool:
        future = pool.add(double, 1)
    assert future.result() == 2


async def test_a_block_that_waits_for_a_future_of_a_run_that_fails_raises_the_error_of_the_run():
    pool = paco.ConcurrentExecutor(1)
    pool.on("task.finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        async with pool:
            pool.add(double, 1)
            await pool.add(double, 2)


async def test_an_error_of_a_block_wins_over_that_of_its_run():
    pool = paco.ConcurrentExecutor(1)
    pool.on("task.start", lambda *_: 1 / 0)
    with pytest.raises(KeyError):
        async with pool:
            pool.add(double, 1)
            await asyncio.sleep(1)
            raise KeyError


async def test_a_deadline_around_a_block_ends_its_run():
    probe = Probe(lambda item: item, takes=100)
    with pytest.raises(TimeoutError):
        async with paco.ConcurrentExecutor() as pool:
            with paco.deadline(1):
                pool.add(probe, 0)
            await asyncio.sleep(2)
            assert probe.running == 1  # it is the block that counts, not the place where one is added
            with paco.deadline(5):
                async with paco.ConcurrentExecutor() as other:
                    future = other.add(probe, 1)
                    await asyncio.sleep(6)
    assert future.cancelled()
    assert now() == 8


async def test_cancel_in_a_block_ends_what_there_is_and_the_block_goes_on():
    probe = Probe(lambda item: item, takes=10)
    async with paco.ConcurrentExecutor(1) as pool:
        futures = [pool.add(probe, 1), pool.add(probe, 2)]
        await asyncio.sleep(1)
        pool.cancel()
        later = pool.add(probe, 3)
        await asyncio.sleep(1)
        assert [future.cancelled() for future in futures] == [True, True]
    assert later.result() == 3


async def test_a_run_in_a_block_is_the_caller_s_if_it_is_called_before_the_one_of_the_block_starts():
    async with paco.ConcurrentExecutor() as pool:
        pool.add(double, 1)
        done, _ = await pool.run()
        assert len(done) == 1
        pool.add(double, 2)
        running = asyncio.ensure_future(pool.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        joined = pool.add(double, 3)
        done, _ = await running
        assert joined in done
        alone = pool.add(double, 4)
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="the executor is running"):
            pool.run()
    assert alone.result() == 8


async def test_a_run_in_a_block_that_is_being_left_by_another_task_runs_what_it_has_not():
    started = asyncio.Event()

    async def slowly(_):
        started.set()
        await asyncio.sleep(3)

    async with paco.ConcurrentExecutor() as pool:
        pool.on("finish", slowly)
        pool.add(double, 1)
        asyncio.ensure_future(pool.run()).add_done_callback(asyncio.Future.result)
        await started.wait()
        future = pool.add(double, 2)  # for the next run
        await asyncio.sleep(1)
        assert not future.done()
        assert await future == 4
    assert now() == 6


async def test_a_gate_in_the_limit_of_a_block_that_closes_ends_what_waits():
    gate = paco.Gate()
    probe = Probe(lambda item: item, takes=10)
    async with paco.ConcurrentExecutor(1 & gate) as pool:
        running, waiting = pool.add(probe, 1), pool.add(probe, 2)
        third = pool.add(probe, 3)
        await asyncio.sleep(1)
        gate.close()
        await asyncio.wait([third])
        assert third.cancelled()
        late = pool.add(probe, 4)
        await asyncio.wait([late])
        assert late.cancelled()
    assert (running.result(), waiting.result()) == (1, 2)  # the second was taken already


async def test_what_is_added_in_a_block_while_a_run_that_was_left_is_ending_runs_after_it():
    probe = Probe(lambda item: item, takes=lambda item: item, cleanup=5)
    async with paco.ConcurrentExecutor() as pool:
        pool.extend(probe(1), probe(100))
        await pool.run(return_when="FIRST_COMPLETED")
        pool.cancel()
        future = pool.add(probe, 2)
        assert await future == 2
    assert now() == 8


# ---- room


@pytest.mark.parametrize(
    "make_limit",
    [lambda: 2, lambda: paco.Limit(2), lambda: paco.Rate(2, 10), lambda: None],
    ids=["number", "limit", "rate", "none"],
)
async def test_put_waits_for_room(make_limit):
    probe = Probe(lambda item: item, takes=1)
    most = 0
    async with paco.ConcurrentExecutor(make_limit()) as pool:
        futures = []
        for number in range(300):
            futures.append(await pool.put(probe, number))
            most = max(most, len(pool))
    assert [future.result() for future in futures] == list(range(300))
    assert most <= 100
    assert not pool._room


async def test_put_keeps_all_slots_busy_and_two_producers_take_turns():
    probe, order = Probe(lambda item: item, takes=1), []

    async def produce(name):
        for _ in range(10):
            await pool.put(probe, name)
            order.append(name)

    async with paco.ConcurrentExecutor(2) as pool:
        await asyncio.gather(produce("a"), produce("b"))
    assert now() == 10
    assert order[4:10] in (["a", "b"] * 3, ["b", "a"] * 3)


async def test_put_returns_the_future_of_a_coroutine_that_waits():
    async with paco.ConcurrentExecutor(1) as pool:
        waiting = double(2)
        assert await pool.put(waiting) is await pool.put(waiting)


async def test_put_refuses_what_add_refuses_and_to_wait_without_a_run():
    pool = paco.ConcurrentExecutor(1)
    with pytest.raises(RuntimeError, match=r"put\(\) outside of a run"):
        await pool.put(double(1))
    future = pool.add(waiting := double(1))
    with pytest.raises(RuntimeError, match=r"put\(\) outside of a run"):
        await pool.put(waiting)
    async with pool:
        assert await future == 2
        for wrong in (5, None):
            with pytest.raises(TypeError, match="coro must be"):
                await pool.put(wrong)
        with pytest.raises(TypeError, match="takes no arguments"):
            await pool.put(double(1), 2)
    pool.add(asyncio.sleep, 3)
    running = asyncio.ensure_future(pool.run())
    await asyncio.sleep(1)
    pool.extend(double(1), double(2))
    putting = asyncio.ensure_future(pool.put(double(3)))
    await asyncio.sleep(1)
    pool.cancel()
    await running
    await pool.run()  # it is for the next run
    assert (await putting).result() == 6


async def test_a_put_that_is_cancelled_passes_its_room_on():
    async with paco.ConcurrentExecutor(1) as pool:
        pool.add(asyncio.sleep, 5)
        await asyncio.sleep(1)
        pool.add(asyncio.sleep, 5)
        first, second = (asyncio.ensure_future(pool.put(double(number))) for number in (1, 2))
        await asyncio.sleep(1)
        pool._room.make()
        first.cancel()
        await asyncio.wait([first, second], timeout=5)
        assert first.cancelled()
        assert await (await second) == 4


async def test_a_put_that_waits_when_the_block_ends_with_an_error_is_refused():
    putting = []
    with pytest.raises(KeyError):
        async with paco.ConcurrentExecutor(1) as pool:
            pool.add(asyncio.sleep, 5)
            await asyncio.sleep(1)
            pool.add(asyncio.sleep, 5)
            putting.append(asyncio.ensure_future(pool.put(double(1))))
            await asyncio.sleep(1)
            raise KeyError
    with pytest.raises(RuntimeError, match=r"put\(\) outside of a run"):
        await putting[0]


@pytest.mark.parametrize(
    "make_limit", [lambda: 2, lambda: paco.Limit(2) & paco.Rate(1000, burst=9)], ids=["2", "Limit"]
)
async def test_coroutines_that_all_wait_for_room_are_an_error(make_limit):
    async def work(depth):
        await asyncio.sleep(1)
        if depth < 3:
            for _ in range(3):
                await pool.put(work, depth + 1)

    async with paco.ConcurrentExecutor(make_limit()) as pool:
        pool.extend(paco.partial(work, 0), paco.partial(work, 0))
    assert any("put() would wait forever: all 2 items" in str(error) for error in pool.errors)


# ---- limits


async def test_a_limit_that_is_set_during_a_run_holds_at_once():
    probe = Probe(lambda item: item, takes=10)
    executor = paco.ConcurrentExecutor(1, coros=[probe(number) for number in range(10)])
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    assert probe.running == 1
    executor.limit = 4
    await asyncio.sleep(1)
    assert (probe.running, executor.limit) == (4, 4)
    executor.limit = 2
    await asyncio.sleep(20)
    assert probe.running == 2
    executor.limit = None
    await asyncio.sleep(0.5)
    assert len(probe.started) == 10
    await running
    assert probe.peak <= 6


async def test_a_higher_limit_gives_a_slot_to_an_item_that_returns_from_its_rest():
    tries = []

    @paco.retry(attempts=2, wait=1)
    async def flaky():
        tries.append(now())
        if len(tries) == 1:
            raise OSError
        return "there"

    executor = paco.ConcurrentExecutor(1)
    future = executor.add(flaky)
    executor.add(asyncio.sleep, 50)
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(10)
    executor.limit = 2
    await asyncio.sleep(1)
    assert future.result() == "there"
    await running


async def test_a_limit_object_is_not_replaced_during_a_run():
    limit = paco.Limit(1)
    executor = paco.ConcurrentExecutor(limit, coros=[asyncio.sleep(5)])
    executor.limit = executor.limit
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    executor.limit = limit
    for other in 3, paco.Rate(1):
        with pytest.raises(RuntimeError, match="from a number to a number"):
            executor.limit = other
    with pytest.raises(TypeError, match="limit must be"):
        executor.limit = "2"
    await running
    executor.limit = 3
    assert executor.limit == 3
    executor.add(asyncio.sleep, 5)
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    executor.cancel()
    executor.limit = 4  # for the next run
    await running


async def test_a_limit_that_a_start_listener_sets_holds():
    probe = Probe(lambda item: item, takes=1)
    executor = paco.ConcurrentExecutor(1, coros=[probe(number) for number in range(4)])
    executor.on("start", lambda who: setattr(who, "limit", 4))
    await executor.run()
    assert probe.peak == 4


# ---- pauses


async def test_a_pause_stops_the_starts(two):
    probe = Probe(lambda item: item, takes=10)
    executor = paco.ConcurrentExecutor(two, coros=[probe(number) for number in range(6)])
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    executor.pause()
    executor.pause()
    await asyncio.sleep(100)
    assert probe.finished == [0, 1]
    executor.add(probe, 6)
    assert executor.is_running()
    executor.resume()
    executor.resume()
    done, _ = await running
    assert len(done) == 7
    assert (probe.peak, now()) == (2, 131)


async def test_a_paused_run_that_has_nothing_left_ends(two):
    probe = Probe(lambda item: item, takes=10)
    executor = paco.ConcurrentExecutor(two, coros=[probe(1)])
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    executor.pause()
    await running
    assert now() == 10
    executor.add(probe, 2)
    later = asyncio.ensure_future(executor.run())
    await asyncio.sleep(10)
    assert probe.started == [1]
    executor.resume()
    await later
    assert now() == 30


async def test_a_paused_run_takes_more_and_can_be_cancelled_and_times_out():
    probe = Probe(lambda item: item, takes=10)
    executor = paco.ConcurrentExecutor(1, coros=[probe(1)])
    executor.pause()
    with pytest.raises(TimeoutError):
        await executor.run(timeout=5)
    executor.add(probe, 2)
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    joined = executor.add(probe, 3)
    executor.cancel()
    assert joined in (await running)[0]
    assert probe.started == []


async def test_a_block_can_be_paused():
    probe = Probe(lambda item: item, takes=1)
    async with paco.ConcurrentExecutor(2) as pool:
        pool.pause()
        futures = [pool.add(probe, number) for number in range(3)]
        await asyncio.sleep(10)
        assert probe.started == []
        futures[0].cancel()
        pool.resume()
        await asyncio.sleep(5)
        pool.pause()
    assert probe.finished == [1, 2]
    assert now() == 15


async def test_a_pause_holds_for_a_coroutine_that_waits_for_its_permit():
    probe = Probe(lambda item: item, takes=1)
    executor = paco.ConcurrentExecutor(paco.Rate(1, 10, burst=1), coros=[probe(number) for number in range(3)])
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(5)
    executor.pause()
    await asyncio.sleep(50)
    assert probe.started == [0]
    executor.resume()
    await running
    assert probe.finished == [0, 1, 2]
    executor.extend(probe(3), probe(4))
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(1)
    executor.pause()
    await asyncio.sleep(50)
    executor.cancel()
    executor.resume()
    await running
    assert 4 not in probe.started


# ---- cancellation


async def live(work):
    pool = paco.ConcurrentExecutor(2)
    pool.on("start", lambda _: work(0))
    pool.on("finish", lambda _: work(0))
    futures = []
    try:
        async with pool:
            for number in range(5):
                futures.append(await pool.put(work, number))
            pool.pause()
            pool.limit = 1
            await asyncio.sleep(1)
            pool.resume()
    finally:
        assert all(future.done() for future in futures)
        assert not pool.is_running()
        assert not pool._room
        for future in futures:
            if not future.cancelled():
                future.exception()


async def joined(work):
    executor = paco.ConcurrentExecutor(2)

    async def grow(number):
        await work(number)
        if number:
            executor.add(grow, number - 1)
            await executor.put(work, 0)

    executor.add(grow, 3)
    try:
        await executor.run()
    finally:
        assert not executor.is_running()


@pytest.mark.parametrize("use", [live, joined])
def test_a_cancellation_at_any_step_leaves_nothing_behind(use):
    async def work(number):
        await asyncio.sleep(number)
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(0.5)

    assert cancel_at_every_step(lambda: use(work)) > 10


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("paused", [False, True])
def test_a_program_that_ends_with_a_live_pool_leaves_nothing_behind(steps, paused, caplog):
    probe = Probe(lambda item: item, takes=100, cleanup=0.001)

    async def main():
        pool = paco.ConcurrentExecutor(1)
        await pool.__aenter__()
        pool.extend(probe(1), probe(2))
        if paused:
            pool.pause()
        for _ in range(steps):
            await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert caplog.text == ""
    assert probe.running == 0
