"""`paco.TimeoutLimit`, `paco.timeout`, `paco.throttle` and `paco.defer`, on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import itertools
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from paco import TimeoutLimit, deadline, defer, run, testing, throttle, timeout
from paco.testing import now


async def nap(seconds=0, result="rested"):
    """Sleep."""
    await asyncio.sleep(seconds)
    return result


async def nap_and_clean_up():
    """Sleep for 20 seconds, however it ends, after 20 more."""
    try:
        await nap(20)
    finally:
        await nap(20)


def cancelling():
    return asyncio.current_task().cancelling()


async def in_a_block(seconds, fn, *args):
    """Call a function in a block with a time limit of its own."""
    with TimeoutLimit(seconds):
        return await fn(*args)


async def in_a_call(seconds, fn, *args):
    """Call a function through `timeout`, whose calls share one timer."""
    return await timeout(fn, seconds)(*args)


both_ways = pytest.mark.parametrize("limited", [in_a_block, in_a_call])


# ---- TimeoutLimit


async def test_a_block_that_ends_in_time_is_left_alone():
    with TimeoutLimit(10) as limit:
        await nap(9)
    await nap(9)
    assert not limit.expired


async def test_a_block_that_exceeds_its_time_is_cancelled_and_the_error_names_the_seconds():
    limit = TimeoutLimit(10)
    with (
        pytest.raises(TimeoutError, match=r"^paco\.TimeoutLimit: the block did not finish within 10 s$") as caught,
        limit,
    ):
        await nap(11)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert limit.expired
    assert (now(), cancelling()) == (10, 0)


async def test_timeout_limit_supports_async_with():
    with pytest.raises(TimeoutError):
        async with TimeoutLimit(10):
            await nap(11)
    async with TimeoutLimit(10):
        await nap(9)
    assert (now(), cancelling()) == (19, 0)


@both_ways
async def test_the_cleanup_has_finished_when_the_error_is_raised(limited):
    with pytest.raises(TimeoutError):
        await limited(10, nap_and_clean_up)
    assert now() == 30


@pytest.mark.parametrize("seconds", [None, float("inf")])
async def test_none_and_infinity_mean_no_time_limit(seconds):
    with TimeoutLimit(seconds):
        await nap(10**9)


async def test_with_a_limit_of_0_the_block_is_cancelled_at_its_first_suspension():
    reached = []

    async def block():
        reached.append(1)
        await nap()
        reached.append(2)

    with pytest.raises(TimeoutError), TimeoutLimit(0):
        await block()
    assert (reached, now()) == ([1], 0)


async def test_with_a_limit_of_0_a_block_that_never_suspends_ends_normally():
    with TimeoutLimit(0) as limit:
        pass
    await nap()
    assert not limit.expired


@both_ways
async def test_a_cancellation_requested_before_a_timeout_is_not_swallowed(limited):
    for seconds in (0, 1):
        asyncio.current_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await limited(seconds, nap, 2)
        assert cancelling() == 1
        asyncio.current_task().uncancel()


@both_ways
async def test_a_timeout_in_the_cleanup_after_a_cancellation_is_a_timeout(limited):
    asyncio.current_task().cancel()
    try:
        await nap()
    except asyncio.CancelledError:
        for seconds in (0, 1):
            with pytest.raises(TimeoutError):
                await limited(seconds, nap, 2)
            assert cancelling() == 1
    asyncio.current_task().uncancel()


@both_ways
@pytest.mark.parametrize(("first", "seconds"), [("timeout", 0), ("timeout", 10), ("cancellation", 10)])
async def test_a_cancellation_in_the_same_step_as_the_timeout_is_raised_as_cancellation(first, seconds, limited):
    entered = asyncio.Event()

    async def block():
        entered.set()
        await nap(20)

    async def call():
        if first == "cancellation":
            entered.set()
            await nap(0)  # the test sets its timer before
        try:
            await limited(seconds, block)
        finally:
            assert cancelling() == 1

    task = asyncio.ensure_future(call())
    await entered.wait()
    if seconds:
        asyncio.get_running_loop().call_at(seconds, task.cancel)
    else:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == seconds


@both_ways
async def test_a_cancellation_during_the_cleanup_after_a_timeout_is_raised_as_cancellation(limited):
    task = asyncio.ensure_future(limited(10, nap_and_clean_up))
    await nap(15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now(), task.cancelling()) == (15, 1)


@both_ways
async def test_a_cancellation_before_the_timeout_is_raised_as_cancellation_even_after_a_long_cleanup(limited):
    task = asyncio.ensure_future(limited(10, nap_and_clean_up))
    await nap(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now(), task.cancelling()) == (10, 1)


@both_ways
async def test_an_error_is_not_replaced(limited):
    async def block():
        try:
            await nap(20)
        except asyncio.CancelledError:
            raise ValueError("own") from None

    async def at_once():
        raise ValueError("own")

    for fails in (block, at_once):
        with pytest.raises(ValueError, match=r"^own$"):
            await limited(10, fails)
    assert cancelling() == 0


async def test_a_block_that_suppresses_the_cancellation_ends_normally_and_expired_is_true():
    with TimeoutLimit(10) as limit:
        try:
            await nap(20)
        except asyncio.CancelledError:
            await nap(5)
    assert limit.expired
    assert (now(), cancelling()) == (15, 0)


@both_ways
async def test_a_cancelled_future_is_not_mistaken_for_a_timeout(limited):
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await limited(10, asyncio.wait_for, future, None)
    assert cancelling() == 0


@both_ways
@pytest.mark.parametrize(("outer", "inner"), [(10, 20), (20, 10), (10, 10), (0, 10), (10, 0), (0, 0)])
async def test_of_nested_limits_the_first_to_expire_raises_and_the_outer_in_a_tie(outer, inner, limited):
    raised = []

    async def block():
        try:
            await limited(inner, nap, 30)
        except TimeoutError:
            raised.append("inner")
            await nap(30)
        except asyncio.CancelledError:
            raised.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        await limited(outer, block)
    assert raised == (["inner"] if inner < outer else ["cancelled"])
    assert (now(), cancelling()) == (outer, 0)


@pytest.mark.parametrize("inner", [asyncio.timeout, TimeoutLimit])
async def test_the_outer_limit_keeps_running_after_the_inner_one_expired(inner):
    async def block():
        with pytest.raises(TimeoutError):
            async with inner(5):
                await nap(20)
        await nap(20)

    with pytest.raises(TimeoutError), TimeoutLimit(10):
        await block()
    assert (now(), cancelling()) == (10, 0)


async def test_a_timeout_limit_can_be_reused_but_not_nested_in_itself():
    limit = TimeoutLimit(10)
    for _ in range(2):
        with pytest.raises(TimeoutError), limit:
            await nap(20)
        assert limit.expired
        with limit:
            with pytest.raises(RuntimeError, match="this TimeoutLimit is already in use"):
                limit.__enter__()
            await nap(5)
        assert not limit.expired
    assert now() == 30


async def test_when_is_the_end_of_the_block_as_of_asyncio():
    await nap(3)
    limit = TimeoutLimit(10)
    assert limit.when() is None
    async with asyncio.timeout(10) as theirs, limit:
        assert limit.when() == theirs.when() == 13
    assert limit.when() == theirs.when() == 13
    with TimeoutLimit(None) as limit:
        assert limit.when() is None
    with deadline(4), TimeoutLimit(10) as limit:
        assert limit.when() == 7


@pytest.mark.parametrize(("at", "end"), [(5, 5), (20, 20), (3, 3), (1, 3), (20.0625, 20.0625)])
@pytest.mark.parametrize("before", [0.5, 10, None])
async def test_a_rescheduled_block_ends_at_its_new_time(before, at, end):
    await nap(2)
    limit = TimeoutLimit(before)
    with pytest.raises(TimeoutError) as caught, limit:
        if before == 0.5:
            limit.reschedule(None)
            assert limit.when() is None
        await nap(1)
        limit.reschedule(at)
        assert limit.when() == at
        await nap(60)
    within = f"{max(at - 2, 0):g} s"
    assert str(caught.value) == f"paco.TimeoutLimit: the block did not finish within {within}"
    assert (now(), limit.expired, cancelling()) == (end, True, 0)


@pytest.mark.parametrize("at", [None, float("inf")])
async def test_a_block_that_is_rescheduled_to_never_has_no_limit(at):
    with TimeoutLimit(5) as limit:
        limit.reschedule(at)
        await nap(60)
    assert (now(), limit.expired, limit.when()) == (60, False, None)
    with pytest.raises(TimeoutError), limit:  # used again, it has its timeout again
        await nap(60)
    assert now() == 65


@pytest.mark.parametrize("at", [30, None])
async def test_a_nearer_deadline_ends_a_rescheduled_block(at):
    message = r"^paco\.TimeoutLimit: the block did not finish within the deadline of 20 s$"
    with pytest.raises(TimeoutError, match=message), deadline(20), TimeoutLimit(10) as limit:
        with deadline(1):  # not that of the block
            limit.reschedule(at)
        assert limit.when() == 20
        await nap(60)
    assert now() == 20
    with pytest.raises(TimeoutError, match="within 10 s"), deadline(20), TimeoutLimit(30) as limit:
        limit.reschedule(30)
        await nap(60)
    assert now() == 30


async def test_another_task_can_reschedule_a_block():
    with TimeoutLimit(5) as limit:
        asyncio.get_running_loop().call_later(4, limit.reschedule, 70)
        await nap(60)
    assert now() == 60


async def test_only_a_running_block_can_be_rescheduled():
    limit = TimeoutLimit(1)
    not_running = r"^paco\.TimeoutLimit\.reschedule: its block is not running; reschedule inside the block, "
    with pytest.raises(RuntimeError, match=not_running):
        limit.reschedule(5)
    with limit:
        pass
    with pytest.raises(RuntimeError, match=not_running):
        limit.reschedule(5)
    with pytest.raises(TimeoutError), limit:
        try:
            await nap(5)
        finally:
            with pytest.raises(RuntimeError, match=r"reschedule: the timeout has passed; "):
                limit.reschedule(5)


@pytest.mark.parametrize("wrong", [-1, float("nan"), "5", True])
async def test_an_invalid_time_is_an_error_and_the_block_keeps_its_own(wrong):
    expected = r"^paco\.TimeoutLimit\.reschedule: at must be a time of the event loop's clock \(a number of 0 or more\)"
    with TimeoutLimit(5) as limit:
        with pytest.raises((TypeError, ValueError), match=expected):
            limit.reschedule(wrong)
        assert limit.when() == 5


def test_a_timeout_limit_outside_a_task_is_an_error():
    with pytest.raises(RuntimeError, match=r"^paco\.TimeoutLimit: must be used inside a task"):
        TimeoutLimit(1).__enter__()


async def test_a_timeout_limit_in_a_callback_is_an_error():
    raised = asyncio.get_running_loop().create_future()

    def callback():
        try:
            TimeoutLimit(1).__enter__()
        except RuntimeError as error:
            raised.set_result(error)

    asyncio.get_running_loop().call_soon(callback)
    assert "inside a task" in str(await raised)


WRONG_SECONDS = [
    (-1, ValueError),
    (float("nan"), ValueError),
    (float("-inf"), ValueError),
    (True, TypeError),
    ("1", TypeError),
    (1j, TypeError),
]


@pytest.mark.parametrize(("seconds", "error"), WRONG_SECONDS)
def test_invalid_seconds_are_errors_at_the_call(seconds, error):
    for make in (TimeoutLimit, functools.partial(timeout, nap), lambda seconds: timeout(timeout=seconds)):
        with pytest.raises(error, match=r"timeout must be seconds \(a number of 0 or more\) or None, got "):
            make(seconds)
    with pytest.raises(error, match=r"^paco\.timeout: timeout must be seconds"):
        timeout(nap(), seconds)  # and the coroutine is closed: it does not warn
    for make in (functools.partial(defer, nap), lambda seconds: defer(delay=seconds)):
        with pytest.raises(error, match=r"^paco\.defer: delay must be seconds \(a number of 0 or more\), got "):
            make(seconds)
    with pytest.raises(error, match=r"^paco\.throttle: timeframe must be seconds"):
        throttle(nap, 1, seconds)


async def test_another_loop_is_an_error_at_the_call():
    other = asyncio.new_event_loop()
    try:
        for make in (TimeoutLimit, functools.partial(timeout, nap), timeout):
            with pytest.raises(RuntimeError, match=r"got another loop"):
                make(1, loop=other)
    finally:
        other.close()
    with TimeoutLimit(1, asyncio.get_running_loop()):
        await timeout(nap, 1, asyncio.get_running_loop())()


def test_a_loop_given_before_it_runs_is_checked_when_the_block_is_entered():
    other = asyncio.new_event_loop()
    limit, limited = TimeoutLimit(1, other), timeout(nap, 1, other)

    async def main():
        with pytest.raises(RuntimeError, match=r"got another loop"):
            limit.__enter__()
        with pytest.raises(RuntimeError, match=r"got another loop"):
            await limited()

    testing.run(main)
    try:
        assert other.run_until_complete(limited()) == "rested"
    finally:
        other.close()


def test_a_cancellation_at_any_step_is_raised(cancel_at_every_step):
    async def block():
        with pytest.raises(TimeoutError):
            await timeout(nap, 1)(10)
        try:
            await timeout(nap(10), 10)
        finally:
            await nap(1)

    async def main():
        with pytest.raises(TimeoutError):
            async with TimeoutLimit(2):
                await block()
        with pytest.raises(TimeoutError), TimeoutLimit(0):
            await nap(1)

    assert cancel_at_every_step(main) > 8
    assert cancel_at_every_step(main, again=1) > 8


async def test_a_caught_timeout_is_part_of_no_reference_cycle():
    class Thing:
        pass

    seen = []

    async def work():
        thing = Thing()
        seen.append(weakref.ref(thing))
        await nap(20)

    async def handled():
        with contextlib.suppress(TimeoutError):
            await timeout(work, 10)()

    gc.disable()
    try:
        await handled()
        with pytest.raises(TimeoutError):
            await asyncio.ensure_future(timeout(work, 10)())
        await nap()
        assert [ref() for ref in seen] == [None, None]
    finally:
        gc.enable()


# ---- timeout


async def test_each_call_of_timeout_has_its_own_time():
    quick = timeout(nap, 10)
    assert [await quick(9), await quick(9, result=1)] == ["rested", 1]
    with pytest.raises(TimeoutError, match=r"^paco\.timeout: nap did not finish within 10 s$"):
        await quick(11)
    assert (now(), cancelling()) == (28, 0)


async def test_calls_that_overlap_each_have_their_own_time():
    limited, ended = timeout(nap, 10), []

    async def call(start, takes):
        await nap(start)
        try:
            await limited(takes)
        except TimeoutError:
            ended.append(("late", start, now()))
        else:
            ended.append(("in time", start, now()))

    await asyncio.gather(*(call(start, 5 + 10 * (start % 2)) for start in range(20)))
    assert sorted(ended) == sorted(
        ("late", start, start + 10) if start % 2 else ("in time", start, start + 5) for start in range(20)
    )


async def test_all_calls_of_a_function_share_one_timer():
    timers = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at
    loop.call_at = lambda when, *args, **kw: timers.append(when) or call_at(when, *args, **kw)
    future = loop.create_future()
    calls = [asyncio.ensure_future(timeout_of_ten(future)) for _ in range(100)]
    await asyncio.sleep(0)
    future.set_result("done")
    assert await asyncio.gather(*calls) == ["done"] * 100
    assert timers == [10]


@functools.partial(timeout, timeout=10)
async def timeout_of_ten(future):
    return await asyncio.shield(future)


async def test_a_call_inside_a_call_of_the_same_function_has_its_own_time():
    async def nested(depth):
        try:
            return await (limited(depth - 1) if depth else nap(100))
        except TimeoutError:
            return f"level {depth} went on at {now():g}"

    limited = timeout(nested, 10)
    with pytest.raises(TimeoutError):
        await limited(1)
    assert (now(), cancelling()) == (10, 0)


async def test_a_future_that_cannot_be_cancelled_keeps_no_other_call_from_ending_in_time():
    class Stubborn(asyncio.Future):
        def cancel(self, msg=None):
            raise OSError("not now")

    stubborn, told = Stubborn(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

    async def wait(first):
        await (stubborn if first else nap(100))

    limited = timeout(wait, 10)
    first, second = asyncio.ensure_future(limited(first=True)), asyncio.ensure_future(limited(first=False))
    with pytest.raises(TimeoutError):
        await second
    assert now() == 10
    assert [str(error) for error in told] == ["not now"]
    stubborn.set_result(None)
    await first


async def test_a_call_that_ends_before_its_delayed_cancellation_ends_normally():
    ending = asyncio.Event()

    class Stubborn(asyncio.Future):
        def cancel(self, msg=None):
            ending.set()
            raise OSError("not now")

    stubborn = Stubborn()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)

    async def wait(first):
        await (stubborn if first else ending.wait())
        return "done"

    limited = timeout(wait, 10)
    first, second = asyncio.ensure_future(limited(first=True)), asyncio.ensure_future(limited(first=False))
    assert await second == "done"
    assert (now(), second.cancelling()) == (10, 0)
    stubborn.set_result(None)
    await first


def test_without_a_time_limit_no_loop_is_needed():
    async def answer():
        return 42

    with pytest.raises(StopIteration) as caught:
        timeout(answer, None)().send(None)
    assert caught.value.value == 42


@pytest.mark.realtime
def test_calls_in_loops_of_several_threads_have_their_own_timers():
    limited = timeout(nap, 0.05)

    async def calls():
        for _ in range(5):
            await limited(0)
            with pytest.raises(TimeoutError):
                await limited(10)
            await asyncio.gather(*(limited(0.001) for _ in range(20)))

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(asyncio.run, calls()) for _ in range(4)]:
            done.result()


def test_a_function_is_limited_in_each_loop_that_calls_it():
    limited = timeout(nap, 10)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            testing.run(functools.partial(limited, 20))


async def test_timeout_accepts_a_coroutine_object():
    assert await timeout(nap(9), timeout=10) == "rested"
    with pytest.raises(TimeoutError, match=r"^paco\.timeout: nap did not finish within 10 s$"):
        await timeout(nap(11), 10)


async def test_timeout_accepts_other_awaitables_and_cancels_them():
    future = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError, match=r"^paco\.timeout: the Future did not finish within 10 s$"):
        await timeout(future, 10)
    assert future.cancelled()


async def test_timeout_without_seconds_is_no_limit():
    assert await timeout(nap)(10**9) == "rested"
    assert await timeout(timeout=None)(nap)(10**9) == "rested"


async def test_a_call_that_suppresses_the_cancellation_has_its_result_returned():
    async def stubborn():
        try:
            await nap(20)
        except asyncio.CancelledError:
            return "partial result"

    assert await timeout(stubborn, 10)() == "partial result"
    assert (now(), cancelling()) == (10, 0)


async def test_the_call_runs_in_the_task_of_the_caller():
    async def current():
        return asyncio.current_task()

    assert await timeout(current, 10)() is asyncio.current_task()


def test_a_coroutine_of_timeout_that_is_never_awaited_warns_once():
    limited = timeout(nap(), 10)
    with pytest.warns(RuntimeWarning, match="never awaited") as told:
        del limited
    assert len(told) == 1
    timeout(nap(), 10).close()


# ---- throttle


async def test_calls_over_the_limit_return_the_last_result():
    calls = throttle(nap, limit=2, timeframe=10)
    results = [await calls(0, number) for number in range(4)]
    assert results == [0, 1, 1, 1]


async def test_the_window_of_throttle_slides():
    """At most ``limit`` starts in any window: not a burst at the end of one and another at the start of the next."""
    starts = []

    async def call():
        starts.append(now())

    calls = throttle(call, 2, 10)
    for at in (0, 9, 10, 11, 18, 19, 20, 20.5, 29, 30):
        await asyncio.sleep(at - now())
        await calls()
    assert starts == [0, 9, 10, 19, 20, 29, 30]
    assert all(later - earlier >= 10 for earlier, later in zip(starts, starts[2:], strict=False))


@pytest.mark.parametrize("timeframe", [0.1, 0.3, 1, 1e-9])
async def test_a_call_one_timeframe_later_may_start(timeframe):
    calls = throttle(nap, 1, timeframe)
    for number in range(300):
        assert await calls(0, number) == number
        await asyncio.sleep(timeframe)


async def test_the_timeframe_is_measured_between_starts_not_ends():
    calls = throttle(nap, 1, 10)
    assert await calls(9, "first") == "first"
    await nap(1)
    assert await calls(0, "second") == "second"


async def test_dropped_calls_return_return_value():
    calls = throttle(nap, return_value="dropped")
    assert [await calls(), await calls()] == ["rested", "dropped"]
    calls = throttle(nap, return_value=0)
    assert [await calls(), await calls()] == ["rested", 0]


async def test_raise_exception_makes_dropped_calls_errors():
    calls = throttle(nap, limit=2, timeframe=3, raise_exception=True)
    await calls()
    await calls()
    with pytest.raises(RuntimeError, match=r"^paco\.throttle: nap was called more than 2 times in 3 s$"):
        await calls()


async def test_a_dropped_call_returns_none_until_a_call_has_returned():
    calls = throttle(nap, timeframe=100)
    task = asyncio.ensure_future(calls(10))
    await nap()
    assert await calls() is None
    await task
    assert await calls() == "rested"


async def test_a_call_that_fails_counts_as_started_and_leaves_the_last_result():
    async def inverse(number):
        return 1 / number

    calls = throttle(inverse, 2)
    assert await calls(1) == 1
    with pytest.raises(ZeroDivisionError):
        await calls(0)
    assert await calls(4) == 1


async def test_a_timeframe_of_0_drops_nothing():
    calls = throttle(nap, 1, 0)
    assert [await calls(0, number) for number in range(3)] == [0, 1, 2]


def test_between_real_loops_the_window_is_kept():
    calls = throttle(nap, 1, 60)
    assert run(calls(0, "first")) == "first"
    assert run(calls(0, "second")) == "first"


def test_on_real_loops_the_window_holds_even_if_the_process_pauses(monkeypatch):
    late, monotonic = itertools.count(step=10), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + next(late))
    calls = throttle(nap, 1, 10**6)
    assert run(calls(0, "first")) == "first"
    assert run(calls(0, "second")) == "first"


def test_in_a_loop_with_another_clock_the_window_starts_anew():
    calls = throttle(nap, 1, 60)
    assert testing.run(calls(0, "first")) == "first"
    assert testing.run(calls(0, "second")) == "second"


def test_a_loop_with_a_replaced_time_method_has_its_own_clock():
    calls = throttle(nap, 1, 60)
    for word in ("first", "second"):
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            loop.time = lambda: 5.0
            assert loop.run_until_complete(calls(0, word)) == word


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": -1}, ValueError),
        ({"limit": 1.5}, TypeError),
        ({"limit": True}, TypeError),
        ({"timeframe": None}, TypeError),
        ({"raise_exception": 1}, TypeError),
    ],
)
def test_wrong_options_are_errors_in_both_forms(options, error):
    for make in (lambda: throttle(nap, **options), lambda: throttle(**options)):
        with pytest.raises(error, match=rf"^paco\.throttle: {next(iter(options))} must be "):
            make()


# ---- defer


async def test_defer_waits_before_each_call():
    called_at = []

    async def call(number):
        called_at.append(now())
        return number

    deferred = defer(call, 5)
    assert [await deferred(1), await deferred(number=2)] == [1, 2]
    assert called_at == [5, 10]
    await defer(call)(3)
    assert now() == 11


async def test_a_call_cancelled_during_its_delay_is_never_made():
    called = []

    async def call():
        called.append(True)

    with pytest.raises(TimeoutError):
        await timeout(defer(call, 5), 1)()
    await nap(10)
    assert called == []


# ---- all of them, as decorators

BARE = [timeout, throttle, defer]
WITH_OPTIONS = [timeout(timeout=9), timeout(9), throttle(limit=9), throttle(9, 1), defer(delay=9), defer(9)]


class Callable:
    """A callable object."""

    def __init__(self):
        self.state = 1

    async def __call__(self, seconds):
        return await nap(seconds)


def unawaitable(seconds):
    return seconds


@pytest.mark.parametrize("wrap", [*BARE, *WITH_OPTIONS], ids=itertools.count())
async def test_timing_functions_accept_any_callable_that_returns_an_awaitable(wrap):
    for fn in (
        nap,
        Callable(),
        Callable().__call__,
        functools.partial(nap, result="rested"),
        lambda seconds: nap(seconds, "rested"),
    ):
        wrapped = wrap(fn)
        assert await wrapped(0) == "rested"
        assert inspect.iscoroutinefunction(wrapped)
        assert wrapped.__wrapped__ is fn


@pytest.mark.parametrize("wrap", [*BARE, *WITH_OPTIONS], ids=itertools.count())
def test_timing_functions_keep_the_metadata(wrap):
    wrapped = wrap(nap)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__module__) == ("nap", "Sleep.", __name__)
    assert inspect.signature(wrapped) == inspect.signature(nap)
    wrapped = wrap(functools.partial(functools.partial(nap, 1), result=2))
    assert (wrapped.__name__, wrapped.__doc__) == ("nap", "Sleep.")
    assert str(inspect.signature(wrapped)) == "(*, result=2)"
    fn = Callable()
    wrapped = wrap(fn)
    assert (wrapped.__name__, wrapped.__doc__) == ("Callable", "A callable object.")
    assert list(inspect.signature(wrapped).parameters) == ["seconds"]
    assert vars(wrapped) == {"__wrapped__": fn}


@pytest.mark.parametrize("wrap", BARE)
@pytest.mark.parametrize("wrong", [None, "text", [1]])
def test_an_argument_that_is_no_function_is_an_error_at_once(wrap, wrong):
    with pytest.raises(TypeError, match=rf"^paco\.{wrap.__name__}: coro must be a coroutine function, got "):
        wrap(wrong)
    with pytest.raises(TypeError, match="coro must be a coroutine function, got "):
        wrap(coro=wrong)
    with pytest.raises(TypeError, match="coro must be a coroutine function, got "):
        wrap()(wrong)


@pytest.mark.parametrize("wrap", [throttle, defer])
def test_a_coroutine_object_instead_of_a_function_is_an_error_that_names_the_mistake(wrap):
    with pytest.raises(TypeError, match=r"pass the function, not the call: nap instead of nap\(\.\.\.\)$"):
        wrap(nap())


@pytest.mark.parametrize("wrap", BARE)
async def test_a_function_that_returns_no_awaitable_is_an_error_that_names_it_and_says_what_to_do(wrap):
    with pytest.raises(TypeError, match=r"unawaitable must be .*paco\.wraps\(unawaitable\).*paco\.threaded\(unawait"):
        await wrap(unawaitable)(5)


@pytest.mark.parametrize("wrap", BARE)
def test_timing_functions_have_the_documented_signature(wrap):
    assert next(iter(inspect.signature(wrap).parameters)) == "coro"
